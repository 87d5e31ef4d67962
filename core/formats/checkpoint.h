#pragma once
#include <functional>
#include <optional>
#include <string>
#include <unordered_set>
#include <vector>

#include "core/formats/pickle.h"
#include "core/formats/tensor_file.h"

namespace zoo {

/// How Python's torch names an element type.
struct TorchName {
  const char* storage;  ///< class in the module torch
  const char* dtype;    ///< attribute of the module torch
  DType type;
};
/// All element types that have a name in torch.
const std::vector<TorchName>& torch_names();

/// A persistent id `('storage', class, key, location, count[, view])`.
struct StorageId {
  std::string key;
  std::optional<DType> dtype;  ///< none: untyped, counted in bytes
  uint64_t count = 0;
  uint64_t view_offset = 0, view_count = 0;  ///< of an old view into another storage, else 0 and count

  uint64_t element_size() const { return dtype ? static_cast<uint64_t>(dtype_size(*dtype)) : 1; }
};

/// Bytes of a storage in the file.
struct StoragePlace {
  uint64_t offset = 0, size = 0;
};
using StorageFinder = std::function<StoragePlace(const StorageId& id)>;

/// What the pickle of a checkpoint means: its storages, its tensors and the dict that is the weights.
class Checkpoint {
 public:
  /// `where` begins every message; `pickle` must outlive this.
  Checkpoint(const Pickle& pickle, std::string where, uint64_t file_size)
      : pickle_(pickle), where_(std::move(where)), file_size_(file_size) {}

  StorageId storage_id(const PickleValue& persistent) const;
  /// Fills in `tensors` and `skipped`. Throws Error where there is no state dict, or where a tensor of it is
  /// no dense one, passes the end of its storage or repeats its elements to more than the file has.
  void read(const StorageFinder& find_storage, TensorFile& file) const;

 private:
  struct Pair {
    PickleId key, value;
  };

  [[noreturn]] void fail(const std::string& what) const;
  const PickleValue& at(PickleId id) const { return pickle_[id]; }
  bool is_dict(const PickleValue& value) const;
  std::vector<Pair> pairs(const PickleValue& dict) const;
  bool is_tensor(const PickleValue& value) const;
  bool holds_tensors(const PickleValue& dict) const;
  std::optional<PickleId> find_state(PickleId id, std::unordered_set<PickleId>& seen, TensorFile& file) const;
  std::string member(const Pair& pair) const;

  TensorEntry rebuild(const std::string& name, const PickleValue& value,
                      const StorageFinder& find_storage) const;
  std::vector<int64_t> sizes(const std::string& name, PickleId id) const;
  std::optional<DType> dtype_of(PickleId id) const;
  void place(TensorEntry& entry, const StorageId& id, int64_t offset,
             const StorageFinder& find_storage) const;

  const Pickle& pickle_;
  std::string where_;
  uint64_t file_size_;
};

}  // namespace zoo
