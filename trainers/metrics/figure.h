#pragma once
#include <cmath>

#include "core/options.h"

namespace zoo {

/// A figure in a `metrics` document: null where it does not exist (NaN).
inline Json figure(double value) {
  return std::isfinite(value) ? Json(value) : Json(nullptr);
}

}  // namespace zoo
