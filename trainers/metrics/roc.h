#pragma once
#include <cstdint>
#include <utility>
#include <vector>

namespace zoo {

/// Scores of genuine and impostor pairs, each sorted from the highest to the lowest; a larger score means
/// more alike. Figures that do not exist (no pair of one kind) are NaN.
struct Roc {
  std::vector<double> genuine, impostor;

  Roc() = default;
  /// `same[i]` tells of which kind pair i is. Sorts both lists, on all cores.
  Roc(const std::vector<double>& scores, const std::vector<uint8_t>& same);
};

/// A point of the curve: false and true accepts at a threshold that accepts all scores of some value or above.
struct RocPoint {
  int64_t false_accepts = 0, true_accepts = 0;
};

/// Walks the points from the strictest threshold (nothing accepted) to the loosest; equal scores are one step.
class RocWalk {
 public:
  explicit RocWalk(const Roc& roc) : roc_(roc) {}
  const RocPoint& point() const { return point_; }
  /// Goes on to the next point; false where all pairs are accepted.
  bool next();

 private:
  const Roc& roc_;
  RocPoint point_;
};

/// Area under the curve: the share of (genuine, impostor) pairs in the right order, equal scores half.
double area_under_curve(const Roc& roc);

/// Where the curve, its points joined by straight lines, meets false reject rate = false accept rate.
double equal_error_rate(const Roc& roc);

/// Share of genuine scores strictly greater than the (⌊far·N⌋+1)-th highest of N impostor scores, far =
/// 10^-`power`. For far < 1/N that is the share above every impostor.
double tar_at_far(const Roc& roc, int power);

/// The true accept rate at the point whose false accept rate is nearest to 10^-`power`, the larger one where
/// two are: the rule of the IJB templates (face.md section 6), over all points (none left out as collinear).
double tar_at_nearest_far(const Roc& roc, int power);

/// Points (false accept rate, true accept rate) to draw: at most `most` beside the two ends, denser where few
/// impostors are accepted, as a logarithmic axis shows them.
std::vector<std::pair<double, double>> roc_points(const Roc& roc, int64_t most = 2000);

}  // namespace zoo
