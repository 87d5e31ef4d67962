#include "datasets/shapes.h"

#include <algorithm>
#include <cmath>
#include <mutex>

#include "core/error.h"
#include "core/options.h"
#include "core/text.h"
#include "datasets/forms.h"

namespace zoo {
namespace {

constexpr int64_t kMaxFigures = 5;
constexpr double kMinRadius = 0.09, kMaxRadius = 0.28;  // of the picture's width; log-uniform between
constexpr double kMinVisible = 0.6;                     // share of a figure's own pixels
constexpr int kAttempts = 12;                           // to place a figure before it is given up

using Color = std::array<float, 3>;

/// An object's geometry in pixels; pixel (x, y) has its centre at (x + 0.5, y + 0.5).
struct Figure {
  Form form = kCircle;
  double x = 0, y = 0, radius = 0;  // the circle around it
  double cosine = 1, sine = 0;
  int64_t pixels = 0;   // covered, inside and outside the picture
  int64_t visible = 0;  // shown in the end
};

/// Figures from the lowest to the topmost, and which of them each pixel shows.
struct Scene {
  int64_t size = 0;
  std::vector<Figure> figures;
  std::vector<uint8_t> owner;  // [size * size]: 1 + figure, or 0 for the ground
};

/// Calls visit(x, y, u, v, distance) for the pixels of the square around a figure, clipped to [low, high);
/// u, v are the pixel's place in the figure's unit circle, distance is in pixels.
template <class Visit>
void scan(const Figure& figure, int64_t low, int64_t high, const Visit& visit) {
  const double reach = figure.radius + 1, scale = 1 / figure.radius;
  const auto first = [&](double centre) {
    return std::max(low, static_cast<int64_t>(std::floor(centre - reach)));
  };
  const auto last = [&](double centre) {
    return std::min(high, static_cast<int64_t>(std::ceil(centre + reach)));
  };
  for (int64_t y = first(figure.y); y < last(figure.y); ++y) {
    const double dy = (static_cast<double>(y) + 0.5 - figure.y) * scale;
    for (int64_t x = first(figure.x); x < last(figure.x); ++x) {
      const double dx = (static_cast<double>(x) + 0.5 - figure.x) * scale;
      const double u = figure.cosine * dx + figure.sine * dy, v = figure.cosine * dy - figure.sine * dx;
      visit(x, y, u, v, signed_distance(figure.form, u, v) * figure.radius);
    }
  }
}

Figure random_figure(double size, RandomStream& rng) {
  Figure figure;
  figure.form = static_cast<Form>(rng.integer(0, kForms - 1));
  figure.radius = size * std::exp(rng.uniform(std::log(kMinRadius), std::log(kMaxRadius)));
  figure.x = rng.uniform(0, size);
  figure.y = rng.uniform(0, size);
  const double angle = rng.uniform(0, 2 * M_PI);
  figure.cosine = std::cos(angle);
  figure.sine = std::sin(angle);
  return figure;
}

/// Lays a figure on the scene, unless it or one below it would show too little.
bool place(Figure figure, Scene& scene) {
  std::array<int64_t, kMaxFigures + 1> hidden{};
  std::vector<size_t> pixels;
  scan(figure, INT64_MIN, INT64_MAX, [&](int64_t x, int64_t y, double, double, double distance) {
    if (distance > 0) return;
    ++figure.pixels;
    if (std::min(x, y) < 0 || std::max(x, y) >= scene.size) return;
    pixels.push_back(static_cast<size_t>(y * scene.size + x));
    ++hidden[scene.owner[pixels.back()]];
  });
  figure.visible = static_cast<int64_t>(pixels.size());
  const auto too_little = [](int64_t visible, int64_t all) {
    return static_cast<double>(visible) < kMinVisible * static_cast<double>(all);
  };
  if (figure.visible == 0 || too_little(figure.visible, figure.pixels)) return false;
  for (size_t i = 0; i < scene.figures.size(); ++i) {
    if (too_little(scene.figures[i].visible - hidden[i + 1], scene.figures[i].pixels)) return false;
  }
  for (size_t i = 0; i < scene.figures.size(); ++i) scene.figures[i].visible -= hidden[i + 1];
  scene.figures.push_back(figure);
  for (const size_t pixel : pixels) scene.owner[pixel] = static_cast<uint8_t>(scene.figures.size());
  return true;
}

Scene make_scene(int64_t size, RandomStream rng) {
  Scene scene;
  scene.size = size;
  scene.owner.assign(static_cast<size_t>(size * size), 0);
  const int64_t figures = rng.integer(1, kMaxFigures);
  for (int64_t i = 0; i < figures; ++i) {
    for (int attempt = 0; attempt < kAttempts; ++attempt) {
      if (place(random_figure(static_cast<double>(size), rng), scene)) break;
    }
  }
  return scene;
}

/// The objects of a scene: boxes around the visible pixels.
std::vector<ObjectAnnotation> annotate(const Scene& scene, int64_t image_id) {
  struct Extent {
    int64_t left = INT64_MAX, top = INT64_MAX, right = -1, bottom = -1;
  };
  std::vector<Extent> extents(scene.figures.size() + 1);
  for (int64_t y = 0; y < scene.size; ++y) {
    for (int64_t x = 0; x < scene.size; ++x) {
      Extent& e = extents[scene.owner[static_cast<size_t>(y * scene.size + x)]];
      e = {std::min(e.left, x), std::min(e.top, y), std::max(e.right, x), std::max(e.bottom, y)};
    }
  }
  std::vector<ObjectAnnotation> objects;
  for (size_t i = 0; i < scene.figures.size(); ++i) {
    const Extent& e = extents[i + 1];
    ObjectAnnotation object;
    object.id = image_id * 10 + static_cast<int64_t>(i);
    object.category_id = scene.figures[i].form + 1;
    object.box = {static_cast<double>(e.left), static_cast<double>(e.top),
                  static_cast<double>(e.right + 1 - e.left), static_cast<double>(e.bottom + 1 - e.top)};
    object.area = static_cast<double>(scene.figures[i].visible);
    objects.push_back(object);
  }
  return objects;
}

// Painting works on floats 0..255, [size, size, 3] in one row, from its own stream.

Color random_color(RandomStream& rng, double low = 0, double high = 255) {
  Color color;
  for (float& channel : color) channel = static_cast<float>(rng.uniform(low, high));
  return color;
}

/// A colour well lighter than another one.
Color lighter_color(const Color& other, RandomStream& rng) {
  for (;;) {
    const Color color = random_color(rng);
    float lighter = 0;
    for (size_t c = 0; c < 3; ++c) lighter += color[c] - other[c];
    if (lighter > 200) return color;
  }
}

void blend(const Color& color, float alpha, float* pixel) {
  for (size_t c = 0; c < 3; ++c) pixel[c] += alpha * (color[c] - pixel[c]);
}

/// Adds a random field of three channels: values at the corners of square cells, linear between.
void add_clouds(int64_t size, double cell, double strength, RandomStream& rng, std::vector<float>& picture) {
  const auto corners = static_cast<int64_t>(static_cast<double>(size) / cell) + 2;
  std::vector<float> values(static_cast<size_t>(corners * corners * 3));
  for (float& value : values) value = static_cast<float>(rng.uniform(-strength, strength));
  for (int64_t y = 0; y < size; ++y) {
    const double row = static_cast<double>(y) / cell;
    const auto fy = static_cast<float>(row - std::floor(row));
    const float* above = &values[static_cast<size_t>(static_cast<int64_t>(row) * corners * 3)];
    const float* below = above + corners * 3;
    float* out = &picture[static_cast<size_t>(y * size * 3)];
    for (int64_t x = 0; x < size; ++x) {
      const double column = static_cast<double>(x) / cell;
      const auto left = static_cast<int64_t>(column) * 3;
      const auto fx = static_cast<float>(column - std::floor(column));
      for (int64_t c = 0; c < 3; ++c) {
        const float top = above[left + c] + fx * (above[left + 3 + c] - above[left + c]);
        const float bottom = below[left + c] + fx * (below[left + 3 + c] - below[left + c]);
        out[x * 3 + c] += top + fy * (bottom - top);
      }
    }
  }
}

/// Adds waves of all channels alike, across a random direction.
void add_waves(int64_t size, double period, double strength, RandomStream& rng, std::vector<float>& picture) {
  constexpr size_t kTable = 256;
  std::array<float, kTable> wave;
  for (size_t i = 0; i < kTable; ++i) {
    wave[i] = static_cast<float>(strength * std::sin(2 * M_PI * static_cast<double>(i) / kTable));
  }
  const double angle = rng.uniform(0, 2 * M_PI);
  const double step_x = std::cos(angle) / period, step_y = std::sin(angle) / period;
  for (int64_t y = 0; y < size; ++y) {
    float* out = &picture[static_cast<size_t>(y * size * 3)];
    for (int64_t x = 0; x < size; ++x, out += 3) {
      const double phase = static_cast<double>(x) * step_x + static_cast<double>(y) * step_y;
      const float value =
          wave[static_cast<size_t>(static_cast<int64_t>(std::floor(phase * kTable)) & (kTable - 1))];
      for (size_t c = 0; c < 3; ++c) out[c] += value;
    }
  }
}

/// A stroke with round ends; one of no length is a speck.
void draw_stroke(int64_t size, double length, double width, const Color& color, RandomStream& rng,
                 std::vector<float>& picture) {
  const auto edge = static_cast<double>(size);
  const double x = rng.uniform(0, edge), y = rng.uniform(0, edge), angle = rng.uniform(0, M_PI);
  const double ux = std::cos(angle), uy = std::sin(angle);
  const double reach_x = std::abs(ux) * length / 2 + width + 1,
               reach_y = std::abs(uy) * length / 2 + width + 1;
  for (auto py = static_cast<int64_t>(std::max(0.0, y - reach_y));
       py < size && static_cast<double>(py) < y + reach_y; ++py) {
    for (auto px = static_cast<int64_t>(std::max(0.0, x - reach_x));
         px < size && static_cast<double>(px) < x + reach_x; ++px) {
      const double dx = static_cast<double>(px) + 0.5 - x, dy = static_cast<double>(py) + 0.5 - y;
      const double along = std::clamp(dx * ux + dy * uy, -length / 2, length / 2);
      const double distance = std::hypot(dx - along * ux, dy - along * uy) - width / 2;
      const auto alpha = static_cast<float>(std::clamp(0.5 - distance, 0.0, 1.0));
      if (alpha > 0) blend(color, alpha, &picture[static_cast<size_t>((py * size + px) * 3)]);
    }
  }
}

std::vector<float> paint_ground(int64_t size, const Color& base, RandomStream& rng) {
  std::vector<float> picture(static_cast<size_t>(size * size * 3));
  for (size_t i = 0; i < picture.size(); ++i) picture[i] = base[i % 3];
  const double scale = static_cast<double>(size) / 128;
  add_clouds(size, scale * rng.uniform(20, 48), rng.uniform(5, 25), rng, picture);
  add_clouds(size, scale * rng.uniform(4, 9), rng.uniform(0, 12), rng, picture);
  add_waves(size, scale * rng.uniform(5, 30), rng.uniform(0, 15), rng, picture);
  for (int64_t i = rng.integer(0, 5); i > 0; --i) {
    draw_stroke(size, scale * rng.uniform(10, 60), scale * rng.uniform(1, 2.5), random_color(rng), rng,
                picture);
  }
  for (int64_t i = rng.integer(0, 12); i > 0; --i) {
    draw_stroke(size, 0, scale * rng.uniform(1.5, 3.5), random_color(rng), rng, picture);
  }
  return picture;
}

/// How a figure is coloured: plain, shaded from one colour to another, or striped, with a rim or without.
struct Paint {
  enum { plain, shaded, striped } kind;
  Color first, second, rim;
  double direction_x, direction_y;  // in the figure's unit circle
  double period;                    // of stripes, in radii
  double rim_width;                 // pixels
};

Paint random_paint(const Color& ground, double radius, RandomStream& rng) {
  Paint paint{};
  paint.first = lighter_color(ground, rng);
  paint.second = lighter_color(ground, rng);
  const double kind = rng.uniform();
  paint.kind = kind < 0.7 ? Paint::plain : kind < 0.9 ? Paint::shaded : Paint::striped;
  const double angle = rng.uniform(0, 2 * M_PI);
  paint.direction_x = std::cos(angle);
  paint.direction_y = std::sin(angle);
  paint.period = std::max(rng.uniform(0.3, 0.9), 3 / radius);
  const auto shade = static_cast<float>(rng.uniform(0.3, 0.7));
  for (size_t c = 0; c < 3; ++c) paint.rim[c] = paint.first[c] * shade;
  paint.rim_width = rng.chance(0.4) ? rng.uniform(0.5, 2) : 0;
  return paint;
}

Color color_at(const Paint& paint, double u, double v, double distance) {
  if (-distance < paint.rim_width) return paint.rim;
  if (paint.kind == Paint::plain) return paint.first;
  const double along = u * paint.direction_x + v * paint.direction_y;
  if (paint.kind == Paint::striped) {
    const double phase = along / paint.period;
    return phase - std::floor(phase) < 0.5 ? paint.first : paint.second;
  }
  Color color = paint.first;
  blend(paint.second, static_cast<float>(std::clamp(0.5 + 0.5 * along, 0.0, 1.0)), color.data());
  return color;
}

/// Rounds to 8 bits with a little noise in every pixel.
cv::Mat finish(int64_t size, const std::vector<float>& picture, RandomStream& rng) {
  cv::Mat rgb(static_cast<int>(size), static_cast<int>(size), CV_8UC3);
  const auto strength = static_cast<float>(rng.uniform(2, 10) / 127.5);
  for (size_t i = 0; i < picture.size(); i += 8) {
    uint64_t bits = rng.next();
    for (size_t j = i; j < std::min(i + 8, picture.size()); ++j, bits >>= 8) {
      const float noise = (static_cast<float>(bits & 255) - 127.5f) * strength;
      rgb.data[j] = static_cast<uint8_t>(std::clamp(picture[j] + noise + 0.5f, 0.f, 255.f));
    }
  }
  return rgb;
}

cv::Mat paint_scene(const Scene& scene, RandomStream rng) {
  const Color ground = random_color(rng, 10, 110);
  std::vector<float> picture = paint_ground(scene.size, ground, rng);
  for (const Figure& figure : scene.figures) {
    const Paint paint = random_paint(ground, figure.radius, rng);
    scan(figure, 0, scene.size, [&](int64_t x, int64_t y, double u, double v, double distance) {
      const auto alpha = static_cast<float>(std::clamp(0.5 - distance, 0.0, 1.0));
      if (alpha == 0) return;
      blend(color_at(paint, u, v, distance), alpha, &picture[static_cast<size_t>((y * scene.size + x) * 3)]);
    });
  }
  return finish(scene.size, picture, rng);
}

class ShapesDataset : public DetectionDataset {
 public:
  ShapesDataset(const ShapesOptions& options, const std::string& split)
      : options_(options),
        split_(split),
        size_(split == "train" ? options.train : options.val),
        records_(static_cast<size_t>(size_)),
        made_(std::make_unique<std::once_flag[]>(static_cast<size_t>(size_))) {
    for (int64_t form = 0; form < kForms; ++form) categories_.push_back({form + 1, kFormNames[form]});
  }

