#include "core/formats/checkpoint.h"

#include <algorithm>

#include "core/error.h"
#include "core/text.h"

namespace zoo {

namespace {

using Kind = PickleValue::Kind;

constexpr size_t kMaxDimensions = 64;
constexpr uint64_t kMaxExpanded = uint64_t{1} << 20;  // elements that strides of 0 may make of a small file

/// Where state dicts stand in published checkpoints, likeliest first.
constexpr const char* kStateKeys[] = {"model",     "state_dict",     "model_state_dict", "ema",
                                      "model_ema", "state_dict_ema", "params",           "params_ema",
                                      "net",       "network",        "weights",          "module"};

}  // namespace

const std::vector<TorchName>& torch_names() {
  static const std::vector<TorchName> names = {
      {"DoubleStorage", "float64", DType::f64}, {"FloatStorage", "float32", DType::f32},
      {"HalfStorage", "float16", DType::f16},   {"BFloat16Storage", "bfloat16", DType::bf16},
      {"LongStorage", "int64", DType::i64},     {"IntStorage", "int32", DType::i32},
      {"ShortStorage", "int16", DType::i16},    {"CharStorage", "int8", DType::i8},
      {"ByteStorage", "uint8", DType::u8},      {"BoolStorage", "bool", DType::boolean},
      {nullptr, "uint16", DType::u16},          {nullptr, "uint32", DType::u32},
      {nullptr, "uint64", DType::u64}};
  return names;
}

void Checkpoint::fail(const std::string& what) const {
  throw Error(where_ + ": " + what);
}

bool Checkpoint::is_dict(const PickleValue& value) const {
  if (value.kind == Kind::dict) return true;
  const std::string name = pickle_.class_name(value);
  return value.kind == Kind::object &&
         (name == "collections.OrderedDict" || name == "collections.defaultdict");
}

/// Members of a dict; those of Python 2's OrderedDict are a list of pairs in its arguments.
std::vector<Checkpoint::Pair> Checkpoint::pairs(const PickleValue& dict) const {
  std::vector<Pair> result;
  if (dict.kind == Kind::object && at(dict.b).kind == Kind::tuple && at(dict.b).items.size() == 1) {
    for (const PickleId id : at(at(dict.b).items[0]).items) {
      if (at(id).items.size() == 2) result.push_back({at(id).items[0], at(id).items[1]});
    }
  }
  for (size_t i = 0; i + 1 < dict.items.size(); i += 2) result.push_back({dict.items[i], dict.items[i + 1]});
  return result;
}

/// Whatever torch rebuilds counts as a tensor, so that kinds that cannot be read are named and not passed
/// over.
bool Checkpoint::is_tensor(const PickleValue& value) const {
  const std::string name = pickle_.class_name(value);
  return value.kind == Kind::object &&
         (starts_with(name, "torch._utils._rebuild") || starts_with(name, "torch._tensor._rebuild"));
}

bool Checkpoint::holds_tensors(const PickleValue& dict) const {
  const std::vector<Pair> members = pairs(dict);
  return std::any_of(members.begin(), members.end(),
                     [&](const Pair& pair) { return is_tensor(at(pair.value)); });
}

/// "optimizer (dict)".
std::string Checkpoint::member(const Pair& pair) const {
  const PickleValue& key = at(pair.key);
  const std::string name = key.kind == Kind::text ? shown_name(key.text) : "a " + pickle_.type_name(key);
  return name + " (" + pickle_.type_name(at(pair.value)) + ")";
}

/// The dict of weights at or below `id`: under a usual key, else the dict itself, else its only such member.
std::optional<PickleId> Checkpoint::find_state(PickleId id, std::unordered_set<PickleId>& seen,
                                               TensorFile& file) const {
  const PickleValue& dict = at(id);
  constexpr size_t kMaxVisits = 256;  // of dicts within dicts
  if (!is_dict(dict) || seen.size() >= kMaxVisits || !seen.insert(id).second) return std::nullopt;
  const std::vector<Pair> members = pairs(dict);
  std::vector<std::pair<PickleId, PickleId>> candidates;  // member, state dict
  const auto skip_others = [&](PickleId chosen) {
    for (const Pair& pair : members) {
      if (pair.value != chosen) file.skipped.push_back(member(pair));
    }
  };
  for (const char* key : kStateKeys) {
    for (const Pair& pair : members) {
      if (at(pair.key).kind != Kind::text || at(pair.key).text != key) continue;
      if (const auto found = find_state(pair.value, seen, file)) {
        skip_others(pair.value);
        return found;
      }
    }
  }
  if (holds_tensors(dict)) return id;
  for (const Pair& pair : members) {
    if (is_dict(at(pair.value)) && holds_tensors(at(pair.value))) {
      candidates.emplace_back(pair.value, pair.value);
    }
  }
  if (candidates.size() != 1) return std::nullopt;
  skip_others(candidates[0].first);
  return candidates[0].second;
}

std::optional<DType> Checkpoint::dtype_of(PickleId id) const {
  const std::string name = pickle_.class_name(at(id));
  for (const TorchName& row : torch_names()) {
    const bool storage = row.storage != nullptr && (name == std::string("torch.") + row.storage ||
                                                    name == std::string("torch.cuda.") + row.storage);
    if (storage || name == std::string("torch.") + row.dtype) return row.type;
  }
  return std::nullopt;
}

StorageId Checkpoint::storage_id(const PickleValue& persistent) const {
  const PickleValue& id = at(persistent.a);
  const std::vector<PickleId>& parts = id.items;
  const bool whole = id.kind == Kind::tuple && parts.size() >= 5 && at(parts[0]).text == "storage" &&
                     at(parts[2]).kind == Kind::text && at(parts[4]).kind == Kind::integer &&
                     at(parts[4]).integer >= 0;
  if (!whole) fail("a reference to a storage is damaged, expected ('storage', class, key, location, count)");
  StorageId result;
  result.key = std::string(at(parts[2]).text);
  result.dtype = dtype_of(parts[1]);
  const std::string name = pickle_.class_name(at(parts[1]));
  if (!result.dtype && !ends_with(name, ".UntypedStorage")) {
    fail("storage " + shown_name(result.key) + " is a " + pickle_.type_name(at(parts[1])) +
         ", expected real, integer or boolean elements");
  }
  result.count = static_cast<uint64_t>(at(parts[4]).integer);
  result.view_count = result.count;
  if (parts.size() < 6 || at(parts[5]).kind == Kind::none) return result;
  const std::vector<PickleId>& view = at(parts[5]).items;
  const bool viewed =
      view.size() == 3 && at(view[1]).kind == Kind::integer && at(view[2]).kind == Kind::integer;
  uint64_t end = 0;
  if (viewed) {
    result.view_offset = static_cast<uint64_t>(at(view[1]).integer);
    result.view_count = static_cast<uint64_t>(at(view[2]).integer);
  }
  const bool inside =
      viewed && !__builtin_add_overflow(result.view_offset, result.view_count, &end) && end <= result.count;
  if (!inside) {
    fail("storage " + shown_name(result.key) +
         " has a damaged view, expected (key, offset, count) inside it");
  }
  return result;
}

/// A torch.Size, tuple or list of non-negative integers.
std::vector<int64_t> Checkpoint::sizes(const std::string& name, PickleId id) const {
  const PickleValue* value = &at(id);
  if (pickle_.class_name(*value) == "torch.Size" && value->kind == Kind::object &&
      at(value->b).items.size() == 1) {
    value = &at(at(value->b).items[0]);
  }
  if (value->kind != Kind::tuple && value->kind != Kind::list) {
    fail(name + ": its shape is a " + pickle_.type_name(*value));
  }
  if (value->items.size() > kMaxDimensions) fail(name + ": has more than 64 dimensions");
  std::vector<int64_t> result;
  for (const PickleId item : value->items) {
    const bool count = at(item).kind == Kind::integer && at(item).integer >= 0;
    if (!count) fail(name + ": a size or stride is negative or no integer");
    result.push_back(at(item).integer);
  }
  return result;
}

/// `_rebuild_tensor_v2(storage, offset, size, stride, requires_grad, hooks[, metadata])`; v3 has the dtype in
/// the seventh place; `_rebuild_parameter(tensor, …)` and `_rebuild_from_type_v2(function, type, arguments,
/// state)` wrap.
TensorEntry Checkpoint::rebuild(const std::string& name, const PickleValue& value,
                                const StorageFinder& find_storage) const {
  std::string function = pickle_.class_name(value);
  const PickleValue* arguments = &at(value.b);
  for (;;) {
    const std::vector<PickleId>& parts = arguments->items;
    if (starts_with(function, "torch._utils._rebuild_parameter") && !parts.empty() &&
        is_tensor(at(parts[0]))) {
      function = pickle_.class_name(at(parts[0]));
      arguments = &at(at(parts[0]).b);
    } else if (function == "torch._tensor._rebuild_from_type_v2" && parts.size() >= 3) {
      function = pickle_.class_name(at(parts[0]));
      arguments = &at(parts[2]);
    } else {
      break;
    }
  }
  const std::vector<PickleId>& parts = arguments->items;
  const bool v3 = function == "torch._utils._rebuild_tensor_v3";
  if (!v3 && function != "torch._utils._rebuild_tensor_v2" && function != "torch._utils._rebuild_tensor") {
    fail(name + ": is what " + function + " makes, expected a dense tensor");
  }
  const bool whole = arguments->kind == Kind::tuple && parts.size() >= (v3 ? 7 : 4) &&
                     at(parts[0]).kind == Kind::persistent && at(parts[1]).kind == Kind::integer;
  if (!whole) fail(name + ": is damaged, expected storage, offset, size and stride");
  const StorageId id = storage_id(at(parts[0]));
  const std::optional<DType> dtype = v3 ? dtype_of(parts[6]) : id.dtype;
  if (!dtype) fail(name + ": has elements of " + (v3 ? pickle_.type_name(at(parts[6])) : "no known type"));
  TensorEntry entry;
  entry.name = name;
  entry.dtype = *dtype;
  entry.shape = sizes(name, parts[2]);
  entry.strides = sizes(name, parts[3]);
  place(entry, id, at(parts[1]).integer, find_storage);
  return entry;
}

/// Finds the tensor's first byte and checks that its last one lies in the storage.
void Checkpoint::place(TensorEntry& entry, const StorageId& id, int64_t offset,
                       const StorageFinder& find_storage) const {
  const auto width = static_cast<uint64_t>(dtype_size(entry.dtype));
  uint64_t extent = 0, count = 0, begin = 0, end = 0, room = 0;
  const bool sane = offset >= 0 && byte_extent(entry, extent) && element_count(entry.shape, count) &&
                    !__builtin_mul_overflow(static_cast<uint64_t>(offset), width, &begin) &&
                    !__builtin_add_overflow(begin, extent, &end) &&
                    !__builtin_mul_overflow(id.view_count, id.element_size(), &room);
  if (!sane || (end > room && count > 0)) {
    fail(entry.name + ": shape " + shape_text(entry.shape.data(), entry.shape.size()) + ", strides " +
         shape_text(entry.strides.data(), entry.strides.size()) + " and offset " + std::to_string(offset) +
         " pass the end of its storage of " + std::to_string(id.view_count) + " elements");
  }
  // Strides of 0 repeat elements; nothing but an attack repeats them until they outgrow the file.
  if (count > std::max(kMaxExpanded, file_size_)) {
    fail(entry.name + ": shape " + shape_text(entry.shape.data(), entry.shape.size()) +
         " is larger than the whole file");
  }
  const StoragePlace storage = find_storage(id);
  entry.offset = count == 0 ? storage.offset : storage.offset + id.view_offset * id.element_size() + begin;
}

void Checkpoint::read(const StorageFinder& find_storage, TensorFile& file) const {
  std::unordered_set<PickleId> seen;
  const PickleValue& root = at(pickle_.root());
  const std::optional<PickleId> state = find_state(pickle_.root(), seen, file);
  if (!state) {
    std::vector<std::string> members;
    if (is_dict(root)) {
      for (const Pair& pair : pairs(root)) {
        if (members.size() < 8) members.push_back(member(pair));
      }
    }
    const std::string holds = members.empty() ? pickle_.type_name(root) : "dict of " + join(members, ", ");
    throw Error(where_ + ": holds a " + holds + ", expected a state dict of tensors",
                "torch.save(model.state_dict(), FILE) writes one");
  }
  for (const Pair& pair : pairs(at(*state))) {
    const PickleValue& key = at(pair.key);
    if (key.kind != Kind::text || !is_tensor(at(pair.value))) {
      file.skipped.push_back(member(pair));
    } else {
      file.tensors.push_back(rebuild(std::string(key.text), at(pair.value), find_storage));
    }
  }
}

}  // namespace zoo
