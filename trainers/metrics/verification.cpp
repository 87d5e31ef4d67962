#include "trainers/metrics/verification.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <map>
#include <numeric>

#include "core/numbers.h"
#include "trainers/metrics/figure.h"

namespace zoo {

namespace {

/// For each fold, how many of its genuine and impostor pairs are accepted at each threshold.
class AcceptCounts {
 public:
  AcceptCounts(size_t folds, size_t thresholds)
      : folds_(folds), thresholds_(thresholds), counts_(2 * (folds + 1) * (thresholds + 1), 0) {}

  /// A pair that is accepted from threshold `first` on (`thresholds`: by none).
  void add(size_t fold, bool same, size_t first) {
    ++counts_[index(fold, same, first)];
    ++counts_[index(folds_, same, first)];
  }
  /// Once, when all pairs are there.
  void accumulate() {
    const auto row_size = static_cast<int64_t>(thresholds_ + 1);
    for (auto row = counts_.begin(); row != counts_.end(); row += row_size)
      std::partial_sum(row, row + row_size, row);
  }
  int64_t accepted(size_t fold, bool same, size_t threshold) const {
    return counts_[index(fold, same, threshold)];
  }
  /// Over all folds but one.
  int64_t accepted_elsewhere(size_t fold, bool same, size_t threshold) const {
    return accepted(folds_, same, threshold) - accepted(fold, same, threshold);
  }
  int64_t pairs(size_t fold, bool same) const { return accepted(fold, same, thresholds_); }
  int64_t pairs_elsewhere(size_t fold, bool same) const {
    return accepted_elsewhere(fold, same, thresholds_);
  }
  size_t thresholds() const { return thresholds_; }

 private:
  size_t index(size_t fold, bool same, size_t threshold) const {
    return (2 * fold + (same ? 1 : 0)) * (thresholds_ + 1) + threshold;
  }

  size_t folds_, thresholds_;
  std::vector<int64_t> counts_;  ///< by fold (the last one: all), kind and threshold
};

/// Thresholds i·step on a distance.
struct Grid {
  double step;
  size_t size;

