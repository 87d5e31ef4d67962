#pragma once
#include <cstdint>
#include <string>
#include <utility>
#include <vector>

#include "core/formats/tensor_file.h"

namespace zoo::test {

/// Little-endian bytes of a number.
template <typename T>
std::string raw(T value) {
  return std::string(reinterpret_cast<const char*>(&value), sizeof value);
}
/// Little-endian bytes of numbers in a row.
template <typename T>
std::string raw_list(const std::vector<T>& values) {
  return std::string(reinterpret_cast<const char*>(values.data()), values.size() * sizeof(T));
}

std::string safetensors_bytes(const std::string& header, const std::string& data);
std::string npy_bytes(const std::string& header, const std::string& data, int version = 1);

/// Pieces of a pickle, put together by `+`.
namespace pickled {
std::string unicode(const std::string& text);
std::string integer(int64_t value);
std::string global(const std::string& module, const std::string& name);
std::string tuple(const std::vector<std::string>& items);
std::string integers(const std::vector<int64_t>& values);  ///< as a tuple
/// `('storage', torch.CLASS, key, 'cpu', count[, view])` as a persistent id.
std::string storage(const std::string& type, const std::string& key, int64_t count,
                    const std::string& view = "");
std::string tensor(const std::string& storage, int64_t offset, const std::vector<int64_t>& shape,
                   const std::vector<int64_t>& strides);
std::string reduce(const std::string& function, const std::vector<std::string>& arguments);
/// An OrderedDict with `_metadata`, as state_dict() gives.
std::string ordered_dict(const std::vector<std::pair<std::string, std::string>>& members);
std::string dict(const std::vector<std::pair<std::string, std::string>>& members);
/// Protocol 2 around one value.
std::string whole(const std::string& value);
}  // namespace pickled

using Storages = std::vector<std::pair<std::string, std::string>>;  ///< key, bytes

/// What torch.save writes: the zip, and the container before 1.6 (whose storages have elements of `width`
/// bytes).
std::string pth_zip(const std::string& pickle, const Storages& storages, const Storages& extra_entries = {});
std::string pth_legacy(const std::string& pickle, const Storages& storages, size_t width = 4);

/// read_tensor_file on a copy of exactly that size, so that the address sanitizer sees every byte behind the
/// end.
TensorFile read_bytes(const std::string& bytes);
/// The message of the Error that reading throws; empty where it throws none.
std::string read_error(const std::string& bytes);

/// Elements of a tensor in row-major order, taken from the file by its strides.
template <typename T>
std::vector<T> elements(const std::string& bytes, const TensorEntry& entry) {
  std::vector<T> values;
  std::vector<int64_t> index(entry.shape.size(), 0);
  for (;;) {
    int64_t at = 0;
    for (size_t i = 0; i < index.size(); ++i) {
      if (entry.shape[i] == 0) return values;
      at += index[i] * entry.strides[i];
    }
    T value;
    std::copy_n(bytes.data() + entry.offset + static_cast<uint64_t>(at) * sizeof(T), sizeof(T),
                reinterpret_cast<char*>(&value));
    values.push_back(value);
    size_t i = index.size();
    while (i > 0 && ++index[i - 1] == entry.shape[i - 1]) index[--i] = 0;
    if (i == 0) return values;
  }
}

}  // namespace zoo::test
