#pragma once
#include <string>

#include <torch/nn/module.h>
#include <torch/nn/modules/container/modulelist.h>
#include <torch/nn/modules/embedding.h>
#include <torch/nn/modules/normalization.h>
#include <torch/types.h>

#include "core/options.h"
#include "models/layers/adapted_linear.h"

namespace zoo {

/// CLIP's text tower, Radford et al. 2021 (arXiv 2103.00020), section 2.4. Keys are those of transformers'
/// config.json of a CLIPTextModel; defaults are ViT-L/14's, which Stable Diffusion 1 reads prompts with.
struct ClipTextOptions {
  int64_t vocab_size = 49408;  ///< 0: from the tokenizer
  int64_t hidden_size = 768;
  int64_t intermediate_size = 3072;  ///< width between the two layers of an MLP
  int64_t num_hidden_layers = 12;    ///< Stable Diffusion 2: 23 of OpenCLIP ViT-H's 24
  int64_t num_attention_heads = 12;
  int64_t max_position_embeddings = 77;   ///< the most tokens of a text
  std::string hidden_act = "quick_gelu";  ///< quick_gelu, x·σ(1.702x) | gelu (Stable Diffusion 2)
  double layer_norm_eps = 1e-5;

  /// Throws UsageError naming `prefix` and key, its value and the range.
  void validate(const std::string& prefix = "model.text_encoder.") const;
};
NLOHMANN_DEFINE_TYPE_NON_INTRUSIVE(ClipTextOptions, vocab_size, hidden_size, intermediate_size,
                                   num_hidden_layers, num_attention_heads, max_position_embeddings,
                                   hidden_act, layer_norm_eps)

/// Tokens and places to vectors.
class ClipTextEmbeddingsImpl : public torch::nn::Module {
 public:
  explicit ClipTextEmbeddingsImpl(const ClipTextOptions& options);

  torch::Tensor forward(const torch::Tensor& ids);  ///< [B,L] int64 -> [B,L,W]

  torch::nn::Embedding token_embedding{nullptr}, position_embedding{nullptr};
};
TORCH_MODULE(ClipTextEmbeddings);

/// Attention of several heads, all four projections with biases; `causal`: a place sees none behind it.
class ClipTextAttentionImpl : public torch::nn::Module {
 public:
  ClipTextAttentionImpl(const ClipTextOptions& options, bool causal);

  torch::Tensor forward(const torch::Tensor& x);  ///< [B,L,W] -> [B,L,W]

  AdaptedLinear k_proj{nullptr}, v_proj{nullptr}, q_proj{nullptr}, out_proj{nullptr};

 private:
  int64_t heads_, width_;
  bool causal_;
};
TORCH_MODULE(ClipTextAttention);

class ClipTextMlpImpl : public torch::nn::Module {
 public:
  explicit ClipTextMlpImpl(const ClipTextOptions& options);

  torch::Tensor forward(const torch::Tensor& x);  ///< [B,L,W] -> [B,L,W]

  AdaptedLinear fc1{nullptr}, fc2{nullptr};

 private:
  bool quick_;
};
TORCH_MODULE(ClipTextMlp);

/// A layer with its LayerNorms before attention and MLP.
class ClipTextLayerImpl : public torch::nn::Module {
 public:
  ClipTextLayerImpl(const ClipTextOptions& options, bool causal);

  torch::Tensor forward(torch::Tensor x);  ///< [B,L,W] -> [B,L,W]

  ClipTextAttention self_attn{nullptr};
  torch::nn::LayerNorm layer_norm1{nullptr}, layer_norm2{nullptr};
  ClipTextMlp mlp{nullptr};
};
TORCH_MODULE(ClipTextLayer);

/// The layers under the name `layers`; the picture tower's are the same, but not causal.
class ClipTextEncoderImpl : public torch::nn::Module {
 public:
  explicit ClipTextEncoderImpl(const ClipTextOptions& options, bool causal = true);

  /// [B,L,W] -> [B,L,W] after all layers but the last `skip`.
  torch::Tensor forward(torch::Tensor x, int64_t skip);

  torch::nn::ModuleList layers;
};
TORCH_MODULE(ClipTextEncoder);

/// Parameters have transformers' names without the prefix `text_model.` that published files put before them.
class ClipTextImpl : public torch::nn::Module {
 public:
  /// Throws UsageError as ClipTextOptions::validate, and where vocab_size is 0.
  explicit ClipTextImpl(const ClipTextOptions& options);

  /// ids [B,L] int64, L at most max_position_embeddings -> states [B,L,W] after the final LayerNorm. No mask:
  /// a token sees all before it, padding too, as Stable Diffusion has it. `clip_skip` leaves out so many of
  /// the last layers, the final LayerNorm stays. Throws Error for ids of another shape or outside the
  /// vocabulary.
  torch::Tensor forward(const torch::Tensor& ids, int64_t clip_skip = 0);

  ClipTextOptions options;
  ClipTextEmbeddings embeddings{nullptr};
  ClipTextEncoder encoder{nullptr};
  torch::nn::LayerNorm final_layer_norm{nullptr};
};
TORCH_MODULE(ClipText);

}  // namespace zoo
