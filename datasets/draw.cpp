#include "datasets/draw.h"

#include <algorithm>
#include <cmath>
#include <map>
#include <numeric>
#include <opencv2/imgproc.hpp>
#include <set>
#include <utility>

#include "core/text.h"

namespace zoo {
namespace {

constexpr int kSharpness = 4;  ///< letters and lines are drawn so many times larger and reduced
constexpr int kFont = cv::FONT_HERSHEY_DUPLEX;
constexpr int kCapHeight = 21;  ///< of the font at scale 1

/// sRGB of a colour in OKLCH (lightness, chroma, hue in degrees), cut to the gamut. B. Ottosson, "A
/// perceptual color space for image processing", 2020.
cv::Vec3b oklch(double lightness, double chroma, double degrees) {
  const double hue = degrees * CV_PI / 180, a = chroma * std::cos(hue), b = chroma * std::sin(hue);
  const double l = std::pow(lightness + 0.3963377774 * a + 0.2158037573 * b, 3);
  const double m = std::pow(lightness - 0.1055613458 * a - 0.0638541728 * b, 3);
  const double s = std::pow(lightness - 0.0894841775 * a - 1.2914855480 * b, 3);
  const double linear[3] = {4.0767416621 * l - 3.3077115913 * m + 0.2309699292 * s,
                            -1.2684380046 * l + 2.6097574011 * m - 0.3413193965 * s,
                            -0.0041960863 * l - 0.7034186147 * m + 1.7076147010 * s};
  cv::Vec3b color;
  for (int c = 0; c < 3; ++c) {
    const double value = std::clamp(linear[c], 0.0, 1.0);
    const double encoded = value <= 0.0031308 ? 12.92 * value : 1.055 * std::pow(value, 1 / 2.4) - 0.055;
    color[c] = static_cast<uint8_t>(std::lround(255 * encoded));
  }
  return color;
}

double luminance(const cv::Vec3b& color) {
  return 0.299 * color[0] + 0.587 * color[1] + 0.114 * color[2];
}

/// Printable ASCII, which is what the font has; another letter becomes a question mark.
std::string plain(const std::string& text) {
  std::string result;
  for (const char c : text) {
    const auto byte = static_cast<unsigned char>(c);
    if ((byte & 0xC0) == 0x80) continue;  // goes on with the letter before
    result += byte >= 0x20 && byte < 0x7F ? c : '?';
  }
  return result;
}

/// Width in pixels of a text with capitals of `height` pixels.
int text_width(const std::string& text, double height) {
  int baseline = 0;
  return static_cast<int>(std::ceil(cv::getTextSize(text, kFont, height / kCapHeight, 1, &baseline).width));
}

/// Shortened to `width` pixels.
std::string fitted(std::string text, double height, int width) {
  if (text_width(text, height) <= width) return text;
  while (text.size() > 1 && text_width(text + "..", height) > width) text.pop_back();
  return text + "..";
}

void blend(cv::Mat& image, const cv::Rect& place, const cv::Mat& alpha, const cv::Vec3b& color) {
  const cv::Rect inside = place & cv::Rect(0, 0, image.cols, image.rows);
  for (int y = inside.y; y < inside.y + inside.height; ++y) {
    auto* pixels = image.ptr<cv::Vec3b>(y);
    const uint8_t* weights = alpha.ptr<uint8_t>(y - place.y);
    for (int x = inside.x; x < inside.x + inside.width; ++x) {
      const int weight = weights[x - place.x];
      for (int c = 0; c < 3; ++c) {
        pixels[x][c] = static_cast<uint8_t>((pixels[x][c] * (255 - weight) + color[c] * weight + 127) / 255);
      }
    }
  }
}

/// A text whose capitals stand `height` pixels above `baseline`, from `x` on.
void draw_text(cv::Mat& image, const std::string& text, int x, int baseline, double height,
               const cv::Vec3b& color) {
  const int above = static_cast<int>(std::ceil(height * 1.5)),
            below = static_cast<int>(std::ceil(height * 0.6));
  const cv::Size size(text_width(text, height) + 4, above + below);
  cv::Mat large = cv::Mat::zeros(size * kSharpness, CV_8UC1), alpha;
  const double scale = height * kSharpness / kCapHeight;
  const int thickness = std::max(1, static_cast<int>(std::lround(scale * 1.9)));
  cv::putText(large, text, {kSharpness, above * kSharpness}, kFont, scale, 255, thickness, cv::LINE_AA);
  cv::resize(large, alpha, size, 0, 0, cv::INTER_AREA);
  blend(image, {x - 1, baseline - above, size.width, size.height}, alpha, color);
}

/// Rounded corners.
void fill_chip(cv::Mat& image, const cv::Rect& place, const cv::Vec3b& color) {
  const cv::Size size = place.size() * kSharpness;
  cv::Mat large = cv::Mat::zeros(size, CV_8UC1), alpha;
  const int radius = size.height / 6;
  cv::rectangle(large, {radius, 0}, {size.width - 1 - radius, size.height - 1}, 255, cv::FILLED);
  cv::rectangle(large, {0, radius}, {size.width - 1, size.height - 1 - radius}, 255, cv::FILLED);
  for (const int x : {radius, size.width - 1 - radius}) {
    for (const int y : {radius, size.height - 1 - radius}) cv::circle(large, {x, y}, radius, 255, cv::FILLED);
  }
  cv::resize(large, alpha, place.size(), 0, 0, cv::INTER_AREA);
  blend(image, place, alpha, color);
}

/// Lines of any width with soft edges: `alpha` is how much of each pixel the frame of the box covers.
void draw_frame(cv::Mat& image, const cv::Rect2d& box, double width, const cv::Vec3b& color, double opacity) {
  const double half = width / 2;
  const auto coverage = [](double low, double high, int pixel) {  // of [pixel, pixel + 1] by [low, high]
    return std::clamp(std::min(high, pixel + 1.0) - std::max(low, static_cast<double>(pixel)), 0.0, 1.0);
  };
  const double left = box.x - half, right = box.x + box.width + half, top = box.y - half,
               low = box.y + box.height + half;
  const int x0 = std::max(0, static_cast<int>(std::floor(left))),
            x1 = std::min(image.cols, static_cast<int>(std::ceil(right)));
  const int y0 = std::max(0, static_cast<int>(std::floor(top))),
            y1 = std::min(image.rows, static_cast<int>(std::ceil(low)));
  for (int y = y0; y < y1; ++y) {
    const double outer_y = coverage(top, low, y), inner_y = coverage(top + width, low - width, y);
    auto* pixels = image.ptr<cv::Vec3b>(y);
    for (int x = x0; x < x1; ++x) {
      const double inner = inner_y * coverage(left + width, right - width, x);
      const double weight = opacity * std::max(0.0, outer_y * coverage(left, right, x) - inner);
      if (inner >= 1) x = std::max(x, static_cast<int>(right - width) - 1);  // to the other side of the frame
      if (weight <= 0) continue;
      for (int c = 0; c < 3; ++c) {
        pixels[x][c] = static_cast<uint8_t>(std::lround(pixels[x][c] * (1 - weight) + color[c] * weight));
      }
    }
  }
}

/// Draws boxes and labels onto a picture that is large enough.
class Painter {
 public:
  /// `letter`: height of capitals in pixels.
  Painter(cv::Mat& image, double letter) : image_(image), line_(std::max(2.0, letter / 5)), letter_(letter) {}

