#pragma once
#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "core/options.h"
#include "trainers/checkpoint.h"
#include "trainers/task.h"
#include "trainers/tensorboard.h"

namespace zoo {

/// Throws Error that names --resume where `run` holds a run already, or is a file.
void require_no_run(const std::string& run);
/// Makes the folder and writes config.json, its first file. Throws Error as above, or where it cannot be
/// written.
void create_run(const std::string& run, const Json& config);
/// The run's config.json. Throws Error where `run` is no run directory.
Json read_run_config(const std::string& run);
/// Replaces config.json, for what --resume changed.
void update_run_config(const std::string& run, const Json& config);
/// Whether a checkpoint (whole or not) is there: --resume goes on from one, or else from step 0.
bool has_checkpoint(const std::string& run);

/// A file descriptor that is closed with its owner.
class Descriptor {
 public:
  explicit Descriptor(int value) : value_(value) {}
  ~Descriptor();
  Descriptor(const Descriptor&) = delete;
  Descriptor& operator=(const Descriptor&) = delete;
  int get() const { return value_; }

 private:
  int value_;
};

/// What a process writes into its run while it trains. Lives from the first step to the last: holds a lock,
/// so that no second process writes into the same run, and copies every log line into log.txt.
class RunWriter {
 public:
  /// Takes the run over: removes what a killed process left half-written, and cuts metrics.jsonl to the lines
  /// that belong to `state` (a resumed run writes the later ones again). Throws Error where another process
  /// has the run.
  RunWriter(const std::string& run, const TrainerState& state);
  ~RunWriter();
  RunWriter(const RunWriter&) = delete;
  RunWriter& operator=(const RunWriter&) = delete;

  /// Appends a line to metrics.jsonl, and its figures to the event file. Throws Error where the disk fails.
  void add_metrics(const Json& line);
  /// Writes predictions/NAME.png, and the pictures into the event file.
  void add_predictions(const std::vector<Preview>& previews, int64_t step);
  /// Writes NAME.png, and the pictures into the event file.
  void add_figures(const std::vector<Preview>& figures, int64_t step);
  /// Draws curves.png from metrics.jsonl and flushes the event file.
  void draw(const std::string& best_metric);

  std::string path(const std::string& name) const;

 private:
  std::string run_;
  Descriptor log_, metrics_;
  std::unique_ptr<EventWriter> events_;
};

}  // namespace zoo
