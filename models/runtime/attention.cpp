#include <algorithm>
#include <limits>
#include <vector>

#include <ATen/Parallel.h>
#include <ATen/native/CPUBlas.h>
#include <torch/torch.h>

#include "models/layers/vector.h"
#include "models/runtime/kernels.h"

namespace zoo {

namespace {

constexpr int64_t kQueries = 64;  // whose scores are made together

/// keys [count, 2 pairs], rows `stride` apart -> [pairs, count, 2], as products in bfloat16 read their right
/// side: two rows of the transposed matrix side by side.
void pack_keys(uint32_t* packed, const uint16_t* keys, int64_t stride, int64_t count, int64_t pairs) {
  for (int64_t n = 0; n < count; ++n) {
    const auto* pair = reinterpret_cast<const uint32_t*>(keys + n * stride);
    for (int64_t i = 0; i < pairs; ++i) packed[i * count + n] = pair[i];
  }
}

/// values [count, size] -> [count / 2, size, 2]; an odd last row has zeros beside it.
ZOO_VECTOR_CLONES void pack_values(uint32_t* packed, const uint16_t* values, int64_t stride, int64_t count,
                                   int64_t size) {
  for (int64_t n = 0; n + 1 < count; n += 2, packed += size) {
    const uint16_t* upper = values + n * stride;
    const uint16_t* lower = upper + stride;
    for (int64_t i = 0; i < size; ++i) packed[i] = upper[i] | static_cast<uint32_t>(lower[i]) << 16;
  }
  for (int64_t i = 0; count % 2 == 1 && i < size; ++i) packed[i] = values[(count - 1) * stride + i];
}

/// y = e^(scale (x - largest x)) in bfloat16, to its precision; gives the sum of y. `count` is a multiple of
/// kLanes. NaN spreads over the row.
ZOO_VECTOR_CLONES float exponentials(uint16_t* y, const float* x, int64_t count, float scale) {
  Floats largest = floats_at(x);
  for (int64_t i = kLanes; i < count; i += kLanes) {
    const Floats& next = floats_at(x + i);
    largest = next > largest ? next : largest;
  }
  constexpr float kLog2e = 1.44269504F;
  constexpr float kRound = 12582912.0F;  // 1.5 * 2^23: adding it leaves an integer in the lowest bits
  const float base2 = scale * kLog2e, shift = largest_of(largest) * base2;
  Floats sum{};
  for (int64_t i = 0; i < count; i += kLanes) {
    Floats power = floats_at(x + i) * base2 - shift;
    power = power < -126.0F ? Floats{} - 126.0F : power;
    const Floats rounded = power + kRound;
    const Floats rest = power - (rounded - kRound);  // -0.5 .. 0.5
    const Floats two_to_rest =
        (((0.009618129F * rest + 0.05550411F) * rest + 0.2402265F) * rest + 0.6931472F) * rest + 1.0F;
    const Words result = reinterpret_cast<Words>(two_to_rest) + (reinterpret_cast<Words>(rounded) << 23);
    sum += reinterpret_cast<Floats>(result);
    *reinterpret_cast<Halves*>(y + i) = __builtin_convertvector((result + 0x8000) >> 16, Halves);
  }
  return sum_of(sum);
}

ZOO_VECTOR_CLONES void scale_row(uint16_t* y, const float* x, int64_t count, float factor) {
  for (int64_t i = 0; i < count; ++i) y[i] = narrow(x[i] * factor);
}

/// A matrix [.., rows, columns] of every batch and head of a tensor.
struct Heads {
  explicit Heads(const torch::Tensor& x)
      : data(static_cast<const uint16_t*>(x.const_data_ptr())),
        batch(x.stride(0)),
        head(x.stride(1)),
        row(x.stride(2)) {}
  const uint16_t* at(int64_t b, int64_t h, int64_t r) const { return data + b * batch + h * head + r * row; }

