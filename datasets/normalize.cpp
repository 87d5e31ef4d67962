#include "datasets/normalize.h"

#include <algorithm>

namespace zoo {

__attribute__((optimize("O3"), target_clones("arch=skylake-avx512", "avx2", "sse4.2", "default"))) void
normalize_row(const uint8_t* rgb, int64_t width, int64_t padded_width, const float* scale, const float* shift,
              float* red, float* green, float* blue) {
  for (int64_t x = 0; x < width; ++x) {
    red[x] = static_cast<float>(rgb[3 * x]) * scale[0] + shift[0];
    green[x] = static_cast<float>(rgb[3 * x + 1]) * scale[1] + shift[1];
    blue[x] = static_cast<float>(rgb[3 * x + 2]) * scale[2] + shift[2];
  }
  for (float* plane : {red, green, blue}) std::fill(plane + width, plane + padded_width, 0.f);
}

}  // namespace zoo
