#include "datasets/faces/face_painter.h"

#include <algorithm>
#include <cmath>

namespace zoo::drawn {
namespace {

constexpr float kFieldOfView = 2.7f;  // of the picture, at scale 1
constexpr float kDepth = 0.95f;       // half depth of the head
constexpr Color kBlack = {18, 14, 16}, kWhite = {240, 238, 234};

float clamp01(float value) {
  return std::clamp(value, 0.f, 1.f);
}

/// 0 below `low`, 1 above `high`, smooth between.
float smooth_step(float low, float high, float value) {
  const float t = clamp01((value - low) / (high - low));
  return t * t * (3 - 2 * t);
}

/// From 1 in the middle to 0 at squared distance 1 and beyond.
float bump(float squared) {
  const float rest = std::max(0.f, 1 - squared);
  return rest * rest;
}

/// A wave of period 1 between -1 and 1, of straight pieces.
float zigzag(float phase) {
  return 4 * std::abs(phase - std::floor(phase) - 0.5f) - 1;
}

Color scaled(const Color& color, float by) {
  return {color[0] * by, color[1] * by, color[2] * by};
}

/// A point of the head seen in this pose: where it lies, and how far its surroundings are drawn together.
struct Place {
  float x = 0, y = 0, squeeze = 1;
};

/// From the head's plane (turned by the roll) to pixels and back.
class View {
 public:
  View(const Shot& shot, int64_t size)
      : scale(static_cast<float>(size) / kFieldOfView * shot.scale),
        cosine_(std::cos(shot.roll)),
        sine_(std::sin(shot.roll)),
        centre_x_(static_cast<float>(size) * 0.5f + shot.shift_x * scale),
        centre_y_(static_cast<float>(size) * 0.52f + shot.shift_y * scale) {}

  cv::Point2f pixel(float x, float y) const {
    return {centre_x_ + scale * (cosine_ * x - sine_ * y), centre_y_ + scale * (sine_ * x + cosine_ * y)};
  }
  cv::Point2f plane(float px, float py) const {
    const float x = (px - centre_x_) / scale, y = (py - centre_y_) / scale;
    return {cosine_ * x + sine_ * y, cosine_ * y - sine_ * x};
  }
  /// The step in the plane for a step of one pixel to the right.
  cv::Point2f step() const { return {cosine_ / scale, -sine_ / scale}; }

  const float scale;  ///< pixels of a unit

 private:
  float cosine_, sine_, centre_x_, centre_y_;
};

/// The head as a turned ellipsoid.
class Pose {
 public:
  Pose(const Person& person, const Shot& shot)
      : width_(person.width),
        height_((person.brow_height + person.chin_height) / 2),
        cos_yaw_(std::cos(shot.yaw)),
        sin_yaw_(std::sin(shot.yaw)),
        cos_pitch_(std::cos(shot.pitch)),
        sin_pitch_(std::sin(shot.pitch)) {}

  /// `raised`: above the ellipsoid.
  Place place(float x, float y, float raised = 0) const {
    const float u = x / width_, v = y / height_;
    const float rest = std::sqrt(std::max(0.05f, 1 - u * u - v * v)), z = kDepth * rest + raised;
    const float turned_x = x * cos_yaw_ + z * sin_yaw_, turned_z = z * cos_yaw_ - x * sin_yaw_;
    const float slope = -kDepth * u / (width_ * rest);
    return {turned_x, y * cos_pitch_ + (turned_z - 0.6f * kDepth) * sin_pitch_,
            std::clamp(cos_yaw_ + slope * sin_yaw_, 0.35f, 1.25f)};
  }
  /// How far the middle line of the lower face leans to the side of the chin.
  float lean() const { return 0.32f * sin_yaw_; }

 private:
  float width_, height_, cos_yaw_, sin_yaw_, cos_pitch_, sin_pitch_;
};

class FacePainter {
 public:
  FacePainter(const Person& person, const Shot& shot, int64_t size)
      : p_(person),
        s_(shot),
        size_(static_cast<int>(size)),
        view_(shot, size),
        pose_(person, shot),
        pixels_(static_cast<size_t>(size * size)) {}

