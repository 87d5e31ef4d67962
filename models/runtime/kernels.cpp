#include "models/runtime/kernels.h"

#include <algorithm>
#include <cmath>

#include <ATen/Parallel.h>
#include <torch/torch.h>

#include "models/layers/vector.h"

namespace zoo {

namespace {

using Shorts [[gnu::vector_size(64), gnu::aligned(2), gnu::may_alias]] = int16_t;
constexpr int64_t kShorts = kPoolChannels;

/// bfloat16 as integers of the same order, NaN above all; its own inverse but for NaN's bits.
ZOO_INLINE void order(Shorts& y, const Shorts& bits) {
  const Shorts folded = bits ^ ((bits >> 15) & 0x7fff);
  y = (bits & 0x7fff) > 0x7f80 ? Shorts{} + 0x7fff : folded;
}

ZOO_INLINE const Shorts& shorts_at(const int16_t* x) {
  return *reinterpret_cast<const Shorts*>(x);
}

/// most[i] = the largest x of the rows, in the order above; `count` is a multiple of kShorts.
ZOO_VECTOR_CLONES void max_of_rows(int16_t* most, const std::vector<const int16_t*>& rows, int64_t count) {
  for (int64_t i = 0; i < count; i += kShorts) {
    Shorts best, next;
    order(best, shorts_at(rows[0] + i));
    for (size_t row = 1; row < rows.size(); ++row) {
      order(next, shorts_at(rows[row] + i));
      best = next > best ? next : best;
    }
    *reinterpret_cast<Shorts*>(most + i) = best;
  }
}

/// A row of windows over columns whose rows are already one: most [width,channels] -> y [columns,channels];
/// `channels` is a multiple of kShorts.
ZOO_VECTOR_CLONES void pool_row(int16_t* y, const int16_t* most, int64_t width, int64_t channels,
                                int64_t columns, int64_t kernel, int64_t stride, int64_t padding) {
  for (int64_t column = 0; column < columns; ++column, y += channels) {
    const int64_t begin = std::max<int64_t>(column * stride - padding, 0);
    const int64_t end = std::min(column * stride - padding + kernel, width);
    for (int64_t c = 0; c < channels; c += kShorts) {
      Shorts best = shorts_at(most + begin * channels + c);
      for (int64_t j = begin + 1; j < end; ++j) {
        const Shorts& next = shorts_at(most + j * channels + c);
        best = next > best ? next : best;
      }
      *reinterpret_cast<Shorts*>(y + c) = best ^ ((best >> 15) & 0x7fff);
    }
  }
}

ZOO_VECTOR_CLONES void add_wide(float* sum, const float* x, int64_t count) {
  for (int64_t i = 0; i < count; ++i) sum[i] += x[i];
}

ZOO_VECTOR_CLONES void add_narrow(float* sum, const uint16_t* x, int64_t count) {
  for (int64_t i = 0; i < count; ++i) sum[i] += widen(x[i]);
}

ZOO_VECTOR_CLONES void narrow_sum_row(uint16_t* y, const float* a, const float* b, int64_t count) {
  const int64_t whole = count / kLanes * kLanes;
  for (int64_t i = 0; i < whole; i += kLanes) narrow(y + i, floats_at(a + i) + floats_at(b + i));
  for (int64_t i = whole; i < count; ++i) y[i] = narrow(a[i] + b[i]);
}

ZOO_VECTOR_CLONES void narrow_row(uint16_t* y, const float* x, int64_t count) {
  const int64_t whole = count / kLanes * kLanes;
  for (int64_t i = 0; i < whole; i += kLanes) narrow(y + i, floats_at(x + i));
  for (int64_t i = whole; i < count; ++i) y[i] = narrow(x[i]);
}

/// One pixel after another.
ZOO_VECTOR_CLONES void map_pixels(float* y, const float* x, int64_t pixels, int64_t channels,
                                  const float* scale, const float* shift, const float* slope) {
  for (int64_t pixel = 0; pixel < pixels; ++pixel, x += channels, y += channels) {
    for (int64_t c = 0; c < channels; ++c) {
      const float value = x[c] * scale[c] + shift[c];
      y[c] = value < 0 ? value * slope[c] : value;
    }
  }
}

ZOO_VECTOR_CLONES void map_pixels(uint16_t* y, const uint16_t* x, int64_t pixels, int64_t channels,
                                  const float* scale, const float* shift, const float* slope) {
  const int64_t whole = channels / kLanes * kLanes;
  for (int64_t pixel = 0; pixel < pixels; ++pixel, x += channels, y += channels) {
    for (int64_t c = 0; c < whole; c += kLanes) {
      Floats value;
      widen(value, x + c);
      value = value * floats_at(scale + c) + floats_at(shift + c);
      narrow(y + c, value < 0 ? value * floats_at(slope + c) : value);
    }
    for (int64_t c = whole; c < channels; ++c) {
      const float value = widen(x[c]) * scale[c] + shift[c];
      y[c] = narrow(value < 0 ? value * slope[c] : value);
    }
  }
}

template <class T>
void map_all(const torch::Tensor& y, const torch::Tensor& x, const ChannelMap& map, int64_t grain_size) {
  const int64_t channels = x.size(1);
  const auto* from = static_cast<const T*>(x.const_data_ptr());
  auto* to = static_cast<T*>(y.data_ptr());
  const auto *scale = map.scale.const_data_ptr<float>(), *shift = map.shift.const_data_ptr<float>();
  const auto* slope = map.slope.const_data_ptr<float>();
  at::parallel_for(0, x.numel() / channels, grain_size, [&](int64_t begin, int64_t end) {
    map_pixels(to + begin * channels, from + begin * channels, end - begin, channels, scale, shift, slope);
  });
}

/// map_all with a shift that differs at the edges: the first and the last pixel of each line on their own.
template <class T>
void map_with_edges(const torch::Tensor& y, const torch::Tensor& x, const ChannelMap& map,
                    int64_t grain_size) {
  const int64_t channels = x.size(1), height = x.size(2), width = x.size(3);
  const auto* from = static_cast<const T*>(x.const_data_ptr());
  auto* to = static_cast<T*>(y.data_ptr());
  const auto *scale = map.scale.const_data_ptr<float>(), *shift = map.shift.const_data_ptr<float>();
  const auto* slope = map.slope.const_data_ptr<float>();
  const auto map_run = [&](int64_t pixel, int64_t count, int edges) {
    map_pixels(to + pixel * channels, from + pixel * channels, count, channels, scale,
               shift + edges * channels, slope);
  };
  at::parallel_for(0, x.size(0) * height, grain_size, [&](int64_t begin, int64_t end) {
    for (int64_t line = begin; line < end; ++line) {
      const int64_t row = line % height, first = line * width;
      const int edges = (row == 0 ? kTopEdge : 0) | (row == height - 1 ? kBottomEdge : 0);
      map_run(first, 1, edges | kLeftEdge | (width == 1 ? kRightEdge : 0));
      if (width > 2) map_run(first + 1, width - 2, edges);
      if (width > 1) map_run(first + width - 1, 1, edges | kRightEdge);
    }
  });
}

/// y = (x - mean) / sqrt(var + eps) * weight + bias
ZOO_VECTOR_CLONES void normalize(float* y, const float* x, const float* weight, const float* bias,
                                 int64_t count, float eps) {
  const int64_t whole = count / kLanes * kLanes;
  Floats sums{}, squares{};
  for (int64_t i = 0; i < whole; i += kLanes) sums += floats_at(x + i);
  float sum = sum_of(sums);
  for (int64_t i = whole; i < count; ++i) sum += x[i];
  const float mean = sum / static_cast<float>(count);
  for (int64_t i = 0; i < whole; i += kLanes) {
    const Floats away = floats_at(x + i) - mean;
    squares += away * away;
  }
  float square = sum_of(squares);
  for (int64_t i = whole; i < count; ++i) square += (x[i] - mean) * (x[i] - mean);
  const float scale = 1 / std::sqrt(square / static_cast<float>(count) + eps);
  for (int64_t i = 0; i < whole; i += kLanes) {
    floats_at(y + i) = (floats_at(x + i) - mean) * scale * floats_at(weight + i) + floats_at(bias + i);
  }
  for (int64_t i = whole; i < count; ++i) y[i] = (x[i] - mean) * scale * weight[i] + bias[i];
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
  TORCH_CHECK(channels % kPoolChannels == 0, "max_pool_bf16: channels in multiples of 32 expected");
  const int64_t rows = (height + 2 * padding[0] - kernel[0]) / stride[0] + 1;
  const int64_t columns = (width + 2 * padding[1] - kernel[1]) / stride[1] + 1;
  const torch::Tensor y = torch::empty({batch, channels, rows, columns},
                                       x.options().memory_format(torch::MemoryFormat::ChannelsLast));
  const auto* from = static_cast<const int16_t*>(x.const_data_ptr());
  auto* to = static_cast<int16_t*>(y.data_ptr());
  at::parallel_for(0, batch * rows, grain(columns * channels), [&](int64_t begin, int64_t end) {
    std::vector<int16_t> most(static_cast<size_t>(width * channels));
    std::vector<const int16_t*> window;
    for (int64_t row = begin; row < end; ++row) {
      const int16_t* image = from + row / rows * height * width * channels;
      const int64_t top = row % rows * stride[0] - padding[0];
      window.clear();
      for (int64_t i = std::max<int64_t>(top, 0); i < std::min(top + kernel[0], height); ++i) {
        window.push_back(image + i * width * channels);
      }
      max_of_rows(most.data(), window, width * channels);
      pool_row(to + row * columns * channels, most.data(), width, channels, columns, kernel[1], stride[1],
               padding[1]);
    }
  });
  return y;
}

torch::Tensor map_channels(const torch::Tensor& x, const ChannelMap& map, bool in_place) {
  const torch::Tensor dense = x.dim() == 4 ? x.contiguous(torch::MemoryFormat::ChannelsLast) : x.contiguous();
  torch::Tensor y = in_place && dense.is_same(x) ? x : torch::empty_like(dense);
  const bool narrow = x.scalar_type() == torch::kBFloat16;
  if (map.shift.dim() == 2) {
    (narrow ? map_with_edges<uint16_t> : map_with_edges<float>)(y, dense, map, grain(x.size(1) * x.size(3)));
  } else {
    (narrow ? map_all<uint16_t> : map_all<float>)(y, dense, map, grain(x.size(1)));
  }
  return y;
}

torch::Tensor narrow_sum(const torch::Tensor& a, const torch::Tensor& b) {
  const bool repeats =
      a.dim() >= b.dim() && a.sizes().slice(static_cast<size_t>(a.dim() - b.dim())) == b.sizes();
  if (!repeats || b.numel() == 0) return (a + b).to(torch::kBFloat16);
  const torch::Tensor first = a.contiguous(), second = b.contiguous();
  torch::Tensor y = torch::empty(a.sizes(), a.options().dtype(torch::kBFloat16));
  const int64_t size = b.size(-1), rows = a.numel() / size, period = b.numel() / size;
  const auto* x = first.const_data_ptr<float>();
  const auto* shift = second.const_data_ptr<float>();
  auto* to = static_cast<uint16_t*>(y.data_ptr());
  at::parallel_for(0, rows, grain(size), [&](int64_t begin, int64_t end) {
    for (int64_t row = begin; row < end; ++row) {
      narrow_sum_row(to + row * size, x + row * size, shift + row % period * size, size);
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
      if (narrow) narrow_row(half + row * size, wide + row * size, size);
    }
  });
  return result;
}

}  // namespace zoo
