#include <algorithm>
#include <atomic>

#include "core/error.h"
#include "core/log.h"
#include "core/text.h"
#include "datasets/actions/actions.h"
#include "datasets/loader.h"
#include "datasets/tensor_pool.h"

namespace zoo {
namespace {

using Dataset = std::shared_ptr<ActionDataset>;

/// Steps of a video that may be current, in order.
std::vector<int32_t> current_steps(const ActionDataset& dataset, int64_t video,
                                   const ActionWindowOptions& window, bool skip_ambiguous) {
  std::vector<int32_t> steps;
  const LabelTable* labels = skip_ambiguous ? &dataset.labels(video) : nullptr;
  const int64_t end = dataset.steps(video) - window.tail;
  for (int64_t step = window.start == "skip" ? window.steps - 1 : 0; step < end; ++step) {
    if (labels == nullptr || !labels->ambiguous(step)) steps.push_back(static_cast<int32_t>(step));
  }
  return steps;
}

/// Every window of an epoch, by record number.
class WindowPlan {
 public:
  WindowPlan(const ActionDataset& dataset, const ActionWindowOptions& window, bool training, uint64_t seed)
      : stride_(training ? window.stride : 1), seed_(seed) {
    int64_t without = 0;
    for (int64_t video = 0; video < dataset.size(); ++video) {
      current_.push_back(current_steps(dataset, video, window, training && window.skip_ambiguous));
      const auto steps = static_cast<int64_t>(current_.back().size());
      const int64_t windows = steps == 0 ? 0 : std::max<int64_t>(1, steps / stride_);
      for (int64_t i = 0; i < windows; ++i) videos_.push_back(static_cast<int32_t>(video));
      firsts_.push_back(static_cast<int64_t>(videos_.size()) - windows);
      without += steps == 0 ? 1 : 0;
    }
    if (videos_.empty()) {
      throw Error(dataset.description() +
                  format(": no video has a window of %lld steps", static_cast<long long>(window.steps)));
    }
    if (without > 0) {
      log_warning(dataset.description() + format(": %lld videos are too short for a window and left out",
                                                 static_cast<long long>(without)));
    }
  }

  int64_t size() const { return static_cast<int64_t>(videos_.size()); }
  int64_t video(int64_t record) const { return videos_[static_cast<size_t>(record)]; }
  /// The window's current step. A video's windows share the offset of the epoch, drawn from all offsets with which they
  /// end inside.
  int64_t current(int64_t record, int64_t epoch) const {
    const auto v = static_cast<size_t>(video(record));
    const auto steps = static_cast<int64_t>(current_[v].size());
    const int64_t windows = std::max<int64_t>(1, steps / stride_);
    const int64_t room = steps - 1 - (windows - 1) * stride_;
    RandomStream rng{seed_, 0x77696E, static_cast<uint64_t>(epoch), v};  // "win"
    return current_[v][static_cast<size_t>(rng.integer(0, room) + (record - firsts_[v]) * stride_)];
  }

 private:
  int64_t stride_;
  uint64_t seed_;
  std::vector<std::vector<int32_t>> current_;  ///< by video
  std::vector<int64_t> firsts_;                ///< a video's first record
  std::vector<int32_t> videos_;                ///< by record
};

template <class T>
torch::Tensor zeros(TensorPool& pool, at::IntArrayRef sizes, torch::Dtype dtype) {
  torch::Tensor tensor = pool.empty(sizes, dtype);
  std::fill_n(tensor.data_ptr<T>(), tensor.numel(), T());
  return tensor;
}

/// Fills the rows of a batch; the numbers of its shapes.
class WindowFiller {
 public:
  WindowFiller(const ActionDataset& dataset, const ActionWindowOptions& window)
      : dataset_(dataset),
        window_(window),
        width_(dataset.feature_size()),
        classes_(static_cast<int64_t>(dataset.class_names().size())),
        span_(window.steps + window.reach()) {}

  std::unique_ptr<ActionBatch> empty_batch(int64_t rows, TensorPool& pool) const {
    auto batch = std::make_unique<ActionBatch>();
    batch->features = pool.empty({rows, window_.steps, width_}, torch::kFloat);
    batch->targets = zeros<float>(pool, {rows, span_, classes_}, torch::kFloat);
    batch->known = zeros<bool>(pool, {rows, span_}, torch::kBool);
    if (window_.memory > 0) {
      batch->memory = pool.empty({rows, window_.memory, width_}, torch::kFloat);
      batch->memory_mask = zeros<bool>(pool, {rows, window_.memory}, torch::kBool);
    }
    return batch;
  }

  /// What throws comes before the targets and the mask, so that the row can be filled again.
  void fill(ActionBatch& batch, int64_t row, int64_t video, int64_t current) const {
    const int64_t start = current - window_.steps + 1;
    fill_features(batch.features.data_ptr<float>() + row * window_.steps * width_, video, start);
    if (window_.memory > 0) {
      fill_memory(batch.memory.data_ptr<float>() + row * window_.memory * width_,
                  batch.memory_mask.data_ptr<bool>() + row * window_.memory, video,
                  std::max<int64_t>(start, 0));
    }
    if (classes_ > 0) {
      fill_targets(batch.targets.data_ptr<float>() + row * span_ * classes_,
                   batch.known.data_ptr<bool>() + row * span_, video, start);
    }
  }