  cv::Mat paint(RandomStream& rng) {
    paint_ground(rng);
    paint_back_hair();
    paint_body();
    paint_ears();
    paint_head();
    paint_marks();
    paint_nose();
    paint_eye(-1);
    paint_eye(1);
    paint_mouth();
    paint_beard();
    paint_brow(-1);
    paint_brow(1);
    paint_front_hair();
    if (s_.glasses && s_.cover != Cover::sunglasses) paint_glasses(p_.glasses_color, 0.1f, kWhite);
    paint_cover();
    return finish(rng);
  }

 private:
  struct Pixel {
    float r, g, b, person;  // colour 0..255; share of the pixel that the person covers
  };

  /// Lays `color` over the pixels within `reach` of a point: alpha = shade(x, y, color) in the head's plane,
  /// where `shade` may also change the colour.
  template <class Shade>
  void lay(float x, float y, float reach, const Color& color, const Shade& shade) {
    const cv::Point2f centre = view_.pixel(x, y);
    const float pixels = reach * view_.scale + 1;
    const int x0 = std::max(0, static_cast<int>(std::floor(centre.x - pixels)));
    const int y0 = std::max(0, static_cast<int>(std::floor(centre.y - pixels)));
    const int x1 = std::min(size_, static_cast<int>(std::ceil(centre.x + pixels)));
    const int y1 = std::min(size_, static_cast<int>(std::ceil(centre.y + pixels)));
    const cv::Point2f step = view_.step();
    for (int py = y0; py < y1; ++py) {
      cv::Point2f at = view_.plane(static_cast<float>(x0) + 0.5f, static_cast<float>(py) + 0.5f);
      Pixel* out = &pixels_[static_cast<size_t>(py * size_ + x0)];
      for (int px = x0; px < x1; ++px, ++out, at += step) {
        Color own = color;
        const float alpha = shade(at.x, at.y, own);
        if (alpha <= 0) continue;
        out->r += alpha * (own[0] - out->r);
        out->g += alpha * (own[1] - out->g);
        out->b += alpha * (own[2] - out->b);
        out->person += alpha * (1 - out->person);
      }
    }
  }

  /// How much of a pixel lies inside, by the signed distance of its centre to an outline.
  float inside(float distance) const { return clamp01(0.5f - distance * view_.scale); }

  /// Signed distance (about) to the head's outline, grown by `grown` above and beside.
  float head_distance(float x, float y, float grown = 0) const {
    const float width = p_.width + grown;
    if (y < 0) {
      const float height = p_.brow_height + grown, u = x / width, v = y / height;
      return (std::sqrt(u * u + v * v) - 1) * std::min(width, height);
    }
    const float v = y / (p_.chin_height + 0.3f * grown), taper = 1 - p_.jaw_taper * std::min(1.2f, v * v);
    const float u = (x - pose_.lean() * y) / (width * taper), uu = u * u, vv = v * v;
    const float round = std::sqrt(uu + vv), square = std::sqrt(std::sqrt(uu * uu + vv * vv));
    return (round + p_.jaw_squareness * (square - round) - 1) * width * taper;
  }

  void paint_ground(RandomStream& rng) {
    Color corners[4];
    for (Color& corner : corners) corner = ground_color(rng);
    const float edge = 1 / static_cast<float>(size_);
    for (int y = 0; y < size_; ++y) {
      const Color left = mix(corners[0], corners[1], static_cast<float>(y) * edge);
      const Color right = mix(corners[2], corners[3], static_cast<float>(y) * edge);
      for (int x = 0; x < size_; ++x) {
        const Color color = mix(left, right, static_cast<float>(x) * edge);
        pixels_[static_cast<size_t>(y * size_ + x)] = {color[0], color[1], color[2], 0};
      }
    }
    for (int64_t i = rng.integer(1, 4); i > 0; --i) paint_ground_spot(rng);
    for (Pixel& pixel : pixels_) pixel.person = 0;
  }

  static Color ground_color(RandomStream& rng) {
    const auto grey = static_cast<float>(rng.uniform(0, 255));
    Color color;
    for (float& channel : color)
      channel = std::clamp(grey + static_cast<float>(rng.uniform(-70, 70)), 8.f, 247.f);
    return color;
  }

  /// Something out of focus behind the person: a disc or an upright bar.
  void paint_ground_spot(RandomStream& rng) {
    const auto draw = [&](double low, double high) { return static_cast<float>(rng.uniform(low, high)); };
    const float x = draw(-1.5, 1.5), y = draw(-1.5, 1.5), radius = draw(0.2, 0.7), soft = draw(0.05, 0.3);
    const bool bar = rng.chance(0.5);
    const Color color = ground_color(rng);
    const float height = bar ? 4.f : radius;
    lay(x, y, height + soft, color, [&](float px, float py, Color&) {
      const float across = std::abs(px - x),
                  distance = bar ? across : std::sqrt(across * across + (py - y) * (py - y));
      return 0.85f * (1 - smooth_step(radius - soft, radius + soft, distance));
    });
  }

