#include "models/receptive_field.h"

#include <functional>
#include <numeric>

namespace zoo {

namespace {

/// The field of the map below, that of the input where none is known for a map of so many dimensions.
ReceptiveField known_field(const ReceptiveField& field, size_t dimensions) {
  return field.whole || field.size.size() == dimensions ? field : input_field(dimensions);
}

int64_t extent(const Window& window, size_t dimension) {
  return window.dilation[dimension] * (window.kernel[dimension] - 1) + 1;
}

double area(const ReceptiveField& field) {
  return std::accumulate(field.size.begin(), field.size.end(), 1.0, std::multiplies<>());
}

}  // namespace

ReceptiveField input_field(size_t dimensions) {
  ReceptiveField field;
  field.size.assign(dimensions, 1);
  field.stride.assign(dimensions, 1);
  field.offset.assign(dimensions, 0);
  return field;
}

ReceptiveField slide(const ReceptiveField& below, const Window& window) {
  ReceptiveField field = known_field(below, window.kernel.size());
  for (size_t i = 0; i < field.size.size(); ++i) {
    const auto reach = static_cast<double>(extent(window, i) - 1);
    field.size[i] += reach * field.stride[i];
    field.offset[i] += (reach / 2 - static_cast<double>(window.padding[i])) * field.stride[i];
    field.stride[i] *= static_cast<double>(window.stride[i]);
  }
  return field;
}

ReceptiveField slide_transposed(const ReceptiveField& below, const Window& window) {
  ReceptiveField field = known_field(below, window.kernel.size());
  for (size_t i = 0; i < field.size.size(); ++i) {
    const int64_t step = window.stride[i], seen = (extent(window, i) + step - 1) / step;
    field.size[i] += static_cast<double>(seen - 1) * field.stride[i];
    // Cell o of the output lies over cell (o + padding - (k' - 1)/2) / step of the input.
    field.stride[i] /= static_cast<double>(step);
    field.offset[i] +=
        (static_cast<double>(window.padding[i]) - static_cast<double>(extent(window, i) - 1) / 2) *
        field.stride[i];
  }
  return field;
}

ReceptiveField resize(const ReceptiveField& below, const std::vector<int64_t>& from,
                      const std::vector<int64_t>& to, int64_t reach) {
  ReceptiveField field = known_field(below, from.size());
  for (size_t i = 0; i < field.size.size(); ++i) {
    const double scale = static_cast<double>(from[i]) / static_cast<double>(to[i]);
    if (scale != 1) field.size[i] += static_cast<double>(reach - 1) * field.stride[i];
    field.offset[i] += (scale - 1) / 2 * field.stride[i];
    field.stride[i] *= scale;
  }
  return field;
}

bool is_larger(const ReceptiveField& field, const ReceptiveField& other) {
  if (field.whole || other.whole) return !other.whole;
  return field.is_map() && (!other.is_map() || area(field) > area(other));
}

}  // namespace zoo
