#pragma once
#include <functional>
#include <string>
#include <vector>

#include <torch/nn/module.h>
#include <torch/nn/modules/dropout.h>
#include <torch/nn/modules/linear.h>
#include <torch/nn/modules/normalization.h>
#include <torch/types.h>

#include "models/layers/attention.h"

namespace zoo {

/// Transformer of Vaswani et al. 2017 with PyTorch's names. B images or sentences, S source and T target
/// tokens, D channels; batch first. Masks as in MultiHeadAttention: bool, true where attention is allowed,
/// undefined: everywhere.
struct TransformerOptions {
  int64_t dim = 256;
  int64_t heads = 8;
  int64_t feedforward = 2048;
  double dropout = 0.1;   ///< on attention weights, inside and after the feed-forward, after attention
  bool pre_norm = false;  ///< LayerNorm before each part and at the encoder's end, not after each sum
  std::string activation = "relu";  ///< relu | gelu
};

/// Self-attention and feed-forward W2·drop(act(W1·x)), each added to its input; matrices start
/// Xavier-uniform.
class TransformerEncoderLayerImpl : public torch::nn::Module {
 public:
  explicit TransformerEncoderLayerImpl(const TransformerOptions& options);

  /// x [B,S,D] -> [B,S,D]. `position` [B,S,D] (may be undefined) is added to queries and keys, not to values.
  torch::Tensor forward(const torch::Tensor& x, const torch::Tensor& position, const torch::Tensor& mask);

 private:
  TransformerOptions options_;
  MultiHeadAttention self_attn_{nullptr};
  torch::nn::Linear linear1_{nullptr}, linear2_{nullptr};
  torch::nn::LayerNorm norm1_{nullptr}, norm2_{nullptr};
};
TORCH_MODULE(TransformerEncoderLayer);

/// Layers under `layers.N`, and `norm` with pre_norm.
class TransformerEncoderImpl : public torch::nn::Module {
 public:
  TransformerEncoderImpl(const TransformerOptions& options, int64_t layers);

  torch::Tensor forward(torch::Tensor x, const torch::Tensor& position,
                        const torch::Tensor& mask);  ///< as a layer

  std::vector<TransformerEncoderLayer> layers;

 private:
  torch::nn::LayerNorm norm_{nullptr};
};
TORCH_MODULE(TransformerEncoder);

/// What a decoder layer attends to, projected by that layer's cross-attention.
struct ProjectedMemory {
  torch::Tensor key, value;  ///< [B,S,D]
};

/// Self-attention, attention to a memory, feed-forward.
class TransformerDecoderLayerImpl : public torch::nn::Module {
 public:
  explicit TransformerDecoderLayerImpl(const TransformerOptions& options);

  /// target [B,T,D] -> [B,T,D]. `position` [B,T,D] (may be undefined) is added to queries and
  /// self-attention's keys. With `uniform`, target is [1,1,D], the same for all tokens and images, of which
  /// self-attention then needs no more than the value; only without dropout and mask.
  torch::Tensor forward(const torch::Tensor& target, const torch::Tensor& position,
                        const ProjectedMemory& memory, const torch::Tensor& self_mask,
                        const torch::Tensor& memory_mask, bool uniform = false);

  /// The first part of `forward`; above 0 only the `last` tokens are kept, and `mask` has a row for each of these.
  torch::Tensor attend_self(const torch::Tensor& target, const torch::Tensor& position,
                            const torch::Tensor& mask, int64_t last = 0);
  /// The rest of it, with `attention` [B,T,D] -> [B,T,D] to the memory.
  torch::Tensor attend_memory(const torch::Tensor& x,
                              const std::function<torch::Tensor(const torch::Tensor&)>& attention);

  MultiHeadAttention self_attn{nullptr}, multihead_attn{nullptr};

 private:
  TransformerOptions options_;
  torch::nn::Linear linear1_{nullptr}, linear2_{nullptr};
  torch::nn::LayerNorm norm1_{nullptr}, norm2_{nullptr}, norm3_{nullptr};
};
TORCH_MODULE(TransformerDecoderLayer);

/// Layers under `layers.N`, and a `norm` that their outputs share.
class TransformerDecoderImpl : public torch::nn::Module {
 public:
  TransformerDecoderImpl(const TransformerOptions& options, int64_t layers);

  /// Keys (with `position` [B,S,D] where defined) and values of memory [B,S,D] for every layer, by one
  /// product each.
  std::vector<ProjectedMemory> project(const torch::Tensor& memory, const torch::Tensor& position);

  std::vector<TransformerDecoderLayer> layers;
  torch::nn::LayerNorm norm{nullptr};
};
TORCH_MODULE(TransformerDecoder);

}  // namespace zoo
