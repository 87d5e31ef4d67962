#include "trainers/curves.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <optional>
#include <utility>
#include <vector>

#include "core/files.h"
#include "core/options.h"
#include "core/text.h"
#include "datasets/image.h"
#include "trainers/canvas.h"

namespace zoo {

namespace {

using Points = std::vector<cv::Point2d>;  // x is the step
using NamedPoints = std::vector<std::pair<std::string, Points>>;

// ------------------------------------------------------------------------------------------------ rows of
// the run

struct Run {
  std::string name;
  double last_step = 0, last_epoch = 0;
  NamedPoints loss, terms, metrics, rates;  ///< names in the order of their appearance
};

/// A number that can be drawn: neither NaN nor beyond all scales.
std::optional<double> drawable(const Json& value) {
  constexpr double kLargest = 1e30, kSmallest = 1e-30;
  if (!value.is_number()) return std::nullopt;
  const auto number = value.get<double>();
  if (!(std::abs(number) <= kLargest)) return std::nullopt;
  return std::abs(number) < kSmallest ? 0 : number;
}

std::optional<double> drawable(const Json& row, const char* key) {
  const auto found = row.find(key);
  return found == row.end() ? std::nullopt : drawable(*found);
}

void add_point(NamedPoints& all, const std::string& name, double step, const Json& value) {
  const std::optional<double> number = drawable(value);
  if (!number) return;
  auto found = std::find_if(all.begin(), all.end(), [&](const auto& one) { return one.first == name; });
  if (found == all.end()) found = all.insert(all.end(), {name, {}});
  found->second.emplace_back(step, *number);
}

/// The numbers of `row[key]`: an object of numbers, or one number, which is then called `key`.
void add_points(NamedPoints& all, double step, const Json& row, const char* key) {
  const auto found = row.find(key);
  if (found == row.end()) return;
  if (!found->is_object()) return add_point(all, key, step, *found);
  for (const auto& [name, value] : found->items()) add_point(all, name, step, value);
}

Run read_run(const std::string& metrics_jsonl) {
  Run run;
  for (const std::string& line : split(read_file(metrics_jsonl), '\n')) {
    const Json row = Json::parse(line, nullptr, false);
    if (!row.is_object()) continue;
    const std::optional<double> step = drawable(row, "step");
    const auto kind = row.find("kind");
    if (!step || *step < 0 || kind == row.end()) continue;
    run.last_step = std::max(run.last_step, *step);
    run.last_epoch = std::max(run.last_epoch, drawable(row, "epoch").value_or(0));
    if (*kind == "train") {
      add_points(run.loss, *step, row, "loss");
      add_points(run.terms, *step, row, "terms");
      add_points(run.rates, *step, row, "lr");
    } else if (*kind == "validation") {
      add_points(run.metrics, *step, row, "metrics");
    }
  }
  return run;
}

// ------------------------------------------------------------------------------------------------ what is
// shown

constexpr const char* kValidation = "Validation";

struct Line {
  std::string name;
  Points points, pale;  ///< pale: the single values below a smoothed line
  bool dots = false;
  std::optional<cv::Point2d> mark;  ///< a point to name by its value
};

struct Panel {
  std::string title;
  std::vector<Line> lines;
  bool logarithmic = false;
};

/// Means with weights that fall by e over an eightieth of the points to either side.
Points smoothed(const Points& points) {
  const double keep = std::exp(-80.0 / static_cast<double>(points.size()));
  Points result = points;
  std::vector<double> weights(points.size(), 1);
  const auto add_side = [&](int64_t begin,
                            int64_t step) {  // what lies before each point, in the order of walking
    double sum = 0, weight = 0;
    for (int64_t i = begin; i >= 0 && i < static_cast<int64_t>(points.size()); i += step) {
      const auto at = static_cast<size_t>(i);
      result[at].y += sum;
      weights[at] += weight;
      sum = keep * (sum + points[at].y);
      weight = keep * (weight + 1);
    }
  };
  add_side(0, 1);
  add_side(static_cast<int64_t>(points.size()) - 1, -1);
  for (size_t i = 0; i < result.size(); ++i) result[i].y /= weights[i];
  return result;
}

Line noisy_line(const std::string& name, const Points& points) {
  constexpr size_t kFewPoints = 40;
  if (points.size() < kFewPoints) return {name, points, {}, points.size() < kFewPoints / 2, {}};
  return {name, smoothed(points), points, false, {}};
}

/// The least and the greatest value of the lines.
std::pair<double, double> range_of(const std::vector<Line>& lines) {
  double low = std::numeric_limits<double>::infinity(), high = -low;
  for (const Line& line : lines) {
    for (const cv::Point2d& point : line.points) {
      low = std::min(low, point.y);
      high = std::max(high, point.y);
    }
  }
  return {low, high};
}

Panel noisy_panel(const std::string& title, const NamedPoints& all) {
  constexpr double kWideSpan = 20;
  Panel panel{title, {}};
  for (const auto& [name, points] : all) {
    if (panel.lines.size() < kMostLines) panel.lines.push_back(noisy_line(name, points));
  }
  const auto [low, high] = range_of(panel.lines);
  panel.logarithmic = low > 0 && high > kWideSpan * low;
  return panel;
}

/// `loss_ce_3` where there is a `loss_ce`: the same term of another layer.
bool repeats_another(const std::string& name, const NamedPoints& all) {
  const size_t at = name.rfind('_');
  int64_t layer = 0;
  if (at == std::string::npos || !parse_int(name.substr(at + 1), layer)) return false;
  return std::any_of(all.begin(), all.end(),
                     [&](const auto& one) { return one.first == name.substr(0, at); });
}

/// The terms that make up the loss where names tell (`loss…`), without that word; else all, one layer of
/// each.
NamedPoints terms_to_show(const NamedPoints& all) {
  NamedPoints terms, losses;
  for (const auto& term : all) {
    if (repeats_another(term.first, all)) continue;
    terms.push_back(term);
    if (starts_with(term.first, "loss_")) losses.emplace_back(term.first.substr(5), term.second);
  }
  return losses.empty() ? terms : losses;
}

double largest(const Points& points) {
  double size = 0;
  for (const cv::Point2d& point : points) size = std::max(size, std::abs(point.y));
  return size;
}

/// The main metric and, of the others, the first that are of its size.
Panel metrics_panel(const NamedPoints& all, const std::string& main_metric) {
  const bool less = starts_with(main_metric, "-");
  const std::string main_name = main_metric.substr(less ? 1 : 0);
  Panel panel{kValidation, {}};
  auto first = std::find_if(all.begin(), all.end(), [&](const auto& one) { return one.first == main_name; });
  if (first == all.end()) first = all.begin();
  if (first == all.end()) return panel;
  panel.lines.push_back({first->first, first->second, {}, true, {}});
  Line& main_line = panel.lines.front();
  main_line.mark = *std::max_element(main_line.points.begin(), main_line.points.end(),
                                     [&](auto& a, auto& b) { return less ? a.y > b.y : a.y < b.y; });
  const double size = largest(first->second);
  for (auto other = all.begin(); other != all.end(); ++other) {
    const double other_size = largest(other->second);
    const bool alike = (size <= 1 && other_size <= 1) || (other_size < 10 * size && size < 10 * other_size);
    if (other != first && alike && panel.lines.size() < kMostLines) {
      panel.lines.push_back({other->first, other->second, {}, other->second.size() < 20, {}});
    }
  }
  return panel;
}

Panel rates_panel(const NamedPoints& all) {
  Panel panel{"Learning rate", {}};
  for (const auto& [name, points] : all) {
    if (panel.lines.size() < kMostLines) panel.lines.push_back({name, points, {}, points.size() < 2, {}});
  }
  return panel;
}

std::vector<Panel> panels_of(const Run& run, const std::string& main_metric) {
  std::vector<Panel> panels = {noisy_panel("Training loss", run.loss),
                               metrics_panel(run.metrics, main_metric),
                               noisy_panel("Loss terms", terms_to_show(run.terms)), rates_panel(run.rates)};
  panels.erase(
      std::remove_if(panels.begin(), panels.end(), [](const Panel& panel) { return panel.lines.empty(); }),
      panels.end());
  return panels;
}

// ------------------------------------------------------------------------------------------------ drawing

constexpr int kPanelWidth = 720, kPanelHeight = 420, kTitleHeight = 76, kMargin = 14;
constexpr double kLegendHeight = 10, kLegendGap = 40;

/// Where values lie in the frame of a panel.
struct Scale {
  cv::Rect2d frame;
  double last_step, low_y, high_y;
  bool logarithmic;

