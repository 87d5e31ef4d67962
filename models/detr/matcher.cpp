#include "models/detr/matcher.h"

#include <algorithm>
#include <cmath>
#include <mutex>

#include <torch/torch.h>

#include "core/error.h"
#include "core/log.h"
#include "core/text.h"
#include "models/detr/assignment.h"
#include "models/layers/boxes.h"

namespace zoo {

namespace {

/// Dearer than any finite cost, yet small enough not to swamp the solver's sums.
constexpr double kNonFiniteCost = 1e6;

using ll = long long;

void check_target(int64_t image, int64_t target, const double* label_and_box, int64_t num_classes) {
  const double label = label_and_box[0], *box = label_and_box + 1;
  const std::string place =
      format("image %lld of the batch, target %lld: ", static_cast<ll>(image), static_cast<ll>(target));
  if (label < 0 || label >= static_cast<double>(num_classes)) {
    throw Error(place + format("label %.0f, expected 0..%lld", label, static_cast<ll>(num_classes - 1)));
  }
  if (!std::all_of(box, box + 4, [](double value) { return std::isfinite(value); }) || box[2] < 0 ||
      box[3] < 0) {
    throw Error(place + format("box %g %g %g %g, expected finite cx cy w h of no negative size", box[0],
                               box[1], box[2], box[3]));
  }
}

void check_targets(const DetrTargets& targets, int64_t num_classes) {
  const torch::Tensor rows =  // [B,T,5]
      torch::cat({targets.labels.unsqueeze(-1).to(torch::kDouble), targets.boxes.to(torch::kDouble)}, -1)
          .cpu();
  const auto row = rows.accessor<double, 3>();
  for (int64_t b = 0; b < rows.size(0); ++b) {
    for (int64_t t = 0; t < targets.counts[b]; ++t) check_target(b, t, row[b][t].data(), num_classes);
  }
}

/// The costs of one image, [Q,T] of which `count` columns are real, with the non-finite ones counted and
/// replaced.
std::vector<double> finite_costs(const double* cost, int64_t queries, int64_t columns, int64_t count,
                                 int64_t& non_finite) {
  std::vector<double> result;
  result.reserve(queries * count);
  for (int64_t q = 0; q < queries; ++q) {
    for (int64_t t = 0; t < count; ++t) {
      const double value = cost[q * columns + t];
      non_finite += !std::isfinite(value);
      result.push_back(std::isfinite(value) ? value : kNonFiniteCost);
    }
  }
  return result;
}

void warn(const DetrMatches& matches, const torch::Tensor& logits, const torch::Tensor& boxes) {
  static std::once_flag non_finite, unmatched;
  if (matches.non_finite > 0) {
    std::call_once(non_finite, [&] {
      const auto wrong = [&](const torch::Tensor& x) {
        const torch::Tensor one = x[matches.first_layer][matches.first_image];
        return static_cast<ll>(one.isfinite().logical_not().sum().item<int64_t>());
      };
      log_warning(format(
          "matching: predictions are not finite: in layer %lld, image %lld of the batch %lld numbers of "
          "boxes and %lld logits; %lld costs in all count as 1e6",
          static_cast<ll>(matches.first_layer), static_cast<ll>(matches.first_image), wrong(boxes),
          wrong(logits), static_cast<ll>(matches.non_finite)));
    });
  }
  if (matches.unmatched > 0) {
    std::call_once(unmatched, [&] {
      log_warning(format(
          "matching: %lld targets of a batch have no query, a picture shows more than model.num_queries "
          "(%lld) objects",
          static_cast<ll>(matches.unmatched), static_cast<ll>(logits.size(2))));
    });
  }
}

}  // namespace

DetrTargets pad_targets(const std::vector<torch::Tensor>& labels, const std::vector<torch::Tensor>& boxes,
                        int64_t num_classes) {
  DetrTargets targets;
  for (const torch::Tensor& one : labels) targets.counts.push_back(one.numel());
  targets.labels = torch::nn::utils::rnn::pad_sequence(labels, /*batch_first=*/true);  // [B,T]
  targets.boxes = torch::nn::utils::rnn::pad_sequence(boxes, /*batch_first=*/true);    // [B,T,4]
  check_targets(targets, num_classes);
  return targets;
}

torch::Tensor matching_cost(const torch::Tensor& logits, const torch::Tensor& boxes,
                            const DetrTargets& targets, const MatchingWeights& weights) {
  const torch::NoGradGuard no_grad;
  const int64_t L = logits.size(0), Q = logits.size(2), T = targets.labels.size(1);
  const torch::Tensor classes = targets.labels.unsqueeze(1).unsqueeze(0).expand({L, -1, Q, T});
  const torch::Tensor probability = logits.softmax(-1).gather(-1, classes);               // [L,B,Q,T]
  const torch::Tensor wanted = targets.boxes.to(boxes.scalar_type()).unsqueeze(0);        // [1,B,T,4]
  const torch::Tensor distance = torch::cdist(boxes, wanted.expand({L, -1, T, 4}), 1.0);  // [L,B,Q,T]
  const torch::Tensor giou = box_giou(to_corners(boxes).unsqueeze(3), to_corners(wanted).unsqueeze(2));
  return weights.bbox * distance - weights.label * probability - weights.giou * giou;
}

DetrMatches match_cheapest(const torch::Tensor& cost, const std::vector<int64_t>& counts) {
  const int64_t L = cost.size(0), B = cost.size(1), Q = cost.size(2), T = cost.size(3);
  const torch::Tensor host = cost.cpu().to(torch::kDouble).contiguous();
  DetrMatches matches;
  std::vector<int64_t> queries, targets;
  for (int64_t i = 0; i < L * B; ++i) {
    const int64_t layer = i / B, image = i % B, before = matches.non_finite;
    const std::vector<double> costs =
        finite_costs(host.data_ptr<double>() + i * Q * T, Q, T, counts[image], matches.non_finite);
    if (before == 0 && matches.non_finite > 0) {
      matches.first_layer = layer;
      matches.first_image = image;
    }
    const std::vector<int64_t> target_of = solve_assignment(costs.data(), Q, counts[image]);
    for (int64_t q = 0; q < Q; ++q) {
      if (target_of[q] < 0) continue;
      queries.push_back(i * Q + q);
      targets.push_back(image * T + target_of[q]);
    }
  }
  for (const int64_t count : counts) matches.unmatched += std::max<int64_t>(count - Q, 0);
  const int64_t pairs = static_cast<int64_t>(queries.size());
  queries.insert(queries.end(), targets.begin(), targets.end());
  const torch::Tensor packed = torch::tensor(queries, torch::kLong).view({2, L, pairs / L}).to(cost.device());
  matches.queries = packed[0];
  matches.targets = packed[1];
  return matches;
}

DetrMatches match_targets(const torch::Tensor& logits, const torch::Tensor& boxes, const DetrTargets& targets,
                          const MatchingWeights& weights) {
  const DetrMatches matches = match_cheapest(matching_cost(logits, boxes, targets, weights), targets.counts);
  warn(matches, logits, boxes);
  return matches;
}

}  // namespace zoo
