#include <algorithm>
#include <cmath>
#include <opencv2/imgproc.hpp>

#include "core/error.h"
#include "core/text.h"
#include "datasets/captions/captions.h"
#include "datasets/detection.h"
#include "datasets/loader.h"
#include "datasets/normalize.h"
#include "datasets/tensor_pool.h"

namespace zoo {
namespace {

constexpr float kHalf = 127.5F;

struct CaptionSample {
  cv::Mat picture;
  std::string id, text;
  std::vector<int64_t> traits;
  int64_t record = 0;
};

/// The height and width that a picture has where it just covers a size.
std::pair<int64_t, int64_t> covering_size(const cv::Mat& rgb, int64_t height, int64_t width) {
  const double scale =
      std::max(static_cast<double>(height) / rgb.rows, static_cast<double>(width) / rgb.cols);
  return {std::max<int64_t>(height, std::llround(scale * rgb.rows)),
          std::max<int64_t>(width, std::llround(scale * rgb.cols))};
}

/// That picture, cut: `left` and `top` say which share of what is left over lies before the cut.
cv::Mat cut_picture(const cv::Mat& rgb, int64_t height, int64_t width, double top, double left) {
  const auto [whole_height, whole_width] = covering_size(rgb, height, width);
  const cv::Rect window(static_cast<int>(std::floor(left * static_cast<double>(whole_width - width) + 0.5)),
                        static_cast<int>(std::floor(top * static_cast<double>(whole_height - height) + 0.5)),
                        static_cast<int>(width), static_cast<int>(height));
  if (whole_height == rgb.rows && whole_width == rgb.cols) return rgb(window).clone();
  return resize_antialiased(rgb, whole_height, whole_width)(window).clone();
}

cv::Mat augmented_picture(const cv::Mat& rgb, const CaptionTransformOptions& options, RandomStream& rng) {
  double top = 0.5, left = 0.5;
  if (options.crop == "random") {
    top = rng.uniform();
    left = rng.uniform();
  }
  cv::Mat picture = cut_picture(rgb, options.size[0], options.size[1], top, left);
  if (options.flip > 0 && rng.chance(options.flip)) cv::flip(picture, picture, 1);
  return picture;
}

/// All but the picture.
CaptionSample make_text_sample(const CaptionDataset& dataset, int64_t record, bool any_caption,
                               RandomStream& rng) {
  CaptionSample sample;
  sample.record = record;
  sample.id = dataset.name(record);
  sample.traits = dataset.traits(record);
  const std::vector<std::string> captions = dataset.captions(record);
  const auto last = static_cast<int64_t>(captions.size()) - 1;
  sample.text = captions[static_cast<size_t>(any_caption ? rng.integer(0, last) : 0)];
  return sample;
}

CaptionSample make_caption_sample(const CaptionDataset& dataset, int64_t record,
                                  const CaptionTransformOptions& options, bool training, RandomStream& rng) {
  CaptionSample sample = make_text_sample(dataset, record, training && options.any_caption, rng);
  const cv::Mat rgb = dataset.picture(record);
  sample.picture = training ? augmented_picture(rgb, options, rng)
                            : covering_picture(rgb, options.size[0], options.size[1]);
  return sample;
}

void fill_picture(const cv::Mat& rgb, float* to) {
  const float scale[] = {1 / kHalf, 1 / kHalf, 1 / kHalf}, shift[] = {-1, -1, -1};
  const int64_t plane = static_cast<int64_t>(rgb.rows) * rgb.cols;
  for (int y = 0; y < rgb.rows; ++y, to += rgb.cols)
    normalize_row(rgb.ptr(y), rgb.cols, rgb.cols, scale, shift, to, to + plane, to + 2 * plane);
}

/// Names, sentences and traits.
std::unique_ptr<CaptionBatch> collate_texts(const std::vector<CaptionSample>& samples) {
  auto batch = std::make_unique<CaptionBatch>();
  const auto count = static_cast<int64_t>(samples.size());
  const auto traits = static_cast<int64_t>(samples[0].traits.size());
  if (traits > 0) batch->traits = torch::empty({count, traits}, torch::kLong);
  for (int64_t i = 0; i < count; ++i) {
    const CaptionSample& sample = samples[static_cast<size_t>(i)];
    if (traits > 0)
      std::copy(sample.traits.begin(), sample.traits.end(), batch->traits.data_ptr<int64_t>() + i * traits);
    batch->ids.push_back(sample.id);
    batch->texts.push_back(sample.text);
    batch->records.push_back(sample.record);
  }
  return batch;
}

std::unique_ptr<CaptionBatch> collate_captions(const std::vector<CaptionSample>& samples,
                                               const CaptionTransformOptions& options, TensorPool& pool) {
  std::unique_ptr<CaptionBatch> batch = collate_texts(samples);
  const int64_t height = options.size[0], width = options.size[1];
  batch->images = pool.empty({batch->size(), 3, height, width}, torch::kFloat);
  auto* to = batch->images.data_ptr<float>();
  for (const CaptionSample& sample : samples) {
    fill_picture(sample.picture, to);
    to += 3 * height * width;
  }
  return batch;
}

LoaderOptions caption_loader(const std::shared_ptr<CaptionDataset>& dataset, const DataOptions& options,
                             bool training, uint64_t seed, const BatchPart& part) {
  LoaderOptions loader = loader_options(options, training, seed);
  loader.part = part;
  loader.name = [dataset](int64_t record) { return dataset->description() + ": " + dataset->name(record); };
  return loader;
}

}  // namespace

void CaptionTransformOptions::validate() const {
  if (size.size() != 2)
    throw UsageError(format("data.transform.size: %zu numbers, expected 2 (height, width)", size.size()));
  for (const int64_t side : size) require_count("data.transform.size", side, 8, 4096);
  require_choice("data.transform.crop", crop, {"center", "random"});
  require_range("data.transform.flip", flip, 0, 1);
}

cv::Mat covering_picture(const cv::Mat& rgb, int64_t height, int64_t width) {
  return cut_picture(rgb, height, width, 0.5, 0.5);
}

torch::Tensor picture_tensor(const cv::Mat& rgb) {
  torch::Tensor tensor = torch::empty({3, rgb.rows, rgb.cols});
  fill_picture(rgb, tensor.data_ptr<float>());
  return tensor;
}

cv::Mat tensor_picture(const torch::Tensor& image) {
  const torch::Tensor bytes = image.detach()
                                  .to(torch::kCPU, torch::kFloat)
                                  .add(1)
                                  .mul(kHalf)
                                  .round()
                                  .clamp(0, 255)
                                  .to(torch::kUInt8)
                                  .permute({1, 2, 0})
                                  .contiguous();  // [H,W,3]
  cv::Mat rgb(static_cast<int>(bytes.size(0)), static_cast<int>(bytes.size(1)), CV_8UC3, bytes.data_ptr());
  return rgb.clone();
}

std::unique_ptr<BatchSource> caption_batches(std::shared_ptr<CaptionDataset> dataset,
                                             const DataOptions& options,
                                             const CaptionTransformOptions& transform, bool training,
                                             uint64_t seed, const BatchPart& part) {
  const int64_t records = dataset->size();
  return make_loader<CaptionSample>(
      records, caption_loader(dataset, options, training, seed, part),
      [dataset, transform, training](int64_t record, RandomStream& rng) {
        return make_caption_sample(*dataset, record, transform, training, rng);
      },
      [transform, pool = TensorPool::make()](const std::vector<CaptionSample>& samples) {
        return collate_captions(samples, transform, *pool);
      });
}

std::unique_ptr<BatchSource> caption_text_batches(std::shared_ptr<CaptionDataset> dataset,
                                                  const DataOptions& options,
                                                  const CaptionTransformOptions& transform, bool training,
                                                  uint64_t seed, const BatchPart& part,
                                                  std::function<void(int64_t record)> check) {
  const int64_t records = dataset->size();
  const bool any_caption = training && transform.any_caption;
  return make_loader<CaptionSample>(
      records, caption_loader(dataset, options, training, seed, part),
      [dataset, any_caption, check](int64_t record, RandomStream& rng) {
        check(record);
        return make_text_sample(*dataset, record, any_caption, rng);
      },
      [](const std::vector<CaptionSample>& samples) { return collate_texts(samples); });
}

}  // namespace zoo
