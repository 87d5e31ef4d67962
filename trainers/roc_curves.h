#pragma once
#include <string>
#include <vector>

#include "trainers/metrics/roc.h"

namespace zoo {

/// A curve of the picture.
struct NamedRoc {
  std::string name;
  Roc roc;
};

/// Writes the curves as one PNG: true accept rate over false accept rate, the latter logarithmic from the
/// least rate that the impostors of any set can tell (at least 1e-6) to 1. At most kMostLines are drawn.
/// Throws Error where the file cannot be written.
void draw_roc(const std::string& png, const std::string& title, const std::vector<NamedRoc>& curves);

}  // namespace zoo