  double height(double y) const { return logarithmic ? std::log(y) : y; }
  cv::Point2d place(const cv::Point2d& point) const {
    const double up = (height(point.y) - height(low_y)) / (height(high_y) - height(low_y));
    return {frame.x + point.x / last_step * frame.width,
            frame.y + (1 - std::clamp(up, -2.0, 3.0)) * frame.height};
  }
  bool shows(const cv::Point2d& point) const { return !logarithmic || point.y > 0; }
};

/// The values to show: all of the lines, and of the single values all but the most extreme ones.
std::pair<double, double> range_to_show(const Panel& panel) {
  constexpr double kTail = 0.005;
  auto [low, high] = range_of(panel.lines);
  for (const Line& line : panel.lines) {
    std::vector<double> values;
    for (const cv::Point2d& point : line.pale) {
      if (!panel.logarithmic || point.y > 0) values.push_back(point.y);
    }
    if (values.empty()) continue;
    std::sort(values.begin(), values.end());
    const auto tail = static_cast<size_t>(kTail * static_cast<double>(values.size()));
    low = std::min(low, values[tail]);
    high = std::max(high, values[values.size() - 1 - tail]);
  }
  return {low, high};
}

Scale scale_of(const Panel& panel, double last_step, const cv::Rect2d& frame) {
  constexpr double kRoom = 0.06;
  auto [low, high] = range_to_show(panel);
  last_step = std::max(last_step, 1.0);
  if (panel.logarithmic) {
    const double room = std::pow(high / low, kRoom);
    return {frame, last_step, low / room, high * room, true};
  }
  if (low > 0 && low < 0.5 * high) low = 0;
  const double size = std::max(std::abs(low), std::abs(high));
  if (high - low <= 1e-6 * size) low -= 0.5 * size, high += 0.5 * size;
  if (low == high) high = 1;
  const double room = kRoom * (high - low);
  return {frame, last_step, low == 0 ? 0 : low - room, high + room, false};
}

void draw_axes(Canvas& canvas, const Scale& scale) {
  const cv::Rect2d& frame = scale.frame;
  const double right = frame.x + frame.width, bottom = frame.y + frame.height;
  const std::vector<double> ticks_y = scale.logarithmic ? logarithmic_ticks(scale.low_y, scale.high_y)
                                                        : linear_ticks(scale.low_y, scale.high_y, 6);
  for (const double tick : ticks_y) {
    const double y = scale.place({0, tick}).y;
    canvas.line({frame.x, y}, {right, y}, kGrid, 1);
    canvas.text(tick_label(tick), {frame.x - 10, y + 5}, 10, kQuietInk, 1);
  }
  for (const double tick : linear_ticks(0, scale.last_step, 6)) {
    const double x = scale.place({tick, scale.high_y}).x;
    canvas.line({x, bottom}, {x, bottom + 5}, kQuietInk, 1);
    canvas.text(tick_label(tick), {x, bottom + 22}, 10, kQuietInk, 0.5);
  }
  canvas.line({frame.x, bottom}, {right, bottom}, kQuietInk, 1.2);
  canvas.text("step", {right, bottom + 42}, 10, kQuietInk, 1);
}

/// Half-way to the paper and further.
cv::Scalar pale(const cv::Scalar& color) {
  return color * 0.28 + kPaper * 0.72;
}

void draw_points(Canvas& canvas, const Scale& scale, const Points& points, const cv::Scalar& color,
                 double width) {
  Points path;
  for (const cv::Point2d& point : points) {
    if (scale.shows(point)) path.push_back(scale.place(point));
  }
  canvas.polyline(path, scale.frame, color, width);
}

void draw_line(Canvas& canvas, const Scale& scale, const Line& line, const cv::Scalar& color, double width) {
  draw_points(canvas, scale, line.points, color, width);
  for (const cv::Point2d& point : line.points) {
    if (line.dots && scale.shows(point)) canvas.dot(scale.place(point), width * 1.5, color);
  }
  if (!line.mark) return;
  const cv::Point2d at = scale.place(*line.mark);
  canvas.dot(at, 7, kPaper);
  canvas.dot(at, 5, color);
  const std::string label = format("best %.4g", line.mark->y);
  const double room = scale.frame.x + scale.frame.width - at.x, width_of_label = canvas.text_width(label, 11);
  canvas.text(label, {at.x + std::min(0.0, room - width_of_label / 2), at.y - 13}, 11, color, 0.5, 2.5);
}

/// In one row above the frame, from the right; nothing for a single line that the title names.
void draw_legend(Canvas& canvas, const Panel& panel, double left, double right, double base) {
  if (panel.lines.size() == 1 && panel.title != kValidation) return;
  std::vector<std::string> names;
  for (const Line& line : panel.lines) names.push_back(line.name);
  names = names_that_fit(canvas, std::move(names), kLegendHeight, kLegendGap, right - left);
  double x = right;
  for (size_t i = names.size(); i-- > 0;) {
    x -= canvas.text_width(names[i], kLegendHeight);
    canvas.text(names[i], {x, base}, kLegendHeight, kInk);
    canvas.line({x - 24, base - 5}, {x - 7, base - 5}, kLineColors[i], 3);
    x -= kLegendGap;
  }
}

void draw_panel(Canvas& canvas, const Panel& panel, double last_step, const cv::Rect& place) {
  const cv::Rect2d frame(place.x + 72, place.y + 48, place.width - 96, place.height - 104);
  const Scale scale = scale_of(panel, last_step, frame);
  constexpr double kHeight = 13;
  canvas.text(panel.title, {frame.x, frame.y - 18}, kHeight, kInk);
  const double title_end = frame.x + canvas.text_width(panel.title, kHeight);
  draw_legend(canvas, panel, title_end, frame.x + frame.width, frame.y - 18);
  draw_axes(canvas, scale);
  for (size_t i = 0; i < panel.lines.size(); ++i)
    draw_points(canvas, scale, panel.lines[i].pale, pale(kLineColors[i]), 1);
  for (size_t i = panel.lines.size(); i-- > 0;) {  // the first one lies on top
    draw_line(canvas, scale, panel.lines[i], kLineColors[i], i == 0 ? 2.6 : 1.8);
  }
}

std::string subtitle(const Run& run) {
  std::string text = format("%s steps", with_thousands(static_cast<int64_t>(run.last_step)).c_str());
  if (run.last_epoch > 0) text += format(", %.4g epochs", run.last_epoch);
  return text;
}

}  // namespace

void draw_curves(const std::string& metrics_jsonl, const std::string& png, const std::string& main_metric) {
  Run run = read_run(metrics_jsonl);
  const std::vector<Panel> panels = panels_of(run, main_metric);
  const int columns = panels.size() > 1 ? 2 : 1, rows = std::max(1, static_cast<int>(panels.size() + 1) / 2);
  Canvas canvas(columns * kPanelWidth + 2 * kMargin, kTitleHeight + rows * kPanelHeight + kMargin);
  const std::string name = file_name(parent_folder(metrics_jsonl));
  canvas.text(name == "." ? "Training" : name, {kMargin + 72.0, 40}, 17, kInk);
  canvas.text(subtitle(run), {kMargin + 72.0, 64}, 11, kQuietInk);
  for (size_t i = 0; i < panels.size(); ++i) {
    const int column = static_cast<int>(i) % columns, row = static_cast<int>(i) / columns;
    const cv::Point corner(kMargin + column * kPanelWidth, kTitleHeight + row * kPanelHeight);
    draw_panel(canvas, panels[i], run.last_step, {corner, cv::Size(kPanelWidth, kPanelHeight)});
  }
  write_image(png, canvas.finished());
}

}  // namespace zoo
