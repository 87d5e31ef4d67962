#pragma once
#include <cstdint>
#include <string>
#include <vector>

#include "core/options.h"

namespace zoo {

/// Section `optimizer`.
struct OptimizerOptions {
  std::string name = "adamw";  ///< adamw | sgd
  double lr = 1e-4;            ///< base step size
  double backbone_lr = 1e-5;   ///< step size of parameters whose name contains "backbone"; 0 freezes them
  double weight_decay = 1e-4;  ///< decoupled for adamw, added to the gradient for sgd
  double beta1 = 0.9, beta2 = 0.999;
  double eps = 1e-8;
  double momentum = 0.9;  ///< sgd
  bool nesterov = false;  ///< sgd

  void validate() const;
};
NLOHMANN_DEFINE_TYPE_NON_INTRUSIVE(OptimizerOptions, name, lr, backbone_lr, weight_decay, beta1, beta2, eps,
                                   momentum, nesterov)

/// Section `schedule`: how the step size moves over the run. Positions are fractions of the run's steps where
/// they are at most 1, so that a recipe holds for any length; larger numbers are steps.
struct ScheduleOptions {
  std::string name = "step";  ///< constant | step | multistep | cosine | polynomial | onecycle
  double warmup = 0;          ///< linear from warmup_factor to 1: fraction of the run, or steps
  double warmup_factor = 0.01;
  double step = 0.8;  ///< step: one drop every `step` (fraction of the run, or steps)
  std::vector<double> milestones = {0.6, 0.85};  ///< multistep
  double gamma = 0.1;                            ///< factor of a drop
  double min_factor = 0.0;                       ///< cosine: factor at the end
  double power = 1;                              ///< polynomial: 1 is linear
  double peak = 0.3;                             ///< onecycle: share of the run that rises
  double initial_factor = 0.04;                  ///< onecycle: start, as a factor of the peak
  double final_factor = 4e-6;                    ///< onecycle: end, as a factor of the peak

  void validate() const;
};
NLOHMANN_DEFINE_TYPE_NON_INTRUSIVE(ScheduleOptions, name, warmup, warmup_factor, step, milestones, gamma,
                                   min_factor, power, peak, initial_factor, final_factor)

/// Section `trainer`.
struct TrainerOptions {
  int64_t epochs = 300;
  int64_t max_steps = 0;  ///< > 0: ends after so many optimiser steps, whatever `epochs` says
  int64_t seed = 0;
  int64_t threads = 0;               ///< of the operators; 0: all cores
  std::string device = "auto";       ///< auto | cpu | cuda | cuda:N
  std::string precision = "fp32";    ///< fp32 | bf16 (autocast; weights and losses stay fp32)
  int64_t accumulate = 1;            ///< batches per optimiser step
  double clip_norm = 0.1;            ///< global gradient norm; 0: none
  double ema_decay = 0;              ///< > 0: exponential average of the weights is validated and kept
  std::vector<std::string> freeze;   ///< wildcard patterns of parameters that are not trained
  int64_t checkpoint_every = 0;      ///< steps; 0: once an epoch
  int64_t keep_checkpoints = 1;      ///< last.ckpt and so many minus one before it (STEP.ckpt)
  int64_t validate_every = 1;        ///< epochs; 0: only at the end
  int64_t validate_every_steps = 0;  ///< > 0: instead of epochs
  std::string best_metric;           ///< empty: the task's own; `-NAME` where less is better
  int64_t early_stop = 0;            ///< > 0: ends after so many validations without a better one
  std::string nonfinite = "stop";    ///< stop | skip
  int64_t nonfinite_limit = 10;      ///< skip: steps that may be left out before the run stops after all
  bool partial_weights = false;      ///< weights that do not fit are a warning
  int64_t log_every = 50;            ///< steps between lines of metrics.jsonl

  void validate() const;
};
NLOHMANN_DEFINE_TYPE_NON_INTRUSIVE(TrainerOptions, epochs, max_steps, seed, threads, device, precision,
                                   accumulate, clip_norm, ema_decay, freeze, checkpoint_every,
                                   keep_checkpoints, validate_every, validate_every_steps, best_metric,
                                   early_stop, nonfinite, nonfinite_limit, partial_weights, log_every)

}  // namespace zoo
