#include <algorithm>
#include <cmath>

#include "core/error.h"
#include "core/numbers.h"
#include "core/text.h"
#include "datasets/captions/sources.h"
#include "datasets/forms.h"

namespace zoo {
namespace {

struct NamedColor {
  const char* name;
  std::array<double, 3> rgb;
};
constexpr NamedColor kColors[] = {
    {"red", {214, 40, 40}},  {"orange", {245, 130, 20}}, {"yellow", {248, 210, 40}}, {"green", {50, 160, 70}},
    {"blue", {40, 90, 220}}, {"purple", {130, 50, 185}}, {"pink", {250, 130, 190}},  {"black", {28, 28, 32}}};
constexpr NamedColor kGrounds[] = {{"white", {246, 246, 246}},
                                   {"grey", {186, 190, 194}},
                                   {"cream", {250, 236, 206}},
                                   {"pale blue", {198, 224, 246}}};
constexpr const char* kPlaces[] = {"at the top left",    "at the top",    "at the top right",
                                   "on the left",        "in the middle", "on the right",
                                   "at the bottom left", "at the bottom", "at the bottom right"};
constexpr int64_t kColorCount = std::size(kColors), kGroundCount = std::size(kGrounds),
                  kPlaceCount = std::size(kPlaces);

/// Of the picture's width: how far places lie from the middle, and how much drawings of one place differ.
constexpr double kOffset = 0.2, kScatter = 0.03;

std::array<double, 3> varied(const std::array<double, 3>& rgb, double most, RandomStream& rng) {
  std::array<double, 3> result = rgb;
  for (double& channel : result) channel = std::clamp(channel + rng.uniform(-most, most), 0.0, 255.0);
  return result;
}

/// "a red circle", "an orange circle".
std::string with_article(const std::string& words) {
  return (std::string("aeiou").find(words[0]) != std::string::npos ? "an " : "a ") + words;
}

HeldOut held_out_of(const DataSpec& spec) {
  const std::string name = spec.option("held_out", "sentences");
  if (name == "sentences") return HeldOut::sentences;
  if (name == "pairs") return HeldOut::pairs;
  if (name == "nothing") return HeldOut::nothing;
  throw UsageError("'" + spec.text + "': held_out=" + name + ", expected sentences, pairs or nothing");
}

/// The embedded set `captions[,size=N][,train=N][,val=N][,held_out=sentences|pairs|nothing][,seed=N]`. Nothing is
/// stored: a record is drawn from (seed, split, index) when it is asked for.
class DrawnCaptions : public CaptionDataset {
 public:
  DrawnCaptions(const DataSpec& spec, const std::string& split)
      : split_(split),
        width_(spec.integer("size", 64, 16, 1024)),
        count_(split == "train" ? spec.integer("train", 12000, 1, 100'000'000)
                                : spec.integer("val", 480, 1, 100'000'000)),
        seed_(static_cast<uint64_t>(spec.integer("seed", 0, 0, INT64_MAX))),
        held_out_(held_out_of(spec)) {}

  int64_t size() const override { return count_; }
  std::string name(int64_t record) const override {
    return format("captions_%s_%06lld.png", split_.c_str(), static_cast<long long>(record));
  }
  cv::Mat picture(int64_t record) const override { return paint(drawing(record), width_); }
  std::vector<std::string> captions(int64_t record) const override {
    RandomStream rng = stream(record, 1);
    return sentences(drawing(record), rng);
  }
  const std::vector<CaptionTrait>& trait_list() const override { return drawing_traits(); }
  std::vector<int64_t> traits(int64_t record) const override {
    const CaptionedDrawing shown = drawing(record);
    return {shown.shape, shown.color};
  }
  std::string description() const override {
    return format("captions %s (%lld drawings)", split_.c_str(), static_cast<long long>(count_));
  }

 private:
  /// Part 0 is the drawing, part 1 the sentences.
  RandomStream stream(int64_t record, uint64_t part) const {
    return {seed_, split_ == "train" ? uint64_t{0} : uint64_t{1}, static_cast<uint64_t>(record), part};
  }
  CaptionedDrawing drawing(int64_t record) const {
    RandomStream rng = stream(record, 0);
    return random_drawing(held_out_, split_ == "val", rng);
  }