 private:
  void fill_features(float* to, int64_t video, int64_t start) const {
    const int64_t before = std::max<int64_t>(0, -start);
    float* inside = to + before * width_;
    dataset_.read({video, std::max<int64_t>(0, start), window_.steps - before, 1}, inside);
    if (window_.start == "zero") {
      std::fill(to, inside, 0.0F);
    } else {
      for (float* row = to; row != inside; row += width_) std::copy_n(inside, width_, row);
    }
  }

  void fill_targets(float* targets, bool* known, int64_t video, int64_t start) const {
    const LabelTable& labels = dataset_.labels(video);
    for (int64_t i = std::max<int64_t>(0, -start); i < span_ && start + i < labels.steps(); ++i) {
      if (labels.ambiguous(start + i)) continue;
      known[i] = true;
      labels.mark(start + i, targets + i * classes_);
    }
  }

  void fill_memory(float* to, bool* mask, int64_t video, int64_t start) const {
    const std::vector<int64_t> steps = memory_steps(start, window_.memory, window_.memory_rate);
    const int64_t masked = window_.memory - static_cast<int64_t>(steps.size());
    std::fill_n(to, masked * width_, 0.0F);
    dataset_.read({video, steps[0], static_cast<int64_t>(steps.size()), window_.memory_rate},
                  to + masked * width_);
    std::fill(mask + masked, mask + window_.memory, true);
  }

  const ActionDataset& dataset_;
  const ActionWindowOptions window_;
  const int64_t width_, classes_, span_;
};

/// Knows the epoch, which a record's own stream cannot tell. (Batches that a worker makes of an earlier epoch are thrown
/// away by the loader.)
class ActionSource : public BatchSource {
 public:
  ActionSource(Dataset dataset, const DataOptions& options, const ActionWindowOptions& window, bool training,
               uint64_t seed, const BatchPart& part)
      : dataset_(std::move(dataset)), plan_(*dataset_, window, training, seed), filler_(*dataset_, window) {
    LoaderOptions loader = loader_options(options, training, seed);
    loader.part = part;
    loader.name = [this](int64_t record) {
      return dataset_->description() + ": " + dataset_->name(plan_.video(record));
    };
    rows_ = std::min(loader.batch_size, plan_.size()) / part.count;
    loader_ = make_loader(plan_.size(), loader, [this](BatchRecords& records) { return make(records); });
  }

  int64_t batches_per_epoch() const override { return loader_->batches_per_epoch(); }
  int64_t samples() const override { return loader_->samples(); }
  int64_t skipped() const override { return loader_->skipped(); }
  std::unique_ptr<Batch> next() override { return loader_->next(); }
  void start_epoch(int64_t epoch, int64_t first_batch) override {
    epoch_ = epoch;
    loader_->start_epoch(epoch, first_batch);
  }

 private:
  std::unique_ptr<Batch> make(BatchRecords& records) {
    std::unique_ptr<ActionBatch> batch = filler_.empty_batch(rows_, *pool_);
    records.read([&](int64_t record, RandomStream&) {
      const int64_t video = plan_.video(record), current = plan_.current(record, epoch_);
      filler_.fill(*batch, batch->size(), video, current);
      batch->ids.push_back(
          format("%s, step %lld", dataset_->name(video).c_str(), static_cast<long long>(current)));
      batch->videos.push_back(video);
      batch->last_steps.push_back(current);
    });
    if (batch->ids.empty()) return nullptr;
    for (torch::Tensor* tensor :
         {&batch->features, &batch->memory, &batch->memory_mask, &batch->targets, &batch->known}) {
      if (tensor->defined()) *tensor = tensor->narrow(0, 0, batch->size());
    }
    return batch;
  }

  Dataset dataset_;
  WindowPlan plan_;
  WindowFiller filler_;
  int64_t rows_ = 0;
  std::atomic<int64_t> epoch_{0};
  std::shared_ptr<TensorPool> pool_ = TensorPool::make();
  std::unique_ptr<BatchSource> loader_;  // its threads use the others: the first to go
};

}  // namespace

void ActionWindowOptions::validate() const {
  require_count("data.window.steps", steps, 1, 65536);
  require_count("data.window.horizons", horizons, 0, 4096);
  require_count("data.window.first_horizon", first_horizon, 0, 4096);
  require_count("data.window.stride", stride, 1, 1 << 20);
  require_count("data.window.memory", memory, 0, 1 << 20);
  require_count("data.window.memory_rate", memory_rate, 1, 1 << 20);
  require_count("data.window.tail", tail, 0, 1 << 20);
  require_choice("data.window.start", start, {"repeat", "zero", "skip"});
}

std::vector<int64_t> memory_steps(int64_t window_start, int64_t count, int64_t rate) {
  const int64_t there = (window_start + rate - 1) / rate;  // multiples of rate in 0 … window_start-1
  if (there == 0) return {0};
  std::vector<int64_t> steps;
  for (int64_t i = std::max<int64_t>(0, there - count); i < there; ++i) steps.push_back(i * rate);
  return steps;
}

std::unique_ptr<BatchSource> action_batches(Dataset dataset, const DataOptions& options,
                                            const ActionWindowOptions& window, bool training, uint64_t seed,
                                            const BatchPart& part) {
  window.validate();
  if (training && !dataset->labelled())
    throw Error(dataset->description() + ": has no labels, expected a set with labels for training");
  return std::make_unique<ActionSource>(std::move(dataset), options, window, training, seed, part);
}

}  // namespace zoo
