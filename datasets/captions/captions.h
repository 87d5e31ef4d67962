#pragma once
#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include <torch/types.h>
#include <opencv2/core.hpp>

#include "core/options.h"
#include "datasets/batch.h"
#include "datasets/options.h"
#include "datasets/spec.h"

namespace zoo {

/// Something that is known of every picture beside its sentences: "shape", one of "circle", "square", …
struct CaptionTrait {
  std::string name;
  std::vector<std::string> values;
};

/// Pictures with the sentences that tell what they show. Thread-safe.
class CaptionDataset {
 public:
  virtual ~CaptionDataset() = default;
  virtual int64_t size() const = 0;
  /// Of a record, for messages, previews and files: "images/17.png", "shard-000.tar: 000017".
  virtual std::string name(int64_t record) const = 0;
  /// RGB, 8 bits, as stored; what is transparent shows the set's ground. Throws Error naming the file.
  virtual cv::Mat picture(int64_t record) const = 0;
  /// At least one, none empty.
  virtual std::vector<std::string> captions(int64_t record) const = 0;
  /// Of the columns of `traits`; none: nothing is known.
  virtual const std::vector<CaptionTrait>& trait_list() const = 0;
  /// Index of the value of each trait.
  virtual std::vector<int64_t> traits(int64_t record) const = 0;
  virtual std::string description() const = 0;
};

/// Opens what a SPEC names: `captions` (made by code) or `captions:PATH`; docs/formats.md has the layouts.
/// `default_split` holds where the SPEC has no `split`; a set without splits is one whole. Throws Error for bad data
/// (naming file and line), UsageError for data of another task.
std::shared_ptr<CaptionDataset> open_caption_dataset(const DataSpec& spec, const std::string& default_split);
/// The records `records` of a set, in that order.
std::shared_ptr<CaptionDataset> subset(std::shared_ptr<CaptionDataset> dataset, std::vector<int64_t> records);

/// The training set of a run: `options.train`, split train unless it names one, without the records that
/// data.val_fraction holds out; data.max_images keeps the first records.
std::shared_ptr<CaptionDataset> open_caption_training(const DataOptions& options, uint64_t seed);
/// What the run validates on: `options.val`, else the records that data.val_fraction holds out, else split val of
/// `options.train`. Throws UsageError where val and val_fraction are both given.
std::shared_ptr<CaptionDataset> open_caption_validation(const DataOptions& options, uint64_t seed);

/// Section `data.transform` of recipes that learn from captioned pictures.
struct CaptionTransformOptions {
  std::vector<int64_t> size = {512, 512};  ///< height, width of the network's pictures
  std::string crop = "center";  ///< center | random: which part is kept where the proportions differ
  /// Training: probability of the mirrored picture. Off, since "left" in a sentence would become wrong.
  double flip = 0;
  /// Training: a random one of a picture's sentences, else always the first.
  bool any_caption = true;

  void validate() const;
};
NLOHMANN_DEFINE_TYPE_NON_INTRUSIVE(CaptionTransformOptions, size, crop, flip, any_caption)

/// The picture at that size, antialiased: resized until it covers the size, then cut in its middle. RGB, 8 bits.
cv::Mat covering_picture(const cv::Mat& rgb, int64_t height, int64_t width);

struct CaptionBatch : Batch {
  torch::Tensor images;            ///< [B,3,H,W] float, -1..1; undefined in batches of sentences alone
  std::vector<std::string> texts;  ///< one sentence a picture
  torch::Tensor traits;  ///< [B,K] int64: indices into the set's trait_list; undefined where it has none
  std::vector<int64_t> records;  ///< record numbers
};

/// Batches for training (shuffled, augmented, the last incomplete batch dropped) or evaluation (in order, complete,
/// the first sentence of each). Loader and order: datasets/loader.h.
std::unique_ptr<BatchSource> caption_batches(std::shared_ptr<CaptionDataset> dataset,
                                             const DataOptions& options,
                                             const CaptionTransformOptions& transform, bool training,
                                             uint64_t seed, const BatchPart& part = {});

/// The same order and sentences without pictures, which somebody else has. `check(record)` may throw the Error that
/// reading the picture would have thrown.
std::unique_ptr<BatchSource> caption_text_batches(std::shared_ptr<CaptionDataset> dataset,
                                                  const DataOptions& options,
                                                  const CaptionTransformOptions& transform, bool training,
                                                  uint64_t seed, const BatchPart& part,
                                                  std::function<void(int64_t record)> check);

/// RGB bytes of any size as a network's picture [3,H,W], -1..1; and back, rounded and cut to bytes.
torch::Tensor picture_tensor(const cv::Mat& rgb);
cv::Mat tensor_picture(const torch::Tensor& image);

}  // namespace zoo
