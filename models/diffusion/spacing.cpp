#include "models/diffusion/spacing.h"

#include <algorithm>
#include <cmath>

#include "core/error.h"
#include "core/text.h"

namespace zoo {

namespace {

constexpr double kLeastSignal = 1.0 / (1 << 24);

/// Half to even, as numpy rounds.
double rounded(double value) {
  return std::nearbyint(value);
}

[[noreturn]] void fail_steps(int64_t steps, int64_t most, const std::string& spacing) {
  throw UsageError(format("--steps: %lld, expected at most %lld with %s spacing",
                          static_cast<long long>(steps), static_cast<long long>(most), spacing.c_str()));
}

std::vector<double> leading_times(const SchedulerOptions& options, TimeGrid grid, int64_t steps) {
  const int64_t all = options.num_train_timesteps, parts = grid == TimeGrid::solver ? steps + 1 : steps;
  if (parts > all) fail_steps(steps, all - (parts - steps), "leading");
  const int64_t first = parts - steps;  // the solvers leave time 0 to the end
  std::vector<double> times;
  for (int64_t i = parts - 1; i >= first; --i)
    times.push_back(static_cast<double>(std::min(i * (all / parts) + options.steps_offset, all - 1)));
  return times;
}

std::vector<double> linspace_times(const SchedulerOptions& options, TimeGrid grid, int64_t steps) {
  const int64_t points = grid == TimeGrid::solver ? steps + 1 : steps;
  const auto last = static_cast<double>(options.num_train_timesteps - 1);
  std::vector<double> times;
  for (int64_t i = points - 1; i >= points - steps; --i) {
    const double time = points == 1 ? 0 : last * static_cast<double>(i) / static_cast<double>(points - 1);
    times.push_back(grid == TimeGrid::fractional ? time : rounded(time));
  }
  return times;
}

std::vector<double> trailing_times(const SchedulerOptions& options, int64_t steps) {
  const auto all = static_cast<double>(options.num_train_timesteps);
  std::vector<double> times;
  for (int64_t k = 0; k < steps; ++k)
    times.push_back(rounded(all - static_cast<double>(k) * all / static_cast<double>(steps)) - 1);
  return times;
}

}  // namespace

std::vector<double> spaced_times(const SchedulerOptions& options, TimeGrid grid, int64_t steps) {
  std::string spacing = options.timestep_spacing;
  if (spacing == "auto") spacing = grid == TimeGrid::whole ? "leading" : "linspace";
  if (steps > options.num_train_timesteps) fail_steps(steps, options.num_train_timesteps, spacing);
  if (spacing == "leading") return leading_times(options, grid, steps);
  return spacing == "linspace" ? linspace_times(options, grid, steps) : trailing_times(options, steps);
}

double value_at(const std::vector<double>& table, double time) {
  const double place = std::min(std::max(time, 0.0), static_cast<double>(table.size() - 1));
  const auto low = static_cast<size_t>(place);
  const size_t high = std::min(low + 1, table.size() - 1);
  return table[low] + (table[high] - table[low]) * (place - static_cast<double>(low));
}

std::vector<double> karras_sigmas(double first, double last, int64_t steps) {
  constexpr double kRho = 7;
  const double high = std::pow(first, 1 / kRho), low = std::pow(last, 1 / kRho);
  std::vector<double> sigmas;
  for (int64_t i = 0; i < steps; ++i) {
    const double share = steps == 1 ? 0 : static_cast<double>(i) / static_cast<double>(steps - 1);
    sigmas.push_back(std::pow(high + share * (low - high), kRho));
  }
  return sigmas;
}

double time_of_sigma(const std::vector<double>& table, double sigma) {
  const auto above = std::upper_bound(table.begin(), table.end(), sigma);
  const auto place = std::max<std::ptrdiff_t>(above - table.begin() - 1, 0);
  const auto low = std::min(static_cast<size_t>(place), table.size() - 2);
  const double share = std::log(sigma / table[low]) / std::log(table[low + 1] / table[low]);
  return static_cast<double>(low) + std::min(std::max(share, 0.0), 1.0);
}

std::vector<double> sigma_table(const std::vector<double>& alphas_cumprod) {
  std::vector<double> sigmas;
  for (const double value : alphas_cumprod) {
    const double signal = value > 0 ? value : kLeastSignal;
    sigmas.push_back(std::sqrt((1 - signal) / signal));
  }
  return sigmas;
}

}  // namespace zoo
