#include <algorithm>
#include <cmath>

#include "datasets/faces/face_painter.h"

namespace zoo::drawn {
namespace {

float uniform(RandomStream& rng, double low, double high) {
  return static_cast<float>(rng.uniform(low, high));
}

Color jittered(const Color& color, float by, RandomStream& rng) {
  Color result;
  for (size_t c = 0; c < 3; ++c) result[c] = std::clamp(color[c] + uniform(rng, -by, by), 4.f, 252.f);
  return result;
}

/// A point of a row of colours, linear between neighbours.
template <size_t N>
Color along(const Color (&row)[N], float t) {
  const float place = t * (N - 1);
  const auto i = std::min<size_t>(static_cast<size_t>(place), N - 2);
  return mix(row[i], row[i + 1], place - static_cast<float>(i));
}

constexpr Color kSkins[] = {{92, 58, 42}, {138, 90, 62}, {186, 130, 94}, {224, 172, 134}, {246, 206, 178}};
constexpr Color kHairs[] = {{28, 24, 26},    {58, 40, 30},   {96, 62, 40},    {140, 92, 52},
                            {150, 66, 34},   {196, 110, 50}, {222, 184, 110}, {238, 222, 176},
                            {150, 150, 156}, {226, 226, 230}};
constexpr Color kIrises[] = {{62, 36, 20}, {128, 78, 32}, {70, 140, 62}, {52, 118, 200}, {128, 142, 152}};

/// A colour of any hue (0..1), `saturation` and `value` 0..1.
Color hue_color(float hue, float saturation, float value) {
  Color color;
  for (size_t c = 0; c < 3; ++c) {
    const float place = std::fmod(hue * 6 + static_cast<float>(6 - 2 * c), 6.f);
    const float wave = std::clamp(std::abs(place - 3) - 1, 0.f, 1.f);
    color[c] = 255 * value * (1 - saturation * (1 - wave));
  }
  return color;
}

Color random_hair_color(RandomStream& rng) {
  if (rng.chance(0.3)) return hue_color(uniform(rng, 0, 1), uniform(rng, 0.45, 0.8), uniform(rng, 0.5, 0.9));
  return jittered(kHairs[rng.integer(0, 9)], 12, rng);
}

Color bright_color(RandomStream& rng) {
  Color color;
  for (float& channel : color) channel = uniform(rng, 20, 245);
  return color;
}

void draw_head(Person& p, RandomStream& rng) {
  p.width = uniform(rng, 0.8, 1.08);
  p.brow_height = uniform(rng, 1.12, 1.3);
  p.chin_height = uniform(rng, 1.02, 1.46);
  p.jaw_taper = uniform(rng, 0.06, 0.42);
  p.jaw_squareness = uniform(rng, 0, 0.85);
  p.ear_size = uniform(rng, 0.14, 0.32);
  p.skin = jittered(along(kSkins, uniform(rng, 0, 1)), 8, rng);
}

void draw_hair(Person& p, RandomStream& rng) {
  p.hair_color = random_hair_color(rng);
  p.hair = static_cast<Hair>(rng.integer(0, static_cast<int64_t>(Hair::count) - 1));
  p.hair_volume = p.hair == Hair::curls ? uniform(rng, 0.2, 0.42) : uniform(rng, 0.06, 0.24);
  p.hairline = uniform(rng, -0.86, -0.56);
  const bool can_be_long = p.hair != Hair::bald && p.hair != Hair::cropped && p.hair != Hair::spikes;
  p.hair_length = can_be_long && rng.chance(0.5) ? uniform(rng, 0.5, 1.7) : 0;
  p.parting = uniform(rng, 0.25, 0.6) * (rng.chance(0.5) ? 1.f : -1.f);
  p.strand_frequency = uniform(rng, 9, 22);
  p.strand_phase = uniform(rng, 0, 1);
  p.bun = p.hair_length == 0 && can_be_long && rng.chance(0.25);
}

void draw_eyes(Person& p, RandomStream& rng) {
  p.eye_x = uniform(rng, 0.33, 0.48);
  p.eye_y = uniform(rng, -0.2, -0.02);
  p.eye_width = uniform(rng, 0.17, 0.29);
  p.eye_height = uniform(rng, 0.08, 0.2);
  p.eye_slant = uniform(rng, -0.22, 0.2);
  p.iris_radius = uniform(rng, 0.09, 0.155);
  p.iris = jittered(kIrises[rng.integer(0, 4)], 12, rng);
  p.brow_gap = uniform(rng, 0.2, 0.34);
  p.brow_length = uniform(rng, 0.19, 0.32);
  p.brow_thickness = uniform(rng, 0.025, 0.1);
  p.brow_arch = uniform(rng, 0, 0.14);
  p.brow_slant = uniform(rng, -0.22, 0.22);
}

void draw_nose_and_mouth(Person& p, RandomStream& rng) {
  p.nose_y = uniform(rng, 0.22, 0.44);
  p.nose_width = uniform(rng, 0.12, 0.25);
  p.nose_bridge = uniform(rng, 0.2, 1);
  p.mouth_y = p.nose_y + uniform(rng, 0.24, 0.4);
  p.mouth_width = uniform(rng, 0.24, 0.42);
  p.upper_lip = uniform(rng, 0.025, 0.085);
  p.lower_lip = uniform(rng, 0.04, 0.12);
  const Color natural = mix(p.skin, {176, 70, 74}, uniform(rng, 0.35, 0.7));
  p.lips = rng.chance(0.2) ? jittered({186, 32, 60}, 30, rng) : natural;
}

void draw_extras(Person& p, RandomStream& rng) {
  const double beard = rng.uniform();
  p.beard = beard < 0.58   ? Beard::none
            : beard < 0.68 ? Beard::stubble
            : beard < 0.79 ? Beard::moustache
            : beard < 0.88 ? Beard::goatee
                           : Beard::full;
  p.folds = rng.chance(0.35) ? uniform(rng, 0.3, 1) : 0;
  if (rng.chance(0.22)) {
    for (int i = 0; i < 16; ++i) {
      p.freckles.push_back({uniform(rng, -0.62, 0.62), uniform(rng, 0.06, 0.42), uniform(rng, 0.02, 0.038)});
    }
  }
  if (rng.chance(0.3)) p.mole = {uniform(rng, -0.6, 0.6), uniform(rng, 0.1, 0.95), uniform(rng, 0.04, 0.07)};
  p.glasses = rng.chance(0.35);
  p.glasses_size = uniform(rng, 0.24, 0.36);
  p.glasses_squareness = uniform(rng, 0, 1);
  p.glasses_color = rng.chance(0.5) ? Color{30, 28, 30} : bright_color(rng);
  p.earrings = rng.chance(0.35);
  p.earring_color = rng.chance(0.5) ? Color{236, 200, 90} : bright_color(rng);
}

void draw_expression(Shot& s, RandomStream& rng) {
  s.smile = uniform(rng, -0.5, 1);
  s.mouth_open = rng.chance(0.35) ? uniform(rng, 0.2, 1) : 0;
  s.brow_raise = uniform(rng, -0.05, 0.09);
  s.eye_open = rng.chance(0.04) ? 0.05f : uniform(rng, 0.6, 1.15);
  s.gaze_x = uniform(rng, -0.4, 0.4);
  s.gaze_y = uniform(rng, -0.25, 0.25);
}

void draw_light(Shot& s, RandomStream& rng) {
  const float angle = uniform(rng, 0, 2 * M_PI), tilt = uniform(rng, 0.2, 0.95);
  s.light_x = std::cos(angle) * tilt;
  s.light_y = std::min(0.35f, std::sin(angle) * tilt - 0.2f);  // seldom from below
  s.light_strength = uniform(rng, 0.15, 0.55);
  const float exposure = uniform(rng, 0.58, 1.3), warmth = uniform(rng, -0.07, 0.07),
              green = uniform(rng, -0.04, 0.04);
  s.gain = {exposure * (1 + warmth), exposure * (1 + green), exposure * (1 - warmth)};
  s.shadow = rng.chance(0.12) ? uniform(rng, 0.55, 0.8) : 1;
  s.shadow_angle = uniform(rng, 0, 2 * M_PI);
  s.shadow_offset = uniform(rng, -0.1, 0.7);
  s.noise = uniform(rng, 1.5, 7);
  s.blur = rng.chance(0.25) ? uniform(rng, 0.05, 0.16) : 0;
}

}  // namespace

Person random_person(RandomStream& rng) {
  Person person{};
  draw_head(person, rng);
  draw_hair(person, rng);
  draw_eyes(person, rng);
  draw_nose_and_mouth(person, rng);
  draw_extras(person, rng);
  return person;
}

Shot random_shot(const Person& person, RandomStream& rng) {
  Shot shot{};
  shot.yaw = uniform(rng, -0.36, 0.36);
  shot.pitch = uniform(rng, -0.2, 0.2);
  shot.roll = uniform(rng, -0.17, 0.17);
  shot.scale = uniform(rng, 0.9, 1.1);
  shot.shift_x = uniform(rng, -0.1, 0.1);
  shot.shift_y = uniform(rng, -0.1, 0.1);
  draw_expression(shot, rng);
  shot.glasses = person.glasses && rng.chance(0.92);
  const double cover = rng.uniform();
  shot.cover = cover < 0.93   ? Cover::none
               : cover < 0.95 ? Cover::sunglasses
               : cover < 0.96 ? Cover::mask
               : cover < 0.97 ? Cover::hat
                              : Cover::object;
  shot.cover_color = bright_color(rng);
  shot.clothes = bright_color(rng);
  const float angle = uniform(rng, 0, 2 * M_PI);
  shot.object = {1.05f * std::cos(angle), 1.05f * std::sin(angle), uniform(rng, 0.3, 0.5)};
  draw_light(shot, rng);
  return shot;
}

}  // namespace zoo::drawn
