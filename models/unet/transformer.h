#pragma once
#include <utility>
#include <vector>

#include <torch/nn/module.h>
#include <torch/nn/modules/container/modulelist.h>
#include <torch/nn/modules/conv.h>
#include <torch/nn/modules/normalization.h>
#include <torch/types.h>

#include "models/layers/adapted_linear.h"

namespace zoo {

/// Sizes of a UNetTransformer.
struct UNetTransformerOptions {
  int64_t channels = 0;
  int64_t heads = 1;    ///< divides `channels`
  int64_t context = 0;  ///< width of the text states
  int64_t layers = 1;
  int64_t groups = 32;
  bool linear_projection = false;  ///< proj_in and proj_out are linear layers, not 1x1 convolutions
  bool upcast = false;             ///< attention in float32
};

using KeysValues = std::pair<torch::Tensor, torch::Tensor>;  ///< each [B,L,C]

/// Attention with projections of their own: `to_q`, `to_k`, `to_v` without bias, `to_out.0`.
class UNetAttentionImpl : public torch::nn::Module {
 public:
  /// `context`: width of what keys and values are made of.
  UNetAttentionImpl(const UNetTransformerOptions& options, int64_t context);

  KeysValues keys_values(const torch::Tensor& context);                          ///< [B,L,context]
  torch::Tensor forward(const torch::Tensor& x, const KeysValues& keys_values);  ///< [B,T,C] -> [B,T,C]

  AdaptedLinear to_q{nullptr}, to_k{nullptr}, to_v{nullptr};
  torch::nn::ModuleList to_out;

 private:
  int64_t heads_;
  bool upcast_;
};
TORCH_MODULE(UNetAttention);

/// GEGLU (Shazeer 2020, arXiv 2002.05202): a·gelu(b) of one linear layer's halves a and b, and a linear
/// layer: `net.0.proj`, `net.2`.
class UNetFeedForwardImpl : public torch::nn::Module {
 public:
  explicit UNetFeedForwardImpl(int64_t channels);

  torch::Tensor forward(const torch::Tensor& x);  ///< [B,T,C] -> [B,T,C]

  AdaptedLinear up{nullptr}, down{nullptr};
};
TORCH_MODULE(UNetFeedForward);

/// Self-attention, cross-attention, feed-forward, each after a LayerNorm and added to its input.
class UNetTransformerLayerImpl : public torch::nn::Module {
 public:
  explicit UNetTransformerLayerImpl(const UNetTransformerOptions& options);

  torch::Tensor forward(torch::Tensor x, const KeysValues& text);  ///< [B,T,C] -> [B,T,C]

  torch::nn::LayerNorm norm1{nullptr}, norm2{nullptr}, norm3{nullptr};
  UNetAttention attn1{nullptr}, attn2{nullptr};
  UNetFeedForward ff{nullptr};
};
TORCH_MODULE(UNetTransformerLayer);

/// Rombach et al. 2022, appendix E.2.1: the cells of a map as tokens that see each other and the text. Names
/// as in diffusers' Transformer2DModel.
class UNetTransformerImpl : public torch::nn::Module {
 public:
  explicit UNetTransformerImpl(const UNetTransformerOptions& options);

  /// Of every layer's cross-attention, for states [B,L,context].
  std::vector<KeysValues> keys_values(const torch::Tensor& states);
  /// x [B,C,h,w]; `next` gives the keys and values of one layer after another -> [B,C,h,w]
  template <class Reader>
  torch::Tensor forward(const torch::Tensor& x, Reader& reader) {
    torch::Tensor tokens = tokens_of(x);
    for (const auto& layer : *transformer_blocks) {
      tokens = layer->as<UNetTransformerLayerImpl>()->forward(tokens, reader.next());
    }
    return x + map_of(tokens, x);
  }

  torch::nn::GroupNorm norm{nullptr};
  torch::nn::Conv2d conv_in{nullptr}, conv_out{nullptr};  ///< `proj_in`, `proj_out`, or
  AdaptedLinear linear_in{nullptr}, linear_out{nullptr};  ///< the same with linear_projection
  torch::nn::ModuleList transformer_blocks;

 private:
  torch::Tensor tokens_of(const torch::Tensor& x);                               ///< [B,C,h,w] -> [B,hw,C]
  torch::Tensor map_of(const torch::Tensor& tokens, const torch::Tensor& like);  ///< and back
};
TORCH_MODULE(UNetTransformer);

}  // namespace zoo
