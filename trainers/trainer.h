#pragma once
#include <string>

#include "core/options.h"
#include "trainers/task.h"

namespace zoo {

/// What a finished or stopped run leaves.
struct TrainResult {
  Json metrics;             ///< of the last validation
  int64_t steps = 0;
  bool already_finished = false;  ///< --resume of a run that had reached its end: nothing was done
};

/// The one loop. `config` is the whole resolved document (sections model data loss optimizer schedule trainer eval
/// verify, and `recipe`), already written to `run_directory`/config.json by open_run.
/// Throws Interrupted after SIGINT or SIGTERM (a checkpoint is written), Error on a non-finite loss (step, batch ids).
/// With `resume` the run goes on from `last.ckpt` (from step 0 where there is none yet), bit-equal on the CPU.
TrainResult train(Task& task, const Json& config, const std::string& run_directory, bool resume);

}  // namespace zoo
