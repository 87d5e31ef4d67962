#include "trainers/schedules.h"

#include <algorithm>
#include <cmath>

#include "core/numbers.h"

namespace zoo {

namespace {

/// From `start` (share 0) to `end` (share 1) along half a cosine.
double anneal(double start, double end, double share) {
  return end + (start - end) / 2 * (1 + std::cos(kPi * share));
}

double cosine(int64_t step, int64_t total, const ScheduleOptions& options) {
  return anneal(1, options.min_factor,
                static_cast<double>(step) / static_cast<double>(std::max<int64_t>(1, total)));
}

double polynomial(int64_t step, int64_t total, const ScheduleOptions& options) {
  return std::pow(1 - static_cast<double>(step) / static_cast<double>(total), options.power);
}

double onecycle(int64_t step, int64_t total, const ScheduleOptions& options) {
  const double at = static_cast<double>(step), end = static_cast<double>(total - 1);
  const double top =
      options.peak * static_cast<double>(total) - 1;  // the step with the peak, as torch counts
  if (at <= top) return anneal(options.initial_factor, 1, top > 0 ? at / top : 1);
  return anneal(1, options.final_factor, end > top ? (at - top) / (end - top) : 1);
}

double drops(int64_t step, int64_t total, const ScheduleOptions& options) {
  if (options.name == "step") {
    const int64_t size = std::max<int64_t>(1, schedule_position(options.step, total));
    return std::pow(options.gamma, static_cast<double>(step / size));
  }
  const auto passed =
      std::count_if(options.milestones.begin(), options.milestones.end(),
                    [&](double milestone) { return schedule_position(milestone, total) <= step; });
  return std::pow(options.gamma, static_cast<double>(passed));
}

}  // namespace

int64_t schedule_position(double value, int64_t total_steps) {
  return std::llround(value <= 1 ? value * static_cast<double>(total_steps) : value);
}

double schedule_factor(int64_t step, int64_t total_steps, const ScheduleOptions& options) {
  const int64_t total = std::max<int64_t>(1, total_steps);
  const int64_t warmup = schedule_position(options.warmup, total);
  double factor = 1;
  if (step < warmup) {
    factor = options.warmup_factor +
             (1 - options.warmup_factor) * static_cast<double>(step) / static_cast<double>(warmup);
  }
  if (options.name == "step" || options.name == "multistep") {
    return factor * drops(std::min(step, total - 1), total, options);
  }
  if (options.name == "constant" || step < warmup) return factor;
  const int64_t rest = std::max<int64_t>(1, total - warmup);
  const int64_t at = std::min(step - warmup, rest - 1);
  if (options.name == "cosine") return cosine(at, rest, options);
  return options.name == "polynomial" ? polynomial(at, rest, options) : onecycle(at, rest, options);
}

}  // namespace zoo
