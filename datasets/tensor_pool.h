#pragma once
#include <cstddef>
#include <memory>
#include <mutex>
#include <vector>

#include <torch/types.h>

namespace zoo {

/// Memory for batches that is used again and again. The system hands out blocks of tens of megabytes page by
/// page, which takes longer than filling them. Thread-safe; blocks are given back by the tensors' last users
/// and outlive none of them.
class TensorPool : public std::enable_shared_from_this<TensorPool> {
 public:
  static std::shared_ptr<TensorPool> make() { return std::shared_ptr<TensorPool>(new TensorPool); }
  /// A tensor of undefined values that cannot be resized.
  torch::Tensor empty(at::IntArrayRef sizes, torch::Dtype dtype);

 private:
  struct Free {
    void operator()(void* memory) const;
  };
  struct Block {
    std::unique_ptr<void, Free> memory;
    size_t bytes = 0;
  };

  TensorPool() = default;
  Block take(size_t bytes);
  void give_back(Block block);

  std::mutex mutex_;
  std::vector<Block> free_;
};

}  // namespace zoo
