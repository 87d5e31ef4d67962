#pragma once
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "core/options.h"
#include "trainers/device.h"
#include "trainers/process_group.h"
#include "trainers/task.h"

namespace zoo {

/// What a finished or stopped run leaves.
struct TrainResult {
  Json metrics;  ///< of the last validation
  int64_t steps = 0;
  bool already_finished = false;  ///< --resume of a run that had reached its end: nothing was done
};

/// The one loop. `config` is the whole resolved document (sections model data loss optimizer schedule trainer
/// eval verify), already written to `run`/config.json by create_run; the device's threads are set.
///
/// A run ends after `trainer.max_steps` optimiser steps or `trainer.epochs` epochs, or by
/// `trainer.early_stop`, and is validated there in any case. It leaves metrics.jsonl, events.out.tfevents.*,
/// curves.png, predictions/, log.txt, best.safetensors and last.safetensors (averaged weights where
/// `trainer.ema_decay` is set) and last.ckpt. With `resume` it goes on from the newest whole checkpoint (from
/// step 0 where there is none yet); on the CPU, with as many threads, its numbers are then those of a run
/// that was never stopped, to the last bit.
///
/// With a group, which the task has joined, every process calls it with the same configuration and run. Each
/// takes its part of every batch; rank 0 alone writes and validates, and the others wait for it. A signal to
/// one of them stops all after the same step.
///
/// Throws Interrupted after SIGINT or SIGTERM (a checkpoint is written), Error on a non-finite loss or
/// gradient (step and samples are in the message and in nonfinite.json), where the disk fails (the
/// checkpoint before is intact), and where processes differ in configuration or data or one of them has ended.
TrainResult train(Task& task, const Json& config, const std::string& run, bool resume,
                  const std::shared_ptr<ProcessGroup>& group = nullptr);

/// Whether the run's newest checkpoint stands at the end that `config` gives it, validated.
bool is_finished(const std::string& run, const Json& config);
/// What such a run ended with.
TrainResult finished_result(const std::string& run);
/// For people: what a changed `trainer.epochs` or `trainer.max_steps` does to end and schedule of a run that
/// goes on with `config` instead of `stored`; empty where nothing moves.
std::vector<std::string> explain_moved_end(const std::string& run, const Json& stored, const Json& config);

/// What --dry-run finds out: nothing is written, but the task's weights move by the steps that are timed.
struct DryRun {
  std::string device, precision;
  int64_t parameters = 0, trainable_parameters = 0;
  int64_t samples = 0, batches_per_epoch = 0, total_steps = 0;
  std::vector<std::pair<std::string, std::string>> batch;  ///< names and shapes of one batch
  double seconds_per_step = 0, projected_seconds = 0;      ///< of training; validations come on top
  int64_t memory_bytes = 0;                                ///< peak of the process
  int64_t checkpoint_bytes = 0;

  Json to_json() const;
  std::string str() const;
};
DryRun dry_run(Task& task, const Json& config);

}  // namespace zoo
