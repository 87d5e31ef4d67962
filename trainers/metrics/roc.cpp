#include "trainers/metrics/roc.h"

#include <algorithm>
#include <cmath>
#include <functional>
#include <limits>

#include "core/numbers.h"
#include "datasets/parallel.h"

namespace zoo {

namespace {

double share(int64_t part, size_t whole) {
  return whole == 0 ? kNaN : static_cast<double>(part) / static_cast<double>(whole);
}

/// From the highest to the lowest. Eight runs are sorted at the same time and merged in pairs.
void sort_descending(std::vector<double>& scores) {
  constexpr size_t kRuns = 8, kSmall = 1 << 16;
  const auto at = [&](size_t run) {
    return scores.begin() + static_cast<int64_t>(scores.size() * run / kRuns);
  };
  if (scores.size() < kSmall) return std::sort(scores.begin(), scores.end(), std::greater<>());
  on_all_cores(kRuns, [&](int64_t run) {
    std::sort(at(static_cast<size_t>(run)), at(static_cast<size_t>(run) + 1), std::greater<>());
  });
  for (size_t width = 1; width < kRuns; width *= 2) {
    on_all_cores(static_cast<int64_t>(kRuns / (2 * width)), [&](int64_t pair) {
      const size_t first = 2 * width * static_cast<size_t>(pair);
      std::inplace_merge(at(first), at(first + width), at(first + 2 * width), std::greater<>());
    });
  }
}

/// ⌊10^-power · count⌋ without rounding.
int64_t accepted_impostors(int power, size_t count) {
  int64_t divisor = 1;
  for (int i = 0; i < power; ++i) divisor *= 10;
  return static_cast<int64_t>(count) / divisor;
}

/// How many of the sorted scores are strictly greater than `limit`.
int64_t count_above(const std::vector<double>& descending, double limit) {
  return std::lower_bound(descending.begin(), descending.end(), limit, std::greater<>()) - descending.begin();
}

}  // namespace

Roc::Roc(const std::vector<double>& scores, const std::vector<uint8_t>& same) {
  for (size_t i = 0; i < scores.size(); ++i) (same[i] != 0 ? genuine : impostor).push_back(scores[i]);
  sort_descending(genuine);
  sort_descending(impostor);
}

bool RocWalk::next() {
  auto g = static_cast<size_t>(point_.true_accepts), i = static_cast<size_t>(point_.false_accepts);
  if (g == roc_.genuine.size() && i == roc_.impostor.size()) return false;
  const double lowest = -std::numeric_limits<double>::infinity();
  const double score = std::max(g < roc_.genuine.size() ? roc_.genuine[g] : lowest,
                                i < roc_.impostor.size() ? roc_.impostor[i] : lowest);
  while (g < roc_.genuine.size() && roc_.genuine[g] == score) ++g;
  while (i < roc_.impostor.size() && roc_.impostor[i] == score) ++i;
  point_ = {static_cast<int64_t>(i), static_cast<int64_t>(g)};
  return true;
}

double area_under_curve(const Roc& roc) {
  if (roc.genuine.empty() || roc.impostor.empty()) return kNaN;
  double twice_area = 0;  // in units of one genuine times one impostor: whole numbers, exact below 2^53
  RocWalk walk(roc);
  for (RocPoint last = walk.point(); walk.next(); last = walk.point()) {
    const RocPoint& point = walk.point();
    twice_area += static_cast<double>(point.false_accepts - last.false_accepts) *
                  static_cast<double>(point.true_accepts + last.true_accepts);
  }
  return twice_area / 2 / static_cast<double>(roc.genuine.size()) / static_cast<double>(roc.impostor.size());
}

double equal_error_rate(const Roc& roc) {
  if (roc.genuine.empty() || roc.impostor.empty()) return kNaN;
  double last_far = 0, last_excess = -1;  // excess: false accept rate less false reject rate
  RocWalk walk(roc);
  while (walk.next()) {
    const double far = share(walk.point().false_accepts, roc.impostor.size());
    const double excess = far + share(walk.point().true_accepts, roc.genuine.size()) - 1;
    if (excess >= 0) return last_far + (far - last_far) * (-last_excess / (excess - last_excess));
    last_far = far;
    last_excess = excess;
  }
  return last_far;
}

double tar_at_far(const Roc& roc, int power) {
  if (roc.genuine.empty() || roc.impostor.empty()) return kNaN;
  const auto accepted = static_cast<size_t>(accepted_impostors(power, roc.impostor.size()));
  return share(count_above(roc.genuine, roc.impostor[accepted]), roc.genuine.size());
}

double tar_at_nearest_far(const Roc& roc, int power) {
  if (roc.genuine.empty() || roc.impostor.empty()) return kNaN;
  const double far = std::pow(10.0, -power);
  double nearest = std::numeric_limits<double>::infinity();
  int64_t accepts = 0;
  RocWalk walk(roc);
  do {
    const double distance = std::abs(share(walk.point().false_accepts, roc.impostor.size()) - far);
    if (distance > nearest) break;  // the rate only grows
    nearest = distance;
    accepts = walk.point().true_accepts;
  } while (walk.next());
  return share(accepts, roc.genuine.size());
}

std::vector<std::pair<double, double>> roc_points(const Roc& roc, int64_t most) {
  std::vector<std::pair<double, double>> points;
  if (roc.genuine.empty() || roc.impostor.empty()) return points;
  points.emplace_back(0, 0);
  // Every point up to 1 + 1/n of the impostors of the one before it is left out.
  const double growth = std::log(static_cast<double>(roc.impostor.size()) + 1) /
                        static_cast<double>(std::max<int64_t>(1, most));
  double next = 0;
  RocWalk walk(roc);
  for (RocPoint last; walk.next(); last = walk.point()) {
    const RocPoint& point = walk.point();
    if (point.false_accepts == last.false_accepts &&
        point.true_accepts < static_cast<int64_t>(roc.genuine.size()))
      continue;  // on the way up: its end is drawn when the next impostor comes
    const double place = std::log(static_cast<double>(point.false_accepts) + 1);
    if (place < next) continue;
    next = place + growth;
    points.emplace_back(share(last.false_accepts, roc.impostor.size()),
                        share(last.true_accepts, roc.genuine.size()));
    points.emplace_back(share(point.false_accepts, roc.impostor.size()),
                        share(point.true_accepts, roc.genuine.size()));
  }
  points.emplace_back(1, 1);
  return points;
}

}  // namespace zoo
