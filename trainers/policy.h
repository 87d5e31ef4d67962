#pragma once
#include <cstdint>
#include <string>

#include "core/options.h"
#include "trainers/checkpoint.h"
#include "trainers/options.h"

namespace zoo {

// When a run does what: pure functions of where it stands and of its options. They are asked between two
// steps, so that a resumed run makes up for what was due when it was stopped.

/// Optimiser steps of an epoch; the last one may have fewer batches than `accumulate`.
int64_t steps_per_epoch(int64_t batches, int64_t accumulate);
/// Optimiser steps of the whole run: what the schedule is stretched over.
int64_t total_steps(const TrainerOptions& options, int64_t steps_per_epoch);

/// By max_steps, epochs or early_stop.
bool reached_end(const TrainerState& state, const TrainerOptions& options);
/// The end is reached and validated.
bool is_finished(const TrainerState& state, const TrainerOptions& options);
/// Whether the last step ended an epoch.
bool at_epoch_end(const TrainerState& state);
/// At the end in any case, and never twice at one step.
bool validation_due(const TrainerState& state, const TrainerOptions& options);
bool checkpoint_due(const TrainerState& state, const TrainerOptions& options);
/// A training line: every log_every steps, and before anything else is written about this step.
bool line_due(const TrainerState& state, const TrainerOptions& options);

/// The value of a metric given as `NAME`, or `-NAME` where less is better, so that larger is better: negated
/// for the latter. NaN where it does not exist (null). Throws Error naming the nearest where there is no
/// number of that name.
double metric_score(const Json& metrics, const std::string& best_metric);
/// Takes the score of a validation into `state`: best so far, or one more without. True where it is the best.
bool judge(TrainerState& state, double score);

}  // namespace zoo
