#include "models/testra/decayed_attention.h"

#include <cmath>
#include <limits>

#include <torch/torch.h>

#include "models/online_action/action_model.h"

namespace zoo {

torch::Tensor decay_mask(const torch::Tensor& valid, double decay) {
  const torch::Tensor keys = valid.unsqueeze(1).unsqueeze(1);  // [B,1,1,N]
  if (decay == 1) return keys;
  const torch::Tensor row = torch::ones_like(valid.select(0, 0), torch::kFloat);
  const torch::Tensor followers = row.cumsum(0).flip(0) - 1;  // [N] N-1 … 0
  return torch::where(keys, followers * std::log(decay), -std::numeric_limits<float>::infinity());
}

DecayedSum add_key(const DecayedSum& past, const torch::Tensor& scores, const torch::Tensor& value,
                   const torch::Tensor& first, double decay) {
  const torch::Tensor aged = past.top + std::log(decay);
  const torch::Tensor top = where_stream(first, scores, torch::maximum(aged, scores));
  // In this order it makes up for what rounding did to `aged`, which would add up from key to key.
  const torch::Tensor kept = (past.top - top + std::log(decay)).exp();
  const torch::Tensor added = (scores - top).exp();
  const auto older = [&](const torch::Tensor& sum) {
    return where_stream(first, torch::zeros_like(sum), sum);
  };
  return {top, older(past.weight * kept) + added,
          older(past.sum * kept.unsqueeze(-1)) + added.unsqueeze(-1) * value.unsqueeze(2)};
}

}  // namespace zoo
