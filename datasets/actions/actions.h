#pragma once
#include <cstdint>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include <torch/types.h>

#include "core/options.h"
#include "datasets/batch.h"
#include "datasets/options.h"
#include "datasets/spec.h"

namespace zoo {

/// Steps a second where nothing says otherwise: of 24 frames, 6 are one (THUMOS, TVSeries, EPIC-Kitchens).
inline constexpr double kActionStepsPerSecond = 4;

/// Classes of a video's steps: each class is there or not, however often the source counts it. Sparse, since a set
/// may have thousands of classes.
class LabelTable {
 public:
  LabelTable() = default;
  explicit LabelTable(int64_t classes) : classes_(classes) {}

  /// Adds the next step: its classes sorted, each once. A step of ambiguous label may have classes, too.
  void add(const std::vector<int32_t>& classes, bool ambiguous);

  int64_t steps() const { return static_cast<int64_t>(ambiguous_.size()); }
  int64_t classes() const { return classes_; }
  bool ambiguous(int64_t step) const { return ambiguous_[static_cast<size_t>(step)] != 0; }
  std::vector<int32_t> classes_of(int64_t step) const;
  bool has(int64_t step, int64_t class_index) const;
  /// Sets the step's classes to 1 in a row of zeros.
  void mark(int64_t step, float* row) const;

  torch::Tensor tensor() const;            ///< [L,C] u8
  torch::Tensor ambiguous_tensor() const;  ///< [L] bool

 private:
  int64_t classes_ = 0;
  std::vector<int64_t> ends_;  ///< of the steps in ids_
  std::vector<int32_t> ids_;
  std::vector<uint8_t> ambiguous_;
};

/// Rows of a video: `count` of them from step `first`, each `every`-th.
struct FeatureRows {
  int64_t video = 0, first = 0, count = 0, every = 1;
};

/// Videos as streams of features, one row a step, with the classes of every step. Thread-safe.
class ActionDataset {
 public:
  virtual ~ActionDataset() = default;
  virtual int64_t size() const = 0;  ///< videos
  virtual std::string name(int64_t video) const = 0;
  virtual int64_t steps(int64_t video) const = 0;
  virtual int64_t feature_size() const = 0;
  virtual double steps_per_second() const = 0;
  /// Of the labels' columns; column 0 is background. Empty where the set has no labels.
  virtual const std::vector<std::string>& class_names() const = 0;
  /// The source's column of ambiguous steps, which the labels leave out; -1: it has none.
  virtual int64_t ambiguous_class() const = 0;
  /// [count, feature_size] into memory, without a torch operator. Throws Error naming file and step where a number
  /// is not finite.
  virtual void read(const FeatureRows& rows, float* to) const = 0;
  /// Read when first asked for. Throws Error naming file and step for what is no label, and for a set without labels.
  virtual const LabelTable& labels(int64_t video) const = 0;
  virtual std::string description() const = 0;

  bool labelled() const { return !class_names().empty(); }
  /// [count, feature_size] float.
  torch::Tensor features(int64_t video, int64_t first, int64_t count) const;
};

/// Opens what a SPEC names: `streams` (made by code) or `features:PATH`; docs/formats.md has the layouts. `default_split`
/// holds where the SPEC has no `split`; a set without splits is one whole. Throws Error for bad data (naming file
/// and step), UsageError for data of another task.
std::shared_ptr<ActionDataset> open_action_dataset(const DataSpec& spec, const std::string& default_split);
/// The videos `videos` of a set, in that order.
std::shared_ptr<ActionDataset> subset(std::shared_ptr<ActionDataset> dataset, std::vector<int64_t> videos);

/// Writes features [L,D] float as numpy.save does.
void write_features(const std::string& path, const torch::Tensor& rows);

/// The training set of a run: `options.train`, split train unless it names one, without the videos that
/// data.val_fraction holds out; data.max_images keeps the first videos.
std::shared_ptr<ActionDataset> open_action_training(const DataOptions& options, uint64_t seed);
/// What the run validates on: `options.val`, else the videos that data.val_fraction holds out, else split val of
/// `options.train`. Throws UsageError where val and val_fraction are both given.
std::shared_ptr<ActionDataset> open_action_validation(const DataOptions& options, uint64_t seed);

/// Section `data.window` of recipes of online action detection: which steps a model sees at once. Steps of a window
/// are ws … e, e the current one.
struct ActionWindowOptions {
  int64_t steps = 64;         ///< T, the current one included
  int64_t horizons = 8;       ///< K future steps that are predicted; 0: none
  int64_t first_horizon = 1;  ///< steps from the current one to the first predicted (TRN: 0)
  int64_t stride = 1;  ///< training: steps between the ends of two windows, with a random offset each epoch
  int64_t memory = 0;  ///< N older steps; 0: none
  int64_t memory_rate = 4;  ///< steps between two of them
  /// What stands before a video's first step: "repeat" (its first features), "zero", or "skip": windows begin inside, so
  /// that the first T-1 steps are never current and shorter videos are left out (OadTR, LSTR).
  std::string start = "repeat";
  int64_t tail = 0;             ///< last steps of a video that are never current (OadTR: K+1)
  bool skip_ambiguous = false;  ///< training: no window whose current step is ambiguous (OadTR)

  void validate() const;
  /// Steps behind the current one that targets reach: F.
  int64_t reach() const { return horizons == 0 ? 0 : first_horizon + horizons - 1; }
};
NLOHMANN_DEFINE_TYPE_NON_INTRUSIVE(ActionWindowOptions, steps, horizons, first_horizon, stride, memory,
                                   memory_rate, start, tail, skip_ambiguous)

/// Windows of B videos. What lies outside a video or is ambiguous is not `known` and has no target.
struct ActionBatch : Batch {
  torch::Tensor features;     ///< [B,T,D] float, oldest step first
  torch::Tensor memory;       ///< [B,N,D] float, oldest first, zeros where masked; undefined without memory
  torch::Tensor memory_mask;  ///< [B,N] bool, true on real steps
  torch::Tensor targets;      ///< [B,T+F,C] float, 0 or 1: the window's steps and the F behind it
  torch::Tensor known;        ///< [B,T+F] bool; without labels all false
  std::vector<int64_t> videos, last_steps;  ///< which current step each row is
};

/// The steps of a long memory, oldest first: those with an index that `rate` divides and below `window_start` (which
/// is 0 while the window grows at a video's beginning), the newest `count` of them; where there is none, step 0.
std::vector<int64_t> memory_steps(int64_t window_start, int64_t count, int64_t rate);

/// Windows for training (shuffled, every stride-th end with an offset by (seed, epoch, video)) or evaluation (every
/// step current once, in order). Loader and order: datasets/loader.h. Throws Error where no video is long enough,
/// and for training without labels.
std::unique_ptr<BatchSource> action_batches(std::shared_ptr<ActionDataset> dataset,
                                            const DataOptions& options, const ActionWindowOptions& window,
                                            bool training, uint64_t seed, const BatchPart& part = {});

}  // namespace zoo