  void paint(std::vector<DrawnBox> boxes, double scale) {
    boxes.erase(std::remove_if(boxes.begin(), boxes.end(),
                               [](const DrawnBox& box) {
                                 return !std::isfinite(box.x + box.y + box.w + box.h + box.score);
                               }),
                boxes.end());
    std::stable_sort(boxes.begin(), boxes.end(), [](const DrawnBox& a, const DrawnBox& b) {
      return a.score != b.score ? a.score < b.score : a.w * a.h > b.w * b.h;
    });
    for (const DrawnBox& box : boxes) frame(box, scale);
    for (auto box = boxes.rbegin(); box != boxes.rend(); ++box) label(*box, scale);
  }

 private:
  /// Where the box lies in this picture; ends far outside are drawn in to where none sees them.
  cv::Rect2d place_of(const DrawnBox& box, double scale) const {
    const double side = std::max(image_.cols, image_.rows);
    const auto kept = [&](double end) { return std::clamp(end * scale, -side, 2 * side); };
    const double x0 = kept(box.x), y0 = kept(box.y);
    return {x0, y0, kept(box.x + std::max(0.0, box.w)) - x0, kept(box.y + std::max(0.0, box.h)) - y0};
  }

  void frame(const DrawnBox& box, double scale) {
    const cv::Rect2d place = place_of(box, scale);
    // A shade sets the line off from a ground of its own colour.
    draw_frame(image_, place, line_ + 2, {0, 0, 0}, 0.35);
    draw_frame(image_, place, line_, palette_color(box.color), 1);
  }

