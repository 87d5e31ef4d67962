#pragma once
#include <cstdint>

namespace zoo {

/// A row of RGB bytes as three rows of floats, `v * scale[c] + shift[c]`, with zeros from `width` up to
/// `padded_width`.
void normalize_row(const uint8_t* rgb, int64_t width, int64_t padded_width, const float* scale,
                   const float* shift, float* red, float* green, float* blue);

}  // namespace zoo
