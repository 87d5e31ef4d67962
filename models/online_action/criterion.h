#pragma once
#include <string>

#include <torch/types.h>

#include "core/options.h"
#include "models/loss_terms.h"
#include "models/online_action/action_model.h"

namespace zoo {

/// Section `loss` of recipes of online action detection.
struct ActionLossOptions {
  /// "softmax": Σ −t_c·log p_c over the classes, where several labels of a step simply add (OadTR, TRN, LSTR, MiniROAD);
  /// "bce": the mean over classes of binary cross-entropies, for labels that do not exclude each other.
  std::string name = "softmax";
  bool normalise_targets = false;  ///< softmax: several labels of a step are divided by their norm (MiniROAD)
  bool last_step_only = false;     ///< no loss on a window's steps before the current one (MiniROAD)
  double current_weight = 1;
  double future_weight = 1;  ///< 0.5 in OadTR

  /// Throws UsageError naming the key, its value and the range.
  void validate() const;
};
NLOHMANN_DEFINE_TYPE_NON_INTRUSIVE(ActionLossOptions, name, normalise_targets, last_step_only, current_weight,
                                   future_weight)

/// The truth about windows of T steps and the F behind them.
struct ActionTargets {
  torch::Tensor classes;      ///< [B,T+F,C] float, 0 or 1
  torch::Tensor known;        ///< [B,T+F] bool; other steps, outside of a video or ambiguous, take no part
  int64_t steps = 1;          ///< T
  int64_t first_horizon = 1;  ///< as in ActionModel
};

/// Scores without one column, as for a published head that has one for ambiguous steps; all of them for -1.
ActionScores without_class(const ActionScores& scores, int64_t column);

/// How many steps have a loss: [2] float of current and future ones, known ones alone.
torch::Tensor count_action_rows(const ActionScores& scores, const ActionTargets& targets,
                                const ActionLossOptions& options);

/// current_weight · loss_current + future_weight · loss_future: each the mean over its known steps, 0 where there are
/// none; `rows` [2], where defined, are the numbers to divide by in place of count_action_rows (their means over
/// processes). Term `accuracy` is the per cent of known current steps whose best class is one of theirs.
///
/// Computed in float32 (float64 for float64), under autocast too. Throws Error for shapes that do not fit together.
LossTerms action_loss(const ActionScores& scores, const ActionTargets& targets,
                      const ActionLossOptions& options, const torch::Tensor& rows = {});

}  // namespace zoo
