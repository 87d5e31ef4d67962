#include <algorithm>
#include <cmath>
#include <opencv2/imgproc.hpp>

#include "core/error.h"
#include "core/text.h"
#include "datasets/detection.h"
#include "datasets/faces/faces.h"

namespace zoo {
namespace {

constexpr int64_t kTemplateSize = 112;
constexpr FaceLandmarks kTemplate = {38.2946f, 51.6963f, 73.5318f, 51.5014f, 56.0252f,
                                     71.7366f, 41.5493f, 92.3655f, 70.7299f, 92.2041f};

/// The middle `share` of the picture, resized whatever its proportions.
cv::Mat cropped_face(const cv::Mat& rgb, double share, int height, int width) {
  const auto part = [&](int side) { return std::max(1, static_cast<int>(std::lround(share * side))); };
  const cv::Size size(part(rgb.cols), part(rgb.rows));
  const cv::Rect middle((rgb.cols - size.width) / 2, (rgb.rows - size.height) / 2, size.width, size.height);
  const cv::Mat crop = rgb(middle);
  return crop.rows == height && crop.cols == width ? crop : resize_antialiased(crop, height, width);
}

cv::Mat luma(const cv::Mat& rgb) {
  cv::Mat grey, result;
  cv::cvtColor(rgb, grey, cv::COLOR_RGB2GRAY);
  cv::cvtColor(grey, result, cv::COLOR_GRAY2RGB);
  return result;
}

void require_numbers(const std::string& key, size_t found, size_t expected) {
  if (found == expected) return;
  throw UsageError(format("%s: %zu numbers, expected %zu", key.c_str(), found, expected));
}

}  // namespace

void FaceTransformOptions::validate() const {
  require_numbers("data.transform.input_size", input_size.size(), 2);
  require_numbers("data.transform.mean", mean.size(), 3);
  require_numbers("data.transform.std", std.size(), 3);
  for (const int64_t side : input_size) require_count("data.transform.input_size", side, 8, 4096);
  for (const double value : std) require_positive("data.transform.std", value);
  require_range("data.transform.flip", flip, 0, 1);
  require_count("data.transform.shift", shift, 0,
                static_cast<double>(std::min(input_size[0], input_size[1]) / 2));
  require_range("data.transform.crop", crop, 0.05, 1);
}

FaceLandmarks face_template(int64_t height, int64_t width) {
  const bool wide = height == width && height % 128 == 0 && height % kTemplateSize != 0;
  const double scale = static_cast<double>(height) / static_cast<double>(wide ? 128 : kTemplateSize);
  const double shift = (static_cast<double>(width) - scale * kTemplateSize) / 2;
  FaceLandmarks points{};
  for (size_t i = 0; i < 10; ++i) {
    points[i] = static_cast<float>(scale * static_cast<double>(kTemplate[i]) + (i % 2 == 0 ? shift : 0));
  }
  return points;
}

cv::Matx23d similarity_transform(const FaceLandmarks& from, const FaceLandmarks& to) {
  double mean[4] = {};  // of from and to, x and y
  for (size_t i = 0; i < 10; ++i) {
    mean[i % 2] += static_cast<double>(from[i]) / 5;
    mean[2 + i % 2] += static_cast<double>(to[i]) / 5;
  }
  double along = 0, across = 0, square = 0;
  for (size_t i = 0; i < 10; i += 2) {
    const double x = from[i] - mean[0], y = from[i + 1] - mean[1], u = to[i] - mean[2],
                 v = to[i + 1] - mean[3];
    along += x * u + y * v;
    across += x * v - y * u;
    square += x * x + y * y;
  }
  if (!(square > 1e-9) || !std::isfinite(square)) {
    throw Error("the five landmarks are one point, expected eyes, nose and mouth corners");
  }
  const double a = along / square, b = across / square;
  return {a, -b, mean[2] - a * mean[0] + b * mean[1], b, a, mean[3] - b * mean[0] - a * mean[1]};
}

cv::Mat aligned_face(const cv::Mat& rgb, const std::optional<FaceLandmarks>& landmarks,
                     const FaceTransformOptions& options) {
  const auto height = static_cast<int>(options.input_size[0]),
             width = static_cast<int>(options.input_size[1]);
  cv::Mat face;
  if (landmarks && options.align) {
    const cv::Matx23d matrix = similarity_transform(*landmarks, face_template(height, width));
    cv::warpAffine(rgb, face, matrix, {width, height}, cv::INTER_LINEAR, cv::BORDER_CONSTANT, cv::Scalar());
  } else {
    face = cropped_face(rgb, options.crop, height, width);
  }
  return options.grey ? luma(face) : face;
}

}  // namespace zoo
