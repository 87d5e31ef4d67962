#pragma once
#include <torch/nn/modules/container/sequential.h>
#include <torch/types.h>

namespace zoo {

/// A Sequential of layers that each make one tensor of one; unlike torch's it may be a layer of another.
class ChainImpl : public torch::nn::SequentialImpl {
 public:
  using SequentialImpl::SequentialImpl;

  torch::Tensor forward(const torch::Tensor& x) { return SequentialImpl::forward(x); }
};
TORCH_MODULE(Chain);

}  // namespace zoo
