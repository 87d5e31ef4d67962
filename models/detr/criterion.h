#pragma once
#include <string>
#include <vector>

#include <torch/types.h>

#include "core/options.h"
#include "models/loss_terms.h"

namespace zoo {

/// DETR's set loss (Carion et al. 2020, section 3.1, weights in appendix A.4).
struct DetrLossOptions {
  std::string name = "detr";
  double class_cost = 1, bbox_cost = 5, giou_cost = 2;        ///< weights of the matching cost's parts
  double class_weight = 1, bbox_weight = 5, giou_weight = 2;  ///< weights of the loss terms
  double eos_coef = 0.1;                                      ///< weight of no-object in the cross-entropy
  /// Weight of the same loss on the encoder's cells (DetrImpl::predict_cells), as two-stage Deformable DETR
  /// trains its encoder (Zhu et al. 2021, arXiv 2010.04159, appendix A.4). 0: the paper's DETR.
  double encoder_weight = 0;
  /// Copies of every target there, so that several cells learn from each (H-DETR, Jia et al. 2023, arXiv
  /// 2207.13080).
  int64_t encoder_repeats = 4;

  /// Throws UsageError naming the key, its value and the range.
  void validate() const;
};
NLOHMANN_DEFINE_TYPE_NON_INTRUSIVE(DetrLossOptions, name, class_cost, bbox_cost, giou_cost, class_weight,
                                   bbox_weight, giou_weight, eos_coef, encoder_weight, encoder_repeats)

/// Loss of logits [L,B,Q,C+1] (the last class is no-object) and boxes [L,B,Q,4] (cx cy w h) of L decoder
/// layers, B images and Q queries, against each image's labels [T] int64 in 0..C-1 and boxes [T,4]; an image,
/// or all, may have none.
///
/// Every layer is matched to the targets on its own and has the terms
///   loss_ce    cross-entropy over its B·Q queries, those without a target taken as no-object with weight
///   eos_coef,
///              divided by the sum of the weights
///   loss_bbox  Σ|b - b'| over the pairs / N        loss_giou  Σ(1 - GIoU) over the pairs / N
///   cardinality_error  mean over images of | queries that say an object - targets |
/// with N = max(1, targets of the batch), or `num_boxes` where that is above 0 (its mean over processes). The
/// last layer's names have no suffix, layer i's end in `_i`; class_error, the per cent of the last layer's
/// pairs whose best class is wrong (100 without pairs), is there once. `total` is the weighted sum of the
/// first three over all layers.
///
/// Computed in float32 (float64 for float64), under autocast too. Throws Error as pad_targets, and for shapes
/// that do not fit together.
LossTerms detr_criterion(const torch::Tensor& logits, const torch::Tensor& boxes,
                         const std::vector<torch::Tensor>& labels,
                         const std::vector<torch::Tensor>& target_boxes, const DetrLossOptions& options,
                         double num_boxes = 0);

}  // namespace zoo
