#include "models/detr/criterion.h"

#include <algorithm>
#include <numeric>

#include <torch/torch.h>

#include "core/error.h"
#include "models/detr/matcher.h"
#include "models/layers/boxes.h"

namespace zoo {

namespace {

std::string shape(const torch::Tensor& x) {
  return c10::str(x.sizes());
}

void check_shapes(const torch::Tensor& logits, const torch::Tensor& boxes,
                  const std::vector<torch::Tensor>& labels, const std::vector<torch::Tensor>& target_boxes) {
  if (logits.dim() != 4 || boxes.dim() != 4 || logits.size(3) < 2 || boxes.size(3) != 4 ||
      logits.sizes().slice(0, 3) != boxes.sizes().slice(0, 3) || logits.size(0) == 0) {
    throw Error("detr loss: logits " + shape(logits) + " and boxes " + shape(boxes) +
                ", expected [L,B,Q,C+1] and [L,B,Q,4]");
  }
  const auto images = static_cast<size_t>(logits.size(1));
  if (labels.size() != images || target_boxes.size() != images || images == 0) {
    throw Error("detr loss: predictions for " + std::to_string(images) + " images, labels for " +
                std::to_string(labels.size()) + ", boxes for " + std::to_string(target_boxes.size()));
  }
  for (size_t i = 0; i < images; ++i) {
    if (labels[i].dim() == 1 && labels[i].scalar_type() == torch::kLong &&
        target_boxes[i].sizes() == torch::IntArrayRef({labels[i].size(0), 4})) {
      continue;
    }
    throw Error("detr loss: image " + std::to_string(i) + ": labels " + shape(labels[i]) + " and boxes " +
                shape(target_boxes[i]) + ", expected int64 [T] and [T,4]");
  }
}

/// Predictions beside what they should be.
struct Assigned {
  torch::Tensor logits;   ///< [L·B·Q,C+1]
  torch::Tensor classes;  ///< [L·B·Q] int64
  torch::Tensor boxes;    ///< [L,M,4] of the M pairs, cx cy w h
  torch::Tensor wanted;   ///< [L,M,4]
};

Assigned assign(const torch::Tensor& logits, const torch::Tensor& boxes, const DetrTargets& targets,
                const DetrMatches& matches) {
  const int64_t no_object = logits.size(3) - 1;
  const torch::Tensor queries = matches.queries.flatten(), chosen = matches.targets.flatten();  // [L·M]
  const auto of_pairs = [&](const torch::Tensor& rows, const torch::Tensor& index) {
    return rows.index_select(0, index).view({matches.queries.size(0), matches.queries.size(1), 4});
  };
  Assigned assigned;
  assigned.logits = logits.flatten(0, 2);
  assigned.classes = torch::full({assigned.logits.size(0)}, no_object, chosen.options());
  assigned.classes.index_copy_(0, queries, targets.labels.flatten().index_select(0, chosen));
  assigned.boxes = of_pairs(boxes.flatten(0, 2), queries);
  assigned.wanted = of_pairs(targets.boxes.to(boxes.scalar_type()).flatten(0, 1), chosen);
  return assigned;
}

/// [L] Σ w·nll / Σ w over each layer's queries.
torch::Tensor cross_entropy(const Assigned& assigned, int64_t layers, double eos_coef) {
  torch::Tensor weight = torch::ones(assigned.logits.size(1), assigned.logits.options());
  weight[-1].fill_(eos_coef);
  const torch::Tensor nll =
      torch::nll_loss(assigned.logits.log_softmax(-1), assigned.classes, weight, at::Reduction::None);
  torch::Tensor weights = weight.index_select(0, assigned.classes).view({layers, -1}).sum(1);
  weights = weights.clamp_min(1e-12);  // 0 without targets where no-object weighs nothing
  return nll.view({layers, -1}).sum(1) / weights;
}

/// Figures of the answers' classes, for people.
struct ClassErrors {
  torch::Tensor matched;      ///< [] per cent of the last layer's pairs
  torch::Tensor cardinality;  ///< [L]
};

ClassErrors class_errors(const torch::Tensor& logits, const Assigned& assigned, const DetrTargets& targets) {
  const torch::NoGradGuard no_grad;
  const int64_t L = logits.size(0), no_object = logits.size(3) - 1;
  const torch::Tensor best = logits.argmax(-1);            // [L,B,Q]
  const torch::Tensor found = best.ne(no_object).sum(-1);  // [L,B]
  const torch::Tensor counts = torch::tensor(targets.counts, torch::kLong).to(found.device());
  const torch::Tensor classes = assigned.classes.view({L, -1})[L - 1];
  const torch::Tensor paired = classes.ne(no_object);
  const torch::Tensor right = best[L - 1].flatten().eq(classes).logical_and(paired).sum();
  // Without pairs 0 of at least 1: 100.
  const torch::Tensor matched = 100 - 100 * right.to(logits.scalar_type()) / paired.sum().clamp_min(1);
  return {matched, (found - counts).abs().to(logits.scalar_type()).mean(1)};
}

}  // namespace

void DetrLossOptions::validate() const {
  require_choice("loss.name", name, {"detr"});
  require_range("loss.class_cost", class_cost, 0);
  require_range("loss.bbox_cost", bbox_cost, 0);
  require_range("loss.giou_cost", giou_cost, 0);
  require_range("loss.class_weight", class_weight, 0);
  require_range("loss.bbox_weight", bbox_weight, 0);
  require_range("loss.giou_weight", giou_weight, 0);
  require_range("loss.eos_coef", eos_coef, 0, 1);
  require_range("loss.encoder_weight", encoder_weight, 0);
  require_count("loss.encoder_repeats", encoder_repeats, 1, 100);
  if (class_cost + bbox_cost + giou_cost == 0) {
    throw UsageError("loss.class_cost, loss.bbox_cost, loss.giou_cost: all 0, expected one above 0");
  }
}

LossTerms detr_criterion(const torch::Tensor& given_logits, const torch::Tensor& given_boxes,
                         const std::vector<torch::Tensor>& labels,
                         const std::vector<torch::Tensor>& target_boxes, const DetrLossOptions& options,
                         double num_boxes) {
  check_shapes(given_logits, given_boxes, labels, target_boxes);
  const bool precise = given_boxes.scalar_type() == torch::kDouble;
  const torch::Tensor logits = given_logits.to(precise ? torch::kDouble : torch::kFloat);
  const torch::Tensor boxes = given_boxes.to(logits.scalar_type());
  const int64_t L = logits.size(0);

  const DetrTargets targets = pad_targets(labels, target_boxes, logits.size(3) - 1);
  const DetrMatches matches =
      match_targets(logits, boxes, targets, {options.class_cost, options.bbox_cost, options.giou_cost});
  const Assigned assigned = assign(logits, boxes, targets, matches);
  if (num_boxes <= 0) {
    num_boxes =
        static_cast<double>(std::accumulate(targets.counts.begin(), targets.counts.end(), int64_t{0}));
    num_boxes = std::max(1.0, num_boxes);
  }

  const torch::Tensor ce = cross_entropy(assigned, L, options.eos_coef);                         // [L]
  const torch::Tensor bbox = (assigned.boxes - assigned.wanted).abs().sum({1, 2}) / num_boxes;   // [L]
  const torch::Tensor giou = box_giou(to_corners(assigned.boxes), to_corners(assigned.wanted));  // [L,M]
  const torch::Tensor giou_loss = (1 - giou).sum(1) / num_boxes;                                 // [L]
  const ClassErrors errors = class_errors(logits, assigned, targets);

  LossTerms loss;
  loss.total =
      (options.class_weight * ce + options.bbox_weight * bbox + options.giou_weight * giou_loss).sum();
  const auto add = [&](int64_t layer, const std::string& suffix) {
    loss.terms.emplace_back("loss_ce" + suffix, ce.detach()[layer]);
    loss.terms.emplace_back("loss_bbox" + suffix, bbox.detach()[layer]);
    loss.terms.emplace_back("loss_giou" + suffix, giou_loss.detach()[layer]);
    if (suffix.empty()) loss.terms.emplace_back("class_error", errors.matched);
    loss.terms.emplace_back("cardinality_error" + suffix, errors.cardinality[layer]);
  };
  add(L - 1, "");
  for (int64_t layer = 0; layer < L - 1; ++layer) add(layer, "_" + std::to_string(layer));
  return loss;
}

}  // namespace zoo
