#include "models/layers/batch_norm.h"

#include <ATen/autocast_mode.h>
#include <ATen/record_function.h>
#include <torch/torch.h>

#include "models/layers/onednn.h"
#include "models/layers/tracing.h"

namespace zoo {

namespace {

constexpr double kEps = 1e-5;

bool channels_last(const torch::Tensor& x) {
  return x.suggest_memory_format() == torch::MemoryFormat::ChannelsLast;
}

/// Whether oneDNN's convolutions with an activation, which have no gradient, do conv(x) well.
bool onednn_takes(const torch::nn::Conv2dImpl& conv, const torch::Tensor& x) {
  return x.is_cpu() && x.scalar_type() == torch::kFloat && !torch::GradMode::is_enabled() &&
         !at::autocast::is_autocast_enabled(at::kCPU) && at::hasMKLDNN() &&
         at::globalContext().userEnabledMkldnn() && (channels_last(x) || channels_last(conv.weight));
}

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
  const bool learns = is_training() && !frozen;
  if (learns && num_batches_tracked.defined()) num_batches_tracked.add_(1);
  return torch::batch_norm(x, weight, bias, running_mean, running_var, learns, kMomentum, kEps,
                           /*cudnn_enabled=*/true);
}

bool BatchNorm2dImpl::folds_into(const torch::nn::Conv2dImpl& conv, const torch::Tensor& x) const {
  const bool learns = is_training() && !frozen;
  if (learns || conv.bias.defined() || is_tracing()) return false;
  if (is_training()) return true;
  if (at::hasThreadLocalCallbacks()) return false;  // a summary wants to see the layers
  const auto& stride = *conv.options.stride();
  const int64_t cells = x.size(0) * (x.size(2) / stride[0]) * (x.size(3) / stride[1]);
  return conv.weight.numel() <= cells * conv.weight.size(0);
}

/// The convolution that includes the norm.
Convolution BatchNorm2dImpl::folded(const torch::nn::Conv2dImpl& conv) const {
  const torch::Tensor scale = weight * (running_var + kEps).rsqrt();  // [C]
  const auto list = [](const torch::ExpandingArray<2>& pair) {
    return std::vector<int64_t>(pair->begin(), pair->end());
  };
  return {conv.weight * scale.view({-1, 1, 1, 1}),
          bias - running_mean * scale,
          list(conv.options.stride()),
          list(std::get<torch::ExpandingArray<2>>(conv.options.padding())),
          list(conv.options.dilation()),
          conv.options.groups()};
}

torch::Tensor BatchNorm2dImpl::after(torch::nn::Conv2dImpl& conv, const torch::Tensor& x) {
  if (!folds_into(conv, x)) return forward(conv.forward(x));
  const Convolution both = folded(conv);
  return torch::conv2d(x, both.weight, both.bias, both.stride, both.padding, both.dilation, both.groups);
}

torch::Tensor BatchNorm2dImpl::relu_after(torch::nn::Conv2dImpl& conv, const torch::Tensor& x) {
  if (!onednn_takes(conv, x) || !folds_into(conv, x)) return after(conv, x).relu_();
  return onednn_convolution(x, folded(conv), "relu");
}

torch::Tensor BatchNorm2dImpl::add_relu_after(torch::nn::Conv2dImpl& conv, const torch::Tensor& x,
                                              torch::Tensor addend) {
  if (!onednn_takes(conv, x) || !channels_last(addend) || !folds_into(conv, x)) {
    return (after(conv, x) + addend).relu_();
  }
  onednn_convolution_add_(addend, x, folded(conv), "relu");
  return addend;
}

void BatchNorm2dImpl::count_batches() {
  num_batches_tracked = register_buffer("num_batches_tracked", torch::zeros({}, torch::kLong));
}

BatchNorm2d counted_batch_norm(int64_t channels) {
  BatchNorm2d norm(channels);
  norm->count_batches();
  return norm;
}

}  // namespace zoo
