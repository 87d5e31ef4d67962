#include <algorithm>
#include <cmath>
#include <numeric>

#include "core/error.h"
#include "core/log.h"
#include "core/random.h"
#include "core/text.h"
#include "datasets/actions/sources.h"
#include "datasets/splits.h"

namespace zoo {
namespace {

using Dataset = std::shared_ptr<ActionDataset>;

class ActionSubset : public ActionDataset {
 public:
  ActionSubset(Dataset whole, std::vector<int64_t> videos)
      : whole_(std::move(whole)), videos_(std::move(videos)) {}

  int64_t size() const override { return static_cast<int64_t>(videos_.size()); }
  std::string name(int64_t video) const override { return whole_->name(at(video)); }
  int64_t steps(int64_t video) const override { return whole_->steps(at(video)); }
  int64_t feature_size() const override { return whole_->feature_size(); }
  double steps_per_second() const override { return whole_->steps_per_second(); }
  const std::vector<std::string>& class_names() const override { return whole_->class_names(); }
  int64_t ambiguous_class() const override { return whole_->ambiguous_class(); }
  void read(const FeatureRows& rows, float* to) const override {
    FeatureRows there = rows;
    there.video = at(rows.video);
    whole_->read(there, to);
  }
  const LabelTable& labels(int64_t video) const override { return whole_->labels(at(video)); }
  std::string description() const override {
    return format("%zu videos of ", videos_.size()) + whole_->description();
  }

 private:
  int64_t at(int64_t video) const { return videos_.at(static_cast<size_t>(video)); }

  Dataset whole_;
  std::vector<int64_t> videos_;
};

Dataset open_first_videos(const std::string& spec, const std::string& default_split, int64_t most) {
  Dataset dataset = open_action_dataset(parse_data_spec(spec), default_split);
  if (most == 0 || dataset->size() <= most) return dataset;
  std::vector<int64_t> first(static_cast<size_t>(most));
  std::iota(first.begin(), first.end(), 0);
  return subset(dataset, std::move(first));
}

/// The videos of `options.train` that data.val_fraction holds out, or the others; both keep their order.
Dataset part_of_training(const DataOptions& options, bool held_out, uint64_t seed) {
  const Dataset whole = open_first_videos(options.train, "train", options.max_images);
  const int64_t all = whole->size();
  if (all < 2) throw Error(whole->description() + ": data.val_fraction needs at least two videos to split");
  const int64_t count =
      std::clamp<int64_t>(std::llround(options.val_fraction * static_cast<double>(all)), 1, all - 1);
  std::vector<int64_t> order =
      RandomStream{seed, 0x76616C}.permutation(all);  // "val": unlike any epoch's order
  std::vector<int64_t> part(held_out ? order.begin() : order.begin() + count,
                            held_out ? order.begin() + count : order.end());
  std::sort(part.begin(), part.end());
  return subset(whole, std::move(part));
}

}  // namespace

std::string choose_action_split(const DataSpec& spec, const std::string& default_split) {
  const std::vector<std::string> found = action_splits(spec);
  const auto has = [&](const char* name) {
    return std::find(found.begin(), found.end(), name) != found.end();
  };
  if (spec.option("split", default_split) == "val" && !has("val") && !has("valid") && has("test"))
    return "test";
  return choose_split(spec, default_split, found);
}

Dataset open_action_dataset(const DataSpec& spec, const std::string& default_split) {
  if (data_kind(spec).task != "online-action") {
    throw UsageError("'" + spec.text + "' is data for " + data_kind(spec).task +
                     ", expected streams or features:PATH");
  }
  if (spec.embedded()) return open_made_streams(spec, spec.option("split", default_split));
  Findings findings(/*strict=*/true);
  return open_feature_files(spec, choose_action_split(spec, default_split), findings);
}

Dataset subset(Dataset dataset, std::vector<int64_t> videos) {
  for (const int64_t video : videos) {
    if (video < 0 || video >= dataset->size())
      throw std::out_of_range("subset: no video " + std::to_string(video));
  }
  return std::make_shared<ActionSubset>(std::move(dataset), std::move(videos));
}

Dataset open_action_training(const DataOptions& options, uint64_t seed) {
  if (options.val_fraction > 0) return part_of_training(options, false, seed);
  return open_first_videos(options.train, "train", options.max_images);
}

Dataset open_action_validation(const DataOptions& options, uint64_t seed) {
  if (!options.val.empty() && options.val_fraction > 0) {
    throw UsageError(
        "data.val and data.val_fraction exclude each other: expected a set to validate on, or a share of the "
        "training set's videos");
  }
  if (options.val_fraction > 0) return part_of_training(options, true, seed);
  if (!options.val.empty()) return open_first_videos(options.val, "val", options.max_images);
  const DataSpec spec = parse_data_spec(options.train);
  if (!spec.option("split").empty() || action_splits(spec) == std::vector<std::string>{""}) {
    log_warning("validation uses the training set " + options.train +
                " (--val-data takes another, data.val_fraction holds a share back)");
  }
  return open_first_videos(options.train, "val", options.max_images);
}

}  // namespace zoo
