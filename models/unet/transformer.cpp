#include "models/unet/transformer.h"

#include <torch/torch.h>

#include "models/layers/attention.h"
#include "models/layers/full_precision.h"
#include "models/layers/residual.h"

namespace zoo {

namespace {

torch::nn::LayerNorm token_norm(int64_t channels) {
  return torch::nn::LayerNorm(torch::nn::LayerNormOptions({channels}));
}

}  // namespace

UNetAttentionImpl::UNetAttentionImpl(const UNetTransformerOptions& options, int64_t context)
    : heads_(options.heads), upcast_(options.upcast) {
  to_q = register_module("to_q", AdaptedLinear(options.channels, options.channels, /*bias=*/false));
  to_k = register_module("to_k", AdaptedLinear(context, options.channels, /*bias=*/false));
  to_v = register_module("to_v", AdaptedLinear(context, options.channels, /*bias=*/false));
  to_out->push_back(AdaptedLinear(options.channels, options.channels));
  register_module("to_out", to_out);
}

KeysValues UNetAttentionImpl::keys_values(const torch::Tensor& context) {
  return {to_k(context), to_v(context)};
}

torch::Tensor UNetAttentionImpl::forward(const torch::Tensor& x, const KeysValues& keys_values) {
  const auto& [keys, values] = keys_values;
  const torch::Tensor queries = to_q(x);  // [B,T,C]
  auto& out = to_out->at<AdaptedLinearImpl>(0);
  const bool narrow = queries.scalar_type() == torch::kBFloat16 || queries.scalar_type() == torch::kHalf;
  if (!upcast_ || !narrow) {
    return out.forward(attend_by_heads(queries, keys, values, heads_, {}, 0));
  }
  torch::Tensor attended;
  {
    const WithoutAutocast full;
    attended = attend_by_heads(queries.to(torch::kFloat), keys.to(torch::kFloat), values.to(torch::kFloat),
                               heads_, {}, 0);
  }
  return out.forward(attended.to(queries.scalar_type()));
}

UNetFeedForwardImpl::UNetFeedForwardImpl(int64_t channels) {
  const int64_t inner = 4 * channels;
  up = AdaptedLinear(channels, 2 * inner);
  down = AdaptedLinear(inner, channels);
  // `net` counts the gate, a dropout without weights, and the second layer.
  const auto gate = std::make_shared<torch::nn::Module>("GEGLU");
  gate->register_module("proj", up);
  const auto net = std::make_shared<torch::nn::Module>("Net");
  net->register_module("0", gate);
  net->register_module("2", down);
  register_module("net", net);
}

torch::Tensor UNetFeedForwardImpl::forward(const torch::Tensor& x) {
  const auto halves = up(x).chunk(2, -1);  // [B,T,4C] each
  return down(halves[0] * torch::gelu(halves[1]));
}

UNetTransformerLayerImpl::UNetTransformerLayerImpl(const UNetTransformerOptions& options) {
  norm1 = register_module("norm1", token_norm(options.channels));
  attn1 = register_module("attn1", UNetAttention(options, options.channels));
  norm2 = register_module("norm2", token_norm(options.channels));
  attn2 = register_module("attn2", UNetAttention(options, options.context));
  norm3 = register_module("norm3", token_norm(options.channels));
  ff = register_module("ff", UNetFeedForward(options.channels));
}

torch::Tensor UNetTransformerLayerImpl::forward(torch::Tensor x, const KeysValues& text) {
  const torch::Tensor y = norm1(x);
  x = x + attn1(y, attn1->keys_values(y));
  x = x + attn2(norm2(x), text);
  return x + ff(norm3(x));
}

UNetTransformerImpl::UNetTransformerImpl(const UNetTransformerOptions& options) {
  constexpr double kEps = 1e-6;
  const int64_t channels = options.channels;
  norm = register_module("norm", group_norm(options.groups, channels, kEps));
  if (options.linear_projection) {
    linear_in = register_module("proj_in", AdaptedLinear(channels, channels));
  } else {
    conv_in = register_module("proj_in", conv1x1(channels, channels));
  }
  for (int64_t i = 0; i < options.layers; ++i) transformer_blocks->push_back(UNetTransformerLayer(options));
  register_module("transformer_blocks", transformer_blocks);
  if (options.linear_projection) {
    linear_out = register_module("proj_out", from_zero(AdaptedLinear(channels, channels)));
  } else {
    conv_out = register_module("proj_out", from_zero(conv1x1(channels, channels)));
  }
}

std::vector<KeysValues> UNetTransformerImpl::keys_values(const torch::Tensor& states) {
  std::vector<KeysValues> all;
  for (const auto& layer : *transformer_blocks) {
    all.push_back(layer->as<UNetTransformerLayerImpl>()->attn2->keys_values(states));
  }
  return all;
}

torch::Tensor UNetTransformerImpl::tokens_of(const torch::Tensor& x) {
  torch::Tensor y = norm(x);
  if (!conv_in.is_empty()) y = conv_in(y);
  y = y.flatten(2).transpose(1, 2);  // [B,hw,C]
  return conv_in.is_empty() ? linear_in(y) : y;
}

torch::Tensor UNetTransformerImpl::map_of(const torch::Tensor& tokens, const torch::Tensor& like) {
  const torch::Tensor y = conv_out.is_empty() ? linear_out(tokens) : tokens;
  const torch::Tensor map = y.transpose(1, 2).reshape_as(like);  // [B,C,h,w]
  return conv_out.is_empty() ? map : conv_out(map);
}

}  // namespace zoo