  void label(const DrawnBox& box, double scale) {
    std::string text = plain(box.label);
    if (box.score >= 0) text += format("%s%.0f%%", text.empty() ? "" : " ", 100 * box.score);
    if (text.empty()) return;
    const int pad = static_cast<int>(std::lround(letter_ * 0.5));
    text = fitted(text, letter_, image_.cols - 2 * pad);
    const cv::Size size(text_width(text, letter_) + 2 * pad, static_cast<int>(std::lround(letter_ * 2)));
    const cv::Rect place = best_place(places_for(place_of(box, scale), size));
    if (covered(place) > 0 && named_.count(box.color) > 0) return;
    named_.insert(box.color);
    taken_.push_back(place);
    const cv::Vec3b color = palette_color(box.color);
    fill_chip(image_, place, color);
    const cv::Vec3b ink = luminance(color) > 140 ? cv::Vec3b(16, 16, 16) : cv::Vec3b(255, 255, 255);
    const int baseline = place.y + static_cast<int>(std::lround(letter_ * 1.5));
    draw_text(image_, text, place.x + pad, baseline, letter_, ink);
  }

  /// Pixels of a place that other labels have taken.
  int covered(const cv::Rect& place) const {
    int pixels = 0;
    for (const cv::Rect& other : taken_) pixels += (place & other).area();
    return pixels;
  }

  /// The first of those least covered.
  cv::Rect best_place(const std::vector<cv::Rect>& places) const {
    return *std::min_element(places.begin(), places.end(), [&](const cv::Rect& one, const cv::Rect& other) {
      return covered(one) < covered(other);
    });
  }

  /// Where a label may stand, best first: above the box, inside its top, below it, inside its bottom, each
  /// from the left end to the right one.
  std::vector<cv::Rect> places_for(const cv::Rect2d& box, const cv::Size& size) const {
    const double left = box.x - line_ / 2, right = std::max(left, box.x + box.width + line_ / 2 - size.width);
    const double bottom = box.y + box.height, half = line_ / 2;
    std::vector<cv::Rect> places;
    for (const double y : {box.y - size.height, box.y - half, bottom, bottom + half - size.height}) {
      if (y < -1 || y + size.height > image_.rows + 1) continue;
      for (const double part : {0.0, 1.0, 0.5, 0.25, 0.75}) {
        places.push_back(inside(cv::Rect(cv::Point2d(left + part * (right - left), y), size)));
      }
    }
    if (places.empty()) places.push_back(inside(cv::Rect(cv::Point2d(left, box.y), size)));
    return places;
  }

  /// Moved into the picture.
  cv::Rect inside(const cv::Rect& place) const {
    return {std::clamp(place.x, 0, std::max(0, image_.cols - place.width)),
            std::clamp(place.y, 0, std::max(0, image_.rows - place.height)), place.width, place.height};
  }

