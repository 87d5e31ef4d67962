#include "trainers/action_timeline.h"

#include <algorithm>
#include <cmath>
#include <opencv2/imgproc.hpp>
#include <stdexcept>

#include "core/error.h"
#include "core/text.h"
#include "trainers/canvas.h"

namespace zoo {

namespace {

constexpr int kLeft = 96, kBandWidth = 1040, kTimelineWidth = kLeft + kBandWidth + 32;
constexpr int kBandHeight = 44, kTruthTop = 64, kPredictedTop = kTruthTop + kBandHeight + 10;
constexpr int kScoresTop = kPredictedTop + kBandHeight + 26, kScoresHeight = 150;
constexpr int kScoresBottom = kScoresTop + kScoresHeight, kLegendTop = kScoresBottom + 64;
constexpr double kLegendRow = 22, kLetters = 10;
const cv::Scalar kAmbiguousColor(196, 200, 206), kBlank(245, 246, 248);

/// Steps of a video as plain numbers, and the classes that the picture shows.
class TimelineData {
 public:
  explicit TimelineData(const ActionTimeline& timeline)
      : scores_(timeline.scores.to(torch::kCPU, torch::kDouble).contiguous()) {
    if (timeline.labels.defined())
      labels_ = timeline.labels.to(torch::kCPU).ne(0).to(torch::kByte).contiguous();
    if (timeline.ambiguous.defined()) ambiguous_ = timeline.ambiguous.to(torch::kCPU).contiguous();
    std::vector<std::pair<int64_t, int64_t>> counts;  // steps, -class
    for (int64_t c = 1; c < classes(); ++c) {
      int64_t count = 0;
      for (int64_t step = 0; step < steps(); ++step) count += has(step, c) || best(step) == c ? 1 : 0;
      if (count > 0) counts.emplace_back(count, -c);
    }
    std::sort(counts.rbegin(), counts.rend());
    for (const auto& [count, negated] : counts) shown_.push_back(-negated);
  }

  int64_t steps() const { return scores_.size(0); }
  int64_t classes() const { return scores_.size(1); }
  bool labelled() const { return labels_.defined(); }
  bool any_ambiguous() const { return ambiguous_.defined() && ambiguous_.any().item<bool>(); }
  double score(int64_t step, int64_t c) const {
    return scores_.const_data_ptr<double>()[step * classes() + c];
  }
  bool has(int64_t step, int64_t c) const {
    return labelled() && labels_.const_data_ptr<uint8_t>()[step * classes() + c] != 0;
  }
  bool ambiguous(int64_t step) const {
    return ambiguous_.defined() && ambiguous_.const_data_ptr<bool>()[step];
  }
  int64_t best(int64_t step) const {
    const double* row = scores_.const_data_ptr<double>() + step * classes();
    return std::max_element(row, row + classes()) - row;
  }
  /// Classes beside background that are true or predicted anywhere, those of most steps first.
  const std::vector<int64_t>& shown() const { return shown_; }
  cv::Scalar color(int64_t c) const {
    const auto place = static_cast<size_t>(std::find(shown_.begin(), shown_.end(), c) - shown_.begin());
    if (place < kMostLines) return kLineColors[place];
    const double hue = std::fmod(0.12 + 0.618034 * static_cast<double>(place), 1.0) * 360;
    cv::Mat one(1, 1, CV_32FC3, cv::Scalar(hue, 0.45, 0.78));
    cv::cvtColor(one, one, cv::COLOR_HSV2RGB);
    return cv::Scalar(one.at<cv::Vec3f>(0)) * 255;
  }

