#include "trainers/tasks/margin_regions.h"

#include <torch/torch.h>

#include <algorithm>
#include <opencv2/imgproc.hpp>

#include "core/error.h"
#include "core/numbers.h"
#include "core/text.h"
#include "models/face_losses/classifier.h"
#include "trainers/canvas.h"

namespace zoo {

namespace {

constexpr int kSide = 240, kFiner = 3;  // of a panel's square; computed at a multiple and scaled down
constexpr int kLeft = 52, kTop = 44, kRegionWidth = 320, kRegionHeight = 344;
constexpr size_t kRegionsInRow = 3;
const cv::Scalar kNeither(246, 246, 248);

/// Whether a sample's own logit is the larger one, at its own cosine and the other class's.
torch::Tensor wins(ClassifierLossImpl& loss, const torch::Tensor& own, const torch::Tensor& other) {
  const auto [own_logit, other_logit] = loss.logits_at(own, other, torch::ones_like(own));
  return own_logit.gt(other_logit).to(torch::kUInt8);
}

/// The centres of a square of pixels: θ1 goes right, θ2 up. [side,side] uint8
torch::Tensor regions_of_square(const FaceLossOptions& options, int64_t side) {
  const torch::Tensor angles =
      (torch::arange(side, torch::kDouble) + 0.5) * (kPi / 2 / static_cast<double>(side));
  const std::vector<torch::Tensor> grid = torch::meshgrid({angles.flip(0), angles}, "ij");
  return margin_regions(options, grid[1].flatten(), grid[0].flatten()).view({side, side});
}

void paint_region(cv::Mat& rgb, const cv::Mat& inside, const cv::Scalar& color) {
  rgb.setTo(0.35 * color + 0.65 * kPaper, inside);
  cv::Mat within;
  cv::erode(inside, within, cv::getStructuringElement(cv::MORPH_ELLIPSE, {11, 11}));
  rgb.setTo(color, inside - within);
}

/// Colours the panel's square, and puts a class's number into the middle of its region.
void draw_regions(Canvas& canvas, const cv::Point2d& corner, const FaceLossOptions& options) {
  torch::Tensor regions = regions_of_square(options, int64_t{kSide} * kFiner).contiguous();
  const cv::Mat numbers(kSide * kFiner, kSide * kFiner, CV_8U, regions.data_ptr<uint8_t>());
  cv::Mat rgb(numbers.size(), CV_8UC3, kNeither), picture;
  rgb.setTo(kGrid, numbers == 3);
  for (const int number : {1, 2}) paint_region(rgb, numbers == number, kLineColors[number - 1]);
  cv::resize(rgb, picture, {kSide, kSide}, 0, 0, cv::INTER_AREA);
  canvas.picture(picture, {cvRound(corner.x), cvRound(corner.y)});
  for (const int number : {1, 2}) {
    const cv::Moments area = cv::moments(numbers == number, /*binaryImage=*/true);
    if (area.m00 == 0) continue;
    const cv::Point2d middle(area.m10 / area.m00 / kFiner, area.m01 / area.m00 / kFiner);
    canvas.text(std::to_string(number), corner + middle + cv::Point2d(0, 8), 16, kLineColors[number - 1],
                0.5);
  }
}

void draw_angle_axes(Canvas& canvas, const cv::Point2d& corner) {
  const double bottom = corner.y + kSide;
  for (const int degrees : {0, 30, 60, 90}) {
    const double along = kSide * degrees / 90.0;
    canvas.line({corner.x + along, bottom}, {corner.x + along, bottom + 4}, kQuietInk, 1);
    canvas.line({corner.x - 4, bottom - along}, {corner.x, bottom - along}, kQuietInk, 1);
    canvas.text(std::to_string(degrees), {corner.x + along, bottom + 18}, 9, kQuietInk, 0.5);
    canvas.text(std::to_string(degrees), {corner.x - 8, bottom - along + 4}, 9, kQuietInk, 1);
  }
  canvas.line({corner.x, corner.y}, {corner.x, bottom}, kQuietInk, 1);
  canvas.line({corner.x, bottom}, {corner.x + kSide, bottom}, kQuietInk, 1);
  canvas.text("angle to class 1, degrees", {corner.x + kSide / 2.0, bottom + 38}, 9, kQuietInk, 0.5);
  canvas.text("to class 2", {corner.x - 8, corner.y - 12}, 9, kQuietInk, 0.5);
}

void draw_region_panel(Canvas& canvas, const cv::Point2d& corner, const std::string& title,
                       const FaceLossOptions& options) {
  const cv::Point2d square = corner + cv::Point2d(kLeft, kTop);
  draw_regions(canvas, square, options);
  canvas.line(square + cv::Point2d(0, kSide), square + cv::Point2d(kSide, 0), kQuietInk, 0.8);
  draw_angle_axes(canvas, square);
  canvas.text(title, {square.x + kSide / 2.0 + 20, corner.y + 24}, 12, kInk, 0.5);
}

}  // namespace

torch::Tensor margin_regions(const FaceLossOptions& options, const torch::Tensor& angle1,
                             const torch::Tensor& angle2) {
  const std::shared_ptr<FaceLossImpl> loss = make_face_loss(options, 2, 2, 0);
  auto* softmax = dynamic_cast<ClassifierLossImpl*>(loss.get());
  if (softmax == nullptr)
    throw UsageError("loss.name=" + options.name +
                     " decides by no logits, expected a softmax over class rows");
  const torch::NoGradGuard no_grad;
  softmax->eval();
  const torch::Tensor cosine1 = angle1.to(torch::kDouble).cos(), cosine2 = angle2.to(torch::kDouble).cos();
  return wins(*softmax, cosine1, cosine2) + 2 * wins(*softmax, cosine2, cosine1);
}

cv::Mat draw_margin_regions(const std::vector<std::pair<std::string, FaceLossOptions>>& losses) {
  const size_t across = std::min(kRegionsInRow, losses.size());
  const size_t down = (losses.size() + kRegionsInRow - 1) / kRegionsInRow;
  Canvas canvas(static_cast<int>(across) * kRegionWidth, static_cast<int>(down) * kRegionHeight);
  for (size_t i = 0; i < losses.size(); ++i) {
    const cv::Point2d corner(static_cast<double>(i % kRegionsInRow) * kRegionWidth,
                             static_cast<double>(i / kRegionsInRow) * kRegionHeight);
    draw_region_panel(canvas, corner, losses[i].first, losses[i].second);
  }
  return canvas.finished();
}

}  // namespace zoo