  /// The colour of hair at a place: strands that spread from the parting.
  void comb(float x, float y, Color& color) const {
    const float root = p_.hair == Hair::centre_part ? 0 : p_.parting;
    const float phase =
        p_.strand_frequency * (x - root) / (std::abs(y + 1.9f) + 0.4f) * 1.4f + p_.strand_phase;
    const float curl = p_.hair == Hair::curls ? 0.5f * zigzag(y * 1.8f + x * 1.2f) : 0;
    const float shine = bump((y + 0.95f) * (y + 0.95f) * 8);
    color =
        scaled(color, 0.92f + 0.06f * zigzag(phase + curl) + 0.04f * zigzag(0.37f * phase) + 0.16f * shine);
  }

  float outline_waves(float x, float y) const {
    if (p_.hair == Hair::curls) return 0.05f * zigzag(2.6f * x + p_.strand_phase) + 0.05f * zigzag(2.6f * y);
    if (p_.hair == Hair::spikes && y < 0) return 0.12f * zigzag(3.2f * x + p_.strand_phase);
    return 0;
  }

  bool has_hair() const { return p_.hair != Hair::bald; }

  void paint_back_hair() {
    if (!has_hair()) return;
    if (p_.bun) {
      lay(0, -p_.brow_height - 0.28f, 0.42f, scaled(p_.hair_color, 0.88f),
          [&](float x, float y, Color& color) {
            comb(x * 2, y, color);
            const float dy = y + p_.brow_height + 0.2f;
            return inside(std::sqrt(x * x + dy * dy) - 0.38f);
          });
    }
    const float width = p_.width + p_.hair_volume;
    const float length = std::max(p_.hair_length, p_.hair == Hair::curls ? 0.35f : 0.f);
    if (length == 0) return;
    lay(0, 0, 2.4f, scaled(p_.hair_color, 0.72f), [&](float x, float y, Color& color) {
      comb(x, y, color);
      if (y < 0) return inside(head_distance(x, y, p_.hair_volume) + outline_waves(x, y));
      return inside(std::max(std::abs(x) - width - 0.06f * y, y - length) + outline_waves(x, y));
    });
  }

  void paint_body() {
    lay(0, 1.3f, 1.9f, scaled(p_.skin, 0.72f), [&](float x, float y, Color& color) {
      const float neck = std::max(std::abs(x - 0.1f * pose_.lean()) - 0.5f, 0.5f - y);
      const float collar = 1.3f + 0.1f * x * x + 0.24f * bump(x * x * 2.2f);
      if (y > collar) color = s_.clothes;
      const float shoulders = collar - y + std::max(0.f, std::abs(x) - 0.55f) * 0.35f;
      return std::max(inside(neck), inside(shoulders));
    });
  }

  void paint_ears() {
    const bool hidden = p_.hair_length > 0.3f || p_.hair == Hair::curls;
    for (const float side : {-1.f, 1.f}) {
      // The ear on the side to which the head turns goes behind it.
      const float x = side * (p_.width + 0.02f) - 0.5f * pose_.lean(), y = 0.06f;
      if (!hidden) {
        lay(x, y, 0.4f, scaled(p_.skin, 0.88f), [&](float px, float py, Color& color) {
          const float u = (px - x) / (0.62f * p_.ear_size), v = (py - y) / p_.ear_size,
                      r = std::sqrt(u * u + v * v);
          if (r < 0.6f) color = scaled(color, 0.85f);
          return inside((r - 1) * 0.62f * p_.ear_size);
        });
      }
      if (!p_.earrings) continue;
      const float ring = y + p_.ear_size + 0.08f;
      lay(x, ring, 0.12f, p_.earring_color,
          [&](float px, float py, Color&) { return inside(std::hypot(px - x, py - ring) - 0.085f); });
    }
  }

