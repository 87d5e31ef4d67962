#include "models/layers/attention.h"

#include <cmath>
#include <limits>
#include <optional>

#include <torch/torch.h>

#include "models/layers/dropout.h"

namespace zoo {

namespace {

/// softmax(q·kᵀ/√d) with some of the weights dropped, times v; all [B,heads,·,d]. torch's fused attention has
/// no fast way with dropout on the CPU.
torch::Tensor attend_with_dropout(const torch::Tensor& q, const torch::Tensor& k, const torch::Tensor& v,
                                  const torch::Tensor& mask, double p) {
  const double scale = 1 / std::sqrt(static_cast<double>(q.size(-1)));
  torch::Tensor scores = torch::matmul(q * scale, k.transpose(-2, -1));  // [B,heads,T,S]
  if (mask.defined()) {
    scores = mask.scalar_type() == torch::kBool
                 ? scores.masked_fill(mask.logical_not(), -std::numeric_limits<double>::infinity())
                 : scores + mask;
  }
  // The safe one gives zeros where nothing may be attended to.
  const torch::Tensor weights = mask.defined() ? at::_safe_softmax(scores, -1) : scores.softmax(-1);
  return torch::matmul(hashed_dropout(weights, p, /*training=*/true), v);
}

}  // namespace

torch::Tensor attend_by_heads(const torch::Tensor& query, const torch::Tensor& key,
                              const torch::Tensor& value, int64_t heads, const torch::Tensor& mask,
                              double dropout) {
  const auto split = [&](const torch::Tensor& x) {  // [B,N,D] -> [B,heads,N,D/heads]
    return x.unflatten(-1, {heads, x.size(-1) / heads}).transpose(1, 2);
  };
  const torch::Tensor q = split(query), k = split(key), v = split(value);
  const torch::Tensor attended = dropout > 0
                                     ? attend_with_dropout(q, k, v, mask, dropout)
                                     : at::scaled_dot_product_attention(
                                           q, k, v, mask.defined() ? std::make_optional(mask) : std::nullopt);
  return attended.transpose(1, 2).flatten(2);  // [B,T,D]
}

MultiHeadAttentionImpl::MultiHeadAttentionImpl(int64_t dim, int64_t heads, double dropout)
    : dim_(dim), heads_(heads), dropout_(dropout) {
  in_proj_weight = register_parameter("in_proj_weight", torch::empty({3 * dim, dim}));
  in_proj_bias = register_parameter("in_proj_bias", torch::zeros(3 * dim));
  out_proj = register_module("out_proj", torch::nn::Linear(dim, dim));
  torch::nn::init::xavier_uniform_(in_proj_weight);
  torch::nn::init::xavier_uniform_(out_proj->weight);
  torch::nn::init::zeros_(out_proj->bias);
}

torch::Tensor MultiHeadAttentionImpl::forward(const torch::Tensor& query, const torch::Tensor& key,
                                              const torch::Tensor& value, const torch::Tensor& mask) {
  if (!query.is_same(key)) {
    return attend(project_query(query), torch::linear(key, key_weight(), key_bias()), project_value(value),
                  mask);
  }
  // Self-attention: one product for the parts that share their input.
  const int64_t shared = key.is_same(value) ? 3 : 2;
  const auto parts =
      torch::linear(query, in_proj_weight.slice(0, 0, shared * dim_), in_proj_bias.slice(0, 0, shared * dim_))
          .chunk(shared, -1);
  return attend(parts[0], parts[1], shared == 3 ? parts[2] : project_value(value), mask);
}

torch::Tensor MultiHeadAttentionImpl::project_query(const torch::Tensor& x) {
  return torch::linear(x, in_proj_weight.slice(0, 0, dim_), in_proj_bias.slice(0, 0, dim_));
}

torch::Tensor MultiHeadAttentionImpl::project_value(const torch::Tensor& x) {
  return torch::linear(x, value_weight(), value_bias());
}

std::pair<torch::Tensor, torch::Tensor> MultiHeadAttentionImpl::project_key_value(const torch::Tensor& x) {
  const auto parts =
      torch::linear(x, in_proj_weight.slice(0, dim_), in_proj_bias.slice(0, dim_)).chunk(2, -1);
  return {parts[0], parts[1]};
}

torch::Tensor MultiHeadAttentionImpl::key_weight() const {
  return in_proj_weight.slice(0, dim_, 2 * dim_);
}
torch::Tensor MultiHeadAttentionImpl::key_bias() const {
  return in_proj_bias.slice(0, dim_, 2 * dim_);
}
torch::Tensor MultiHeadAttentionImpl::value_weight() const {
  return in_proj_weight.slice(0, 2 * dim_);
}
torch::Tensor MultiHeadAttentionImpl::value_bias() const {
  return in_proj_bias.slice(0, 2 * dim_);
}

torch::Tensor MultiHeadAttentionImpl::attend(const torch::Tensor& query, const torch::Tensor& key,
                                             const torch::Tensor& value, const torch::Tensor& mask) {
  return out_proj(attend_by_heads(query, key, value, heads_, mask, is_training() ? dropout_ : 0));
}

torch::Tensor key_mask(const torch::Tensor& valid) {
  return valid.defined() ? valid.unsqueeze(1).unsqueeze(1) : valid;
}

}  // namespace zoo