  cv::Mat& image_;
  double line_, letter_;
  std::vector<cv::Rect> taken_;
  std::set<int64_t> named_;
};

std::vector<DrawnBox> annotated_boxes(const DetectionDataset& dataset, const DetectionRecord& record) {
  std::map<int64_t, std::string> names;
  for (const Category& category : dataset.categories()) names.emplace(category.id, category.name);
  std::vector<DrawnBox> boxes;
  for (const ObjectAnnotation& object : record.objects) {
    const std::string label = names[object.category_id] + (object.crowd ? " (crowd)" : "");
    boxes.push_back(
        {object.box[0], object.box[1], object.box[2], object.box[3], label, -1, object.category_id});
  }
  return boxes;
}

/// A sample of the sheet with the place of its picture.
struct Tile {
  int64_t index;
  double aspect;  ///< width / height
  cv::Rect place;
};

constexpr int kSheetWidth = 1800, kGap = 14, kCaption = 30, kHeader = 64, kRowHeight = 400;
constexpr double kTileLetter = 9.5;

/// Deals the tiles to rows of about equal total aspect and stretches each row to the width of the sheet.
/// Returns the sheet's height.
int lay_out(std::vector<Tile>& tiles) {
  double total = 0, before = 0;
  for (const Tile& tile : tiles) total += tile.aspect;
  const double rows = std::max(1.0, std::round(total * kRowHeight / kSheetWidth));
  const auto row_of = [&](double place) { return std::min(rows - 1, std::floor(place / total * rows)); };
  int y = kHeader;
  for (size_t begin = 0, end = 0; begin < tiles.size(); begin = end) {
    const double row = row_of(before + tiles[begin].aspect / 2);
    double aspects = 0;
    for (; end < tiles.size() && row_of(before + tiles[end].aspect / 2) == row; ++end) {
      aspects += tiles[end].aspect;
      before += tiles[end].aspect;
    }
    const double height = (kSheetWidth - kGap * static_cast<double>(end - begin + 1)) / aspects;
    const int shown = static_cast<int>(std::lround(std::min<double>(height, 1.6 * kRowHeight)));
    double x = kGap;
    for (size_t i = begin; i < end; ++i) {
      const int width = std::max(1, static_cast<int>(tiles[i].aspect * shown));
      tiles[i].place = {static_cast<int>(std::lround(x)), y, width, shown};
      x += tiles[i].aspect * shown + kGap;
    }
    y += shown + kCaption + kGap;
  }
  return y;
}

void draw_tile(cv::Mat& sheet, const DetectionDataset& dataset, const Tile& tile) {
  const DetectionRecord& record = dataset.record(tile.index);
  const cv::Mat image = dataset.image(tile.index);
  const double scale = static_cast<double>(tile.place.width) / image.cols;
  cv::Mat scaled;
  cv::resize(image, scaled, tile.place.size(), 0, 0, scale < 1 ? cv::INTER_AREA : cv::INTER_CUBIC);
  Painter(scaled, kTileLetter).paint(annotated_boxes(dataset, record), scale);
  scaled.copyTo(sheet(tile.place));
  const std::string objects =
      format("%zu object%s", record.objects.size(), record.objects.size() == 1 ? "" : "s");
  const std::string caption =
      plain(record.file_name.empty() ? std::to_string(record.image_id) : record.file_name);
  const std::string count = "  -  " + objects;
  const std::string name = fitted(caption, 9, tile.place.width - text_width(count, 9));
  draw_text(sheet, name + count, tile.place.x, tile.place.y + tile.place.height + 19, 9, {90, 90, 90});
}

/// A row of the sheet of faces.
struct FaceRow {
  std::string name;
  std::vector<int64_t> records;
};

/// Up to `rows` rows that are spread over the set.
std::vector<FaceRow> face_rows(const FaceDataset& dataset, int64_t rows, int64_t pictures) {
  std::vector<FaceRow> all(dataset.identities().size());
  for (int64_t i = 0; i < dataset.size(); ++i) {
    const int64_t identity = dataset.identity(i);
    if (identity < 0) continue;
    FaceRow& row = all[static_cast<size_t>(identity)];
    row.name = dataset.identities()[static_cast<size_t>(identity)];
    if (static_cast<int64_t>(row.records.size()) < pictures) row.records.push_back(i);
  }
  all.erase(std::remove_if(all.begin(), all.end(), [](const FaceRow& row) { return row.records.empty(); }),
            all.end());
  for (int64_t i = 0; all.empty() && i < dataset.size(); i += pictures) {
    all.push_back({dataset.record(i).name, {}});
    for (int64_t k = i; k < std::min(dataset.size(), i + pictures); ++k) all.back().records.push_back(k);
    if (static_cast<int64_t>(all.size()) == rows) break;
  }
  const auto count = static_cast<int64_t>(all.size()), shown = std::min(rows, count);
  std::vector<FaceRow> result;
  for (int64_t i = 0; i < shown; ++i) result.push_back(all[static_cast<size_t>(i * count / shown)]);
  return result;
}

/// Puts a picture into the middle of `place`, as large as it fits; returns its scale there.
double draw_fitted(cv::Mat& sheet, const cv::Mat& image, const cv::Rect& place, cv::Point& corner) {
  const double scale =
      std::min(static_cast<double>(place.width) / image.cols, static_cast<double>(place.height) / image.rows);
  cv::Mat scaled;
  cv::resize(image, scaled, {}, scale, scale, scale < 1 ? cv::INTER_AREA : cv::INTER_CUBIC);
  corner = {place.x + (place.width - scaled.cols) / 2, place.y + (place.height - scaled.rows) / 2};
  const cv::Rect seen = cv::Rect(corner, scaled.size()) & cv::Rect(0, 0, sheet.cols, sheet.rows);
  scaled(seen - corner).copyTo(sheet(seen));
  return scale;
}

void draw_face(cv::Mat& sheet, const FaceDataset& dataset, int64_t index, const cv::Rect& place) {
  cv::Point corner;
  const double scale = draw_fitted(sheet, dataset.image(index), place, corner);
  const auto landmarks = dataset.record(index).landmarks;
  if (!landmarks) return;
  for (size_t i = 0; i < 10; i += 2) {
    const cv::Point at(static_cast<int>((static_cast<double>((*landmarks)[i]) + 0.5) * scale),
                       static_cast<int>((static_cast<double>((*landmarks)[i + 1]) + 0.5) * scale));
    cv::circle(sheet, corner + at, 3, cv::Scalar(0, 255, 0), cv::FILLED, cv::LINE_AA);
  }
}

/// Words in at most `most` lines of a width; what is too long ends in "..".
std::vector<std::string> broken_words(const std::string& words, double height, int width, size_t most) {
  std::vector<std::string> lines(1);
  for (const std::string& word : split(plain(words), ' ')) {
    const std::string longer = lines.back().empty() ? word : lines.back() + " " + word;
    if (lines.size() == most || lines.back().empty() || text_width(longer, height) <= width) {
      lines.back() = longer;
    } else {
      lines.push_back(word);
    }
  }
  for (std::string& line : lines) line = fitted(line, height, width);
  return lines;
}

}  // namespace

cv::Vec3b palette_color(int64_t index) {
  // Four levels keep apart the numbers whose distance is one of Fibonacci's, where the hues nearly meet.
  const double lightness[] = {0.72, 0.58, 0.82, 0.66}, chroma[] = {0.18, 0.18, 0.15, 0.23};
  const int64_t level = (index % 4 + 4) % 4;
  const double hue = 25 + 137.50776405 * static_cast<double>(index % 1000);  // the golden angle
  return oklch(lightness[level], chroma[level], hue);
}

cv::Mat draw_detections(const cv::Mat& rgb, const std::vector<DrawnBox>& boxes) {
  const int side = std::max(rgb.cols, rgb.rows);
  const int factor = side < 400 ? std::min(8, (400 + side - 1) / side) : 1;
  cv::Mat image;
  if (factor > 1) {
    cv::resize(rgb, image, rgb.size() * factor, 0, 0, cv::INTER_CUBIC);
  } else {
    image = rgb.clone();
  }
  const double large = std::max(image.cols, image.rows), small = std::min(image.cols, image.rows);
  Painter(image, std::clamp(large * 0.0165, 8.0, std::max(8.0, small / 8))).paint(boxes, factor);
  return image;
}

cv::Mat show_faces(const FaceDataset& dataset, int64_t identities, int64_t pictures) {
  const std::vector<FaceRow> rows = face_rows(dataset, identities, pictures);
  const int side = (kSheetWidth - kGap) / static_cast<int>(pictures) - kGap, step = side + kCaption + kGap;
  cv::Mat sheet(kHeader + step * static_cast<int>(rows.size()), kSheetWidth, CV_8UC3,
                cv::Scalar(250, 250, 250));
  draw_text(sheet, fitted(plain(dataset.description()), 14, kSheetWidth - 2 * kGap), kGap, 40, 14,
            {30, 30, 30});
  for (size_t r = 0; r < rows.size(); ++r) {
    const int y = kHeader + step * static_cast<int>(r);
    for (size_t i = 0; i < rows[r].records.size(); ++i) {
      draw_face(sheet, dataset, rows[r].records[i],
                {kGap + static_cast<int>(i) * (side + kGap), y, side, side});
    }
    draw_text(sheet, plain(rows[r].name), kGap, y + side + 19, 9, {90, 90, 90});
  }
  return sheet;
}

cv::Mat caption_sheet(const std::vector<CaptionedTile>& tiles, int64_t columns, const std::string& title) {
  constexpr int kLines = 3, kLineHeight = 18;
  constexpr double kLetter = 9;
  const int side = (kSheetWidth - kGap) / static_cast<int>(columns) - kGap,
            step = side + kLines * kLineHeight + kGap, top = title.empty() ? kGap : kHeader;
  const int rows =
      (static_cast<int>(tiles.size()) + static_cast<int>(columns) - 1) / static_cast<int>(columns);
  cv::Mat sheet(top + step * rows, kSheetWidth, CV_8UC3, cv::Scalar(250, 250, 250));
  draw_text(sheet, fitted(plain(title), 14, kSheetWidth - 2 * kGap), kGap, 40, 14, {30, 30, 30});
  for (size_t i = 0; i < tiles.size(); ++i) {
    const auto place = static_cast<int>(i), across = static_cast<int>(columns);
    const int x = kGap + place % across * (side + kGap), y = top + place / across * step;
    cv::Point corner;
    draw_fitted(sheet, tiles[i].rgb, {x, y, side, side}, corner);
    int baseline = y + side + kLineHeight;
    for (const std::string& line : broken_words(tiles[i].words, kLetter, side, kLines)) {
      draw_text(sheet, line, x, baseline, kLetter, {70, 70, 70});
      baseline += kLineHeight;
    }
  }
  return sheet;
}

cv::Mat show_captions(const CaptionDataset& dataset, int64_t count) {
  std::vector<CaptionedTile> tiles;
  const int64_t shown = std::min(std::max<int64_t>(count, 1), dataset.size());
  for (int64_t i = 0; i < shown; ++i) {
    const int64_t record = i * dataset.size() / shown;
    tiles.push_back({dataset.picture(record), dataset.captions(record)[0]});
  }
  return caption_sheet(
      tiles, 8, format("%s, %lld of them", dataset.description().c_str(), static_cast<long long>(shown)));
}

cv::Mat show_grid(const DetectionDataset& dataset, int64_t count) {
  std::vector<Tile> tiles;
  const int64_t shown = std::min(std::max<int64_t>(count, 1), dataset.size());
  for (int64_t i = 0; i < shown; ++i) {
    const int64_t index = i * dataset.size() / shown;
    const DetectionRecord& record = dataset.record(index);
    const double aspect =
        static_cast<double>(record.width) / static_cast<double>(std::max<int64_t>(record.height, 1));
    tiles.push_back({index, std::clamp(aspect, 0.2, 4.0), {}});
  }
  cv::Mat sheet(lay_out(tiles), kSheetWidth, CV_8UC3, cv::Scalar(250, 250, 250));
  const std::string title =
      format("%s, %lld of them", dataset.description().c_str(), static_cast<long long>(shown));
  draw_text(sheet, fitted(plain(title), 14, kSheetWidth - 2 * kGap), kGap, 40, 14, {30, 30, 30});
  for (const Tile& tile : tiles) draw_tile(sheet, dataset, tile);
  return sheet;
}

}  // namespace zoo
