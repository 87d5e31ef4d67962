#pragma once
#include <array>
#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "core/options.h"
#include "trainers/metrics/roc.h"

namespace zoo {

/// Folds 0, 1, … of contiguous pairs; the first P mod `folds` are one pair longer.
std::vector<int64_t> equal_folds(int64_t pairs, int64_t folds = 10);

/// Labelled pairs and their scores; larger means more alike.
struct ScoredPairs {
  std::vector<uint8_t> same;
  std::vector<int64_t> folds;  ///< 0, 1, 2, …, one a pair
  /// One list: all pairs by a metric that knows none of them. Else one list a fold: all pairs by what was
  /// fitted to the other folds.
  std::vector<std::vector<double>> scores;
  /// Scores are cosines: thresholds are those of LFW's published code. Else each fold's threshold lies half-way
  /// between two neighbouring scores of the other folds.
  bool cosine = true;
  double val_far = 0;  ///< > 0: adds VAL at this false accept rate, facenet's rule

  /// The score of each pair by what does not know it.
  std::vector<double> own_scores() const;
};

/// Names (and numbers, where there are any) of arbitrary folds as 0, 1, 2, … in ascending order.
std::vector<int64_t> numbered_folds(const std::vector<int64_t>& folds);

/// VAL (share of genuine pairs accepted) where the other folds' share of accepted impostors is `far`.
struct ValAtFar {
  double far = 0;               ///< asked for
  double val = 0, val_std = 0;  ///< mean and population deviation over folds
  double measured_far = 0;      ///< mean over folds of the share of impostors accepted
};

/// Figures of a verification; NaN where one does not exist.
struct VerificationMetrics {
  double accuracy, accuracy_std, threshold, auc, eer;
  std::array<double, 6> tar_at_far;  ///< at 1e-6, 1e-5, … 1e-1
  std::optional<ValAtFar> val_at_far;
};

/// The protocol of LFW as facenet and insightface compute it (face.md section 6), with population deviation:
/// on d = 2 - 2 cos, thresholds i·0.01, i = 0…399, same where d < t; per fold the first threshold with the
/// most right answers on the other folds; the mean over folds; `threshold` is the folds' mean, as a cosine.
/// AUC, EER and TAR are over all pairs. VAL, where asked for: thresholds i·0.001, i = 0…3999; of the other
/// folds the last one whose false accept rate is below the wanted, and from there straight to the next; 0
/// where no threshold reaches that rate.
VerificationMetrics verification_metrics(const ScoredPairs& pairs);
/// The same with the ROC at hand, which it needs anyway.
VerificationMetrics verification_metrics(const ScoredPairs& pairs, const Roc& roc);

/// The `metrics` document of the contract, null for NaN.
Json verification_json(const VerificationMetrics& metrics);
/// The keys of `tar_at_far`, "1e-6" first.
const std::array<const char*, 6>& far_names();

}  // namespace zoo
