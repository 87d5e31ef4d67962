#pragma once
#include <array>
#include <cstdint>
#include <vector>

#include <opencv2/core.hpp>

#include "core/random.h"

namespace zoo::drawn {

// Lengths are in half widths of an average head; x to the right of the picture, y down, the origin in the middle of
// the head. Colours are 0..255.

using Color = std::array<float, 3>;
/// a at t = 0, b at t = 1.
inline Color mix(const Color& a, const Color& b, float t) {
  return {a[0] + t * (b[0] - a[0]), a[1] + t * (b[1] - a[1]), a[2] + t * (b[2] - a[2])};
}
struct Spot {
  float x = 0, y = 0, radius = 0;
};

enum class Hair { bald, cropped, side_part, fringe, centre_part, curls, receding, spikes, count };
enum class Beard { none, stubble, moustache, goatee, full, count };

/// What a drawn person always has. Every trait is drawn independently of the others.
struct Person {
  float width, brow_height, chin_height, jaw_taper, jaw_squareness;  ///< the head's outline
  float ear_size;
  Color skin, hair_color, iris, lips;
  Hair hair = Hair::bald;
  float hair_volume, hairline, hair_length, parting;  ///< length below the middle of the head; 0: short
  float strand_frequency, strand_phase;
  float eye_x, eye_y, eye_width, eye_height, eye_slant, iris_radius;
  float brow_gap, brow_length, brow_thickness, brow_arch, brow_slant;
  float nose_y, nose_width, nose_bridge;
  float mouth_y, mouth_width, upper_lip, lower_lip;
  Beard beard = Beard::none;
  float folds;  ///< depth of the lines beside the nose
  std::vector<Spot> freckles;
  Spot mole;  ///< radius 0: none
  bool glasses = false, earrings = false, bun = false;
  float glasses_size, glasses_squareness;
  Color glasses_color, earring_color;
};
Person random_person(RandomStream& rng);

enum class Cover { none, sunglasses, mask, hat, object, count };

/// What changes from one picture of a person to the next.
struct Shot {
  float yaw, pitch, roll, scale, shift_x, shift_y;  ///< radians; shifts in head units
  float smile, mouth_open, brow_raise, eye_open, gaze_x, gaze_y;
  bool glasses = false;
  Cover cover = Cover::none;
  Color cover_color, clothes;
  Spot object;
  float light_x, light_y, light_strength;     ///< where the light comes from
  Color gain;                                 ///< exposure and tint
  float shadow_angle, shadow_offset, shadow;  ///< a cast shadow: factor beyond a line; 1: none
  float noise, blur;
};
Shot random_shot(const Person& person, RandomStream& rng);

/// The picture, `size` pixels wide and high, RGB. `rng` draws ground and noise.
cv::Mat paint(const Person& person, const Shot& shot, int64_t size, RandomStream& rng);
/// Left eye, right eye, nose, left and right mouth corner in the pixels of that picture.
std::array<float, 10> landmarks(const Person& person, const Shot& shot, int64_t size);

}  // namespace zoo::drawn
