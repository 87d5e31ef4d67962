#include <algorithm>
#include <cmath>
#include <cstring>
#include <type_traits>

#include <c10/util/Half.h>

#include "core/error.h"
#include "core/formats/byte_reader.h"
#include "core/formats/npy.h"
#include "core/text.h"
#include "datasets/actions/sources.h"

namespace zoo {
namespace {

template <class From>
void convert_row(const uint8_t* from, int64_t stride, int64_t count, float* to) {
  if (std::is_same_v<From, float> && stride == 1) {
    std::memcpy(to, from, static_cast<size_t>(count) * sizeof(float));
    return;
  }
  for (int64_t i = 0; i < count; ++i) {
    From value;
    std::memcpy(&value, from + i * stride * static_cast<int64_t>(sizeof(From)), sizeof(From));
    to[i] = static_cast<float>(value);
  }
}

/// Eight sums at a time, which become NaN: one would wait for itself.
bool all_finite(const float* values, int64_t count) {
  constexpr int64_t kLanes = 8;
  float doubts[kLanes] = {};
  int64_t i = 0;
  for (; i + kLanes <= count; i += kLanes) {
    for (int64_t k = 0; k < kLanes; ++k) doubts[k] += values[i + k] * 0;
  }
  for (; i < count; ++i) doubts[0] += values[i] * 0;
  return std::all_of(doubts, doubts + kLanes, [](float doubt) { return doubt == 0; });
}

ConvertRow converter(DType dtype) {
  switch (dtype) {
    case DType::f16:
      return convert_row<c10::Half>;
    case DType::f32:
      return convert_row<float>;
    case DType::f64:
      return convert_row<double>;
    case DType::u8:
    case DType::boolean:
      return convert_row<uint8_t>;
    case DType::i32:
      return convert_row<int32_t>;
    case DType::i64:
      return convert_row<int64_t>;
    default:
      return nullptr;
  }
}

}  // namespace

ConvertRow row_converter(DType dtype, const std::string& where) {
  if (const ConvertRow found = converter(dtype)) return found;
  throw Error(where + ": elements of type " + dtype_name(dtype) +
              ", expected float16, float32, float64, uint8, bool, int32 or int64");
}

void require_finite(const float* row, int64_t count, const std::string& where, int64_t step) {
  if (all_finite(row, count)) return;
  const int64_t at = std::find_if(row, row + count, [](float v) { return !std::isfinite(v); }) - row;
  throw Error(format("%s: step %lld: element %lld is %g, expected finite numbers", where.c_str(),
                     static_cast<long long>(step), static_cast<long long>(at), static_cast<double>(row[at])));
}

NpyRows::NpyRows(const std::string& path) : file_(path), entry_(read_npy(file_.data(), file_.size(), path)) {
  const std::string shape = shape_text(entry_.shape.data(), entry_.shape.size());
  convert_ = row_converter(entry_.dtype, path);
  if (entry_.shape.empty()) throw Error(path + ": is one number, expected an array with a row for each step");
  if (entry_.shape.size() > 2 && entry_.strides != contiguous_strides(entry_.shape)) {
    throw Error(path + ": shape " + shape + " in Fortran order, expected C order or a matrix");
  }
  for (size_t i = 1; i < entry_.shape.size(); ++i) columns_ *= entry_.shape[i];
  if (rows() == 0 || columns_ == 0) throw Error(path + ": shape " + shape + " is empty, expected steps");
}

void NpyRows::read(int64_t row, float* to) const {
  const int64_t within = entry_.shape.size() == 2 ? entry_.strides[1] : 1;  // else in one piece
  const auto size = static_cast<uint64_t>(dtype_size(entry_.dtype));
  const uint8_t* from = file_.data() + entry_.offset + static_cast<uint64_t>(row * entry_.strides[0]) * size;
  convert_(from, within, columns_, to);
  require_finite(to, columns_, path(), row);
}

}  // namespace zoo
