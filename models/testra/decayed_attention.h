#pragma once
#include <torch/types.h>

namespace zoo {

// Attention to keys that came one after the other, in which a key that `a` others have followed weighs λ^a as much as it
// would: softmax(q·k_i + a_i·log λ) (Zhao and Krähenbühl 2022, arXiv 2209.09236, section 4). B streams, H heads, Q
// queries, N keys, h channels of a head.

/// The mask of attend_by_heads for keys in the order of their coming, the newest last: valid [B,N] bool -> [B,1,1,N],
/// of numbers, or for λ = 1 of bool.
torch::Tensor decay_mask(const torch::Tensor& valid, double decay);

/// Such attention for fixed queries as a sum that takes key after key: Σ e^{s−top}·v and Σ e^{s−top}, where `top`, the
/// greatest s with its decay, keeps the exponentials in range.
struct DecayedSum {
  torch::Tensor top, weight;  ///< [B,H,Q]
  torch::Tensor sum;          ///< [B,H,Q,h]

  torch::Tensor attended() const { return sum / weight.unsqueeze(-1); }  ///< [B,H,Q,h]
};

/// The sum with one more key: its scores s = q·k [B,H,Q] and its value [B,H,h]. Where `first` [B] bool, there was none
/// before, whatever `past` holds.
DecayedSum add_key(const DecayedSum& past, const torch::Tensor& scores, const torch::Tensor& value,
                   const torch::Tensor& first, double decay);

}  // namespace zoo
