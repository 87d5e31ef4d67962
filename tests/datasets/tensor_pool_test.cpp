#include "datasets/tensor_pool.h"

#include <gtest/gtest.h>

#include <set>
#include <thread>

namespace zoo {
namespace {

TEST(TensorPool, MemoryIsUsedAgain) {
  const auto pool = TensorPool::make();
  torch::Tensor tensor = pool->empty({2, 3, 100, 100}, torch::kFloat);
  EXPECT_EQ(tensor.sizes(), (std::vector<int64_t>{2, 3, 100, 100}));
  EXPECT_EQ(reinterpret_cast<uintptr_t>(tensor.data_ptr()) % 64, 0u);
  const void* memory = tensor.data_ptr();
  EXPECT_NE(pool->empty({2, 3, 100, 100}, torch::kFloat).data_ptr(), memory);  // still in use
  torch::Tensor view = tensor.select(0, 1);
  tensor = torch::Tensor();
  EXPECT_NE(pool->empty({4}, torch::kBool).data_ptr(), memory);  // by the view
  view = torch::Tensor();
  std::set<void*> blocks;
  std::vector<torch::Tensor> taken;
  for (int i = 0; i < 2; ++i) taken.push_back(pool->empty({2, 3, 101, 100}, torch::kFloat));
  for (const torch::Tensor& one : taken) blocks.insert(one.data_ptr());
  EXPECT_EQ(blocks.count(const_cast<void*>(memory)), 1u);
}

TEST(TensorPool, LargerBlocksReplaceSmallerOnes) {
  const auto pool = TensorPool::make();
  const void* last = nullptr;
  for (int64_t megabytes = 1; megabytes < 6; ++megabytes) {
    torch::Tensor tensor = pool->empty({megabytes << 20}, torch::kByte);
    tensor.fill_(static_cast<int>(megabytes));
    last = tensor.data_ptr();
  }
  EXPECT_EQ(pool->empty({1}, torch::kByte).data_ptr(), last);
}

TEST(TensorPool, TensorsOutliveThePoolAndMayEndInAnotherThread) {
  torch::Tensor tensor;
  {
    const auto pool = TensorPool::make();
    tensor = pool->empty({5}, torch::kLong);
    pool->empty({0, 4}, torch::kFloat);
  }
  tensor.fill_(7);
  EXPECT_EQ(tensor.sum().item<int64_t>(), 35);
  std::thread([moved = std::move(tensor)]() mutable { moved.reset(); }).join();
}

}  // namespace
}  // namespace zoo
