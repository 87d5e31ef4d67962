#pragma once
#include <cstddef>
#include <cstdint>
#include <functional>
#include <map>
#include <string>
#include <string_view>
#include <vector>

namespace zoo {

/// Element types that the readers know. Names as in safetensors: F32, BF16, I64, BOOL, …
enum class DType { f64, f32, f16, bf16, i64, i32, i16, i8, u8, boolean, u16, u32, u64 };

int64_t dtype_size(DType dtype);
const char* dtype_name(DType dtype);
/// False where no element type has that name.
bool parse_dtype(std::string_view name, DType& dtype);

/// A tensor without its elements; what a writer needs to know of it.
struct TensorInfo {
  std::string name;
  DType dtype = DType::f32;
  std::vector<int64_t> shape;
};

/// Where a tensor lies in a file, checked against the file's size: `offset + extent of shape and strides` is
/// inside.
struct TensorEntry : TensorInfo {
  std::vector<int64_t> strides;  ///< in elements, never negative
  uint64_t offset = 0;           ///< first byte in the file
};

/// What a weight file holds: tensors in the file's order, and the text of its `__metadata__` (safetensors
/// only).
struct TensorFile {
  std::vector<TensorEntry> tensors;
  std::map<std::string, std::string> metadata;
  std::string format;                ///< "safetensors", "zip", "legacy"
  std::vector<std::string> skipped;  ///< what stood beside the weights and was left alone, for messages
};

/// What the first bytes of a file say it is; `none` for everything that holds no weights. TorchScript and
/// NumPy archives are zips too: only `read_tensor_file` tells them apart.
enum class Container { none, safetensors, zip, legacy };
Container tell_container(const uint8_t* bytes, uint64_t size);

/// Recognises the container by content and reads its index; `bytes` is the whole (mapped) file, `path` only
/// names it in messages. Throws Error (what, where, what would be right) for TorchScript archives, other
/// pickles, tar files, truncated or inconsistent files. Never runs code of the file and never reads outside
/// `bytes`.
TensorFile read_tensor_file(const uint8_t* bytes, uint64_t size, const std::string& path);

/// Elements of a shape, and bytes from the first element to the end of the last one (0 where a size is 0).
/// False where a size or stride is negative or the number passes 2^63.
bool element_count(const std::vector<int64_t>& shape, uint64_t& count);
bool byte_extent(const TensorEntry& entry, uint64_t& bytes);
/// Bytes of the elements of a tensor without gaps. Throws Error where they cannot be counted.
uint64_t contiguous_bytes(const TensorInfo& tensor);
/// Strides in elements of a tensor without gaps, last dimension innermost, of a shape whose elements can be
/// counted.
std::vector<int64_t> contiguous_strides(const std::vector<int64_t>& shape);

/// Takes the bytes of a file in order.
using ByteSink = std::function<void(const void* data, size_t size)>;
/// Gives the contiguous elements of the tensor `index` of a list, valid until the next call.
using TensorSource = std::function<const void*(size_t index)>;

}  // namespace zoo
