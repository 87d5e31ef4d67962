#include "trainers/canvas.h"

#include <algorithm>
#include <cmath>
#include <opencv2/imgproc.hpp>

#include "core/text.h"

namespace zoo {

namespace {

constexpr int kSharpness = 3, kShift = 4;
constexpr int kFont = cv::FONT_HERSHEY_DUPLEX;

cv::Point fixed(const cv::Point2d& point) {
  constexpr double kUnit = kSharpness * (1 << kShift);
  return {cvRound(point.x * kUnit), cvRound(point.y * kUnit)};
}

int thickness(double width) {
  return std::max(1, cvRound(width * kSharpness));
}

double font_scale(double height) {
  return cv::getFontScaleFromHeight(kFont, cvRound(height * kSharpness));
}

/// OpenCV's letters are ASCII.
std::string printable(std::string words) {
  for (char& letter : words) letter = letter < ' ' || letter > '~' ? '?' : letter;
  return words;
}

}  // namespace

Canvas::Canvas(int width, int height) : fine_(height * kSharpness, width * kSharpness, CV_8UC3, kPaper) {}

void Canvas::line(const cv::Point2d& a, const cv::Point2d& b, const cv::Scalar& color, double width) {
  cv::line(fine_, fixed(a), fixed(b), color, thickness(width), cv::LINE_AA, kShift);
}

void Canvas::dot(const cv::Point2d& at, double radius, const cv::Scalar& color) {
  const auto size = static_cast<int>(radius * kSharpness * (1 << kShift));
  cv::circle(fine_, fixed(at), size, color, cv::FILLED, cv::LINE_AA, kShift);
}

void Canvas::polyline(const std::vector<cv::Point2d>& points, const cv::Rect2d& frame,
                      const cv::Scalar& color, double width) {
  const cv::Rect inside(cvRound((frame.x - 4) * kSharpness), cvRound(frame.y * kSharpness),
                        cvRound((frame.width + 8) * kSharpness), cvRound(frame.height * kSharpness));
  const cv::Point2d corner(inside.x / static_cast<double>(kSharpness),
                           inside.y / static_cast<double>(kSharpness));
  std::vector<cv::Point> path;
  for (const cv::Point2d& point : points) path.push_back(fixed(point - corner));
  cv::Mat part = fine_(inside);
  cv::polylines(part, path, false, color, thickness(width), cv::LINE_AA, kShift);
}

void Canvas::text(const std::string& words, const cv::Point2d& at, double height, const cv::Scalar& color,
                  double align, double halo) {
  const double x = at.x - align * text_width(words, height);
  const cv::Point origin(cvRound(x * kSharpness), cvRound(at.y * kSharpness));
  const auto put = [&](const cv::Scalar& ink, double width) {
    cv::putText(fine_, printable(words), origin, kFont, font_scale(height), ink, thickness(width),
                cv::LINE_AA);
  };
  if (halo > 0) put(kPaper, height / 9 + 2 * halo);
  put(color, height / 9);
}

double Canvas::text_width(const std::string& words, double height) const {
  int below = 0;
  return cv::getTextSize(printable(words), kFont, font_scale(height), thickness(height / 9), &below).width /
         static_cast<double>(kSharpness);
}

void Canvas::picture(const cv::Mat& rgb, const cv::Point& corner) {
  cv::Mat fine;
  cv::resize(rgb, fine, {}, kSharpness, kSharpness, cv::INTER_NEAREST);
  fine.copyTo(fine_(cv::Rect(corner * kSharpness, fine.size())));
}

cv::Mat Canvas::finished() const {
  cv::Mat result;
  cv::resize(fine_, result, {}, 1.0 / kSharpness, 1.0 / kSharpness, cv::INTER_AREA);
  return result;
}

std::vector<double> linear_ticks(double low, double high, int count) {
  const double raw = (high - low) / count, power = std::pow(10, std::floor(std::log10(raw)));
  double step = 10 * power;
  for (const double factor : {5.0, 2.5, 2.0, 1.0}) {
    if (factor * power >= raw) step = factor * power;
  }
  std::vector<double> ticks;
  for (double k = std::ceil(low / step - 1e-9); k * step <= high + 1e-9 * step; ++k)
    ticks.push_back(k * step);
  return ticks;
}

std::vector<double> logarithmic_ticks(double low, double high) {
  const double decades = std::log10(high / low);
  std::vector<double> ticks;
  const int stride = std::max(1, static_cast<int>(std::lround(decades / 6)));
  for (int power = static_cast<int>(std::floor(std::log10(low))); power <= std::log10(high);
       power += stride) {
    for (const double factor : {1.0, 2.0, 5.0}) {
      const double tick = factor * std::pow(10, power);
      if (tick >= low && tick <= high && (factor == 1 || decades < 2.5)) ticks.push_back(tick);
    }
  }
  return ticks;
}

std::string tick_label(double value) {
  const double size = std::abs(value);
  if (size < 1e-29) return "0";
  if (size >= 1e12 || size < 1e-2) {
    const int power = static_cast<int>(std::floor(std::log10(size) + 1e-9));
    return format("%.3ge%d", value / std::pow(10, power), power);
  }
  for (const auto& [unit, letter] : {std::pair(1e9, "G"), {1e6, "M"}, {1e3, "k"}}) {
    if (size >= unit) return format("%.4g%s", value / unit, letter);
  }
  return format("%.3g", value);
}

std::vector<std::string> names_that_fit(const Canvas& canvas, std::vector<std::string> names, double height,
                                        double gap, double room) {
  const auto width = [&] {
    double sum = 0;
    for (const std::string& name : names) sum += canvas.text_width(name, height) + gap;
    return sum;
  };
  while (width() > room) {
    std::string& longest = *std::max_element(
        names.begin(), names.end(), [](const auto& a, const auto& b) { return a.size() < b.size(); });
    if (longest.size() < 4) break;
    longest.replace(longest.size() - 3, 3, "..");
  }
  return names;
}

}  // namespace zoo
