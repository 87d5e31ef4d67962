#pragma once
#include <cstdint>
#include <vector>

#include "models/diffusion/noise_schedule.h"

namespace zoo {

/// How a family of samplers counts times.
enum class TimeGrid {
  whole,       ///< ddpm, ddim, plms: whole times
  fractional,  ///< euler, euler_a, heun, lms: linspace is not rounded
  solver,      ///< dpmpp_2m, unipc: whole times that leave the end out
};

/// `steps` of the times 0…N-1, falling (Lin et al. 2023, 2305.08891, table 2, as diffusers has it), by
/// options.timestep_spacing. Throws UsageError where there are fewer times than steps.
std::vector<double> spaced_times(const SchedulerOptions& options, TimeGrid grid, int64_t steps);

/// The table's value at a time between whole ones; times outside count as its ends.
double value_at(const std::vector<double>& table, double time);

/// σ̂ from `first` down to `last` (Karras et al. 2022, equation 5, ρ = 7).
std::vector<double> karras_sigmas(double first, double last, int64_t steps);
/// The time at which a rising table of levels has σ̂, by interpolation of the logarithms.
double time_of_sigma(const std::vector<double>& table, double sigma);

/// σ̂ = √((1-ᾱ)/ᾱ) by time. Where nothing of the signal is left, ᾱ is taken as 2^-24, so that σ̂ stays finite.
std::vector<double> sigma_table(const std::vector<double>& alphas_cumprod);

}  // namespace zoo
