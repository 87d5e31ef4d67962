#pragma once
#include <cstdint>
#include <map>
#include <string>
#include <vector>

namespace zoo {

/// Element types that the readers know. Names as in safetensors: F32, BF16, I64, BOOL, …
enum class DType { f64, f32, f16, bf16, i64, i32, i16, i8, u8, boolean, u16, u32, u64 };

int64_t dtype_size(DType dtype);
const char* dtype_name(DType dtype);

/// Where a tensor lies in a file, checked against the file's size: `offset + extent of shape and strides` is inside.
struct TensorEntry {
  std::string name;
  DType dtype = DType::f32;
  std::vector<int64_t> shape;
  std::vector<int64_t> strides;  ///< in elements, never negative
  uint64_t offset = 0;           ///< first byte in the file
};

/// What a weight file holds: tensors in the file's order, and the text of its `__metadata__` (safetensors only).
struct TensorFile {
  std::vector<TensorEntry> tensors;
  std::map<std::string, std::string> metadata;
  std::string format;                ///< "safetensors", "zip", "legacy"
  std::vector<std::string> skipped;  ///< what stood beside the weights and was left alone, for messages
};

/// Recognises the container by content and reads its index; `bytes` is the whole (mapped) file, `path` only names it
/// in messages. Throws Error (what, where, what would be right) for TorchScript archives, other pickles, tar files,
/// truncated or inconsistent files. Never runs code of the file and never reads outside `bytes`.
TensorFile read_tensor_file(const uint8_t* bytes, uint64_t size, const std::string& path);

}  // namespace zoo