  void paint_head() {
    const float cheek = 0.52f * p_.width;
    lay(0, 0.05f, 1.6f, p_.skin, [&](float x, float y, Color& color) {
      const float distance = head_distance(x, y);
      const float side = std::abs(x - pose_.lean()) - cheek;
      const float blush = bump(side * side * 14 + (y - 0.32f) * (y - 0.32f) * 14);
      color = {color[0] * (1 + 0.03f * blush), color[1] * (1 - 0.10f * blush),
               color[2] * (1 - 0.08f * blush)};
      return inside(distance);
    });
  }

  void dot(const Spot& spot, const Color& color, float strength) {
    const Place at = pose_.place(spot.x, spot.y);
    lay(at.x, at.y, spot.radius * 1.6f, color, [&](float x, float y, Color&) {
      const float dx = (x - at.x) / at.squeeze, dy = y - at.y;
      return strength * inside(std::sqrt(dx * dx + dy * dy) - spot.radius);
    });
  }

  void paint_marks() {
    for (const Spot& spot : p_.freckles) dot(spot, scaled(p_.skin, 0.66f), 0.75f);
    if (p_.mole.radius > 0) dot(p_.mole, scaled(p_.skin, 0.3f), 0.95f);
    if (p_.folds == 0) return;
    for (const float side : {-1.f, 1.f}) {
      const Place top = pose_.place(side * (p_.nose_width + 0.06f), p_.nose_y - 0.02f);
      const Place end = pose_.place(side * (p_.mouth_width + 0.12f), p_.mouth_y - 0.02f);
      stroke({top.x, top.y}, {end.x, end.y}, 0.022f, scaled(p_.skin, 0.62f), 0.75f * p_.folds);
    }
  }

  void stroke(const cv::Point2f& from, const cv::Point2f& to, float half_width, const Color& color,
              float strength) {
    const cv::Point2f middle = (from + to) * 0.5f, along = to - from;
    const float length2 = std::max(1e-6f, along.dot(along));
    lay(middle.x, middle.y, std::sqrt(length2) * 0.5f + half_width, color, [&](float x, float y, Color&) {
      const cv::Point2f d = cv::Point2f(x, y) - from;
      const float t = clamp01(d.dot(along) / length2), dx = d.x - t * along.x, dy = d.y - t * along.y;
      return strength * inside(std::sqrt(dx * dx + dy * dy) - half_width);
    });
  }

  void paint_nose() {
    const Place root = pose_.place(0, p_.eye_y, 0.06f), tip = pose_.place(0, p_.nose_y, 0.28f);
    // The flank away from the light lies in shade.
    const float dark = s_.light_x > 0 ? -1.f : 1.f, height = std::max(0.1f, tip.y - root.y);
    lay((root.x + tip.x) / 2, (root.y + tip.y) / 2, 0.6f, scaled(p_.skin, 0.68f),
        [&](float x, float y, Color&) {
          const float t = (y - root.y) / height;
          if (t < 0 || t > 1.06f) return 0.f;
          const float half = p_.nose_width * (0.35f + 0.65f * t * t),
                      u = (x - root.x - t * (tip.x - root.x)) / half;
          const float flank = bump((u - dark * 0.75f) * (u - dark * 0.75f) * 4.5f);
          return p_.nose_bridge * 0.75f * flank * smooth_step(-0.05f, 0.3f, t) *
                 (1 - smooth_step(0.95f, 1.06f, t));
        });
    lay(tip.x, tip.y, p_.nose_width * 1.8f, mix(p_.skin, kWhite, 0.35f), [&](float x, float y, Color&) {
      const float dx = (x - tip.x) / (p_.nose_width * 0.75f),
                  dy = (y - tip.y + 0.06f) / (p_.nose_width * 0.6f);
      return 0.45f * bump(dx * dx + dy * dy);
    });
    const float wing = p_.nose_width;
    lay(tip.x, tip.y, wing * 1.6f, scaled(p_.skin, 0.58f), [&](float x, float y, Color&) {  // below the tip
      const float u = (x - tip.x) / wing, v = y - tip.y - 0.075f + 0.05f * u * u;
      return std::abs(u) > 1.05f ? 0.f : 0.5f * inside(std::abs(v) - 0.02f);
    });
    for (const float side : {-1.f, 1.f}) {
      const float x0 = tip.x + side * wing * 0.5f, y0 = tip.y + 0.06f;
      lay(x0, y0, 0.12f, scaled(p_.skin, 0.28f), [&](float x, float y, Color&) {
        const float u = (x - x0) / (0.34f * wing), v = (y - y0) / 0.036f;
        return 0.75f * inside((std::sqrt(u * u + v * v) - 1) * 0.036f);
      });
    }
  }