  int64_t size() const override { return size_; }

  const DetectionRecord& record(int64_t index) const override {
    DetectionRecord& record = records_.at(static_cast<size_t>(index));
    std::call_once(made_[static_cast<size_t>(index)], [&] {
      record.image_id = index + 1;
      record.file_name =
          format("shapes_%s_%06lld.png", split_.c_str(), static_cast<long long>(record.image_id));
      record.width = record.height = options_.size;
      record.objects = annotate(scene(index), record.image_id);
    });
    return record;
  }

  cv::Mat image(int64_t index) const override { return paint_scene(scene(index), stream(index, 1)); }
  const std::vector<Category>& categories() const override { return categories_; }
  std::string description() const override {
    return format("shapes %s (%lld images)", split_.c_str(), static_cast<long long>(size_));
  }

 private:
  Scene scene(int64_t index) const { return make_scene(options_.size, stream(index, 0)); }
  /// Part 0 places the figures, part 1 paints them.
  RandomStream stream(int64_t index, uint64_t part) const {
    return {options_.seed, split_ == "train" ? uint64_t{0} : uint64_t{1}, static_cast<uint64_t>(index), part};
  }

  ShapesOptions options_;
  std::string split_;
  int64_t size_;
  std::vector<Category> categories_;
  mutable std::vector<DetectionRecord> records_;
  std::unique_ptr<std::once_flag[]> made_;
};

}  // namespace

const std::vector<std::string>& shapes_splits() {
  static const std::vector<std::string> splits = {"train", "val"};
  return splits;
}

std::shared_ptr<DetectionDataset> make_shapes(const DataSpec& spec, const std::string& split) {
  const auto& splits = shapes_splits();
  if (std::find(splits.begin(), splits.end(), split) == splits.end()) {
    throw UsageError("'" + spec.text + "': no split '" + split + "', expected one of " + join(splits, ", "));
  }
  ShapesOptions options;
  options.size = spec.integer("size", options.size, 32, 4096);
  options.train = spec.integer("train", options.train, 1, 100'000'000);
  options.val = spec.integer("val", options.val, 1, 100'000'000);
  options.seed = static_cast<uint64_t>(spec.integer("seed", 0, 0, INT64_MAX));
  return std::make_shared<ShapesDataset>(options, split);
}

}  // namespace zoo
