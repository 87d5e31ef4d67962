#pragma once
#include <array>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include <torch/types.h>
#include <opencv2/core.hpp>

#include "core/random.h"
#include "datasets/batch.h"
#include "datasets/options.h"
#include "datasets/spec.h"
#include "datasets/tensor_pool.h"

namespace zoo {

/// A category of a data set: `id` as in the file, `name` for people.
struct Category {
  int64_t id = 0;
  std::string name;
};

/// An annotated object, as the file gives it (nothing clipped or dropped).
struct ObjectAnnotation {
  int64_t id = 0;
  int64_t category_id = 0;
  std::array<double, 4> box{};  ///< x, y, width, height in pixels of the original image
  double area = 0;              ///< the annotation's area (mask area in COCO), not width·height
  bool crowd = false;
};

/// A picture with its objects.
struct DetectionRecord {
  int64_t image_id = 0;
  std::string file_name;
  int64_t width = 0, height = 0;  ///< of the original image, as the file says
  std::vector<ObjectAnnotation> objects;
};

/// A detection data set: COCO, VOC or YOLO files, or an embedded one. Thread-safe for reading.
class DetectionDataset {
 public:
  virtual ~DetectionDataset() = default;
  virtual int64_t size() const = 0;
  virtual const DetectionRecord& record(int64_t index) const = 0;
  /// RGB, 8 bits, no EXIF rotation. Throws Error naming the file if it is missing, truncated or no image.
  virtual cv::Mat image(int64_t index) const = 0;
  virtual const std::vector<Category>& categories() const = 0;
  virtual std::string description() const = 0;
};

/// Opens the data set that a SPEC names. `default_split` ("train" or "val") holds where the SPEC has none.
/// Throws Error naming the splits found where the wanted one is not there.
std::shared_ptr<DetectionDataset> open_detection_dataset(const DataSpec& spec,
                                                         const std::string& default_split);
/// The dataset restricted to some of its records.
std::shared_ptr<DetectionDataset> subset(std::shared_ptr<DetectionDataset> dataset,
                                         std::vector<int64_t> indices);

/// Section `data.transform` of detection recipes (reference: datasets/coco.py of facebookresearch/detr).
struct DetectionTransformOptions {
  std::vector<int64_t> train_sizes = {480, 512, 544, 576, 608, 640,
                                      672, 704, 736, 768, 800};  ///< short sides
  std::vector<int64_t> crop_resize_sizes = {400, 500,
                                            600};  ///< short sides before a random crop; empty: no crop
  int64_t crop_min = 384;                          ///< least width and height of the crop
  int64_t crop_max = 600;
  int64_t eval_size = 800;  ///< short side in evaluation
  int64_t max_size = 1333;  ///< longest long side
  double flip = 0.5;        ///< probability of the mirrored image
  std::vector<double> mean = {0.485, 0.456, 0.406};
  std::vector<double> std = {0.229, 0.224, 0.225};

  void validate() const;
};
NLOHMANN_DEFINE_TYPE_NON_INTRUSIVE(DetectionTransformOptions, train_sizes, crop_resize_sizes, crop_min,
                                   crop_max, eval_size, max_size, flip, mean, std)

/// One image ready for a batch.
struct DetectionSample {
  cv::Mat image;                            ///< RGB, 8 bits, transformed
  std::vector<std::array<float, 4>> boxes;  ///< cx, cy, w, h in 0..1 of `image`
  std::vector<int64_t> labels;              ///< category ids of the data set
  int64_t image_id = 0;
  int64_t index = 0;  ///< record number in the data set
  int64_t original_height = 0, original_width = 0;
  std::string id;  ///< file name or "shapes val 17"
};

/// B images padded to the largest, right and bottom, with 0 after normalisation.
struct DetectionBatch : Batch {
  torch::Tensor pixels;               ///< [B,3,H,W] float, normalised
  torch::Tensor mask;                 ///< [B,H,W] bool, true on real pixels
  bool padded = true;                 ///< false: the mask is true everywhere
  std::vector<torch::Tensor> labels;  ///< per image [T] int64, category ids of the data set
  std::vector<torch::Tensor> boxes;   ///< per image [T,4] float, cx cy w h in 0..1
  std::vector<int64_t> image_ids;
  std::vector<int64_t> indices;  ///< record numbers in the data set
  torch::Tensor original_sizes;  ///< [B,2] int64: height, width
};

/// The size rule of the reference: (height, width) of an image after "short side to `size`, long side at most
/// `max_size`" (detr.md section 4).
/// `max_size` 0: no limit.
std::pair<int64_t, int64_t> resized_size(int64_t height, int64_t width, int64_t size, int64_t max_size);
/// Antialiased triangle filter on 8 bits, rounding after each pass: equal to Pillow's BILINEAR to the bit.
/// `image` is [h,w] of 1 to 4 8-bit channels. An image that has the size already is returned as it is,
/// unshared or not.
cv::Mat resize_antialiased(const cv::Mat& image, int64_t height, int64_t width);
/// The part `window` of that, at the cost of that part.
cv::Mat resize_antialiased(const cv::Mat& image, int64_t height, int64_t width, const cv::Rect& window);

/// Training and evaluation transforms. `rng` is the sample's own stream. Objects: crowds dropped, boxes
/// clipped to the image, boxes without width or height dropped, in the order of the record. Throw what
/// `dataset.image` throws.
DetectionSample training_sample(const DetectionDataset& dataset, int64_t index,
                                const DetectionTransformOptions& options, RandomStream& rng);
DetectionSample evaluation_sample(const DetectionDataset& dataset, int64_t index,
                                  const DetectionTransformOptions& options);
/// The evaluation transform of a picture that belongs to no data set.
DetectionSample evaluation_sample(const cv::Mat& rgb, const DetectionTransformOptions& options);
/// Normalises (v / 255 - mean) / std and pads. Pixels and mask come from `pool` where there is one.
std::unique_ptr<DetectionBatch> collate(std::vector<DetectionSample> samples,
                                        const DetectionTransformOptions& options, TensorPool* pool = nullptr);

/// Training set and validation set of a run. The training SPEC means split train, and the validation SPEC (or
/// the training SPEC where it is empty) split val, unless they name one. With `val_fraction` the validation
/// set is that share of the training set, chosen by `seed`, at least one record on each side; `max_images`
/// keeps the first records of each set before. Throws UsageError where `val` and `val_fraction` are both
/// given, Error for bad data.
std::pair<std::shared_ptr<DetectionDataset>, std::shared_ptr<DetectionDataset>> open_train_val(
    const DataOptions& options, uint64_t seed);
/// The validation set alone: the same as above. A `val` wins over a `val_fraction`.
std::shared_ptr<DetectionDataset> open_validation(const DataOptions& options, uint64_t seed);

/// Batches for training (shuffled, augmented, the last incomplete batch dropped) or evaluation (in order,
/// complete). Loader and order: datasets/loader.h.
std::unique_ptr<BatchSource> detection_batches(std::shared_ptr<DetectionDataset> dataset,
                                               const DataOptions& options,
                                               const DetectionTransformOptions& transform, bool training,
                                               uint64_t seed, const BatchPart& part = {});

}  // namespace zoo
