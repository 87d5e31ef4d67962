#include <algorithm>
#include <cmath>
#include <vector>

#include "core/error.h"
#include "core/text.h"
#include "datasets/detection.h"

namespace zoo {
namespace {

constexpr int kBits = 22;  // of the fraction of a weight; 255 times the sum of weights still fits 31 bits

/// The weights of one axis: out[i] = sum over t < count[i] of weights[i * taps + t] * in[first[i] + t].
struct Filter {
  int64_t taps = 0;
  std::vector<int64_t> first, count;
  std::vector<int32_t> weights;  // times 2^kBits; rows filled up with 0
};

/// Outputs begin..end-1 of a resize from `in` to `out` pixels. The triangle's half width is one pixel of the
/// coarser grid; weights are normalised in double and then rounded half away from zero.
Filter triangle_filter(int64_t in, int64_t out, int64_t begin, int64_t end) {
  const double scale = static_cast<double>(in) / static_cast<double>(out), support = std::max(scale, 1.0);
  Filter filter;
  filter.taps = static_cast<int64_t>(std::ceil(support)) * 2 + 1;
  filter.weights.assign(static_cast<size_t>((end - begin) * filter.taps), 0);
  std::vector<double> row(static_cast<size_t>(filter.taps));
  for (int64_t i = begin; i < end; ++i) {
    const double centre = (static_cast<double>(i) + 0.5) * scale;
    const int64_t first = std::max<int64_t>(static_cast<int64_t>(centre - support + 0.5), 0);
    const int64_t count = std::min(static_cast<int64_t>(centre + support + 0.5), in) - first;
    double sum = 0;
    for (int64_t t = 0; t < count; ++t) {
      const double distance = (static_cast<double>(t + first) - centre + 0.5) * (1.0 / support);
      row[static_cast<size_t>(t)] = std::max(0.0, 1.0 - std::abs(distance));
      sum += row[static_cast<size_t>(t)];
    }
    for (int64_t t = 0; t < count; ++t) {
      const double weight = row[static_cast<size_t>(t)] / sum * (1 << kBits);
      filter.weights[static_cast<size_t>((i - begin) * filter.taps + t)] = static_cast<int32_t>(weight + 0.5);
    }
    filter.first.push_back(first);
    filter.count.push_back(count);
  }
  return filter;
}

uint8_t rounded(int32_t sum) {
  return static_cast<uint8_t>(std::min(sum >> kBits, 255));
}

constexpr int32_t kHalf = 1 << (kBits - 1);

template <int kChannels>
void resize_row(const Filter& filter, const uint8_t* in, uint8_t* out) {
  for (size_t i = 0; i < filter.first.size(); ++i) {
    const int32_t* weights = &filter.weights[i * static_cast<size_t>(filter.taps)];
    const uint8_t* pixel = in + filter.first[i] * kChannels;
    int32_t sum[kChannels];
    std::fill(sum, sum + kChannels, kHalf);
    for (int64_t t = 0; t < filter.count[i]; ++t) {
      for (int c = 0; c < kChannels; ++c) sum[c] += weights[t] * *pixel++;
    }
    for (int c = 0; c < kChannels; ++c) *out++ = rounded(sum[c]);
  }
}

/// out[x] = sum over t of weights[t] * rows[t * stride + x]
__attribute__((optimize("O3"), target_clones("arch=skylake-avx512", "avx2", "sse4.2", "default"))) void
combine_rows(const uint8_t* rows, size_t stride, const int32_t* weights, int64_t count, int64_t width,
             uint8_t* out) {
  constexpr int64_t kBlock = 256;
  int32_t sum[kBlock];
  for (int64_t begin = 0; begin < width; begin += kBlock) {
    const int64_t n = std::min(kBlock, width - begin);
    for (int64_t x = 0; x < n; ++x) sum[x] = kHalf;
    for (int64_t t = 0; t < count; ++t) {
      const uint8_t* row = rows + static_cast<size_t>(t) * stride + begin;
      const int32_t weight = weights[t];
      for (int64_t x = 0; x < n; ++x) sum[x] += weight * row[x];
    }
    for (int64_t x = 0; x < n; ++x) out[begin + x] = static_cast<uint8_t>(std::min(sum[x] >> kBits, 255));
  }
}

cv::Mat resize_horizontally(const cv::Mat& image, const Filter& filter) {
  const auto resize = image.channels() == 1   ? resize_row<1>
                      : image.channels() == 2 ? resize_row<2>
                      : image.channels() == 3 ? resize_row<3>
                                              : resize_row<4>;
  cv::Mat out(image.rows, static_cast<int>(filter.first.size()), image.type());
  for (int y = 0; y < image.rows; ++y) resize(filter, image.ptr(y), out.ptr(y));
  return out;
}

cv::Mat resize_vertically(const cv::Mat& image, const Filter& filter, int64_t first_row) {
  cv::Mat out(static_cast<int>(filter.first.size()), image.cols, image.type());
  for (int y = 0; y < out.rows; ++y) {
    const auto i = static_cast<size_t>(y);
    combine_rows(image.ptr(static_cast<int>(filter.first[i] - first_row)), image.step,
                 &filter.weights[i * static_cast<size_t>(filter.taps)], filter.count[i],
                 static_cast<int64_t>(image.cols) * image.channels(), out.ptr(y));
  }
  return out;
}

}  // namespace

std::pair<int64_t, int64_t> resized_size(int64_t height, int64_t width, int64_t size, int64_t max_size) {
  const int64_t shorter = std::min(height, width), longer = std::max(height, width);
  const auto short_side = static_cast<double>(shorter), long_side = static_cast<double>(longer);
  if (max_size > 0 && long_side / short_side * static_cast<double>(size) > static_cast<double>(max_size)) {
    // Ties to even; a picture so long that nothing would be left keeps one pixel.
    size = std::max<int64_t>(1, std::llrint(static_cast<double>(max_size) * short_side / long_side));
  }
  if (shorter == size) return {height, width};
  const auto other = static_cast<int64_t>(static_cast<double>(size * longer) / short_side);
  return width < height ? std::make_pair(other, size) : std::make_pair(size, other);
}

cv::Mat resize_antialiased(const cv::Mat& image, int64_t height, int64_t width) {
  return resize_antialiased(image, height, width,
                            cv::Rect(0, 0, static_cast<int>(width), static_cast<int>(height)));
}

cv::Mat resize_antialiased(const cv::Mat& image, int64_t height, int64_t width, const cv::Rect& window) {
  const cv::Rect all(0, 0, static_cast<int>(width), static_cast<int>(height));
  if (image.empty() || image.depth() != CV_8U || image.channels() > 4 || window.empty() ||
      (window & all) != window) {
    throw Error(format("cannot resize an image of %dx%d, type %d, to %lldx%lld", image.cols, image.rows,
                       image.type(), static_cast<long long>(width), static_cast<long long>(height)));
  }
  // A pass that would change nothing is left out; the horizontal one needs only the rows that the vertical
  // one reads.
  cv::Mat out = image;
  Filter vertical;
  int64_t first_row = window.y, rows = window.height;
  if (height != image.rows) {
    vertical = triangle_filter(image.rows, height, window.y, window.y + window.height);
    first_row = vertical.first.front();
    rows = vertical.first.back() + vertical.count.back() - first_row;
  }
  out = out.rowRange(static_cast<int>(first_row), static_cast<int>(first_row + rows));
  if (width != image.cols) {
    out = resize_horizontally(out, triangle_filter(image.cols, width, window.x, window.x + window.width));
  } else {
    out = out.colRange(window.x, window.x + window.width);
  }
  return height != image.rows ? resize_vertically(out, vertical, first_row) : out;
}

}  // namespace zoo
