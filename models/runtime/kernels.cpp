#include "models/runtime/kernels.h"

#include <algorithm>
#include <cmath>

#include <ATen/Parallel.h>
#include <torch/torch.h>

#include "models/layers/vector.h"

namespace zoo {

namespace {

/// bfloat16 as an integer of the same order, NaN above all; its own inverse but for NaN's bits.
inline int16_t order(uint16_t bits) {
  const auto magnitude = static_cast<uint16_t>(bits & 0x7fff);
  const auto folded = static_cast<int16_t>((bits & 0x8000) != 0 ? bits ^ 0x7fff : bits);
  return magnitude > 0x7f80 ? int16_t{0x7fff} : folded;
}

/// most[i] = the larger of it and x[i], in the order above.
ZOO_VECTOR_CLONES void raise_to_max(int16_t* most, const uint16_t* x, int64_t count) {
  for (int64_t i = 0; i < count; ++i) most[i] = std::max(most[i], order(x[i]));
}

/// A row of windows over columns whose rows are already one: most [width,channels], which it spoils -> y
/// [columns,channels].
ZOO_VECTOR_CLONES void pool_row(uint16_t* y, int16_t* most, int64_t width, int64_t channels, int64_t columns,
                                int64_t kernel, int64_t stride, int64_t padding) {
  for (int64_t column = 0; column < columns; ++column, y += channels) {
    const int64_t begin = std::max<int64_t>(column * stride - padding, 0);
    const int64_t end = std::min(column * stride - padding + kernel, width);
    int16_t* best = most + begin * channels;  // later windows read it only where they begin there too
    for (int64_t j = begin + 1; j < end; ++j) {
      const int16_t* next = most + j * channels;
      for (int64_t c = 0; c < channels; ++c) best[c] = std::max(best[c], next[c]);
    }
    for (int64_t c = 0; c < channels; ++c)
      y[c] = static_cast<uint16_t>(best[c] < 0 ? best[c] ^ 0x7fff : best[c]);
  }
}

ZOO_VECTOR_CLONES void add_wide(float* sum, const float* x, int64_t count) {
  for (int64_t i = 0; i < count; ++i) sum[i] += x[i];
}

ZOO_VECTOR_CLONES void add_narrow(float* sum, const uint16_t* x, int64_t count) {
  for (int64_t i = 0; i < count; ++i) sum[i] += widen(x[i]);
}

ZOO_VECTOR_CLONES void narrow_all(uint16_t* y, const float* x, int64_t count) {
  for (int64_t i = 0; i < count; ++i) y[i] = narrow(x[i]);
}

/// y = (x - mean) / sqrt(var + eps) * weight + bias. The sums run in lanes, which vectorise without
/// reordering.
ZOO_VECTOR_CLONES void normalize(float* y, const float* x, const float* weight, const float* bias,
                                 int64_t count, float eps) {
  constexpr int64_t kLanes = 16;
  const int64_t whole = count / kLanes * kLanes;
  float lanes[kLanes] = {}, squares[kLanes] = {};
  for (int64_t i = 0; i < whole; i += kLanes) {
    for (int64_t j = 0; j < kLanes; ++j) lanes[j] += x[i + j];
  }
  for (int64_t i = whole; i < count; ++i) lanes[0] += x[i];
  float sum = 0;
  for (const float lane : lanes) sum += lane;
  const float mean = sum / static_cast<float>(count);
  for (int64_t i = 0; i < whole; i += kLanes) {
    for (int64_t j = 0; j < kLanes; ++j) squares[j] += (x[i + j] - mean) * (x[i + j] - mean);
  }
  for (int64_t i = whole; i < count; ++i) squares[0] += (x[i] - mean) * (x[i] - mean);
  float square = 0;
  for (const float lane : squares) square += lane;
  const float scale = 1 / std::sqrt(square / static_cast<float>(count) + eps);
  for (int64_t i = 0; i < count; ++i) y[i] = (x[i] - mean) * scale * weight[i] + bias[i];
}

/// A row of float32 or bfloat16 added to `sum`.
void add_row(float* sum, const torch::Tensor& x, int64_t row, int64_t count) {
  if (x.scalar_type() == torch::kFloat) {
    add_wide(sum, static_cast<const float*>(x.const_data_ptr()) + row * count, count);
  } else {
    add_narrow(sum, static_cast<const uint16_t*>(x.const_data_ptr()) + row * count, count);
  }
}

/// Rows so few that a second thread would not pay.
int64_t grain(int64_t row_size) {
  return std::max<int64_t>(1, 16384 / std::max<int64_t>(row_size, 1));
}

}  // namespace

torch::Tensor max_pool_bf16(const torch::Tensor& x, at::IntArrayRef kernel, at::IntArrayRef stride,
                            at::IntArrayRef padding) {
  const int64_t batch = x.size(0), channels = x.size(1), height = x.size(2), width = x.size(3);
  const int64_t rows = (height + 2 * padding[0] - kernel[0]) / stride[0] + 1;
  const int64_t columns = (width + 2 * padding[1] - kernel[1]) / stride[1] + 1;
  const torch::Tensor y = torch::empty({batch, channels, rows, columns},
                                       x.options().memory_format(torch::MemoryFormat::ChannelsLast));
  const auto* from = static_cast<const uint16_t*>(x.const_data_ptr());
  auto* to = static_cast<uint16_t*>(y.data_ptr());
  at::parallel_for(0, batch * rows, grain(columns * channels), [&](int64_t begin, int64_t end) {
    std::vector<int16_t> most(static_cast<size_t>(width * channels));
    for (int64_t row = begin; row < end; ++row) {
      const uint16_t* image = from + row / rows * height * width * channels;
      const int64_t top = row % rows * stride[0] - padding[0];
      std::fill(most.begin(), most.end(), order(0xff80));  // minus infinity
      for (int64_t i = std::max<int64_t>(top, 0); i < std::min(top + kernel[0], height); ++i) {
        raise_to_max(most.data(), image + i * width * channels, width * channels);
      }
      pool_row(to + row * columns * channels, most.data(), width, channels, columns, kernel[1], stride[1],
               padding[1]);
    }
  });
  return y;
}

Normalized add_layer_norm(const torch::Tensor& a, const torch::Tensor& b, const torch::Tensor& weight,
                          const torch::Tensor& bias, double eps, bool narrow) {
  const torch::Tensor first = a.contiguous(), second = b.contiguous();
  const int64_t size = a.size(-1), rows = a.numel() / size;
  Normalized result;
  result.wide = torch::empty(a.sizes(), a.options().dtype(torch::kFloat));
  if (narrow) result.narrow = torch::empty(a.sizes(), a.options().dtype(torch::kBFloat16));
  auto* wide = result.wide.data_ptr<float>();
  auto* half = narrow ? static_cast<uint16_t*>(result.narrow.data_ptr()) : nullptr;
  const auto* gain = weight.const_data_ptr<float>();
  const auto* shift = bias.const_data_ptr<float>();
  at::parallel_for(0, rows, grain(size), [&](int64_t begin, int64_t end) {
    std::vector<float> sum(static_cast<size_t>(size));
    for (int64_t row = begin; row < end; ++row) {
      std::fill(sum.begin(), sum.end(), 0.0F);
      add_row(sum.data(), first, row, size);
      add_row(sum.data(), second, row, size);
      normalize(wide + row * size, sum.data(), gain, shift, size, static_cast<float>(eps));
      if (narrow) narrow_all(half + row * size, wide + row * size, size);
    }
  });
  return result;
}

}  // namespace zoo
