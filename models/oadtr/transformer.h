#pragma once
#include <vector>

#include <torch/nn/module.h>
#include <torch/nn/modules/conv.h>
#include <torch/nn/modules/embedding.h>
#include <torch/nn/modules/linear.h>
#include <torch/nn/modules/normalization.h>
#include <torch/types.h>

#include "models/layers/chain.h"

namespace zoo {

/// Sizes of OadTR's encoder or decoder. B windows, N tokens, K queries, d channels; batch first.
struct OadTrSizes {
  int64_t dim = 1024, heads = 8, feedforward = 1024, layers = 3;
  double dropout = 0.1;
};

/// Learned positions, N(0,1) at first: `pe.weight` [length,d], and `position_ids` [1,length], which published files
/// hold.
class OadTrPositionsImpl : public torch::nn::Module {
 public:
  OadTrPositionsImpl(int64_t length, int64_t dim);

  torch::Tensor forward(const torch::Tensor& x);  ///< [B,length,d] with the positions added

 private:
  torch::nn::Embedding pe_{nullptr};
};
TORCH_MODULE(OadTrPositions);

/// Pre-norm layers without a mask: net.0, net.2, … attend, net.1, net.3, … are feed-forward with GELU.
class OadTrEncoderImpl : public torch::nn::Module {
 public:
  explicit OadTrEncoderImpl(const OadTrSizes& sizes);

  torch::Tensor forward(const torch::Tensor& x);  ///< [B,N,d] -> [B,N,d]

 private:
  Chain net_;
};
TORCH_MODULE(OadTrEncoder);

/// Attention with projections named {query,key,value,out}_projection.
class OadTrAttentionImpl : public torch::nn::Module {
 public:
  explicit OadTrAttentionImpl(const OadTrSizes& sizes);

  /// query [B,T,d], memory [B,N,d], mask as in attend_by_heads -> [B,T,d]
  torch::Tensor forward(const torch::Tensor& query, const torch::Tensor& memory, const torch::Tensor& mask);

 private:
  OadTrSizes sizes_;
  torch::nn::Linear query_{nullptr}, key_{nullptr}, value_{nullptr}, out_{nullptr};
};
TORCH_MODULE(OadTrAttention);

/// A post-norm layer in its two parts.
class OadTrDecoderLayerImpl : public torch::nn::Module {
 public:
  explicit OadTrDecoderLayerImpl(const OadTrSizes& sizes);

  /// Self-attention of [B,K,d], each query with those before it.
  torch::Tensor attend_self(const torch::Tensor& x);
  /// Attention to all of the memory [B,N,d], and feed-forward.
  torch::Tensor attend_memory(const torch::Tensor& x, const torch::Tensor& memory);

 private:
  torch::Tensor drop(const torch::Tensor& x) const;

  double dropout_;
  OadTrAttention self_attention_{nullptr}, cross_attention_{nullptr};
  torch::nn::Conv1d conv1_{nullptr}, conv2_{nullptr};  // of one step: linear layers
  torch::nn::LayerNorm norm1_{nullptr}, norm2_{nullptr}, norm3_{nullptr};
};
TORCH_MODULE(OadTrDecoderLayer);

/// Layers under `layers.N` and a `norm` at their end.
class OadTrDecoderImpl : public torch::nn::Module {
 public:
  explicit OadTrDecoderImpl(const OadTrSizes& sizes);

  /// queries [1,K,d], memory [B,N,d] -> [B,K,d]
  torch::Tensor forward(const torch::Tensor& queries, const torch::Tensor& memory);

 private:
  double dropout_;
  std::vector<OadTrDecoderLayer> layers_;
  torch::nn::LayerNorm norm_{nullptr};
};
TORCH_MODULE(OadTrDecoder);

}  // namespace zoo