  void paint_eye(float side) {
    const Place at = pose_.place(side * p_.eye_x, p_.eye_y);
    const float width = p_.eye_width * at.squeeze, open = p_.eye_height * s_.eye_open,
                slant = -side * p_.eye_slant;
    const float iris_x = s_.gaze_x * 0.35f * width, iris_y = s_.gaze_y * p_.eye_height;
    const float iris_radius = p_.iris_radius, pupil = 0.45f * iris_radius;
    lay(at.x, at.y + 0.02f, p_.eye_width * 1.7f, scaled(p_.skin, 0.72f),
        [&](float x, float y, Color&) {  // socket
          const float u = (x - at.x) / (width * 1.5f), v = (y - at.y + 0.03f) / (p_.eye_height * 2.1f);
          return 0.5f * bump(u * u + v * v);
        });
    lay(at.x, at.y, p_.eye_width * 1.4f, kWhite, [&](float x, float y, Color& color) {
      const float u = (x - at.x) / width, v = y - at.y - slant * (x - at.x), uu = u * u;
      if (uu > 1.4f) return 0.f;
      const float lid = open * (1 - uu), half_line = 0.028f;
      const float ball = std::max(std::abs(v) - lid, (std::abs(u) - 1) * width);
      const float upper = uu > 1.15f ? 1.f : std::abs(v + lid) - half_line;
      const float covered = inside(ball), line = inside(upper);
      const float dx = (x - at.x - iris_x), dy = v - iris_y, r = std::sqrt(dx * dx + dy * dy);
      color = mix(color, p_.iris, inside(r - iris_radius));
      color = mix(color, scaled(p_.iris, 0.5f), inside(std::abs(r - iris_radius) - 0.012f));
      color = mix(color, kBlack, inside(r - pupil));
      const float gx = dx + 0.035f, gy = dy + 0.035f;
      color = mix(color, {255, 255, 255}, inside(std::sqrt(gx * gx + gy * gy) - 0.025f));
      color = mix(color, {30, 20, 20}, line);
      return std::max(covered, 0.92f * line);
    });
  }

  void paint_brow(float side) {
    const float lift = p_.brow_gap + s_.brow_raise;
    const Place at = pose_.place(side * p_.eye_x * 1.04f, p_.eye_y - lift);
    const float length = p_.brow_length * at.squeeze, slant = side * p_.brow_slant;
    const Color color = mix(scaled(p_.hair_color, 0.75f), kBlack, 0.15f);
    lay(at.x, at.y, p_.brow_length * 1.5f, color, [&](float x, float y, Color&) {
      const float u = (x - at.x) / length, inner = 0.5f * (1 - side * u);  // 1 at the nose
      if (std::abs(u) > 1.1f) return 0.f;
      const float v = y - at.y + p_.brow_arch * (1 - u * u) - slant * u * length;
      const float thickness = p_.brow_thickness * (0.45f + 0.65f * clamp01(inner));
      return 0.92f * inside(std::max(std::abs(v) - thickness, (std::abs(u) - 1) * length));
    });
  }

  void paint_mouth() {
    const Place at = pose_.place(0, p_.mouth_y, 0.08f);
    const float width = p_.mouth_width * (1 + 0.16f * std::max(0.f, s_.smile)) * at.squeeze;
    const float open = 0.15f * s_.mouth_open, curve = 0.12f * s_.smile;
    lay(at.x, at.y + 0.03f, p_.mouth_width * 1.5f, p_.lips, [&](float x, float y, Color& color) {
      const float u = (x - at.x) / width, uu = u * u;
      if (uu > 1.25f) return 0.f;
      const float v = y - at.y + curve * (uu - 0.3f), round = std::max(0.f, 1 - uu);
      const float bow =
          p_.upper_lip * (round + 0.35f * bump((std::abs(u) - 0.3f) * (std::abs(u) - 0.3f) * 14));
      const float gap = open * round, top = -gap * 0.45f - bow, bottom = gap + p_.lower_lip * round;
      const float lips = std::max(std::max(top - v, v - bottom), (std::abs(u) - 1) * width);
      const float inner = std::max(std::max(-gap * 0.45f - v, v - gap), (std::abs(u) - 0.97f) * width);
      const bool teeth = v < -gap * 0.45f + 0.06f + 0.25f * open;
      if (v < 0) color = scaled(color, 0.82f);
      if (open > 0.02f) color = mix(color, teeth ? kWhite : Color{70, 22, 28}, inside(inner));
      const float line =
          open > 0.02f ? 0.f : inside(std::abs(v) - 0.018f) * inside((std::abs(u) - 1.02f) * width);
      color = mix(color, {66, 28, 30}, line);
      return std::max(inside(lips), line);
    });
  }

