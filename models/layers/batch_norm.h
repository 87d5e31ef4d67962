#pragma once
#include <torch/nn/module.h>
#include <torch/nn/modules/conv.h>
#include <torch/nn/pimpl.h>
#include <torch/types.h>

namespace zoo {

/// Batch normalisation of [B,C,H,W], eps 1e-5: y = (x - mean) / sqrt(var + eps) * weight + bias.
///
/// Learning: as in PyTorch, momentum 0.1, `weight` and `bias` are parameters. Frozen (Carion et al. 2020, as
/// in torchvision's detection models): all four tensors are buffers that nothing updates, in training too.
/// The names are the same: weight, bias, running_mean, running_var.
class BatchNorm2dImpl : public torch::nn::Module {
 public:
  explicit BatchNorm2dImpl(int64_t channels, bool frozen = false);

  torch::Tensor forward(const torch::Tensor& x);
  /// forward(conv(x)). In training a frozen norm is multiplied into the convolution's weight, which gives the
  /// same numbers and gradients and saves two passes over the maps each way.
  torch::Tensor after(torch::nn::Conv2dImpl& conv, const torch::Tensor& x);

  bool frozen;
  torch::Tensor weight, bias, running_mean, running_var;  ///< each [C]
};
TORCH_MODULE(BatchNorm2d);

}  // namespace zoo
