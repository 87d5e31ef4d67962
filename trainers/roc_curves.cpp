#include "trainers/roc_curves.h"

#include <algorithm>
#include <cmath>

#include "core/text.h"
#include "datasets/image.h"
#include "trainers/canvas.h"

namespace zoo {

namespace {

constexpr int kWidth = 900, kHeight = 640;
const cv::Rect2d kFrame(96, 76, 768, 490);

/// Where rates lie in the frame; a false accept rate of 0 lies on its left edge.
struct RateScale {
  double least_far = 1e-3, least_tar = 0;

  cv::Point2d place(double far, double tar) const {
    const double along = far <= least_far ? 0 : 1 - std::log(far) / std::log(least_far);
    const double up = (tar - least_tar) / (1 - least_tar);
    return {kFrame.x + along * kFrame.width, kFrame.y + (1 - std::max(up, -1.0)) * kFrame.height};
  }
};

RateScale scale_of(const std::vector<NamedRoc>& curves) {
  RateScale scale;
  double lowest = 1;
  for (const NamedRoc& curve : curves) {
    const double one = 1.0 / std::max<double>(10, static_cast<double>(curve.roc.impostor.size()));
    scale.least_far = std::clamp(std::pow(10, std::floor(std::log10(one))), 1e-6, scale.least_far);
  }
  for (const NamedRoc& curve : curves) {
    for (const auto& [far, tar] : roc_points(curve.roc)) {
      if (far >= scale.least_far) lowest = std::min(lowest, tar);
    }
  }
  scale.least_tar = std::min(0.9, std::floor(lowest * 10) / 10);
  return scale;
}

void draw_axes(Canvas& canvas, const RateScale& scale) {
  const double right = kFrame.x + kFrame.width, bottom = kFrame.y + kFrame.height;
  for (const double tick : linear_ticks(scale.least_tar, 1, 5)) {
    const double y = scale.place(1, tick).y;
    canvas.line({kFrame.x, y}, {right, y}, kGrid, 1);
    canvas.text(tick_label(tick), {kFrame.x - 10, y + 5}, 10, kQuietInk, 1);
  }
  for (const double tick : logarithmic_ticks(scale.least_far, 1)) {
    const double x = scale.place(tick, 1).x;
    canvas.line({x, kFrame.y}, {x, bottom}, kGrid, 1);
    canvas.text(tick_label(tick), {x, bottom + 22}, 10, kQuietInk, 0.5);
  }
  canvas.line({kFrame.x, bottom}, {right, bottom}, kQuietInk, 1.2);
  canvas.text("false accept rate", {right, bottom + 46}, 10, kQuietInk, 1);
  canvas.text("true accept rate", {kFrame.x, kFrame.y - 14}, 10, kQuietInk);
}

void draw_legend(Canvas& canvas, const std::vector<NamedRoc>& curves) {
  constexpr double kLine = 24, kLetters = 10;
  double y = kFrame.y + kFrame.height - 16 - kLine * static_cast<double>(curves.size() - 1);
  for (size_t i = 0; i < curves.size(); ++i, y += kLine) {
    const std::string name = format("%s  AUC %.4f", curves[i].name.c_str(), area_under_curve(curves[i].roc));
    const double right = kFrame.x + kFrame.width - 12;
    canvas.text(name, {right, y}, kLetters, kInk, 1, 2);
    const double left = right - canvas.text_width(name, kLetters);
    canvas.line({left - 30, y - 5}, {left - 10, y - 5}, kLineColors[i], 3);
  }
}

}  // namespace

void draw_roc(const std::string& png, const std::string& title, const std::vector<NamedRoc>& curves) {
  std::vector<NamedRoc> drawn;
  for (const NamedRoc& curve : curves) {
    const bool exists = !curve.roc.genuine.empty() && !curve.roc.impostor.empty();
    if (exists && drawn.size() < kMostLines) drawn.push_back(curve);
  }
  Canvas canvas(kWidth, kHeight);
  canvas.text(title, {kFrame.x, 36}, 16, kInk);
  const RateScale scale = scale_of(drawn);
  draw_axes(canvas, scale);
  for (size_t i = drawn.size(); i-- > 0;) {  // the first one lies on top
    std::vector<cv::Point2d> path;
    for (const auto& [far, tar] : roc_points(drawn[i].roc)) path.push_back(scale.place(far, tar));
    canvas.polyline(path, kFrame, kLineColors[i], i == 0 ? 2.6 : 1.8);
  }
  if (!drawn.empty()) draw_legend(canvas, drawn);
  write_image(png, canvas.finished());
}

}  // namespace zoo
