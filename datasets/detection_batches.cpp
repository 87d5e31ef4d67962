#include <algorithm>
#include <cmath>
#include <numeric>

#include "core/error.h"
#include "core/log.h"
#include "datasets/detection.h"
#include "datasets/loader.h"

namespace zoo {
namespace {

using Dataset = std::shared_ptr<DetectionDataset>;

Dataset open_limited(const std::string& spec, const std::string& default_split, int64_t max_images) {
  Dataset dataset = open_detection_dataset(parse_data_spec(spec), default_split);
  if (max_images == 0 || dataset->size() <= max_images) return dataset;
  std::vector<int64_t> first(static_cast<size_t>(max_images));
  std::iota(first.begin(), first.end(), 0);
  return subset(dataset, std::move(first));
}

/// Both parts keep the order of the records.
std::pair<Dataset, Dataset> split_by_seed(const Dataset& dataset, double val_fraction, uint64_t seed) {
  const int64_t all = dataset->size();
  if (all < 2)
    throw Error(dataset->description() + ": data.val_fraction needs at least two records to split");
  const auto share = static_cast<int64_t>(std::llround(val_fraction * static_cast<double>(all)));
  const int64_t held_out = std::clamp<int64_t>(share, 1, all - 1);
  std::vector<int64_t> order =
      RandomStream{seed, 0x76616C}.permutation(all);  // "val": unlike any epoch's order
  std::sort(order.begin(), order.begin() + held_out);
  std::sort(order.begin() + held_out, order.end());
  return {subset(dataset, {order.begin() + held_out, order.end()}),
          subset(dataset, {order.begin(), order.begin() + held_out})};
}

}  // namespace

std::pair<Dataset, Dataset> open_train_val(const DataOptions& options, uint64_t seed) {
  if (!options.val.empty() && options.val_fraction > 0) {
    throw UsageError(
        "data.val and data.val_fraction exclude each other: expected a set to validate on, or a share of "
        "the training set");
  }
  Dataset training = open_limited(options.train, "train", options.max_images);
  if (options.val_fraction > 0) return split_by_seed(training, options.val_fraction, seed);
  if (options.val.empty() && !parse_data_spec(options.train).option("split").empty()) {
    log_warning("validation uses the training set " + options.train +
                ", since it names its split (--val-data takes another)");
  }
  return {training, open_validation(options, seed)};
}

Dataset open_validation(const DataOptions& options, uint64_t seed) {
  if (!options.val.empty()) return open_limited(options.val, "val", options.max_images);
  if (options.val_fraction == 0) return open_limited(options.train, "val", options.max_images);
  const Dataset whole = open_limited(options.train, "train", options.max_images);
  return split_by_seed(whole, options.val_fraction, seed).second;
}

std::unique_ptr<BatchSource> detection_batches(Dataset dataset, const DataOptions& options,
                                               const DetectionTransformOptions& transform, bool training,
                                               uint64_t seed, const BatchPart& part) {
  LoaderOptions loader = loader_options(options, training, seed);
  loader.part = part;
  loader.name = [dataset](int64_t record) { return dataset->record(record).file_name; };
  const int64_t records = dataset->size();
  return make_loader<DetectionSample>(
      records, loader,
      [dataset, transform, training](int64_t record, RandomStream& rng) {
        return training ? training_sample(*dataset, record, transform, rng)
                        : evaluation_sample(*dataset, record, transform);
      },
      [transform, pool = TensorPool::make()](std::vector<DetectionSample> samples) {
        return collate(std::move(samples), transform, pool.get());
      });
}

}  // namespace zoo
