#include "datasets/transforms.h"

#include <algorithm>
#include <cstring>
#include <utility>

#include "core/error.h"
#include "core/options.h"
#include "core/text.h"
#include "datasets/normalize.h"

namespace zoo {
namespace {

using Corners = std::array<float, 4>;  // x0, y0, x1, y1 in pixels

struct Objects {
  std::vector<Corners> boxes;
  std::vector<int64_t> labels;
};

/// Shifts boxes into a window of that size, clips them to it, and drops those without width or height.
void clip(const cv::Point& origin, const cv::Size& size, Objects& objects) {
  const auto x = static_cast<float>(origin.x), y = static_cast<float>(origin.y);
  const auto width = static_cast<float>(size.width), height = static_cast<float>(size.height);
  size_t kept = 0;
  for (size_t i = 0; i < objects.boxes.size(); ++i) {
    const Corners& b = objects.boxes[i];
    const Corners clipped = {std::clamp(b[0] - x, 0.f, width), std::clamp(b[1] - y, 0.f, height),
                             std::clamp(b[2] - x, 0.f, width), std::clamp(b[3] - y, 0.f, height)};
    if (!(clipped[2] > clipped[0] && clipped[3] > clipped[1])) continue;
    objects.boxes[kept] = clipped;
    objects.labels[kept++] = objects.labels[i];
  }
  objects.boxes.resize(kept);
  objects.labels.resize(kept);
}

/// ConvertCocoPolysToMask of the reference: crowds out, corners, clipped to the image.
Objects usable_objects(const DetectionRecord& record, const cv::Size& size) {
  Objects objects;
  for (const ObjectAnnotation& object : record.objects) {
    if (object.crowd) continue;
    const auto x = static_cast<float>(object.box[0]), y = static_cast<float>(object.box[1]);
    objects.boxes.push_back(
        {x, y, x + static_cast<float>(object.box[2]), y + static_cast<float>(object.box[3])});
    objects.labels.push_back(object.category_id);
  }
  clip({0, 0}, size, objects);
  return objects;
}

void flip_boxes(int width, std::vector<Corners>& boxes) {
  const auto w = static_cast<float>(width);
  for (Corners& b : boxes) b = {w - b[2], b[1], w - b[0], b[3]};
}

/// By the ratios of the sizes in whole pixels.
void scale_boxes(const cv::Size& from, const cv::Size& to, std::vector<Corners>& boxes) {
  const auto x = static_cast<float>(static_cast<double>(to.width) / from.width);
  const auto y = static_cast<float>(static_cast<double>(to.height) / from.height);
  for (Corners& b : boxes) b = {b[0] * x, b[1] * y, b[2] * x, b[3] * y};
}

cv::Size size_after(const cv::Size& size, int64_t short_side, int64_t max_size) {
  const auto [height, width] = resized_size(size.height, size.width, short_side, max_size);
  return {static_cast<int>(width), static_cast<int>(height)};
}

int64_t choose(const std::vector<int64_t>& values, RandomStream& rng) {
  return values[static_cast<size_t>(rng.integer(0, static_cast<int64_t>(values.size()) - 1))];
}

/// Width and height independently uniform, then the place; a smaller picture bounds both ends.
cv::Rect random_window(const cv::Size& size, const DetectionTransformOptions& options, RandomStream& rng) {
  const auto side = [&](int64_t whole) {
    return static_cast<int>(
        rng.integer(std::min(options.crop_min, whole), std::min(whole, options.crop_max)));
  };
  cv::Rect window;
  window.width = side(size.width);
  window.height = side(size.height);
  window.y = static_cast<int>(rng.integer(0, size.height - window.height));
  window.x = static_cast<int>(rng.integer(0, size.width - window.width));
  return window;
}

TransformPlan evaluation_plan(const DetectionTransformOptions& options) {
  TransformPlan plan;
  plan.size = options.eval_size;
  plan.max_size = options.max_size;
  return plan;
}

cv::Mat flipped(const cv::Mat& image) {
  cv::Mat mirror;
  cv::flip(image, mirror, 1);
  return mirror;
}

DetectionSample finish(cv::Mat image, Objects objects) {
  DetectionSample sample;
  const auto width = static_cast<float>(image.cols), height = static_cast<float>(image.rows);
  for (const Corners& b : objects.boxes) {
    sample.boxes.push_back({(b[0] + b[2]) / 2 / width, (b[1] + b[3]) / 2 / height, (b[2] - b[0]) / width,
                            (b[3] - b[1]) / height});
  }
  sample.labels = std::move(objects.labels);
  sample.image = std::move(image);
  return sample;
}

DetectionSample identified(DetectionSample sample, const DetectionRecord& record, int64_t index,
                           const cv::Size& original) {
  sample.image_id = record.image_id;
  sample.index = index;
  sample.original_height = original.height;
  sample.original_width = original.width;
  sample.id = record.file_name;
  return sample;
}

}  // namespace

void DetectionTransformOptions::validate() const {
  const auto require_sizes = [](const std::string& key, const std::vector<int64_t>& sizes) {
    for (const int64_t size : sizes) require_count("data.transform." + key, size, 1, 16384);
  };
  require_sizes("train_sizes", train_sizes);
  require_sizes("crop_resize_sizes", crop_resize_sizes);
  require_sizes("crop_min", {crop_min});
  require_sizes("crop_max", {crop_max});
  require_sizes("eval_size", {eval_size});
  require_sizes("max_size", {max_size});
  if (train_sizes.empty())
    throw UsageError("data.transform.train_sizes is empty, expected at least one size");
  require_count("data.transform.crop_max", crop_max, static_cast<double>(crop_min));
  require_range("data.transform.flip", flip, 0, 1);
  for (const auto* list : {&mean, &std}) {
    const std::string key = std::string("data.transform.") + (list == &mean ? "mean" : "std");
    if (list->size() != 3)
      throw UsageError(format("%s has %zu values, expected 3", key.c_str(), list->size()));
  }
  for (const double value : std) require_positive("data.transform.std", value);
}

TransformPlan draw_plan(const cv::Size& image, const DetectionTransformOptions& options, RandomStream& rng) {
  TransformPlan plan;
  plan.flip = rng.chance(options.flip);
  if (!options.crop_resize_sizes.empty() && rng.chance(0.5)) {
    plan.crop_resize = choose(options.crop_resize_sizes, rng);
    plan.window = random_window(size_after(image, plan.crop_resize, 0), options, rng);
  }
  plan.size = choose(options.train_sizes, rng);
  plan.max_size = options.max_size;
  return plan;
}

DetectionSample apply_plan(const TransformPlan& plan, const DetectionRecord& record, cv::Mat image) {
  Objects objects = usable_objects(record, image.size());
  if (plan.flip) {
    image = flipped(image);
    flip_boxes(image.cols, objects.boxes);
  }
  if (plan.crop_resize > 0) {
    const cv::Size whole = size_after(image.size(), plan.crop_resize, 0);
    scale_boxes(image.size(), whole, objects.boxes);
    clip(plan.window.tl(), plan.window.size(), objects);
    image = resize_antialiased(image, whole.height, whole.width, plan.window);
  }
  const cv::Size size = size_after(image.size(), plan.size, plan.max_size);
  scale_boxes(image.size(), size, objects.boxes);
  return finish(resize_antialiased(image, size.height, size.width), std::move(objects));
}

DetectionSample training_sample(const DetectionDataset& dataset, int64_t index,
                                const DetectionTransformOptions& options, RandomStream& rng) {
  const DetectionRecord& record = dataset.record(index);
  const cv::Mat image = dataset.image(index);
  const TransformPlan plan = draw_plan(image.size(), options, rng);
  return identified(apply_plan(plan, record, image), record, index, image.size());
}

DetectionSample evaluation_sample(const DetectionDataset& dataset, int64_t index,
                                  const DetectionTransformOptions& options) {
  const DetectionRecord& record = dataset.record(index);
  const cv::Mat image = dataset.image(index);
  return identified(apply_plan(evaluation_plan(options), record, image), record, index, image.size());
}

DetectionSample evaluation_sample(const cv::Mat& rgb, const DetectionTransformOptions& options) {
  DetectionSample sample = apply_plan(evaluation_plan(options), {}, rgb);
  sample.original_height = rgb.rows;
  sample.original_width = rgb.cols;
  return sample;
}

namespace {

torch::Tensor tensor_of(const std::vector<int64_t>& values) {
  torch::Tensor tensor = torch::empty({static_cast<int64_t>(values.size())}, torch::kLong);
  std::copy(values.begin(), values.end(), tensor.data_ptr<int64_t>());
  return tensor;
}

torch::Tensor tensor_of(const std::vector<std::array<float, 4>>& boxes) {
  torch::Tensor tensor = torch::empty({static_cast<int64_t>(boxes.size()), 4});
  if (!boxes.empty()) std::memcpy(tensor.data_ptr<float>(), boxes.data(), boxes.size() * sizeof(boxes[0]));
  return tensor;
}

/// Normalises an image into its slot of a batch: pixels [3,H,W], mask [H,W].
void fill_slot(const cv::Mat& image, const DetectionTransformOptions& options, int64_t height, int64_t width,
               float* pixels, bool* mask) {
  float scale[3], shift[3];  // (v / 255 - mean) / std
  for (size_t c = 0; c < 3; ++c) {
    scale[c] = static_cast<float>(1 / (255 * options.std[c]));
    shift[c] = static_cast<float>(-options.mean[c] / options.std[c]);
  }
  const int64_t plane = height * width;
  for (int64_t y = 0; y < image.rows; ++y, pixels += width, mask += width) {
    normalize_row(image.ptr(static_cast<int>(y)), image.cols, width, scale, shift, pixels, pixels + plane,
                  pixels + 2 * plane);
    std::fill(mask, mask + image.cols, true);
    std::fill(mask + image.cols, mask + width, false);
  }
  const int64_t rest = (height - image.rows) * width;
  for (int64_t c = 0; c < 3; ++c) std::fill(pixels + c * plane, pixels + c * plane + rest, 0.f);
  std::fill(mask, mask + rest, false);
}

}  // namespace

std::unique_ptr<DetectionBatch> collate(std::vector<DetectionSample> samples,
                                        const DetectionTransformOptions& options, TensorPool* pool) {
  auto batch = std::make_unique<DetectionBatch>();
  const auto size = static_cast<int64_t>(samples.size());
  int64_t height = 0, width = 0;
  for (const DetectionSample& sample : samples) {
    height = std::max<int64_t>(height, sample.image.rows);
    width = std::max<int64_t>(width, sample.image.cols);
  }
  const auto empty = [&](const std::vector<int64_t>& sizes, torch::Dtype dtype) {
    return pool == nullptr ? torch::empty(sizes, dtype) : pool->empty(sizes, dtype);
  };
  batch->pixels = empty({size, 3, height, width}, torch::kFloat);
  batch->mask = empty({size, height, width}, torch::kBool);
  batch->original_sizes = torch::empty({size, 2}, torch::kLong);
  batch->padded = false;
  for (int64_t b = 0; b < size; ++b) {
    const DetectionSample& sample = samples[static_cast<size_t>(b)];
    fill_slot(sample.image, options, height, width, batch->pixels.data_ptr<float>() + b * 3 * height * width,
              batch->mask.data_ptr<bool>() + b * height * width);
    if (sample.image.rows != height || sample.image.cols != width) batch->padded = true;
    batch->original_sizes.data_ptr<int64_t>()[2 * b] = sample.original_height;
    batch->original_sizes.data_ptr<int64_t>()[2 * b + 1] = sample.original_width;
    batch->labels.push_back(tensor_of(sample.labels));
    batch->boxes.push_back(tensor_of(sample.boxes));
    batch->image_ids.push_back(sample.image_id);
    batch->indices.push_back(sample.index);
    batch->ids.push_back(sample.id);
  }
  return batch;
}

}  // namespace zoo
