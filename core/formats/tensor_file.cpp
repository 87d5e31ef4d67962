#include "core/formats/tensor_file.h"

#include <algorithm>
#include <string_view>
#include <unordered_set>

#include "core/error.h"
#include "core/formats/byte_reader.h"
#include "core/formats/pth.h"
#include "core/formats/safetensors.h"
#include "core/text.h"

namespace zoo {

namespace {

struct DTypeRow {
  const char* name;
  int64_t size;
};
/// In the order of the enumeration.
constexpr DTypeRow kDTypes[] = {{"F64", 8}, {"F32", 4}, {"F16", 2}, {"BF16", 2}, {"I64", 8},
                                {"I32", 4}, {"I16", 2}, {"I8", 1},  {"U8", 1},   {"BOOL", 1},
                                {"U16", 2}, {"U32", 4}, {"U64", 8}};

const char* const kExpected = "expected safetensors or what torch.save wrote of a state dict";

bool begins_with(std::string_view text, std::string_view magic) {
  return text.substr(0, magic.size()) == magic;
}

[[noreturn]] void fail_unknown(std::string_view text, const std::string& path) {
  constexpr size_t kTarMagic = 257;  // "ustar" of the first header block
  if (text.empty()) throw Error(path + ": is empty, " + kExpected);
  if (text.size() > kTarMagic && begins_with(text.substr(kTarMagic), "ustar")) {
    throw Error(path + ": is a tar file, as the oldest versions of torch wrote, " + kExpected,
                "load it with an old torch and save it again with torch >= 1.6");
  }
  if (begins_with(text, "version https://git-lfs")) {
    throw Error(path + ": is a Git LFS pointer, not the weights themselves, " + kExpected,
                "git lfs pull fetches the file");
  }
  if (begins_with(text, "\x1f\x8b")) throw Error(path + ": is compressed with gzip, " + kExpected);
  if (begins_with(text, "\x80")) {
    throw Error(path + ": is a pickle that torch.save did not write, " + kExpected);
  }
  if (begins_with(text, "\x93NUMPY")) throw Error(path + ": is a NumPy array, " + kExpected);
  throw Error(path + ": is no weight file, " + kExpected);
}

TensorFile read_container(const uint8_t* bytes, uint64_t size, const std::string& path) {
  switch (tell_container(bytes, size)) {
    case Container::safetensors:
      return read_safetensors(bytes, size, path);
    case Container::zip:
      return read_pth_zip(bytes, size, path);
    case Container::legacy:
      return read_pth_legacy(bytes, size, path);
    case Container::none:
      break;
  }
  fail_unknown({reinterpret_cast<const char*>(bytes), size}, path);
}

}  // namespace

int64_t dtype_size(DType dtype) {
  return kDTypes[static_cast<size_t>(dtype)].size;
}
const char* dtype_name(DType dtype) {
  return kDTypes[static_cast<size_t>(dtype)].name;
}

bool parse_dtype(std::string_view name, DType& dtype) {
  for (size_t i = 0; i < std::size(kDTypes); ++i) {
    if (name == kDTypes[i].name) {
      dtype = static_cast<DType>(i);
      return true;
    }
  }
  return false;
}

bool element_count(const std::vector<int64_t>& shape, uint64_t& count) {
  int64_t product = 1;
  bool overflow = false;
  for (const int64_t size : shape) {
    if (size < 0) return false;
    if (size == 0) {
      count = 0;
      return std::all_of(shape.begin(), shape.end(), [](int64_t other) { return other >= 0; });
    }
    overflow = __builtin_mul_overflow(product, size, &product) || overflow;
  }
  count = static_cast<uint64_t>(product);
  return !overflow;
}

bool byte_extent(const TensorEntry& entry, uint64_t& bytes) {
  uint64_t count = 0;
  if (entry.strides.size() != entry.shape.size() || !element_count(entry.shape, count)) return false;
  int64_t last = 0;  // index of the last element
  for (size_t i = 0; i < entry.shape.size(); ++i) {
    int64_t step = 0;
    if (entry.strides[i] < 0) return false;
    if (count == 0) continue;
    if (__builtin_mul_overflow(entry.shape[i] - 1, entry.strides[i], &step)) return false;
    if (__builtin_add_overflow(last, step, &last)) return false;
  }
  int64_t total = 0;
  if (__builtin_add_overflow(last, int64_t{1}, &total)) return false;
  if (__builtin_mul_overflow(total, dtype_size(entry.dtype), &total)) return false;
  bytes = count == 0 ? 0 : static_cast<uint64_t>(total);
  return true;
}

uint64_t contiguous_bytes(const TensorInfo& tensor) {
  uint64_t count = 0, bytes = 0;
  const bool countable =
      element_count(tensor.shape, count) &&
      !__builtin_mul_overflow(count, static_cast<uint64_t>(dtype_size(tensor.dtype)), &bytes);
  if (!countable) {
    throw Error(shown_name(tensor.name) + ": shape " + shape_text(tensor.shape.data(), tensor.shape.size()) +
                " is larger than any file");
  }
  return bytes;
}

std::vector<int64_t> contiguous_strides(const std::vector<int64_t>& shape) {
  std::vector<int64_t> strides(shape.size(), 1);
  for (size_t i = shape.size(); i-- > 1;) {
    // Too large only where another size is 0: no stride is ever taken then.
    if (__builtin_mul_overflow(strides[i], std::max<int64_t>(shape[i], 1), &strides[i - 1])) {
      strides[i - 1] = 0;
    }
  }
  return strides;
}

Container tell_container(const uint8_t* bytes, uint64_t size) {
  const std::string_view text(reinterpret_cast<const char*>(bytes), size);
  if (begins_with(text, "PK\x03\x04") || begins_with(text, "PK\x05\x06")) return Container::zip;
  if (is_pth_legacy(bytes, size)) return Container::legacy;
  return is_safetensors(bytes, size) ? Container::safetensors : Container::none;
}

TensorFile read_tensor_file(const uint8_t* bytes, uint64_t size, const std::string& path) {
  TensorFile file = read_container(bytes, size, path);
  std::unordered_set<std::string_view> names;
  for (const TensorEntry& entry : file.tensors) {
    if (!names.insert(entry.name).second) {
      throw Error(path + ": holds two tensors named " + shown_name(entry.name) + ", expected each name once");
    }
  }
  return file;
}

}  // namespace zoo
