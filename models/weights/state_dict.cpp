#include "models/weights/state_dict.h"

#include <algorithm>
#include <cstring>
#include <memory>
#include <unordered_map>
#include <unordered_set>

#include "core/error.h"
#include "core/files.h"
#include "core/formats/byte_reader.h"
#include "core/formats/pth.h"
#include "core/formats/safetensors.h"
#include "core/formats/tensor_file.h"
#include "core/log.h"
#include "core/options.h"
#include "core/text.h"
#include "models/shape_text.h"
#include "models/weights/weight_files.h"
#include "models/weights/weights_follow.h"

namespace zoo {

namespace {

using NamedTensor = std::pair<std::string, torch::Tensor>;

struct ScalarTypeRow {
  DType dtype;
  torch::ScalarType type;
};
constexpr ScalarTypeRow kScalarTypes[] = {
    {DType::f64, torch::kDouble},    {DType::f32, torch::kFloat},  {DType::f16, torch::kHalf},
    {DType::bf16, torch::kBFloat16}, {DType::i64, torch::kLong},   {DType::i32, torch::kInt},
    {DType::i16, torch::kShort},     {DType::i8, torch::kChar},    {DType::u8, torch::kByte},
    {DType::boolean, torch::kBool},  {DType::u16, torch::kUInt16}, {DType::u32, torch::kUInt32},
    {DType::u64, torch::kUInt64}};

torch::ScalarType scalar_type(DType dtype) {
  return std::find_if(std::begin(kScalarTypes), std::end(kScalarTypes),
                      [&](const ScalarTypeRow& row) { return row.dtype == dtype; })
      ->type;
}

DType dtype_of(const NamedTensor& tensor) {
  const auto row = std::find_if(
      std::begin(kScalarTypes), std::end(kScalarTypes),
      [&](const ScalarTypeRow& candidate) { return candidate.type == tensor.second.scalar_type(); });
  if (row == std::end(kScalarTypes)) {
    throw Error("cannot write " + tensor.first + ": elements of type " +
                toString(tensor.second.scalar_type()) +
                " have no place in a weight file, expected real, integer or boolean");
  }
  return row->dtype;
}

/// A view of the mapped file that keeps the mapping alive; a copy where the elements are not aligned.
torch::Tensor make_tensor(const TensorEntry& entry, const std::shared_ptr<const MappedFile>& file) {
  const torch::ScalarType type = scalar_type(entry.dtype);
  uint64_t extent = 0;
  if (byte_extent(entry, extent) && extent == 0) return torch::empty(entry.shape, type);
  const uint8_t* first = file->data() + entry.offset;
  // A byte that is neither 0 nor 1 is no bool in C++: such tensors are read as bytes and compared.
  const bool boolean = entry.dtype == DType::boolean;
  torch::Tensor view = torch::from_blob(
      const_cast<uint8_t*>(first), entry.shape, entry.strides, [file](void*) {},
      boolean ? torch::kByte : type);
  if (boolean) return view.ne(0);
  const bool aligned =
      reinterpret_cast<uintptr_t>(first) % static_cast<uintptr_t>(dtype_size(entry.dtype)) == 0;
  if (aligned) return view;
  torch::Tensor copy = torch::empty(entry.shape, type);
  copy_elements(copy, view);
  return copy;
}

std::string described(const std::string& name, const torch::Tensor& tensor) {
  return name + " " + shape_text(tensor);
}

void report_skipped(const std::string& path, const TensorFile& index) {
  constexpr size_t kMost = 8;
  if (index.skipped.empty()) return;
  std::vector<std::string> names(
      index.skipped.begin(),
      index.skipped.begin() + static_cast<std::ptrdiff_t>(std::min(index.skipped.size(), kMost)));
  if (index.skipped.size() > kMost) names.push_back(format("%zu more", index.skipped.size() - kMost));
  log_info("weights: " + path + ": left alone beside the weights: " + join(names, ", "));
}

/// DataParallel and torch.compile put a word before every name.
void drop_wrapper_prefix(StateDict& state) {
  for (const std::string prefix : {"module.", "_orig_mod.", "module."}) {
    const bool all = std::all_of(state.tensors.begin(), state.tensors.end(), [&](const NamedTensor& tensor) {
      return starts_with(tensor.first, prefix);
    });
    if (!all) continue;
    for (NamedTensor& tensor : state.tensors) tensor.first.erase(0, prefix.size());
  }
}

StateDict load_file(const std::string& path, bool weights_only) {
  const auto file = std::make_shared<const MappedFile>(path);
  TensorFile index = read_tensor_file(file->data(), file->size(), path);
  StateDict state;
  state.source = path;
  state.metadata = std::move(index.metadata);
  state.tensors.reserve(index.tensors.size());
  for (const TensorEntry& entry : index.tensors) {
    if (weights_only && starts_with(entry.name, kTrainerPrefix)) continue;
    state.tensors.emplace_back(entry.name, make_tensor(entry, file));
  }
  if (weights_only) {
    report_skipped(path, index);
    if (index.format != "safetensors") drop_wrapper_prefix(state);
  }
  return state;
}

/// Puts the shards of an index together and checks that each tensor lies where the index says.
StateDict load_shards(const std::string& path) {
  const ShardIndex index = read_shard_index(path);
  StateDict state;
  state.source = path;
  std::unordered_map<std::string, std::string> places;  // tensor -> shard
  for (const std::string& shard : index.files) {
    StateDict part = load_file(join_path(parent_folder(path), shard), true);
    state.metadata.insert(part.metadata.begin(), part.metadata.end());
    for (NamedTensor& tensor : part.tensors) {
      const auto [place, added] = places.emplace(tensor.first, shard);
      if (!added) {
        throw Error(path + ": " + shown_name(tensor.first) + " is in " + place->second + " and in " + shard);
      }
      state.tensors.push_back(std::move(tensor));
    }
  }
  for (const auto& [name, shard] : index.weight_map) {
    const auto place = places.find(name);
    if (place == places.end() || place->second != shard) {
      throw Error(path + ": " + shown_name(name) + " is not in " + shard +
                  ", expected it there by the index");
    }
  }
  return state;
}

/// Contiguous elements on the CPU, one tensor at a time.
class Elements {
 public:
  explicit Elements(const StateDict& state) : state_(state) {}
  const void* operator()(size_t index) {
    current_ = state_.tensors[index].second.detach().cpu().contiguous();
    return current_.data_ptr();
  }

