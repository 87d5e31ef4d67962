#include <algorithm>
#include <opencv2/imgproc.hpp>

#include "core/error.h"
#include "datasets/faces/faces.h"
#include "datasets/loader.h"
#include "datasets/normalize.h"
#include "datasets/tensor_pool.h"

namespace zoo {
namespace {

/// (v - mean) / std into [3,H,W].
void fill_slot(const cv::Mat& face, const FaceTransformOptions& options, float* pixels) {
  float scale[3], shift[3];
  for (size_t c = 0; c < 3; ++c) {
    scale[c] = static_cast<float>(1 / options.std[c]);
    shift[c] = static_cast<float>(-options.mean[c] / options.std[c]);
  }
  const int64_t plane = static_cast<int64_t>(face.rows) * face.cols;
  for (int y = 0; y < face.rows; ++y, pixels += face.cols) {
    normalize_row(face.ptr(y), face.cols, face.cols, scale, shift, pixels, pixels + plane,
                  pixels + 2 * plane);
  }
}

/// Moved by that many pixels; what comes in is 0.
cv::Mat shifted(const cv::Mat& face, int dx, int dy) {
  cv::Mat result = cv::Mat::zeros(face.size(), face.type());
  const cv::Rect all(0, 0, face.cols, face.rows), to = (all + cv::Point(dx, dy)) & all;
  face(to - cv::Point(dx, dy)).copyTo(result(to));
  return result;
}

struct FaceSample {
  cv::Mat face;
  std::string id;
  int64_t identity = -1, index = 0;
};

FaceSample make_sample(const FaceDataset& dataset, int64_t index, const FaceTransformOptions& options) {
  const FaceRecord record = dataset.record(index);
  FaceSample sample{dataset.image(index), record.name, record.identity, index};
  try {
    sample.face = aligned_face(sample.face, record.landmarks, options);
  } catch (const Error& error) {
    throw Error(dataset.description() + ": " + record.name + ": " + error.what());
  }
  return sample;
}

void augment(const FaceTransformOptions& options, RandomStream& rng, cv::Mat& face) {
  if (options.flip > 0 && rng.chance(options.flip)) {
    cv::Mat mirrored;
    cv::flip(face, mirrored, 1);
    face = mirrored;
  }
  if (options.shift > 0) {
    const auto dx = static_cast<int>(rng.integer(-options.shift, options.shift));
    const auto dy = static_cast<int>(rng.integer(-options.shift, options.shift));
    face = shifted(face, dx, dy);
  }
}

std::unique_ptr<Batch> collate(const std::vector<FaceSample>& samples, const FaceTransformOptions& options,
                               TensorPool& pool) {
  auto batch = std::make_unique<FaceBatch>();
  const auto count = static_cast<int64_t>(samples.size());
  const int64_t height = options.input_size[0], width = options.input_size[1];
  batch->images = pool.empty({count, 3, height, width}, torch::kFloat);
  batch->labels = torch::empty({count}, torch::kLong);
  for (int64_t i = 0; i < count; ++i) {
    const FaceSample& sample = samples[static_cast<size_t>(i)];
    fill_slot(sample.face, options, batch->images.data_ptr<float>() + i * 3 * height * width);
    batch->labels.data_ptr<int64_t>()[i] = sample.identity;
    batch->indices.push_back(sample.index);
    batch->ids.push_back(sample.id);
  }
  return batch;
}

}  // namespace

torch::Tensor face_tensor(const cv::Mat& face, const FaceTransformOptions& options) {
  torch::Tensor tensor = torch::empty({3, face.rows, face.cols});
  fill_slot(face, options, tensor.data_ptr<float>());
  return tensor;
}

std::unique_ptr<BatchSource> face_batches(std::shared_ptr<FaceDataset> dataset, const DataOptions& options,
                                          const FaceTransformOptions& transform, bool training, uint64_t seed,
                                          const BatchPart& part) {
  LoaderOptions loader = loader_options(options, training, seed);
  loader.part = part;
  loader.name = [dataset](int64_t record) {
    return dataset->description() + ": " + dataset->record(record).name;
  };
  const int64_t records = dataset->size();
  return make_loader<FaceSample>(
      records, loader,
      [dataset, transform, training](int64_t record, RandomStream& rng) {
        FaceSample sample = make_sample(*dataset, record, transform);
        if (training) augment(transform, rng, sample.face);
        return sample;
      },
      [transform, pool = TensorPool::make()](const std::vector<FaceSample>& samples) {
        return collate(samples, transform, *pool);
      });
}

}  // namespace zoo