  void paint_beard() {
    if (p_.beard == Beard::none) return;
    const Place mouth = pose_.place(0, p_.mouth_y, 0.08f), nose = pose_.place(0, p_.nose_y, 0.12f);
    const bool wide = p_.beard == Beard::full || p_.beard == Beard::stubble;
    const float strength = p_.beard == Beard::stubble ? 0.34f : 0.93f;
    const Color color = mix(scaled(p_.hair_color, 0.8f), kBlack, 0.1f);
    lay(mouth.x, mouth.y, 1.3f, color, [&](float x, float y, Color& own) {
      const float u = (x - mouth.x) / p_.mouth_width, v = y - mouth.y, uu = u * u;
      const float curve = -0.12f * s_.smile * (uu - 0.3f);
      const float lip_top = curve - p_.upper_lip - 0.02f - 0.07f * s_.mouth_open;
      const float moustache = std::max(std::max(v - lip_top - 0.05f * uu, nose.y + 0.11f + 0.16f * uu - y),
                                       (std::abs(u) - 1.15f) * 0.3f);
      const float lip_bottom = curve + p_.lower_lip + 0.03f + 0.15f * s_.mouth_open;
      const float edge = head_distance(x, y, p_.beard == Beard::full ? 0.1f : 0.f);
      const float chin = (y - mouth.y - 0.3f) / 0.34f,
                  goatee_round = (std::sqrt(uu * 1.6f + chin * chin) - 1) * 0.34f;
      const float goatee = std::max(std::max(lip_bottom - v, goatee_round), edge);
      own = scaled(own, 0.92f + 0.08f * zigzag(13 * x + 2 * y));
      float shape = 1;
      if (p_.beard != Beard::goatee) shape = std::min(shape, moustache);
      if (p_.beard != Beard::moustache) shape = std::min(shape, goatee);
      if (wide) {
        const float low =
            0.62f - 0.62f * smooth_step(0.55f, 0.95f, std::abs(x - pose_.lean() * y) / p_.width);
        const float mouth_hole =
            1 -
            (uu * 0.72f + std::pow((v - (lip_top + lip_bottom) / 2) / (0.5f * (lip_bottom - lip_top)), 2.f));
        shape = std::min(shape, std::max(std::max(low - y, edge), mouth_hole * 0.15f));
      }
      return strength * inside(shape);
    });
  }

  /// Height of the hair's lower edge above the face, at x as a share of the head's half width.
  float hairline_at(float u) const {
    const float far = std::abs(u);
    const float sides = smooth_step(0.72f, 1.0f, far);
    const float sideburn = p_.hair == Hair::cropped || p_.hair == Hair::receding ? 0.55f : 0.72f;
    float line = p_.hairline;
    switch (p_.hair) {
      case Hair::side_part:
        line += -0.18f + 0.42f * std::abs(u - p_.parting) + (u * p_.parting < 0 ? 0.12f : 0.f);
        break;
      case Hair::fringe:
        line = -0.42f + 0.05f * zigzag(u * 2.6f + p_.strand_phase) + 0.1f * (p_.hairline + 0.7f);
        break;
      case Hair::centre_part:
        line += -0.24f + 0.85f * far;
        break;
      case Hair::receding:
        line += -0.12f - 0.2f * bump((far - 0.5f) * (far - 0.5f) * 10);
        break;
      case Hair::spikes:
        line += 0.1f * zigzag(u * 3.1f + p_.strand_phase);
        break;
      case Hair::curls:
        line += 0.05f * zigzag(u * 2.2f + p_.strand_phase);
        break;
      default:
        break;
    }
    return line + sides * (sideburn - line * 0.55f);
  }

