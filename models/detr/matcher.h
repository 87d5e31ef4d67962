#pragma once
#include <cstdint>
#include <vector>

#include <torch/types.h>

namespace zoo {

/// Shapes: L decoder layers, B images, Q queries, C classes, T targets of the image that has most.

/// What a batch's pictures show, padded to one size.
struct DetrTargets {
  torch::Tensor labels;         ///< [B,T] int64, 0 where padded
  torch::Tensor boxes;          ///< [B,T,4] cx cy w h, 0 where padded
  std::vector<int64_t> counts;  ///< of each image
};

/// From one [N] int64 and one [N,4] for each image, on the device of the labels. Throws Error naming image
/// and target where a label is not in 0..num_classes-1 or a box is not finite or of negative size.
DetrTargets pad_targets(const std::vector<torch::Tensor>& labels, const std::vector<torch::Tensor>& boxes,
                        int64_t num_classes);

/// Weights of the matching cost's parts, equations 1 and 9 and appendix A.4 of the DETR paper.
struct MatchingWeights {
  double label = 1, bbox = 5, giou = 2;
};

/// What it would cost to answer target t with query q: bbox·‖b_q - b_t‖₁ - label·p_q(label_t) -
/// giou·GIoU(b_q, b_t). logits [L,B,Q,C+1], boxes [L,B,Q,4] -> [L,B,Q,T], without gradient; NaN where a
/// prediction is.
torch::Tensor matching_cost(const torch::Tensor& logits, const torch::Tensor& boxes,
                            const DetrTargets& targets, const MatchingWeights& weights);

/// M pairs in every layer, min(Q, count) of each image.
struct DetrMatches {
  torch::Tensor queries;  ///< [L,M] int64 into L·B·Q
  torch::Tensor targets;  ///< [L,M] int64 into B·T
  int64_t unmatched = 0;  ///< targets, in each layer, for which an image has no query left
  /// Costs that were NaN or infinite and counted as 1e6, and where the first one was (-1: nowhere).
  int64_t non_finite = 0, first_layer = -1, first_image = -1;
};

/// The cheapest pairs of every layer and image on its own. cost [L,B,Q,T] goes to the CPU in one copy and the
/// pairs return in one; `counts` says how many columns are real.
DetrMatches match_cheapest(const torch::Tensor& cost, const std::vector<int64_t>& counts);

/// Both steps. Warns, once in a process, of predictions that are not finite, and of targets without a query.
DetrMatches match_targets(const torch::Tensor& logits, const torch::Tensor& boxes, const DetrTargets& targets,
                          const MatchingWeights& weights);

}  // namespace zoo
