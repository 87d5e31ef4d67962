#pragma once
#include <string>
#include <utility>
#include <vector>

#include <opencv2/core.hpp>

namespace zoo {

// Pictures of lines and words for people. Lengths are in pixels of the finished picture; colours are RGB.

inline const cv::Scalar kInk(40, 44, 52), kQuietInk(110, 116, 128), kGrid(228, 231, 236),
    kPaper(255, 255, 255);
/// Colours of a panel's lines.
constexpr size_t kMostLines = 6;
inline const cv::Scalar kLineColors[kMostLines] = {{38, 98, 176}, {224, 112, 38}, {52, 148, 92},
                                                   {196, 58, 74}, {124, 92, 176}, {70, 160, 186}};

/// Draws at a multiple of the wanted size and scales down in the end.
class Canvas {
 public:
  Canvas(int width, int height);

  void line(const cv::Point2d& a, const cv::Point2d& b, const cv::Scalar& color, double width);
  void dot(const cv::Point2d& at, double radius, const cv::Scalar& color);
  /// Cut off at the frame.
  void polyline(const std::vector<cv::Point2d>& points, const cv::Rect2d& frame, const cv::Scalar& color,
                double width);
  /// `height` of capitals; `align` 0 left, 0.5 centred, 1 right of `at`, which is on the base line; `halo` of
  /// paper around the letters.
  void text(const std::string& words, const cv::Point2d& at, double height, const cv::Scalar& color,
            double align = 0, double halo = 0);
  double text_width(const std::string& words, double height) const;
  /// Puts a picture (RGB, 8 bits) there, at its own size.
  void picture(const cv::Mat& rgb, const cv::Point& corner);
  cv::Mat finished() const;

 private:
  cv::Mat fine_;
};

/// Round numbers inside [low, high], about `count` of them.
std::vector<double> linear_ticks(double low, double high, int count);
/// Powers of ten, with 2 and 5 times them where there are few.
std::vector<double> logarithmic_ticks(double low, double high);
/// 1500 -> 1.5k, 0.00025 -> 2.5e-4
std::string tick_label(double value);
/// The names of lines, the longest ones cut until all fit into `room` with `gap` behind each.
std::vector<std::string> names_that_fit(const Canvas& canvas, std::vector<std::string> names, double height,
                                        double gap, double room);

}  // namespace zoo
