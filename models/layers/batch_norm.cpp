#include "models/layers/batch_norm.h"

#include <torch/torch.h>

namespace zoo {

namespace {

constexpr double kEps = 1e-5;

}  // namespace

BatchNorm2dImpl::BatchNorm2dImpl(int64_t channels, bool frozen) : frozen(frozen) {
  weight = torch::ones(channels);
  bias = torch::zeros(channels);
  if (frozen) {
    weight = register_buffer("weight", weight);
    bias = register_buffer("bias", bias);
  } else {
    weight = register_parameter("weight", weight);
    bias = register_parameter("bias", bias);
  }
  running_mean = register_buffer("running_mean", torch::zeros(channels));
  running_var = register_buffer("running_var", torch::ones(channels));
}

torch::Tensor BatchNorm2dImpl::forward(const torch::Tensor& x) {
  constexpr double kMomentum = 0.1;
  return torch::batch_norm(x, weight, bias, running_mean, running_var, is_training() && !frozen, kMomentum,
                           kEps,
                           /*cudnn_enabled=*/true);
}

torch::Tensor BatchNorm2dImpl::after(torch::nn::Conv2dImpl& conv, const torch::Tensor& x) {
  if (!frozen || !is_training() || conv.bias.defined()) return forward(conv.forward(x));
  const torch::Tensor scale = weight * (running_var + kEps).rsqrt();  // [C]
  const torch::Tensor shift = bias - running_mean * scale;
  const auto padding = std::get<torch::ExpandingArray<2>>(conv.options.padding());
  return torch::conv2d(x, conv.weight * scale.view({-1, 1, 1, 1}), shift, conv.options.stride(), padding,
                       conv.options.dilation(), conv.options.groups());
}

}  // namespace zoo
