#pragma once
#include <cstdint>
#include <string>

#include <torch/nn/module.h>
#include <torch/nn/modules/conv.h>
#include <torch/nn/modules/embedding.h>
#include <torch/nn/modules/normalization.h>
#include <torch/types.h>

#include "core/options.h"
#include "models/clip_text/clip_text.h"

namespace zoo {

/// CLIP's picture tower, a vision transformer: Radford et al. 2021 (arXiv 2103.00020), section 2.4. Keys are those of
/// `vision_config` in transformers' config.json of a CLIPModel, and so are the defaults: ViT-B/32.
struct ClipVisionOptions {
  int64_t hidden_size = 768;
  int64_t intermediate_size = 3072;  ///< width between the two layers of an MLP
  int64_t num_hidden_layers = 12;
  int64_t num_attention_heads = 12;
  int64_t image_size = 224;               ///< side of a picture in pixels
  int64_t patch_size = 32;                ///< side of a patch in pixels
  std::string hidden_act = "quick_gelu";  ///< quick_gelu, x·σ(1.702x) | gelu
  double layer_norm_eps = 1e-5;

  /// Throws UsageError naming `prefix` and key, its value and the range.
  void validate(const std::string& prefix) const;
  int64_t patches() const { return (image_size / patch_size) * (image_size / patch_size); }
};
NLOHMANN_DEFINE_TYPE_NON_INTRUSIVE(ClipVisionOptions, hidden_size, intermediate_size, num_hidden_layers,
                                   num_attention_heads, image_size, patch_size, hidden_act, layer_norm_eps)

/// Patches to vectors, a vector for the whole before them, places added.
class ClipVisionEmbeddingsImpl : public torch::nn::Module {
 public:
  explicit ClipVisionEmbeddingsImpl(const ClipVisionOptions& options);

  torch::Tensor forward(const torch::Tensor& pixels);  ///< [B,3,S,S] -> [B,1+patches,W]

  torch::Tensor class_embedding;  ///< [W]
  torch::nn::Conv2d patch_embedding{nullptr};
  torch::nn::Embedding position_embedding{nullptr};
};
TORCH_MODULE(ClipVisionEmbeddings);

/// Parameters have transformers' names below `vision_model.`.
class ClipVisionImpl : public torch::nn::Module {
 public:
  /// Throws UsageError as ClipVisionOptions::validate.
  explicit ClipVisionImpl(const ClipVisionOptions& options);

  /// Pixels [B,3,S,S] of `clip_pixels` -> [B,W]: the state of the whole, after the last LayerNorm.
  torch::Tensor forward(const torch::Tensor& pixels);

  ClipVisionOptions options;
  ClipVisionEmbeddings embeddings{nullptr};
  torch::nn::LayerNorm pre_layrnorm{nullptr};  ///< spelled as published
  ClipTextEncoder encoder{nullptr};
  torch::nn::LayerNorm post_layernorm{nullptr};
};
TORCH_MODULE(ClipVision);

}  // namespace zoo