  void paint_front_hair() {
    if (!has_hair()) return;
    const bool cropped = p_.hair == Hair::cropped;
    const float grown = cropped ? 0.03f : p_.hair_volume, strength = cropped ? 0.8f : 1.f;
    const float width = p_.width + p_.hair_volume, length = p_.hair_length;
    const float shift = 0.55f * pose_.lean();
    lay(0, 0, 2.2f, p_.hair_color, [&](float x, float y, Color& color) {
      const float u = (x - shift) / p_.width, outline = head_distance(x, y, grown) + outline_waves(x, y);
      float shape = std::max(outline, y - hairline_at(u));
      if (length > 0 && y > -0.6f) {  // locks before the shoulders
        const float outer = y < 0 ? outline : std::abs(x) - width - 0.06f * y;
        const float inner =
            0.86f * p_.width - 0.1f * p_.width * smooth_step(-0.4f, 1.2f, y) - std::abs(x - shift);
        shape = std::min(shape, std::max(std::max(outer, inner), y - length));
      }
      if (shape > 0.1f) return 0.f;
      comb(x, y, color);
      return strength * inside(shape);
    });
  }

  void paint_glasses(const Color& frame, float tint, const Color& glass) {
    const float round = p_.glasses_size, square = p_.glasses_squareness, rim = 0.028f;
    float x_of[2], y_of = 0;
    for (const float side : {-1.f, 1.f}) {
      const Place at = pose_.place(side * p_.eye_x, p_.eye_y + 0.02f, 0.08f);
      x_of[side < 0 ? 0 : 1] = at.x;
      y_of = at.y;
      lay(at.x, at.y, round * 1.5f, frame, [&](float x, float y, Color& color) {
        const float u = (x - at.x) / (round * at.squeeze), v = (y - at.y) / (round * 0.82f);
        const float uu = u * u, vv = v * v, circle = std::sqrt(uu + vv),
                    box = std::sqrt(std::sqrt(uu * uu + vv * vv));
        const float distance = (circle + square * (box - circle) - 1) * round;
        const float edge = inside(std::abs(distance) - rim), within = inside(distance) * tint;
        if (edge < within) color = glass;
        return std::max(edge, within);
      });
    }
    stroke({x_of[0] + round * 0.8f, y_of - 0.05f}, {x_of[1] - round * 0.8f, y_of - 0.05f}, rim, frame, 1);
    for (const float side : {-1.f, 1.f}) {
      const float x = x_of[side < 0 ? 0 : 1] + side * round, end = side * p_.width + 0.3f * pose_.lean();
      if (side * (end - x) > 0) stroke({x, y_of - 0.06f}, {end, y_of - 0.08f}, rim, frame, 1);
    }
  }

  void paint_cover() {
    if (s_.cover == Cover::sunglasses) paint_glasses({24, 22, 26}, 0.94f, scaled(s_.cover_color, 0.25f));
    if (s_.cover == Cover::mask) {
      const Place nose = pose_.place(0, p_.nose_y, 0.25f);
      lay(0, 0.7f, 1.4f, s_.cover_color, [&](float x, float y, Color& color) {
        color = scaled(color, 1 - 0.1f * inside(std::abs(zigzag(y * 3.2f)) * 0.1f - 0.02f));
        const float top = nose.y - 0.1f + 0.3f * std::abs(x - nose.x) - 0.06f;
        return inside(std::max(head_distance(x, y, 0.04f), top - y));
      });
    }
    if (s_.cover == Cover::hat) {
      const float brim = -0.52f;
      lay(0, -0.8f, 1.7f, s_.cover_color, [&](float x, float y, Color& color) {
        const float band = inside(
            std::max(std::abs(y - brim + 0.12f * x * x * 0.3f) - 0.13f, std::abs(x) - p_.width - 0.22f));
        color = scaled(color, band > 0 ? 0.78f : 0.94f + 0.1f * zigzag(x * 4));
        const float crown = std::max(head_distance(x, y, std::max(0.2f, p_.hair_volume + 0.05f)), y - brim);
        return std::max(inside(crown), band);
      });
    }
    if (s_.cover == Cover::object) {
      const Spot& o = s_.object;
      lay(o.x, o.y, o.radius, s_.cover_color, [&](float x, float y, Color& color) {
        const float distance = std::hypot(x - o.x, y - o.y);
        color = scaled(color, 1.1f - 0.4f * distance / o.radius);
        return inside(distance - o.radius);
      });
    }
  }

