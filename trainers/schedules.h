#pragma once
#include <cstdint>

#include "trainers/options.h"

namespace zoo {

/// What the step size of every group is multiplied with in optimiser step `step` (from 0) of a run of
/// `total_steps`. Equal to torch.optim.lr_scheduler stepped once an optimiser step:
///   constant   1
///   step       StepLR: gamma^⌊step / size⌋
///   multistep  MultiStepLR: gamma^(milestones ≤ step)
///   cosine     CosineAnnealingLR over the whole run, down to min_factor
///   polynomial PolynomialLR over the whole run: (1 − step / total)^power
///   onecycle   OneCycleLR (Smith and Topin 2018; cosine, two phases), as a factor of its peak
/// A warm-up (LinearLR) stands in front of any: it multiplies step and multistep, whose positions count from
/// the run's start (ChainedScheduler), while cosine, polynomial and onecycle begin after it and share the rest of the run
/// (SequentialLR). Positions up to 1 are fractions of the run, larger ones are steps. Steps after the end
/// keep the last value.
double schedule_factor(int64_t step, int64_t total_steps, const ScheduleOptions& options);

/// A position of the options in steps: `value` up to 1 is a fraction of the run.
int64_t schedule_position(double value, int64_t total_steps);

}  // namespace zoo
