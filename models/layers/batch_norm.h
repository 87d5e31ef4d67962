#pragma once
#include <torch/nn/module.h>
#include <torch/nn/modules/conv.h>
#include <torch/nn/pimpl.h>
#include <torch/types.h>

namespace zoo {

struct Convolution;

/// Batch normalisation of [B,C,H,W] or [B,C], eps 1e-5: y = (x - mean) / sqrt(var + eps) * weight + bias.
///
/// Learning: as in PyTorch, momentum 0.1, `weight` and `bias` are parameters. Frozen (Carion et al. 2020, as
/// in torchvision's detection models): all four tensors are buffers that nothing updates, in training too.
/// The names are the same: weight, bias, running_mean, running_var.
class BatchNorm2dImpl : public torch::nn::Module {
 public:
  explicit BatchNorm2dImpl(int64_t channels, bool frozen = false);

  torch::Tensor forward(const torch::Tensor& x);
  /// forward(conv(x)). A norm that only scales and shifts (a frozen one, or any in eval mode) is multiplied into
  /// the convolution's weight, which gives the same numbers and gradients and saves passes over the maps: always in
  /// training, in eval mode where the map is larger than the weight, never in a trace or a summary.
  torch::Tensor after(torch::nn::Conv2dImpl& conv, const torch::Tensor& x);
  /// relu(after(conv, x)), in one pass where oneDNN does it: float32 on the CPU without gradients.
  torch::Tensor relu_after(torch::nn::Conv2dImpl& conv, const torch::Tensor& x);
  /// relu(after(conv, x) + addend). May write the result into `addend`, which the caller gives up.
  torch::Tensor add_relu_after(torch::nn::Conv2dImpl& conv, const torch::Tensor& x, torch::Tensor addend);
  /// Adds the buffer num_batches_tracked, int64, the number of training steps, that files of PyTorch's own batch
  /// norms hold.
  void count_batches();

  bool frozen;
  torch::Tensor weight, bias, running_mean, running_var;  ///< each [C]
  torch::Tensor num_batches_tracked;                      ///< [], undefined where not counted

 private:
  bool folds_into(const torch::nn::Conv2dImpl& conv, const torch::Tensor& x) const;
  Convolution folded(const torch::nn::Conv2dImpl& conv) const;
};
TORCH_MODULE(BatchNorm2d);

/// One that learns, with the five tensors that PyTorch's own have.
BatchNorm2d counted_batch_norm(int64_t channels);

}  // namespace zoo
