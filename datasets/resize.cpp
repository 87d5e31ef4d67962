#include <algorithm>
#include <cmath>
#include <cstring>
#include <optional>
#include <vector>

#if defined(__x86_64__)
#include <immintrin.h>
#endif

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
  filter.taps = static_cast<int64_t>(std::ceil(support)) * 2 + 2;  // at most one less is used
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

/// The horizontal pass of one row, for any number of channels.
void resize_row(const Filter& filter, int channels, const uint8_t* in, uint8_t* out) {
  for (size_t i = 0; i < filter.first.size(); ++i) {
    const int32_t* weights = &filter.weights[i * static_cast<size_t>(filter.taps)];
    for (int c = 0; c < channels; ++c) {
      const uint8_t* value = in + filter.first[i] * channels + c;
      int32_t sum = kHalf;
      for (int64_t t = 0; t < filter.count[i]; ++t, value += channels) sum += weights[t] * *value;
      *out++ = rounded(sum);
    }
  }
}

#if defined(__x86_64__)

/// The weights of a horizontal filter for multiplications of 16 bits: weight = high * 2^11 + low, for two
/// taps at a time, and rows of an even number of taps.
struct PairedFilter {
  static constexpr int kLowBits = 11;
  struct Pair {
    int32_t high, low;  // first tap in the lower half, second tap in the upper half
  };
  struct Pixel {
    int64_t byte;   // of the first tap in the row
    int64_t first;  // in pairs
    int64_t count;
  };
  std::vector<Pixel> pixels;
  std::vector<Pair> pairs;

  explicit PairedFilter(const Filter& filter) {
    const auto halves = [](int32_t first, int32_t second) { return first | second << 16; };
    constexpr int32_t mask = (1 << kLowBits) - 1;
    for (size_t i = 0; i < filter.first.size(); ++i) {
      const int64_t count = (filter.count[i] + 1) / 2;
      pixels.push_back({filter.first[i] * 3, static_cast<int64_t>(pairs.size()), count});
      const int32_t* weights =
          &filter.weights[i * static_cast<size_t>(filter.taps)];  // odd taps end with a 0
      for (int64_t t = 0; t < 2 * count; t += 2) {
        pairs.push_back({halves(weights[t] >> kLowBits, weights[t + 1] >> kLowBits),
                         halves(weights[t] & mask, weights[t + 1] & mask)});
      }
    }
  }
};

/// The horizontal pass of one row of RGB. Reads up to 8 bytes behind the row and writes one behind the
/// output.
__attribute__((target("sse4.1"))) void resize_rgb_row(const PairedFilter& filter, const uint8_t* in,
                                                      uint8_t* out) {
  const __m128i spread =
      _mm_setr_epi8(0, -1, 3, -1, 1, -1, 4, -1, 2, -1, 5, -1, -1, -1, -1, -1);  // R0R1 G0G1 B0B1
  for (const PairedFilter::Pixel& pixel : filter.pixels) {
    const uint8_t* bytes = in + pixel.byte;
    const PairedFilter::Pair* pair = &filter.pairs[static_cast<size_t>(pixel.first)];
    __m128i high = _mm_setzero_si128(), low = _mm_set1_epi32(kHalf);
    for (int64_t n = pixel.count; n > 0; --n, bytes += 6, ++pair) {
      const __m128i taps = _mm_shuffle_epi8(_mm_loadl_epi64(reinterpret_cast<const __m128i*>(bytes)), spread);
      high = _mm_add_epi32(high, _mm_madd_epi16(taps, _mm_set1_epi32(pair->high)));
      low = _mm_add_epi32(low, _mm_madd_epi16(taps, _mm_set1_epi32(pair->low)));
    }
    __m128i sum = _mm_srli_epi32(_mm_add_epi32(_mm_slli_epi32(high, PairedFilter::kLowBits), low), kBits);
    sum = _mm_packus_epi16(_mm_packus_epi32(sum, sum), sum);
    const int32_t rgb = _mm_cvtsi128_si32(sum);
    std::memcpy(out, &rgb, sizeof rgb);
    out += 3;
  }
}

/// Both rows are copied, so that reading and writing behind them is harmless.
void resize_rgb_rows(const Filter& filter, const cv::Mat& image, cv::Mat& out) {
  const PairedFilter paired(filter);
  std::vector<uint8_t> in_row(static_cast<size_t>(image.cols) * 3 + 8),
      out_row(static_cast<size_t>(out.cols) * 3 + 1);
  for (int y = 0; y < image.rows; ++y) {
    std::memcpy(in_row.data(), image.ptr(y), static_cast<size_t>(image.cols) * 3);
    resize_rgb_row(paired, in_row.data(), out_row.data());
    std::memcpy(out.ptr(y), out_row.data(), static_cast<size_t>(out.cols) * 3);
  }
}

#endif

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
  cv::Mat out(image.rows, static_cast<int>(filter.first.size()), image.type());
#if defined(__x86_64__)
  if (image.channels() == 3 && __builtin_cpu_supports("sse4.1")) {
    resize_rgb_rows(filter, image, out);
    return out;
  }
#endif
  for (int y = 0; y < image.rows; ++y) resize_row(filter, image.channels(), image.ptr(y), out.ptr(y));
  return out;
}

cv::Mat resize_vertically(const cv::Mat& image, const Filter& filter) {
  cv::Mat out(static_cast<int>(filter.first.size()), image.cols, image.type());
  for (int y = 0; y < out.rows; ++y) {
    const auto i = static_cast<size_t>(y);
    combine_rows(image.ptr(static_cast<int>(filter.first[i])), image.step,
                 &filter.weights[i * static_cast<size_t>(filter.taps)], filter.count[i],
                 static_cast<int64_t>(image.cols) * image.channels(), out.ptr(y));
  }
  return out;
}

/// Narrows `range`, outputs of a resize from `in` to `out` pixels, to the inputs they are made of, and gives
/// the filter on these; none where the sizes are equal.
std::optional<Filter> axis_filter(int64_t in, int64_t out, cv::Range& range) {
  if (in == out) return std::nullopt;
  Filter filter = triangle_filter(in, out, range.start, range.end);
  const int64_t first = filter.first.front();
  range = cv::Range(static_cast<int>(first), static_cast<int>(filter.first.back() + filter.count.back()));
  for (int64_t& begin : filter.first) begin -= first;
  return filter;
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
  cv::Range rows(window.y, window.y + window.height), columns(window.x, window.x + window.width);
  const std::optional<Filter> vertical = axis_filter(image.rows, height, rows);
  const std::optional<Filter> horizontal = axis_filter(image.cols, width, columns);
  // Pillow's order since version 13 (before, the horizontal pass was always the first); the rounding between
  // the passes makes it visible.
  const bool vertical_first = height < image.rows && image.rows - height > 2 * (image.cols - width);
  cv::Mat out = image(rows, columns);
  if (vertical && vertical_first) out = resize_vertically(out, *vertical);
  if (horizontal) out = resize_horizontally(out, *horizontal);
  if (vertical && !vertical_first) out = resize_vertically(out, *vertical);
  return out;
}

}  // namespace zoo
