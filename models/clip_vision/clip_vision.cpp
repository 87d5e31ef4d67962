#include "models/clip_vision/clip_vision.h"

#include <torch/torch.h>

#include <cmath>

#include "core/error.h"
#include "core/text.h"
#include "models/shape_text.h"

namespace zoo {

namespace {

torch::nn::LayerNorm vision_norm(const ClipVisionOptions& options) {
  return torch::nn::LayerNorm(torch::nn::LayerNormOptions({options.hidden_size}).eps(options.layer_norm_eps));
}

/// The layers are the text tower's.
ClipTextOptions layer_options(const ClipVisionOptions& options) {
  ClipTextOptions same;
  same.hidden_size = options.hidden_size;
  same.intermediate_size = options.intermediate_size;
  same.num_hidden_layers = options.num_hidden_layers;
  same.num_attention_heads = options.num_attention_heads;
  same.hidden_act = options.hidden_act;
  same.layer_norm_eps = options.layer_norm_eps;
  return same;
}

}  // namespace

void ClipVisionOptions::validate(const std::string& prefix) const {
  require_count(prefix + "hidden_size", hidden_size, 1);
  require_count(prefix + "intermediate_size", intermediate_size, 1);
  require_count(prefix + "num_hidden_layers", num_hidden_layers, 1);
  require_count(prefix + "num_attention_heads", num_attention_heads, 1);
  require_count(prefix + "image_size", image_size, 1, 1 << 14);
  require_count(prefix + "patch_size", patch_size, 1, static_cast<double>(image_size));
  require_choice(prefix + "hidden_act", hidden_act, {"quick_gelu", "gelu"});
  require_positive(prefix + "layer_norm_eps", layer_norm_eps);
  if (hidden_size % num_attention_heads != 0) {
    throw UsageError(format("%snum_attention_heads: %lld does not divide hidden_size %lld", prefix.c_str(),
                            static_cast<long long>(num_attention_heads),
                            static_cast<long long>(hidden_size)));
  }
}

ClipVisionEmbeddingsImpl::ClipVisionEmbeddingsImpl(const ClipVisionOptions& options) {
  const int64_t width = options.hidden_size;
  class_embedding =
      register_parameter("class_embedding", torch::randn({width}) / std::sqrt(static_cast<double>(width)));
  patch_embedding = register_module(
      "patch_embedding",
      torch::nn::Conv2d(
          torch::nn::Conv2dOptions(3, width, options.patch_size).stride(options.patch_size).bias(false)));
  position_embedding =
      register_module("position_embedding", torch::nn::Embedding(1 + options.patches(), width));
}

torch::Tensor ClipVisionEmbeddingsImpl::forward(const torch::Tensor& pixels) {
  const torch::Tensor patches = patch_embedding(pixels).flatten(2).transpose(1, 2);  // [B,patches,W]
  const torch::Tensor whole = torch::zeros_like(patches.slice(1, 0, 1)) + class_embedding;
  return torch::cat({whole, patches}, 1) + position_embedding->weight;
}

ClipVisionImpl::ClipVisionImpl(const ClipVisionOptions& options) : options(options) {
  options.validate("vision_config.");
  embeddings = register_module("embeddings", ClipVisionEmbeddings(options));
  pre_layrnorm = register_module("pre_layrnorm", vision_norm(options));
  encoder = register_module("encoder", ClipTextEncoder(layer_options(options), /*causal=*/false));
  post_layernorm = register_module("post_layernorm", vision_norm(options));
}

torch::Tensor ClipVisionImpl::forward(const torch::Tensor& pixels) {
  const bool fits = pixels.dim() == 4 && pixels.size(1) == 3 && pixels.size(2) == options.image_size &&
                    pixels.size(3) == options.image_size;
  if (!fits) {
    throw Error(format("pixels of shape %s, expected [B,3,%lld,%lld]", shape_text(pixels).c_str(),
                       static_cast<long long>(options.image_size),
                       static_cast<long long>(options.image_size)));
  }
  return post_layernorm(encoder->forward(pre_layrnorm(embeddings(pixels)), 0).select(1, 0));
}

}  // namespace zoo
