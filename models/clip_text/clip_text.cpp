#include "models/clip_text/clip_text.h"

#include <cmath>
#include <optional>

#include <torch/torch.h>

#include "core/error.h"
#include "core/text.h"
#include "models/layers/tracing.h"
#include "models/shape_text.h"

namespace zoo {

namespace {

torch::nn::LayerNorm text_norm(const ClipTextOptions& options) {
  return torch::nn::LayerNorm(torch::nn::LayerNormOptions({options.hidden_size}).eps(options.layer_norm_eps));
}

/// A linear layer that starts with weights of this deviation and biases at 0.
AdaptedLinear text_linear(int64_t in, int64_t out, double deviation) {
  AdaptedLinear layer(in, out);
  torch::nn::init::normal_(layer->weight, 0, deviation);
  torch::nn::init::zeros_(layer->bias);
  return layer;
}

/// What the paper's code divides the weights into the residual stream by.
double residual_deviation(const ClipTextOptions& options) {
  return 1 / std::sqrt(static_cast<double>(options.hidden_size) * 2 *
                       static_cast<double>(options.num_hidden_layers));
}

double input_deviation(const ClipTextOptions& options) {
  return 1 / std::sqrt(static_cast<double>(options.hidden_size));
}

void require_ids(const torch::Tensor& ids, const ClipTextOptions& options) {
  const bool fits = ids.dim() == 2 && ids.scalar_type() == torch::kLong && ids.size(1) > 0 &&
                    ids.size(1) <= options.max_position_embeddings;
  if (!fits) {
    throw Error(format("token ids of shape %s, expected int64 [B,1…%lld]", shape_text(ids).c_str(),
                       static_cast<long long>(options.max_position_embeddings)));
  }
  if (is_tracing() || ids.numel() == 0 || ids.is_meta()) return;
  const int64_t least = ids.min().item<int64_t>(), most = ids.max().item<int64_t>();
  if (least >= 0 && most < options.vocab_size) return;
  throw Error(format("token id %lld, expected 0…%lld: the tokenizer is not that of the text encoder",
                     static_cast<long long>(least < 0 ? least : most),
                     static_cast<long long>(options.vocab_size - 1)));
}

}  // namespace

void ClipTextOptions::validate(const std::string& prefix) const {
  require_count(prefix + "vocab_size", vocab_size, 0);
  require_count(prefix + "hidden_size", hidden_size, 1);
  require_count(prefix + "intermediate_size", intermediate_size, 1);
  require_count(prefix + "num_hidden_layers", num_hidden_layers, 1);
  require_count(prefix + "num_attention_heads", num_attention_heads, 1);
  require_count(prefix + "max_position_embeddings", max_position_embeddings, 1);
  require_choice(prefix + "hidden_act", hidden_act, {"quick_gelu", "gelu"});
  require_positive(prefix + "layer_norm_eps", layer_norm_eps);
  if (hidden_size % num_attention_heads != 0) {
    throw UsageError(format("%snum_attention_heads: %lld does not divide hidden_size %lld", prefix.c_str(),
                            static_cast<long long>(num_attention_heads),
                            static_cast<long long>(hidden_size)));
  }
}

ClipTextEmbeddingsImpl::ClipTextEmbeddingsImpl(const ClipTextOptions& options) {
  token_embedding =
      register_module("token_embedding", torch::nn::Embedding(options.vocab_size, options.hidden_size));
  position_embedding = register_module(
      "position_embedding", torch::nn::Embedding(options.max_position_embeddings, options.hidden_size));
  torch::nn::init::normal_(token_embedding->weight, 0, 0.02);
  torch::nn::init::normal_(position_embedding->weight, 0, 0.01);
}

torch::Tensor ClipTextEmbeddingsImpl::forward(const torch::Tensor& ids) {
  const torch::Tensor places = torch::ones_like(ids.slice(0, 0, 1)).cumsum(1).sub(1);  // [1,L]: 0, 1, …
  return token_embedding(ids) + position_embedding(places);
}

ClipTextAttentionImpl::ClipTextAttentionImpl(const ClipTextOptions& options, bool causal)
    : heads_(options.num_attention_heads),
      width_(options.hidden_size / options.num_attention_heads),
      causal_(causal) {
  const int64_t width = options.hidden_size;
  const double inner = residual_deviation(options), outer = input_deviation(options);
  k_proj = register_module("k_proj", text_linear(width, width, inner));
  v_proj = register_module("v_proj", text_linear(width, width, inner));
  q_proj = register_module("q_proj", text_linear(width, width, inner));
  out_proj = register_module("out_proj", text_linear(width, width, outer));
}

torch::Tensor ClipTextAttentionImpl::forward(const torch::Tensor& x) {
  const auto split = [&](const torch::Tensor& y) {
    return y.unflatten(-1, {heads_, width_}).transpose(1, 2);
  };
  const torch::Tensor attended =
      at::scaled_dot_product_attention(split(q_proj(x)), split(k_proj(x)), split(v_proj(x)), std::nullopt,
                                       /*dropout_p=*/0, causal_);  // [B,heads,L,d]
  return out_proj(attended.transpose(1, 2).flatten(2));
}

ClipTextMlpImpl::ClipTextMlpImpl(const ClipTextOptions& options)
    : quick_(options.hidden_act == "quick_gelu") {
  const int64_t width = options.hidden_size, inner = options.intermediate_size;
  fc1 = register_module("fc1", text_linear(width, inner, std::sqrt(0.5) * input_deviation(options)));
  fc2 = register_module("fc2", text_linear(inner, width, residual_deviation(options)));
}

torch::Tensor ClipTextMlpImpl::forward(const torch::Tensor& x) {
  const torch::Tensor y = fc1(x);  // [B,L,inner]
  return fc2(quick_ ? y * torch::sigmoid(1.702 * y) : torch::gelu(y));
}

ClipTextLayerImpl::ClipTextLayerImpl(const ClipTextOptions& options, bool causal) {
  self_attn = register_module("self_attn", ClipTextAttention(options, causal));
  layer_norm1 = register_module("layer_norm1", text_norm(options));
  mlp = register_module("mlp", ClipTextMlp(options));
  layer_norm2 = register_module("layer_norm2", text_norm(options));
}

torch::Tensor ClipTextLayerImpl::forward(torch::Tensor x) {
  x = x + self_attn(layer_norm1(x));
  return x + mlp(layer_norm2(x));
}

ClipTextEncoderImpl::ClipTextEncoderImpl(const ClipTextOptions& options, bool causal) {
  for (int64_t i = 0; i < options.num_hidden_layers; ++i) layers->push_back(ClipTextLayer(options, causal));
  register_module("layers", layers);
}

torch::Tensor ClipTextEncoderImpl::forward(torch::Tensor x, int64_t skip) {
  for (size_t i = 0; i + static_cast<size_t>(skip) < layers->size(); ++i) {
    x = layers->at<ClipTextLayerImpl>(i).forward(x);
  }
  return x;
}

ClipTextImpl::ClipTextImpl(const ClipTextOptions& options) : options(options) {
  options.validate();
  require_count("model.text_encoder.vocab_size", options.vocab_size, 1);
  embeddings = register_module("embeddings", ClipTextEmbeddings(options));
  encoder = register_module("encoder", ClipTextEncoder(options));
  final_layer_norm = register_module("final_layer_norm", text_norm(options));
}

torch::Tensor ClipTextImpl::forward(const torch::Tensor& ids, int64_t clip_skip) {
  require_ids(ids, options);
  if (clip_skip < 0 || clip_skip > options.num_hidden_layers) {
    throw UsageError(format("clip skip %lld, expected 0…%lld layers", static_cast<long long>(clip_skip),
                            static_cast<long long>(options.num_hidden_layers)));
  }
  return final_layer_norm(encoder->forward(embeddings(ids), clip_skip));  // [B,L,W]
}

}  // namespace zoo
