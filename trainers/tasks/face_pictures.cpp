#include "trainers/tasks/face_pictures.h"

#include <algorithm>
#include <opencv2/imgproc.hpp>

#include "core/text.h"
#include "datasets/image.h"
#include "trainers/canvas.h"

namespace zoo {

cv::Mat draw_face_pair(const cv::Mat& first, const cv::Mat& second, double score, double threshold,
                       std::optional<bool> same) {
  constexpr int kSide = 224, kGap = 8, kFoot = 40;
  Canvas canvas(2 * kSide + 3 * kGap, kSide + kGap + kFoot);
  int x = kGap;
  for (const cv::Mat& face : {first, second}) {
    const double scale = static_cast<double>(kSide) / std::max(face.rows, face.cols);
    cv::Mat shown;
    cv::resize(face, shown, {}, scale, scale, scale < 1 ? cv::INTER_AREA : cv::INTER_LINEAR);
    canvas.picture(shown, {x + (kSide - shown.cols) / 2, kGap + (kSide - shown.rows) / 2});
    x += kSide + kGap;
  }
  const bool found_same = score >= threshold;
  const cv::Scalar right(46, 140, 80), wrong(196, 58, 74);
  const cv::Scalar color = !same ? kInk : found_same == *same ? right : wrong;
  std::string words =
      format("%s  %.3f (threshold %.3f)", found_same ? "same" : "different", score, threshold);
  if (same) words += *same == found_same ? "  right" : "  wrong";
  canvas.text(words, {kSide + 1.5 * kGap, kSide + kGap + 26.0}, 11, color, 0.5);
  return canvas.finished();
}

void write_face_pair(const std::string& path, const cv::Mat& first, const cv::Mat& second, double score,
                     double threshold) {
  write_image(path, draw_face_pair(first, second, score, threshold, std::nullopt));
}

}  // namespace zoo