  /// Light on the ellipsoid, a cast shadow, exposure, tint, blur and noise.
  cv::Mat finish(RandomStream& rng) {
    if (s_.blur > 0) blur();
    cv::Mat picture(size_, size_, CV_8UC3);
    const cv::Point2f step = view_.step();
    const float shadow_x = std::cos(s_.shadow_angle), shadow_y = std::sin(s_.shadow_angle);
    const float light_z = std::sqrt(std::max(0.1f, 1 - s_.light_x * s_.light_x - s_.light_y * s_.light_y));
    const float noise = s_.noise / 104;  // deviation of the sum of two bytes
    for (int y = 0; y < size_; ++y) {
      cv::Point2f at = view_.plane(0.5f, static_cast<float>(y) + 0.5f);
      const Pixel* in = &pixels_[static_cast<size_t>(y * size_)];
      uint8_t* out = picture.ptr(y);
      for (int x = 0; x < size_; ++x, ++in, out += 3, at += step) {
        const float nx = std::clamp(at.x * 0.85f, -1.f, 1.f), ny = std::clamp(at.y * 0.7f, -1.f, 1.f);
        const float nz = std::sqrt(std::max(0.f, 1 - nx * nx - ny * ny));
        const float lambert = std::max(0.f, nx * s_.light_x + ny * s_.light_y + nz * light_z);
        float shade = 1 + in->person * s_.light_strength * (1.55f * lambert - 1);
        if (s_.shadow < 1) {
          const float beyond =
              smooth_step(-0.05f, 0.05f, at.x * shadow_x + at.y * shadow_y - s_.shadow_offset);
          shade *= 1 - in->person * (1 - s_.shadow) * beyond;
        }
        uint64_t bits = rng.next();
        const float channels[3] = {in->r, in->g, in->b};
        for (int c = 0; c < 3; ++c, bits >>= 16) {
          const auto grain =
              static_cast<float>(static_cast<int>(bits & 0xFF) + static_cast<int>(bits >> 8 & 0xFF) - 255);
          const float value = channels[c] * shade * s_.gain[static_cast<size_t>(c)] + noise * grain;
          out[c] = static_cast<uint8_t>(std::clamp(value + 0.5f, 0.f, 255.f));
        }
      }
    }
    return picture;
  }

  /// Each pixel with its neighbours, first along rows, then along columns.
  void blur() {
    const float side = s_.blur, middle = 1 - 2 * side;
    std::vector<Pixel> line(static_cast<size_t>(size_));
    for (const bool rows : {true, false}) {
      for (int i = 0; i < size_; ++i) {
        const auto at = [&](int k) -> Pixel& {
          return pixels_[static_cast<size_t>(rows ? i * size_ + k : k * size_ + i)];
        };
        for (int k = 0; k < size_; ++k) {
          const Pixel &a = at(std::max(0, k - 1)), &b = at(k), &c = at(std::min(size_ - 1, k + 1));
          line[static_cast<size_t>(k)] = {middle * b.r + side * (a.r + c.r),
                                          middle * b.g + side * (a.g + c.g),
                                          middle * b.b + side * (a.b + c.b), b.person};
        }
        for (int k = 0; k < size_; ++k) at(k) = line[static_cast<size_t>(k)];
      }
    }
  }

  const Person& p_;
  const Shot& s_;
  const int size_;
  const View view_;
  const Pose pose_;
  std::vector<Pixel> pixels_;
};

}  // namespace

cv::Mat paint(const Person& person, const Shot& shot, int64_t size, RandomStream& rng) {
  return FacePainter(person, shot, size).paint(rng);
}

std::array<float, 10> landmarks(const Person& person, const Shot& shot, int64_t size) {
  const Pose pose(person, shot);
  const View view(shot, size);
  const Place mouth = pose.place(0, person.mouth_y, 0.08f);
  const float half = person.mouth_width * (1 + 0.16f * std::max(0.f, shot.smile)) * mouth.squeeze;
  const float corner = mouth.y - 0.7f * 0.12f * shot.smile;
  const Place left = pose.place(-person.eye_x, person.eye_y), right = pose.place(person.eye_x, person.eye_y);
  const Place nose = pose.place(0, person.nose_y, 0.28f);
  const cv::Point2f points[] = {{left.x, left.y},
                                {right.x, right.y},
                                {nose.x, nose.y},
                                {mouth.x - half, corner},
                                {mouth.x + half, corner}};
  std::array<float, 10> result;
  for (size_t i = 0; i < 5; ++i) {
    const cv::Point2f pixel = view.pixel(points[i].x, points[i].y);
    result[2 * i] = pixel.x - 0.5f;
    result[2 * i + 1] = pixel.y - 0.5f;
  }
  return result;
}

}  // namespace zoo::drawn
