#pragma once
#include <cstdint>

#include <opencv2/core.hpp>

#include "core/random.h"
#include "datasets/detection.h"

namespace zoo {

/// The random decisions of the training transform, in the order in which they are drawn and applied.
struct TransformPlan {
  bool flip = false;
  int64_t crop_resize = 0;  ///< short side before the crop; 0: no crop
  cv::Rect window;          ///< of the picture resized to that
  int64_t size = 0;         ///< short side in the end
  int64_t max_size = 0;     ///< longest long side in the end
};

/// Draws a plan for a picture of that size. Where it is smaller than the crop's bounds, its own sides are
/// taken.
TransformPlan draw_plan(const cv::Size& image, const DetectionTransformOptions& options, RandomStream& rng);
/// Carries it out: image, boxes and labels of the sample, nothing else.
DetectionSample apply_plan(const TransformPlan& plan, const DetectionRecord& record, cv::Mat image);

}  // namespace zoo
