#pragma once
#include <utility>

#include <torch/nn/module.h>
#include <torch/nn/modules/linear.h>
#include <torch/types.h>

namespace zoo {

/// Attention of several heads, each of a block of channels of its own: softmax(q·kᵀ/√d + mask)·v of query [B,T,D], key
/// and value [B,S,D] -> [B,T,D]. `mask` broadcasts to [B,heads,T,S] and is either bool, true where attention is
/// allowed, or of numbers; undefined: everywhere. A query that a bool mask lets attend to nothing gets zeros.
/// `dropout` of the weights: 0 outside of training.
torch::Tensor attend_by_heads(const torch::Tensor& query, const torch::Tensor& key,
                              const torch::Tensor& value, int64_t heads, const torch::Tensor& mask,
                              double dropout);

/// Multi-head attention (Vaswani et al. 2017) under the names of PyTorch's module: `in_proj_weight` [3D,D]
/// and `in_proj_bias` [3D] hold the projections of query, key and value one below the other, `out_proj` the
/// last one. Batch first; no size of an input is baked into a trace. Matrices start Xavier-uniform, biases at
/// 0.
class MultiHeadAttentionImpl : public torch::nn::Module {
 public:
  MultiHeadAttentionImpl(int64_t dim, int64_t heads, double dropout = 0);

  /// query [B,T,D], key and value [B,S,D]; `mask` as in attend_by_heads. -> [B,T,D]. A query that may attend to nothing gets the output's bias.
  torch::Tensor forward(const torch::Tensor& query, const torch::Tensor& key, const torch::Tensor& value,
                        const torch::Tensor& mask = {});

  /// The steps of `forward`, for callers that project once for several uses.
  torch::Tensor project_query(const torch::Tensor& x);  ///< [B,T,D] -> [B,T,D]
  torch::Tensor project_value(const torch::Tensor& x);  ///< [B,S,D] -> [B,S,D]
  /// Keys and values of one tensor by one product.
  std::pair<torch::Tensor, torch::Tensor> project_key_value(const torch::Tensor& x);
  torch::Tensor key_weight() const;  ///< [D,D], a view
  torch::Tensor key_bias() const;    ///< [D], a view
  torch::Tensor value_weight() const;
  torch::Tensor value_bias() const;
  /// Attention over projected tensors, and the output's projection.
  torch::Tensor attend(const torch::Tensor& query, const torch::Tensor& key, const torch::Tensor& value,
                       const torch::Tensor& mask);

  torch::Tensor in_proj_weight, in_proj_bias;
  torch::nn::Linear out_proj{nullptr};

 private:
  int64_t dim_, heads_;
  double dropout_;
};
TORCH_MODULE(MultiHeadAttention);

/// Mask for `forward` of keys that are real: valid [B,S] bool -> [B,1,1,S]; undefined stays undefined.
torch::Tensor key_mask(const torch::Tensor& valid);

}  // namespace zoo