  const uint16_t* data;
  int64_t batch, head, row;
};

/// What a thread needs for one head; kept, since fresh memory costs more than the work.
class Workspace {
 public:
  void prepare(int64_t keys, int64_t key_size, int64_t value_size) {
    if (keys == keys_ && key_size == key_size_ && value_size == value_size_) return;
    keys_ = keys, key_size_ = key_size, value_size_ = value_size;
    padded_ = (keys + kLanes - 1) / kLanes * kLanes;
    packed_keys_.resize(static_cast<size_t>(keys * key_size / 2));
    packed_values_.assign(static_cast<size_t>(padded_ / 2 * value_size), 0);
    scores_.assign(static_cast<size_t>(kQueries * padded_), -std::numeric_limits<float>::infinity());
    weights_.resize(static_cast<size_t>(kQueries * padded_));
    results_.resize(static_cast<size_t>(kQueries * value_size));
  }

  void take_head(const uint16_t* keys, int64_t key_stride, const uint16_t* values, int64_t value_stride) {
    pack_keys(packed_keys_.data(), keys, key_stride, keys_, key_size_ / 2);
    pack_values(packed_values_.data(), values, value_stride, keys_, value_size_);
  }

  /// queries [count, key_size] -> y [count, value_size], rows `y_stride` apart.
  void attend(uint16_t* y, int64_t y_stride, const uint16_t* queries, int64_t stride, int64_t count,
              float scale) {
    const auto product = [](int64_t m, int64_t n, int64_t k, const uint16_t* a, int64_t lda,
                            const uint32_t* b, float* c, int64_t ldc) {
      at::native::cpublas::brgemm(m, n, k, lda, n, ldc, /*add_C=*/false,
                                  reinterpret_cast<const at::BFloat16*>(a),
                                  reinterpret_cast<const at::BFloat16*>(b), c);
    };
    product(count, keys_, key_size_, queries, stride, packed_keys_.data(), scores_.data(), padded_);
    float sums[kQueries];
    for (int64_t i = 0; i < count; ++i) {
      sums[i] = exponentials(weights_.data() + i * padded_, scores_.data() + i * padded_, padded_, scale);
    }
    product(count, value_size_, padded_, weights_.data(), padded_, packed_values_.data(), results_.data(),
            value_size_);
    for (int64_t i = 0; i < count; ++i) {
      scale_row(y + i * y_stride, results_.data() + i * value_size_, value_size_, 1 / sums[i]);
    }
  }

 private:
  int64_t keys_ = 0, key_size_ = 0, value_size_ = 0, padded_ = 0;
  std::vector<uint32_t> packed_keys_, packed_values_;
  std::vector<float> scores_, results_;  // scores behind the last key stay -infinity
  std::vector<uint16_t> weights_;
};

}  // namespace

torch::Tensor attention_bf16(const torch::Tensor& q, const torch::Tensor& k, const torch::Tensor& v,
                             double scale) {
  const int64_t batch = q.size(0), heads = q.size(1), length = q.size(2), keys = k.size(2), size = v.size(3);
  const int64_t blocks = (length + kQueries - 1) / kQueries;
  torch::Tensor y = torch::empty({batch, length, heads, size}, q.options());
  const Heads queries(q), all_keys(k), values(v);
  auto* to = static_cast<uint16_t*>(y.data_ptr());
  at::parallel_for(
      0, batch * heads * blocks, std::max<int64_t>(1, 65536 / (kQueries * keys)),
      [&](int64_t begin, int64_t end) {
        thread_local Workspace work;
        work.prepare(keys, q.size(3), size);
        int64_t taken = -1;
        for (int64_t i = begin; i < end; ++i) {
          const int64_t head = i / blocks, b = head / heads, h = head % heads, first = i % blocks * kQueries;
          if (head != taken)
            work.take_head(all_keys.at(b, h, 0), all_keys.row, values.at(b, h, 0), values.row);
          taken = head;
          work.attend(to + ((b * length + first) * heads + h) * size, heads * size, queries.at(b, h, first),
                      queries.row, std::min(kQueries, length - first), static_cast<float>(scale));
        }
        at::native::cpublas::brgemm_release();
      });
  return y.transpose(1, 2);
}

}  // namespace zoo
