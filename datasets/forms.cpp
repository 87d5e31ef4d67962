#include "datasets/forms.h"

#include <algorithm>
#include <cmath>

namespace zoo {
namespace {

/// The pentagram with a tip at (0, 1): inside at least four of the five half-planes that its lines bound, so
/// its distance is the second largest of the five.
double star_distance(double x, double y) {
  static constexpr double normal[5][2] = {{0, 1},
                                          {-0.9510565162951535, 0.30901699437494745},
                                          {-0.5877852522924731, -0.8090169943749475},
                                          {0.5877852522924731, -0.8090169943749475},
                                          {0.9510565162951535, 0.30901699437494745}};
  double first = -2, second = -2;
  for (const auto& n : normal) {
    const double distance = n[0] * x + n[1] * y;
    second = std::max(second, std::min(first, distance));
    first = std::max(first, distance);
  }
  return second - 0.30901699437494745;
}

}  // namespace

double signed_distance(Form form, double x, double y) {
  switch (form) {
    case kCircle:
      return std::sqrt(x * x + y * y) - 1;
    case kRing:
      return std::abs(std::sqrt(x * x + y * y) - 0.75) - 0.25;
    case kSquare:
      return std::max(std::abs(x), std::abs(y)) - 0.8;
    case kTriangle:
      return std::max(std::abs(x) * 0.8660254037844386 - y * 0.5, y) - 0.5;
    case kStar:
      return star_distance(x, y);
    default:  // kCross: two bars
      x = std::abs(x);
      y = std::abs(y);
      return std::min(std::max(x - 0.96, y - 0.3), std::max(y - 0.96, x - 0.3));
  }
}

}  // namespace zoo