 private:
  torch::Tensor scores_, labels_, ambiguous_;
  std::vector<int64_t> shown_;
};

/// A row of columns of one pixel; fill(step, column) paints one.
template <class Fill>
cv::Mat band_of(const TimelineData& data, const Fill& fill) {
  cv::Mat band(kBandHeight, kBandWidth, CV_8UC3, kBlank);
  for (int x = 0; x < kBandWidth; ++x) {
    const int64_t step = (2 * x + 1) * data.steps() / (2 * kBandWidth);
    cv::Mat column = band.col(x);
    fill(step, column);
  }
  return band;
}

cv::Mat truth_band(const TimelineData& data) {
  return band_of(data, [&](int64_t step, cv::Mat& column) {
    std::vector<int64_t> present;
    for (const int64_t c : data.shown()) {
      if (data.has(step, c)) present.push_back(c);
    }
    if (data.ambiguous(step)) column.setTo(kAmbiguousColor);
    for (size_t i = 0; i < present.size(); ++i) {
      const auto share = [&](size_t part) { return static_cast<int>(part * kBandHeight / present.size()); };
      column.rowRange(share(i), share(i + 1)).setTo(data.color(present[i]));
    }
  });
}

cv::Mat predicted_band(const TimelineData& data) {
  return band_of(data, [&](int64_t step, cv::Mat& column) {
    const int64_t c = data.best(step);
    if (c == 0) return;
    const double strength = 0.3 + 0.7 * std::clamp(data.score(step, c), 0.0, 1.0);
    column.setTo(data.color(c) * strength + kPaper * (1 - strength));
  });
}

void draw_time_axis(Canvas& canvas, double seconds) {
  const double right = kLeft + kBandWidth;
  for (const double tick : linear_ticks(0, seconds, 10)) {
    const double x = kLeft + tick / seconds * kBandWidth;
    canvas.line({x, kScoresTop}, {x, kScoresBottom}, kGrid, 1);
    canvas.text(format("%g", tick + 0.0), {x, kScoresBottom + 20}, kLetters, kQuietInk, 0.5);
  }
  canvas.line({kLeft, kScoresBottom}, {right, kScoresBottom}, kQuietInk, 1.2);
  canvas.text("seconds", {right, kScoresBottom + 40}, kLetters, kQuietInk, 1);
}

void draw_score_lines(Canvas& canvas, const TimelineData& data) {
  const cv::Rect2d frame(kLeft, kScoresTop, kBandWidth, kScoresHeight);
  for (const double level : {0.0, 0.5, 1.0}) {
    const double y = kScoresBottom - level * kScoresHeight;
    canvas.line({frame.x, y}, {frame.x + frame.width, y}, kGrid, 1);
    canvas.text(format("%g", level), {frame.x - 10, y + 5}, kLetters, kQuietInk, 1);
  }
  for (size_t i = std::min(kMostLines, data.shown().size()); i-- > 0;) {  // the first one lies on top
    std::vector<cv::Point2d> path;
    for (int64_t step = 0; step < data.steps(); ++step) {
      const double along = (static_cast<double>(step) + 0.5) / static_cast<double>(data.steps());
      path.emplace_back(kLeft + along * kBandWidth,
                        kScoresBottom - data.score(step, data.shown()[i]) * kScoresHeight);
    }
    canvas.polyline(path, frame, data.color(data.shown()[i]), 1.6);
  }
}

/// The legend's entries: colours and names.
std::vector<std::pair<cv::Scalar, std::string>> legend_of(const TimelineData& data,
                                                          const std::vector<std::string>& names) {
  std::vector<std::pair<cv::Scalar, std::string>> entries;
  for (const int64_t c : data.shown()) {
    const auto place = static_cast<size_t>(c);
    entries.emplace_back(data.color(c), place < names.size() ? names[place] : "class " + std::to_string(c));
  }
  if (data.any_ambiguous()) entries.emplace_back(kAmbiguousColor, "ambiguous");
  return entries;
}

/// Draws the entries in rows, or only counts the rows.
int legend_rows(Canvas& canvas, const std::vector<std::pair<cv::Scalar, std::string>>& entries, bool draw) {
  double x = kLeft;
  int row = 0;
  for (const auto& [color, name] : entries) {
    const double width = canvas.text_width(name, kLetters) + 46;
    if (x > kLeft && x + width > kLeft + kBandWidth) x = kLeft, ++row;
    const double y = kLegendTop + row * kLegendRow;
    if (draw) {
      canvas.line({x + 4, y - 5}, {x + 14, y - 5}, color, 9);
      canvas.text(name, {x + 24, y}, kLetters, kInk);
    }
    x += width;
  }
  return row + 1;
}

}  // namespace

cv::Mat draw_action_timeline(const ActionTimeline& timeline) {
  if (timeline.scores.dim() != 2 || timeline.scores.size(0) == 0)
    throw std::invalid_argument("draw_action_timeline: no steps");
  const TimelineData data(timeline);
  const auto legend = legend_of(data, timeline.class_names);
  Canvas ruler(1, 1);
  const int rows = legend_rows(ruler, legend, false);
  Canvas canvas(kTimelineWidth, kLegendTop + static_cast<int>(kLegendRow) * rows);
  canvas.text(timeline.title, {kLeft, 34}, 16, kInk);
  draw_time_axis(canvas, static_cast<double>(data.steps()) / timeline.steps_per_second);
  draw_score_lines(canvas, data);
  const auto band = [&](const std::string& name, int top, const cv::Mat& picture) {
    canvas.text(name, {kLeft - 12, top + kBandHeight / 2.0 + 5}, 11, kQuietInk, 1);
    canvas.picture(picture, {kLeft, top});
  };
  if (data.labelled()) band("truth", kTruthTop, truth_band(data));
  band(timeline.scores_name, kPredictedTop, predicted_band(data));
  legend_rows(canvas, legend, true);
  return canvas.finished();
}

cv::Mat show_actions(const ActionDataset& videos, int64_t count) {
  if (!videos.labelled()) throw Error(videos.description() + ": has no labels to show");
  std::vector<cv::Mat> pictures;
  int height = 0;
  for (int64_t i = 0; i < std::min(count, videos.size()); ++i) {
    const LabelTable& labels = videos.labels(i);
    pictures.push_back(draw_action_timeline({videos.name(i),
                                             videos.class_names(),
                                             labels.tensor(),
                                             {},
                                             labels.ambiguous_tensor(),
                                             videos.steps_per_second(),
                                             "truth"}));
    height += pictures.back().rows;
  }
  cv::Mat sheet(height, kTimelineWidth, CV_8UC3);
  int top = 0;
  for (const cv::Mat& picture : pictures) {
    picture.copyTo(sheet.rowRange(top, top + picture.rows));
    top += picture.rows;
  }
  return sheet;
}

}  // namespace zoo