  std::string split_;
  int64_t width_, count_;
  uint64_t seed_;
  HeldOut held_out_;
};

}  // namespace

const std::vector<CaptionTrait>& drawing_traits() {
  static const std::vector<CaptionTrait> traits = [] {
    std::vector<CaptionTrait> list = {{"shape", {}}, {"color", {}}};
    list[0].values.assign(std::begin(kFormNames), std::end(kFormNames));
    for (const NamedColor& color : kColors) list[1].values.emplace_back(color.name);
    return list;
  }();
  return traits;
}

bool is_held_out(const CaptionedDrawing& drawing, HeldOut kind) {
  const int64_t shape = drawing.shape, color = drawing.color;
  if (kind == HeldOut::pairs) return color == shape || color == (shape + kColorCount / 2) % kColorCount;
  // Every word, and every pair of words, is met in training.
  return kind == HeldOut::sentences && (shape + 3 * color + 2 * drawing.place + drawing.large) % 5 == 0;
}

CaptionedDrawing random_drawing(HeldOut kind, bool validation, RandomStream& rng) {
  CaptionedDrawing drawing;
  do {
    drawing.shape = rng.integer(0, kForms - 1);
    drawing.color = rng.integer(0, kColorCount - 1);
    drawing.place = rng.integer(0, kPlaceCount - 1);
    drawing.large = rng.integer(0, 1);
  } while (kind != HeldOut::nothing && is_held_out(drawing, kind) != validation);
  drawing.ground = rng.integer(0, kGroundCount - 1);
  drawing.x = 0.5 + kOffset * static_cast<double>(drawing.place % 3 - 1) + rng.uniform(-kScatter, kScatter);
  drawing.y = 0.5 + kOffset * static_cast<double>(drawing.place / 3 - 1) + rng.uniform(-kScatter, kScatter);
  drawing.radius = drawing.large != 0 ? rng.uniform(0.24, 0.27) : rng.uniform(0.15, 0.18);
  drawing.angle = rng.uniform(-0.2, 0.2) + (drawing.shape == kStar ? kPi : 0);  // a star stands on two tips
  drawing.rgb = varied(kColors[drawing.color].rgb, 8, rng);
  drawing.ground_rgb = varied(kGrounds[drawing.ground].rgb, 4, rng);
  drawing.shade = {rng.uniform(-8, 8), rng.uniform(-8, 8)};
  return drawing;
}

cv::Mat paint(const CaptionedDrawing& drawing, int64_t size) {
  const auto form = static_cast<Form>(drawing.shape);
  const auto width = static_cast<double>(size);
  const double cosine = std::cos(drawing.angle), sine = std::sin(drawing.angle);
  cv::Mat rgb(static_cast<int>(size), static_cast<int>(size), CV_8UC3);
  for (int y = 0; y < rgb.rows; ++y) {
    auto* pixels = rgb.ptr<cv::Vec3b>(y);
    const double v = (y + 0.5) / width;
    for (int x = 0; x < rgb.cols; ++x) {
      const double u = (x + 0.5) / width, dx = (u - drawing.x) / drawing.radius,
                   dy = (v - drawing.y) / drawing.radius;
      const double distance =
          signed_distance(form, cosine * dx + sine * dy, cosine * dy - sine * dx) * drawing.radius * width;
      const double covered = std::clamp(0.5 - distance, 0.0, 1.0);
      const double light = drawing.shade[0] * (u - 0.5) + drawing.shade[1] * (v - 0.5);
      for (size_t c = 0; c < 3; ++c) {
        const double ground = drawing.ground_rgb[c] + light;
        const double value = ground + covered * (drawing.rgb[c] - ground);
        pixels[x][static_cast<int>(c)] = static_cast<uint8_t>(std::lround(std::clamp(value, 0.0, 255.0)));
      }
    }
  }
  return rgb;
}

std::vector<std::string> sentences(const CaptionedDrawing& drawing, RandomStream& rng) {
  const std::string shape = kFormNames[drawing.shape], color = kColors[drawing.color].name,
                    place = kPlaces[drawing.place], ground = kGrounds[drawing.ground].name,
                    size = drawing.large != 0 ? "large" : "small";
  const std::vector<std::string> others = {
      with_article(color + " " + shape) + " " + place,
      place + " there is " + with_article(size + " " + color + " " + shape),
      "the " + shape + " " + place + " is " + color,
      with_article(size + " " + shape) + " in " + color + ", " + place,
      "a drawing of " + with_article(color + " " + shape) + " on " + with_article(ground + " ground"),
      with_article(size + " " + color + " " + shape) + " " + place + ", " + ground + " ground"};
  const auto other = static_cast<size_t>(rng.integer(0, static_cast<int64_t>(others.size()) - 1));
  return {with_article(size + " " + color + " " + shape) + " " + place, with_article(color + " " + shape),
          others[other]};
}

std::shared_ptr<CaptionDataset> open_drawn_captions(const DataSpec& spec, const std::string& split) {
  if (split != "train" && split != "val")
    throw UsageError("'" + spec.text + "': no split '" + split + "', expected one of train, val");
  return std::make_shared<DrawnCaptions>(spec, split);
}

}  // namespace zoo
