#pragma once
#include <cstdint>
#include <optional>
#include <string>

#include "core/options.h"
#include "models/weights/state_dict.h"

namespace zoo {

/// Where a run stands: everything but tensors. Stored as `zoo.trainer` in a checkpoint's metadata.
struct TrainerState {
  int64_t step = 0;   ///< optimiser steps done
  int64_t epoch = 0;  ///< epochs done
  int64_t batch = 0;  ///< batches done of the epoch under way
  int64_t batches_per_epoch = 0;
  int64_t steps_per_epoch = 0;
  int64_t skipped_steps = 0;    ///< left out because a loss or gradient was not finite
  int64_t logged_step = 0;      ///< of the last training line of metrics.jsonl
  int64_t validated_step = -1;  ///< of the last validation
  Json metrics = nullptr;       ///< of the last validation
  std::string best_metric;      ///< by which `best` was chosen, with the sign of its direction
  Json best = nullptr;          ///< its best value so far
  int64_t best_step = -1;
  int64_t validations_without_better = 0;
  int64_t average_updates = 0;
  int64_t threads = 0;          ///< of the operators: sums depend on them in the last bit
  double seconds = 0;           ///< spent in the run so far
  Json window = Json::array();  ///< RunningMeans since the last training line
};
NLOHMANN_DEFINE_TYPE_NON_INTRUSIVE(TrainerState, step, epoch, batch, batches_per_epoch, steps_per_epoch,
                                   skipped_steps, logged_step, validated_step, metrics, best_metric, best,
                                   best_step, validations_without_better, average_updates, threads, seconds,
                                   window)

/// A checkpoint as read: weights under their own names, the trainer's tensors under `trainer.`.
struct Checkpoint {
  TrainerState state;
  StateDict tensors;
  std::string path;
};

/// Writes RUN/last.ckpt (beside and renamed). A checkpoint of an earlier step that stood there is kept as
/// STEP.ckpt, `keep` files in all. Throws Error where the disk fails; the checkpoint before is intact then.
void save_checkpoint(const std::string& run, const TrainerState& state, StateDict tensors, int64_t keep);

/// The newest whole checkpoint of a run: last.ckpt, or, with a warning, one that was kept before it. Nothing
/// where the run has none yet. Throws Error where there are only damaged ones.
std::optional<Checkpoint> load_checkpoint(const std::string& run);
/// The state of it alone, without the warning.
std::optional<TrainerState> load_trainer_state(const std::string& run);

}  // namespace zoo