  double value(size_t i) const { return static_cast<double>(i) * step; }
  /// The first threshold above a distance; `size` where there is none.
  size_t first_above(double distance) const {
    auto i = static_cast<size_t>(std::clamp(distance / step, 0.0, static_cast<double>(size)));
    while (i > 0 && distance < value(i - 1)) --i;
    while (i < size && distance >= value(i)) ++i;
    return i;
  }
};
constexpr Grid kAccuracyGrid{0.01, 400}, kValGrid{0.001, 4000};

double distance_of(double cosine) {
  return 2 - 2 * cosine;
}

AcceptCounts counts_on_grid(const ScoredPairs& pairs, const std::vector<double>& cosines, size_t folds,
                            const Grid& grid) {
  AcceptCounts counts(folds, grid.size);
  for (size_t i = 0; i < cosines.size(); ++i) {
    counts.add(static_cast<size_t>(pairs.folds[i]), pairs.same[i] != 0,
               grid.first_above(distance_of(cosines[i])));
  }
  counts.accumulate();
  return counts;
}

/// Right answers at a threshold: genuine pairs accepted and impostors not.
int64_t right_answers(int64_t genuine, int64_t impostor, int64_t impostors) {
  return genuine + impostors - impostor;
}

/// Threshold and accuracy of one fold.
struct FoldResult {
  double threshold = 0;  ///< as a score
  double accuracy = 0;
};

FoldResult cosine_fold(const AcceptCounts& counts, size_t fold) {
  int64_t most = -1;
  size_t best = 0;
  const int64_t impostors = counts.pairs_elsewhere(fold, false);
  for (size_t t = 0; t < counts.thresholds(); ++t) {
    const int64_t right = right_answers(counts.accepted_elsewhere(fold, true, t),
                                        counts.accepted_elsewhere(fold, false, t), impostors);
    if (right > most) most = right, best = t;
  }
  const int64_t all = counts.pairs(fold, true) + counts.pairs(fold, false);
  const int64_t right = right_answers(counts.accepted(fold, true, best), counts.accepted(fold, false, best),
                                      counts.pairs(fold, false));
  return {1 - kAccuracyGrid.value(best) / 2, static_cast<double>(right) / static_cast<double>(all)};
}

/// The threshold with the most right answers: half-way below the last accepted score, or beyond the ends.
double best_threshold(std::vector<std::pair<double, bool>>& scored) {
  std::sort(scored.begin(), scored.end(), [](const auto& a, const auto& b) { return a.first > b.first; });
  const double inf = std::numeric_limits<double>::infinity();
  int64_t gain = 0, most = 0;  // over accepting nothing
  double best = scored.empty() ? 0 : std::nextafter(scored.front().first, inf);
  for (size_t i = 0; i < scored.size(); ++i) {
    gain += scored[i].second ? 1 : -1;
    const bool last = i + 1 == scored.size();
    if (gain <= most || (!last && scored[i + 1].first == scored[i].first)) continue;
    most = gain;
    best = last ? scored[i].first : scored[i].first + (scored[i + 1].first - scored[i].first) / 2;
  }
  return best;
}

FoldResult fitted_fold(const ScoredPairs& pairs, const std::vector<double>& scores, size_t fold) {
  std::vector<std::pair<double, bool>> others;
  for (size_t i = 0; i < scores.size(); ++i) {
    if (static_cast<size_t>(pairs.folds[i]) != fold) others.emplace_back(scores[i], pairs.same[i] != 0);
  }
  FoldResult result{best_threshold(others), 0};
  int64_t right = 0, all = 0;
  for (size_t i = 0; i < scores.size(); ++i) {
    if (static_cast<size_t>(pairs.folds[i]) != fold) continue;
    ++all;
    right += (scores[i] >= result.threshold) == (pairs.same[i] != 0) ? 1 : 0;
  }
  result.accuracy = static_cast<double>(right) / static_cast<double>(all);
  return result;
}

double mean(const std::vector<double>& values) {
  return std::accumulate(values.begin(), values.end(), 0.0) / static_cast<double>(values.size());
}

/// Of the population.
double deviation(const std::vector<double>& values) {
  const double middle = mean(values);
  double sum = 0;
  for (const double value : values) sum += (value - middle) * (value - middle);
  return std::sqrt(sum / static_cast<double>(values.size()));
}

/// The distance below which so many of the other folds' impostors lie, by facenet's rule.
double val_threshold(const AcceptCounts& counts, size_t fold, double far) {
  const auto impostors = static_cast<double>(counts.pairs_elsewhere(fold, false));
  const auto rate = [&](size_t t) {
    return static_cast<double>(counts.accepted_elsewhere(fold, false, t)) / impostors;
  };
  size_t next = 0;
  while (next < counts.thresholds() && rate(next) < far) ++next;
  if (next == 0 || next == counts.thresholds()) return 0;
  const double below = rate(next - 1), above = rate(next);
  return kValGrid.value(next - 1) + kValGrid.step * (far - below) / (above - below);
}

ValAtFar val_at_far(const ScoredPairs& pairs, size_t folds) {
  const std::vector<double>& cosines = pairs.scores.front();
  const AcceptCounts counts = counts_on_grid(pairs, cosines, folds, kValGrid);
  std::vector<double> thresholds, accepted[2];
  for (size_t fold = 0; fold < folds; ++fold)
    thresholds.push_back(val_threshold(counts, fold, pairs.val_far));
  for (auto& list : accepted) list.assign(folds, 0);
  for (size_t i = 0; i < cosines.size(); ++i) {
    const auto fold = static_cast<size_t>(pairs.folds[i]);
    const bool same = pairs.same[i] != 0;
    if (distance_of(cosines[i]) < thresholds[fold]) accepted[same][fold] += 1;
  }
  for (size_t fold = 0; fold < folds; ++fold) {
    for (const bool same : {false, true})
      accepted[same][fold] /= static_cast<double>(counts.pairs(fold, same));
  }
  return {pairs.val_far, mean(accepted[1]), deviation(accepted[1]), mean(accepted[0])};
}

void fill_fold_figures(const ScoredPairs& pairs, VerificationMetrics& metrics) {
  const auto folds = pairs.folds.empty()
                         ? 0
                         : static_cast<size_t>(*std::max_element(pairs.folds.begin(), pairs.folds.end())) + 1;
  if (folds < 2) return;
  std::vector<double> accuracies, thresholds;
  std::optional<AcceptCounts> counts;
  if (pairs.cosine) counts = counts_on_grid(pairs, pairs.scores.front(), folds, kAccuracyGrid);
  for (size_t fold = 0; fold < folds; ++fold) {
    const FoldResult result =
        counts ? cosine_fold(*counts, fold)
               : fitted_fold(pairs, pairs.scores[pairs.scores.size() == 1 ? 0 : fold], fold);
    accuracies.push_back(result.accuracy);
    thresholds.push_back(result.threshold);
  }
  metrics.accuracy = mean(accuracies);
  metrics.accuracy_std = deviation(accuracies);
  metrics.threshold = mean(thresholds);
  if (pairs.val_far > 0 && pairs.cosine) metrics.val_at_far = val_at_far(pairs, folds);
}

}  // namespace

std::vector<int64_t> equal_folds(int64_t pairs, int64_t folds) {
  std::vector<int64_t> result;
  for (int64_t fold = 0; fold < folds; ++fold) {
    const int64_t size = pairs / folds + (fold < pairs % folds ? 1 : 0);
    result.insert(result.end(), static_cast<size_t>(size), fold);
  }
  return result;
}

std::vector<int64_t> numbered_folds(const std::vector<int64_t>& folds) {
  std::map<int64_t, int64_t> numbers;
  for (const int64_t fold : folds) numbers[fold] = 0;
  int64_t count = 0;
  for (auto& [fold, number] : numbers) number = count++;
  std::vector<int64_t> result;
  for (const int64_t fold : folds) result.push_back(numbers.at(fold));
  return result;
}

std::vector<double> ScoredPairs::own_scores() const {
  if (scores.size() == 1) return scores.front();
  std::vector<double> own;
  for (size_t i = 0; i < same.size(); ++i) own.push_back(scores[static_cast<size_t>(folds[i])][i]);
  return own;
}

const std::array<const char*, 6>& far_names() {
  static const std::array<const char*, 6> names = {"1e-6", "1e-5", "1e-4", "1e-3", "1e-2", "1e-1"};
  return names;
}

VerificationMetrics verification_metrics(const ScoredPairs& pairs) {
  return verification_metrics(pairs, Roc(pairs.own_scores(), pairs.same));
}

VerificationMetrics verification_metrics(const ScoredPairs& pairs, const Roc& roc) {
  VerificationMetrics metrics{kNaN, kNaN, kNaN, area_under_curve(roc), equal_error_rate(roc), {}, {}};
  fill_fold_figures(pairs, metrics);
  for (size_t i = 0; i < metrics.tar_at_far.size(); ++i)
    metrics.tar_at_far[i] = tar_at_far(roc, static_cast<int>(metrics.tar_at_far.size() - i));
  return metrics;
}

Json verification_json(const VerificationMetrics& metrics) {
  Json document = {{"accuracy", figure(metrics.accuracy)},
                   {"accuracy_std", figure(metrics.accuracy_std)},
                   {"threshold", figure(metrics.threshold)},
                   {"auc", figure(metrics.auc)},
                   {"eer", figure(metrics.eer)}};
  for (size_t i = 0; i < metrics.tar_at_far.size(); ++i)
    document["tar_at_far"][far_names()[i]] = figure(metrics.tar_at_far[i]);
  if (metrics.val_at_far) {
    document["val_at_far"] = {{"far", metrics.val_at_far->far},
                              {"val", figure(metrics.val_at_far->val)},
                              {"val_std", figure(metrics.val_at_far->val_std)},
                              {"measured_far", figure(metrics.val_at_far->measured_far)}};
  }
  return document;
}

}  // namespace zoo
