#include "datasets/tensor_pool.h"

#include <algorithm>
#include <cstdlib>
#include <new>
#include <utility>

namespace zoo {
namespace {

constexpr size_t kAlignment = 64;          // as torch's own allocator
constexpr size_t kGranularity = 1u << 20;  // so that sizes which differ a little share blocks
constexpr size_t kFreeBlocks = 8;

}  // namespace

void TensorPool::Free::operator()(void* memory) const {
  std::free(memory);
}

TensorPool::Block TensorPool::take(size_t bytes) {
  {
    const std::lock_guard<std::mutex> lock(mutex_);
    auto best = free_.end();  // the smallest that is large enough
    for (auto block = free_.begin(); block != free_.end(); ++block) {
      if (block->bytes >= bytes && (best == free_.end() || block->bytes < best->bytes)) best = block;
    }
    if (best != free_.end()) {
      Block found = std::move(*best);
      free_.erase(best);
      return found;
    }
    // All are too small: one makes room for the new one, so that their number does not grow with the sizes.
    if (!free_.empty()) free_.pop_back();
  }
  Block block;
  block.bytes = (bytes / kGranularity + 1) * kGranularity;
  block.memory.reset(std::aligned_alloc(kAlignment, block.bytes));
  if (block.memory == nullptr) throw std::bad_alloc();
  return block;
}

void TensorPool::give_back(Block block) {
  const std::lock_guard<std::mutex> lock(mutex_);
  if (free_.size() < kFreeBlocks) free_.push_back(std::move(block));
}

torch::Tensor TensorPool::empty(at::IntArrayRef sizes, torch::Dtype dtype) {
  size_t bytes = c10::elementSize(dtype);
  for (const int64_t size : sizes) bytes *= static_cast<size_t>(size);
  // The deleter must be copyable, a block is not.
  auto block = std::make_shared<Block>(take(bytes));
  auto pool = shared_from_this();
  return torch::from_blob(
      block->memory.get(), sizes, [block, pool](void*) { pool->give_back(std::move(*block)); }, dtype);
}

}  // namespace zoo
