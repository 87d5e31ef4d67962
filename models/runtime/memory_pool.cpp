#include "models/runtime/memory_pool.h"

#include <sys/mman.h>

#include <cstdlib>
#include <map>
#include <mutex>
#include <new>
#include <unordered_map>

#include <c10/core/Allocator.h>
#include <c10/core/CPUAllocator.h>

namespace zoo {

namespace {

constexpr size_t kLeastBytes = size_t{64} << 10;  // below, malloc is as good
constexpr size_t kHugePage = size_t{2} << 20;
constexpr size_t kMostFree = size_t{2} << 30;  // bytes kept for later
constexpr size_t kMostWaste = 4;               // a block may be so many times larger than what is asked for
/// Blocks from this size on fit more closely, and free ones are let go before another is made: the maps of a large
/// picture differ in size from layer to layer, and some of each size would be kept.
constexpr size_t kLarge = size_t{48} << 20;

thread_local bool pooling = false;

/// Free blocks by size. Requests take the smallest that fits.
class Pool {
 public:
  void* take(size_t bytes) {
    const size_t size = (bytes + kLeastBytes - 1) / kLeastBytes * kLeastBytes;
    const std::lock_guard<std::mutex> lock(mutex_);
    void* block = nullptr;
    const auto fit = free_.lower_bound(size);
    const size_t most = size < kLarge ? kMostWaste * size : size + size / 4;
    if (fit != free_.end() && fit->first <= most) {
      block = fit->second;
      in_use_[block] = fit->first;
      free_bytes_ -= fit->first;
      free_.erase(fit);
      return block;
    }
    if (size >= kLarge) let_large_ones_go();
    const size_t alignment = size >= kHugePage ? kHugePage : 4096;
    if (posix_memalign(&block, alignment, size) != 0) throw std::bad_alloc();
    if (size >= kHugePage) madvise(block, size, MADV_HUGEPAGE);  // a wish: without it all works too
    in_use_[block] = size;
    return block;
  }

  /// False for memory that is not the pool's.
  bool give_back(void* block) {
    const std::lock_guard<std::mutex> lock(mutex_);
    const auto used = in_use_.find(block);
    if (used == in_use_.end()) return false;
    const size_t size = used->second;
    in_use_.erase(used);
    if (free_bytes_ + size > kMostFree) {
      std::free(block);
      return true;
    }
    free_.emplace(size, block);
    free_bytes_ += size;
    return true;
  }

 private:
  void let_large_ones_go() {
    for (auto block = free_.lower_bound(kLarge); block != free_.end(); block = free_.erase(block)) {
      std::free(block->second);
      free_bytes_ -= block->first;
    }
  }

  std::mutex mutex_;
  std::multimap<size_t, void*> free_;
  std::unordered_map<void*, size_t> in_use_;
  size_t free_bytes_ = 0;
};

/// Never destroyed: tensors with static lifetime may end after it would.
Pool& pool() {
  static Pool* const the_pool = new Pool;
  return *the_pool;
}

/// Torch's own allocator.
c10::Allocator* plain = nullptr;

void give_back(void* block) {
  pool().give_back(block);
}

/// For those who let go of memory without knowing where it came from.
void give_back_any(void* memory) {
  if (memory != nullptr && !pool().give_back(memory)) plain->raw_deleter()(memory);
}

class PoolingAllocator : public c10::Allocator {
 public:
  c10::DataPtr allocate(size_t bytes) override {
    if (!pooling || bytes < kLeastBytes) return plain->allocate(bytes);
    void* block = pool().take(bytes);
    return {block, block, &give_back, c10::Device(c10::kCPU)};
  }
  c10::DeleterFnPtr raw_deleter() const override { return &give_back_any; }
  void copy_data(void* to, const void* from, size_t bytes) const override {
    default_copy_data(to, from, bytes);
  }
};

/// Torch's allocator becomes ours once, for good; threads outside a scope get what they got before.
void install() {
  static PoolingAllocator* const allocator = [] {
    plain = c10::GetCPUAllocator();
    auto* made = new PoolingAllocator;
    c10::SetCPUAllocator(made, /*priority=*/1);
    return made;
  }();
  static_cast<void>(allocator);
}

}  // namespace

MemoryPoolScope::MemoryPoolScope() : outer_(pooling) {
  install();
  pooling = true;
}

MemoryPoolScope::~MemoryPoolScope() {
  pooling = outer_;
}

}  // namespace zoo
