#pragma once
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include <torch/types.h>
#include <opencv2/core.hpp>

#include "datasets/actions/actions.h"
#include "models/backbones/resnet.h"
#include "models/runtime/runtime.h"

namespace zoo {

/// Features of videos by one of our own backbones, for models of online actions: `video:PATH,backbone=FILE`, where PATH
/// is a file, a folder of videos or `camera:N`, and FILE the weights of a ResNet-50, -101 or -152 in torchvision's
/// layout. A step is the first frame at or behind its time, its short side resized to 256/224 of `size` (224) and the
/// middle cut out, normalised by ImageNet's statistics; its features are the means of the last stage's 2048 maps.
class VideoFeatures {
 public:
  /// The SPEC's `steps_per_second` where it has one, else that of the argument. Throws UsageError where the SPEC names no
  /// backbone, Error where its weights are none of these.
  VideoFeatures(const DataSpec& spec, double steps_per_second);

  /// Hands every step's row [2048] to `use`, in order, until `stop` says so. `source`: a file or `camera:N`.
  void for_each_step(const std::string& source, const std::function<void(const torch::Tensor& row)>& use,
                     const std::function<bool()>& stop);
  /// All steps of a file [L,2048]. Throws Interrupted where `stop` said so.
  torch::Tensor of_file(const std::string& path, const std::function<bool()>& stop);
  /// The row of one picture.
  torch::Tensor of(const cv::Mat& rgb);

  double steps_per_second() const { return steps_per_second_; }
  static constexpr int64_t kWidth = ResNetImpl::kChannels;

 private:
  double steps_per_second_;
  int64_t size_;
  ResNet backbone_{nullptr};
  Runtime runtime_;
};

/// The videos that a SPEC's path names: itself, or those of a folder in order of name. Throws Error where there is none.
std::vector<std::string> video_sources(const DataSpec& spec);

/// The features of all videos of a SPEC, as a set without labels. A camera has no end: throws UsageError.
std::shared_ptr<ActionDataset> open_videos(const DataSpec& spec, double steps_per_second,
                                           const std::function<bool()>& stop);

/// Writes FOLDER/rgb/NAME.npy of every video of `video:PATH,…`, to be read by `features:FOLDER` once labels stand beside
/// them (docs/formats.md). Returns that SPEC. Throws Error where FOLDER already holds one of them, for a camera, and for
/// two videos of one name.
std::string make_video_features(const DataSpec& spec, const std::string& folder,
                                const std::function<bool()>& stop);

}  // namespace zoo
