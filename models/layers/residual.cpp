#include "models/layers/residual.h"

#include <torch/torch.h>

#include "models/layers/dropout.h"
#include "models/layers/tracing.h"

namespace zoo {

torch::nn::GroupNorm group_norm(int64_t groups, int64_t channels, double eps) {
  return torch::nn::GroupNorm(torch::nn::GroupNormOptions(groups, channels).eps(eps));
}

torch::nn::Conv2d conv3x3(int64_t in, int64_t out) {
  return torch::nn::Conv2d(torch::nn::Conv2dOptions(in, out, 3).padding(1));
}

torch::nn::Conv2d conv1x1(int64_t in, int64_t out) {
  return torch::nn::Conv2d(torch::nn::Conv2dOptions(in, out, 1));
}

ResidualBlockImpl::ResidualBlockImpl(const ResidualBlockOptions& options) : dropout_(options.dropout) {
  norm1 = register_module("norm1", group_norm(options.groups, options.in, options.eps));
  conv1 = register_module("conv1", conv3x3(options.in, options.out));
  if (options.time > 0) {
    time_emb_proj = register_module("time_emb_proj", torch::nn::Linear(options.time, options.out));
  }
  norm2 = register_module("norm2", group_norm(options.groups, options.out, options.eps));
  conv2 = register_module("conv2", conv3x3(options.out, options.out));
  if (options.in != options.out) {
    conv_shortcut = register_module("conv_shortcut", conv1x1(options.in, options.out));
  }
  if (options.zero_start) from_zero(conv2);
}

torch::Tensor ResidualBlockImpl::forward(const torch::Tensor& x, const torch::Tensor& time) {
  torch::Tensor y = conv1(torch::silu(norm1(x)));  // [B,out,h,w]
  if (!time_emb_proj.is_empty()) y = y + time_emb_proj(time).unsqueeze(-1).unsqueeze(-1);
  y = conv2(hashed_dropout(torch::silu(norm2(y)), dropout_, is_training()));
  return (conv_shortcut.is_empty() ? x : conv_shortcut(x)) + y;
}

DownsampleImpl::DownsampleImpl(int64_t channels, bool symmetric) : symmetric_(symmetric) {
  conv = register_module(
      "conv", torch::nn::Conv2d(
                  torch::nn::Conv2dOptions(channels, channels, 3).stride(2).padding(symmetric ? 1 : 0)));
}

torch::Tensor DownsampleImpl::forward(const torch::Tensor& x) {
  return conv(symmetric_ ? x : torch::constant_pad_nd(x, {0, 1, 0, 1}));
}

UpsampleImpl::UpsampleImpl(int64_t channels) {
  conv = register_module("conv", conv3x3(channels, channels));
}

torch::Tensor UpsampleImpl::forward(const torch::Tensor& x, const torch::Tensor& like) {
  return conv(like.defined()
                  ? upsample_nearest_like(x, like)
                  : torch::upsample_nearest2d(x, at::OptionalIntArrayRef(), std::vector<double>{2, 2}));
}

}  // namespace zoo
