#include "models/online_action/criterion.h"

#include <torch/torch.h>

#include "core/error.h"
#include "models/shape_text.h"

namespace zoo {

namespace {

/// Predictions beside what they should be, a row each.
struct ActionRows {
  torch::Tensor logits;   ///< [R,C]
  torch::Tensor targets;  ///< [R,C]
  torch::Tensor known;    ///< [R] bool
};

void check_targets(const ActionScores& scores, const ActionTargets& targets) {
  const torch::Tensor& current = scores.current;
  const int64_t horizons = scores.future.defined() ? scores.future.size(2) : 0;
  const int64_t reach = horizons == 0 ? 0 : targets.first_horizon + horizons - 1;
  const std::vector<int64_t> known = {current.size(0), targets.classes.size(1)};
  if (targets.classes.dim() != 3 || targets.classes.size(0) != current.size(0) ||
      targets.classes.size(2) != current.size(2) || targets.classes.size(1) < targets.steps + reach ||
      targets.steps < current.size(1) || !targets.known.sizes().equals(known)) {
    throw Error("action loss: scores " + shape_text(current) + " of windows of " +
                std::to_string(targets.steps) + " steps and " + std::to_string(reach) +
                " behind them, targets " + shape_text(targets.classes) + ", known " +
                shape_text(targets.known) + ": expected [B,S,C], [B,T+F,C] and [B,T+F]");
  }
}

ActionRows current_rows(const ActionScores& scores, const ActionTargets& targets, bool last_only) {
  const int64_t steps = last_only ? 1 : scores.current.size(1), end = targets.steps;
  return {scores.current.slice(1, scores.current.size(1) - steps).flatten(0, 1),
          targets.classes.slice(1, end - steps, end).flatten(0, 1),
          targets.known.slice(1, end - steps, end).flatten()};
}

/// Step t's k-th prediction is of step t + first_horizon + k.
ActionRows future_rows(const ActionScores& scores, const ActionTargets& targets, bool last_only) {
  const int64_t steps = last_only ? 1 : scores.future.size(1), horizons = scores.future.size(2);
  const int64_t first = targets.steps - steps + targets.first_horizon;
  const auto ahead = [&](const torch::Tensor& x) {
    return x.slice(1, first, first + steps + horizons - 1).unfold(1, horizons, 1);  // [B,steps,..,K]
  };
  return {scores.future.slice(1, scores.future.size(1) - steps).flatten(0, 2),
          ahead(targets.classes).transpose(2, 3).flatten(0, 2), ahead(targets.known).flatten()};
}

/// [R]
torch::Tensor row_losses(const torch::Tensor& logits, torch::Tensor targets,
                         const ActionLossOptions& options) {
  if (options.name == "bce") {
    return torch::binary_cross_entropy_with_logits(logits, targets, {}, {}, at::Reduction::None).mean(-1);
  }
  if (options.normalise_targets) targets = targets / targets.norm(2, -1, /*keepdim=*/true).clamp_min(1e-12);
  return -(targets * logits.log_softmax(-1)).sum(-1);
}

/// The sum over known rows divided by `count`.
torch::Tensor mean_loss(const ActionRows& rows, const ActionLossOptions& options,
                        const torch::Tensor& count) {
  const torch::Tensor logits =
      rows.logits.scalar_type() == torch::kDouble ? rows.logits : rows.logits.to(torch::kFloat);
  const torch::Tensor losses = row_losses(logits, rows.targets.to(logits.scalar_type()), options);
  return torch::where(rows.known, losses, torch::zeros_like(losses)).sum() / count;
}

/// Per cent of known rows whose best class is among theirs.
torch::Tensor accuracy(const ActionRows& rows) {
  const torch::NoGradGuard no_grad;
  const torch::Tensor right = rows.targets.gather(1, rows.logits.argmax(1, /*keepdim=*/true)).squeeze(1);
  return 100 * (right > 0).logical_and(rows.known).sum() / rows.known.sum().clamp_min(1);
}

}  // namespace

void ActionLossOptions::validate() const {
  require_choice("loss.name", name, {"softmax", "bce"});
  require_range("loss.current_weight", current_weight, 0);
  require_range("loss.future_weight", future_weight, 0);
  if (current_weight + future_weight == 0) {
    throw UsageError("loss.current_weight, loss.future_weight: both 0, expected one above 0");
  }
  if (normalise_targets && name != "softmax") {
    throw UsageError("loss.normalise_targets: true, expected false with loss.name = " + name);
  }
}

ActionScores without_class(const ActionScores& scores, int64_t column) {
  if (column < 0) return scores;
  const auto others = [column](const torch::Tensor& x) {
    return x.defined() ? torch::cat({x.slice(-1, 0, column), x.slice(-1, column + 1)}, -1) : x;
  };
  return {others(scores.current), others(scores.future)};
}

torch::Tensor count_action_rows(const ActionScores& scores, const ActionTargets& targets,
                                const ActionLossOptions& options) {
  check_targets(scores, targets);
  const torch::Tensor current = current_rows(scores, targets, options.last_step_only).known.sum();
  const torch::Tensor future = scores.future.defined()
                                   ? future_rows(scores, targets, options.last_step_only).known.sum()
                                   : torch::zeros_like(current);
  return torch::stack({current, future}).to(torch::kFloat);
}

LossTerms action_loss(const ActionScores& scores, const ActionTargets& targets,
                      const ActionLossOptions& options, const torch::Tensor& rows) {
  check_targets(scores, targets);
  const torch::Tensor counts =
      (rows.defined() ? rows : count_action_rows(scores, targets, options)).clamp_min(1e-12);
  const ActionRows current = current_rows(scores, targets, options.last_step_only);
  const torch::Tensor loss_current = mean_loss(current, options, counts[0]);
  LossTerms loss{options.current_weight * loss_current, {{"loss_current", loss_current.detach()}}};
  if (scores.future.defined()) {
    const torch::Tensor loss_future =
        mean_loss(future_rows(scores, targets, options.last_step_only), options, counts[1]);
    loss.total = loss.total + options.future_weight * loss_future;
    loss.terms.emplace_back("loss_future", loss_future.detach());
  }
  loss.terms.emplace_back("accuracy", accuracy(current));
  return loss;
}

}  // namespace zoo
