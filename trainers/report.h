#pragma once
#include <cstdint>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "core/options.h"
#include "trainers/progress.h"
#include "trainers/run_directory.h"
#include "trainers/running_means.h"
#include "trainers/training_step.h"

namespace zoo {

/// Where a run stands, as its reports tell it.
struct Position {
  int64_t step = 0, total_steps = 0;
  double epochs = 0;                                           ///< done, with the share of the one under way
  std::vector<std::pair<std::string, double>> learning_rates;  ///< of the last step, by group
};

/// Samples of the batches whose loss is not finite, of all batches where only the gradient is not.
std::vector<std::string> suspected_samples(const StepResult& result,
                                           const std::vector<std::unique_ptr<Batch>>& batches);

/// What a run tells of itself while it trains: lines of metrics.jsonl and for people, the bar,
/// nonfinite.json.
class TrainingReport {
 public:
  TrainingReport(const std::string& run, const TrainerState& state);

  /// Takes in a step that was done, and the seconds that it took with its data.
  void add_step(const StepResult& result, double seconds);
  /// The line of the steps since the last one; people see it where it is `shown` and there is no bar.
  void write_line(const Position& position, double run_seconds, bool shown);
  void show_progress(const Position& position);

  void write_validation(const Position& position, const Json& metrics, const std::string& best_metric,
                        bool best, double seconds);
  /// Adds a step whose loss or gradient is not finite to nonfinite.json, with the samples that may be to
  /// blame; returns a message with step and samples.
  std::string write_incident(const Position& position, const StepResult& result,
                             const std::vector<std::string>& ids);

  RunWriter& writer() { return writer_; }
  ProgressLine& progress() { return progress_; }
  /// Of the steps since the last line; part of a checkpoint.
  RunningMeans& means() { return means_; }

 private:
  std::string summary(const Position& position,
                      const std::vector<std::pair<std::string, double>>& scalars) const;

  RunWriter writer_;
  ProgressLine progress_{"training"};
  RunningMeans means_;
  Pace pace_;
  int64_t samples_ = 0;  ///< since the last line
  double seconds_ = 0;   ///< since the last line
  LossTerms last_;       ///< of the last batch
  double gradient_norm_ = 0;
  Json incidents_ = Json::array();
};

}  // namespace zoo
