#pragma once
#include <array>
#include <cstdint>
#include <string>
#include <utility>
#include <vector>

#include <torch/types.h>

#include "core/options.h"

namespace zoo {

/// By which rules figures of online action detection are made; published ones differ in these. Background (column 0) is
/// never averaged, all videos are ranked together, and a class without positives has no figure. Section `eval.protocol`.
struct ActionProtocol {
  /// Equal scores are one step of the curve, as in scikit-learn ("together"), or each a step of its own in the order of
  /// the videos ("each").
  std::string ties = "together";
  bool ambiguous = false;         ///< steps of ambiguous label take part, as negatives of every class without a label
  bool ambiguous_future = false;  ///< the same of predicted steps (OadTR: true)
  bool clamp_future = false;      ///< a prediction beyond a video's end is held against its last step (TRN: true)
  /// Which tenth of an action a step is in: "steps": step j of n is in tenth ⌊10·j/n⌋, so that each step is in one;
  /// "lstr": LSTR's perstage, on the rows that are scored, in which the last step is in none and steps of short
  /// actions are in several.
  std::string deciles = "steps";

  void validate() const;
};
NLOHMANN_DEFINE_TYPE_NON_INTRUSIVE(ActionProtocol, ties, ambiguous, ambiguous_future, clamp_future, deciles)

/// What a model says of the steps of a video, and what is true. C columns, column 0 background.
struct ActionVideoScores {
  torch::Tensor current;    ///< [L,C] floating; a higher number is more likely
  torch::Tensor future;     ///< [L,K,C]: made at each step of the K that follow; undefined: none
  torch::Tensor labels;     ///< [L,C] u8, not 0: the class is there
  torch::Tensor ambiguous;  ///< [L] bool; undefined: none
  torch::Tensor predicted;  ///< [L] bool: steps that the model was asked about; undefined: all
};

/// Average precision of one class: Σ ΔTP/P · TP/(TP+FP) over the thresholds, and calibrated, TP/(TP+FP) replaced by
/// w·TP/(w·TP+FP) with w = negatives/positives (De Geest et al. 2016, eq. 2). NaN without positives.
struct ClassPrecision {
  double ap = 0, calibrated = 0;
  int64_t positives = 0, negatives = 0;
};

/// Precisions of `count` sets of positives (at most 15) against the same negatives, in one ranking of `size` scores.
/// `sets[i]` has bit g where score i is a positive of set g, and is 0 where it is a negative; kNoSet alone: it takes no
/// part. Throws std::invalid_argument where a score is not a number.
constexpr uint16_t kNoSet = 0x8000;
std::vector<ClassPrecision> average_precisions(const double* scores, const uint16_t* sets, int64_t size,
                                               int64_t count, bool ties_together);
/// The same of one set: `positive[i]` is 0 or not.
ClassPrecision average_precision(const std::vector<double>& scores, const std::vector<uint8_t>& positive,
                                 bool ties_together = true);

/// Means over the classes that have a figure.
struct ActionMeans {
  double map = 0, calibrated = 0;
};

struct OnlineActionMetrics {
  ActionMeans all;
  std::vector<ClassPrecision> per_class;    ///< columns 1 … C-1
  std::vector<ActionMeans> anticipation;    ///< by horizon
  std::array<ActionMeans, 10> deciles;      ///< positives of one tenth of their action's duration
  int64_t steps = 0, scored = 0;            ///< of all videos; those that took part
  int64_t ambiguous = 0;                    ///< of all
};

/// Throws Error naming `source` where shapes do not fit or a score is not a number.
OnlineActionMetrics online_action_metrics(const std::vector<ActionVideoScores>& videos,
                                          const ActionProtocol& protocol, int64_t first_horizon,
                                          const std::string& source);

/// The tensors of `zoo eval --predictions`, as one video: scores [N,C] floating, labels [N,C] and ambiguous [N]
/// (undefined: none) of an integer type or bool. Throws Error naming `source`.
ActionVideoScores listed_action_scores(const torch::Tensor& scores, const torch::Tensor& labels,
                                       const torch::Tensor& ambiguous, const std::string& source);

/// What the figures hang on beside the data and `ActionProtocol`.
struct ActionNaming {
  std::vector<std::string> classes;  ///< of all columns; empty: "class 1", …
  double steps_per_second = 4;
  int64_t first_horizon = 1;
  std::string scores;  ///< how they were made: "softmax over 21 columns"
};
/// The `metrics` document of the contract: mAP, mcAP, anticipation (seconds as text -> mAP) and per_class.
Json online_action_json(const OnlineActionMetrics& metrics, const ActionNaming& naming);
/// Beside it: the protocol in words, calibrated figures, deciles, and the classes that have no figure.
Json online_action_details(const OnlineActionMetrics& metrics, const ActionProtocol& protocol,
                           const ActionNaming& naming);

}  // namespace zoo