 private:
  const StateDict& state_;
  torch::Tensor current_;
};

std::vector<TensorInfo> tensor_infos(const std::string& path, const StateDict& state) {
  std::vector<TensorInfo> infos;
  std::unordered_set<std::string> names;
  for (const NamedTensor& tensor : state.tensors) {
    if (!names.insert(tensor.first).second) {
      throw Error("cannot write " + path + ": two tensors named " + tensor.first);
    }
    infos.push_back({tensor.first, dtype_of(tensor), tensor.second.sizes().vec()});
  }
  return infos;
}

bool counts_batches(const std::string& name) {
  return name == "num_batches_tracked" || ends_with(name, ".num_batches_tracked");
}

std::string first_of(const char* what, const std::vector<std::string>& names) {
  return names.empty() ? "" : std::string("first ") + what + ": " + names.front();
}

}  // namespace

const torch::Tensor* StateDict::find(const std::string& name) const {
  for (const NamedTensor& tensor : tensors) {
    if (tensor.first == name) return &tensor.second;
  }
  return nullptr;
}

bool StateDict::contains_prefix(const std::string& prefix) const {
  return std::any_of(tensors.begin(), tensors.end(),
                     [&](const NamedTensor& tensor) { return starts_with(tensor.first, prefix); });
}

StateDict load_state_dict(const std::string& path) {
  const std::string file = is_directory(path) ? find_weight_file(path) : path;
  if (is_shard_index(file)) return load_shards(file);
  return load_file(file, true);
}

StateDict load_tensors(const std::string& file) {
  return load_file(file, false);
}

StateDict module_state(const torch::nn::Module& module) {
  StateDict state;
  for (const auto& item : module.named_parameters()) state.tensors.emplace_back(item.key(), item.value());
  for (const auto& item : module.named_buffers()) state.tensors.emplace_back(item.key(), item.value());
  return state;
}

void save_safetensors(const std::string& path, const StateDict& state) {
  const std::vector<TensorInfo> infos = tensor_infos(path, state);
  AtomicFile file(path);
  write_safetensors(infos, state.metadata, Elements(state),
                    [&](const void* data, size_t size) { file.write(data, size); });
  file.commit();
}

void save_pth(const std::string& path, const StateDict& state) {
  const std::vector<TensorInfo> infos = tensor_infos(path, state);
  AtomicFile file(path);
  write_pth(infos, Elements(state), [&](const void* data, size_t size) { file.write(data, size); });
  file.commit();
}

void copy_elements(torch::Tensor target, const torch::Tensor& source) {
  const bool plain = target.scalar_type() == source.scalar_type() && target.is_cpu() && source.is_cpu() &&
                     target.is_contiguous() && source.is_contiguous() && target.sizes() == source.sizes();
  if (plain) {
    if (target.nbytes() > 0) std::memcpy(target.data_ptr(), source.data_ptr(), target.nbytes());
  } else {
    target.copy_(source);
  }
}

std::string FitReport::message(const std::string& source) const {
  std::vector<std::string> firsts;
  for (const std::string& first :
       {first_of("missing", missing), first_of("extra", extra), first_of("misshapen", misshapen)}) {
    if (!first.empty()) firsts.push_back(first);
  }
  const std::string detail = firsts.empty() ? "" : " (" + join(firsts, "; ") + ")";
  return format("%s: %zu missing, %zu extra, %zu misshapen tensors", source.c_str(), missing.size(),
                extra.size(), misshapen.size()) +
         detail;
}

FitReport assign(torch::nn::Module& module, const StateDict& state, const std::vector<std::string>& ignored) {
  const torch::NoGradGuard no_grad;
  FitReport report;
  std::unordered_map<std::string_view, const torch::Tensor*> given;
  for (const NamedTensor& tensor : state.tensors) given.emplace(tensor.first, &tensor.second);
  const StateDict wanted = module_state(module);
  for (const auto& [name, target] : wanted.tensors) {
    const auto found = given.find(name);
    if (found == given.end()) {
      if (!counts_batches(name)) report.missing.push_back(described(name, target));
    } else if (found->second->sizes() != target.sizes()) {
      report.misshapen.push_back(described(name, *found->second) + ", expected " + shape_text(target));
    } else if (WeightsFollowScope::active()) {
      target.set_data(found->second->to(target.device(), target.scalar_type()).contiguous());
    } else {
      copy_elements(target, *found->second);
    }
    if (found != given.end()) given.erase(found);
  }
  for (const auto& [name, tensor] : state.tensors) {
    const bool may_be_extra = counts_batches(name) ||
                              std::any_of(ignored.begin(), ignored.end(), [&name = name](const auto& prefix) {
                                return starts_with(name, prefix);
                              });
    if (given.count(name) > 0 && !may_be_extra) report.extra.push_back(described(name, tensor));
  }
  return report;
}

void require_fit(const FitReport& report, const std::string& source, bool partial) {
  if (report.fits()) return;
  if (!partial) throw Error(report.message(source));
  log_warning(report.message(source));
}

}  // namespace zoo
