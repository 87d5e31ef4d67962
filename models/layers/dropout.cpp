#include "models/layers/dropout.h"

#include <ATen/CPUGeneratorImpl.h>
#include <ATen/Parallel.h>
#include <torch/torch.h>

#include <cmath>

#include "models/layers/vector.h"

namespace zoo {

namespace {

constexpr int64_t kBlock = 4096;  // elements that share a key

/// A 32-bit hash without visible structure ("lowbias32" of Chris Wellons' search for such functions).
inline uint32_t mix(uint32_t x) {
  x ^= x >> 16;
  x *= 0x7feb352dU;
  x ^= x >> 15;
  x *= 0x846ca68bU;
  return x ^ (x >> 16);
}

/// The key of a block: SplitMix64 of seed and number.
uint32_t block_key(uint64_t seed, int64_t block) {
  uint64_t z = seed + 0x9e3779b97f4a7c15ULL * (static_cast<uint64_t>(block) + 1);
  z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9ULL;
  z = (z ^ (z >> 27)) * 0x94d049bb133111ebULL;
  return static_cast<uint32_t>(z ^ (z >> 31));
}

/// An element stays where its hash reaches `threshold`, times `scale`.
ZOO_VECTOR_CLONES void drop(float* y, const float* x, int64_t count, uint32_t key, uint32_t threshold,
                            float scale) {
  for (int64_t i = 0; i < count; ++i) {
    y[i] = mix(static_cast<uint32_t>(i) * 0x9e3779b9U + key) >= threshold ? x[i] * scale : 0.0F;
  }
}

ZOO_VECTOR_CLONES void drop(double* y, const double* x, int64_t count, uint32_t key, uint32_t threshold,
                            double scale) {
  for (int64_t i = 0; i < count; ++i) {
    y[i] = mix(static_cast<uint32_t>(i) * 0x9e3779b9U + key) >= threshold ? x[i] * scale : 0.0;
  }
}

/// bfloat16.
ZOO_VECTOR_CLONES void drop(uint16_t* y, const uint16_t* x, int64_t count, uint32_t key, uint32_t threshold,
                            float scale) {
  for (int64_t i = 0; i < count; ++i) {
    const uint16_t kept = narrow(widen(x[i]) * scale);
    y[i] = mix(static_cast<uint32_t>(i) * 0x9e3779b9U + key) >= threshold ? kept : uint16_t{0};
  }
}

template <class T, class Scale>
void drop_all(const torch::Tensor& y, const torch::Tensor& x, uint64_t seed, double p) {
  auto* to = static_cast<T*>(y.data_ptr());
  const auto* from = static_cast<const T*>(x.const_data_ptr());
  const int64_t count = x.numel();
  const auto threshold = static_cast<uint32_t>(std::llround(p * 4294967296.0));
  const auto scale = static_cast<Scale>(1 / (1 - p));
  at::parallel_for(0, (count + kBlock - 1) / kBlock, 8, [&](int64_t begin, int64_t end) {
    for (int64_t block = begin; block < end; ++block) {
      const int64_t first = block * kBlock;
      drop(to + first, from + first, std::min(kBlock, count - first), block_key(seed, block), threshold,
           scale);
    }
  });
}

/// Elements are numbered in the order of memory, which backward takes from the same layout.
torch::Tensor drop(const torch::Tensor& given, uint64_t seed, double p) {
  const torch::Tensor x = given.contiguous();
  torch::Tensor y = torch::empty_like(x);
  if (x.scalar_type() == torch::kFloat) drop_all<float, float>(y, x, seed, p);
  if (x.scalar_type() == torch::kDouble) drop_all<double, double>(y, x, seed, p);
  if (x.scalar_type() == torch::kBFloat16) drop_all<uint16_t, float>(y, x, seed, p);
  return y;
}

class HashedDropout : public torch::autograd::Function<HashedDropout> {
 public:
  static torch::Tensor forward(torch::autograd::AutogradContext* context, const torch::Tensor& x,
                               int64_t seed, double p) {
    context->saved_data["seed"] = seed;
    context->saved_data["p"] = p;
    return drop(x, static_cast<uint64_t>(seed), p);
  }

  static torch::autograd::variable_list backward(torch::autograd::AutogradContext* context,
                                                 torch::autograd::variable_list gradients) {
    const auto seed = static_cast<uint64_t>(context->saved_data["seed"].toInt());
    return {drop(gradients[0], seed, context->saved_data["p"].toDouble()), {}, {}};
  }
};

int64_t draw_seed() {
  auto generator = at::detail::getDefaultCPUGenerator();
  const std::lock_guard<std::mutex> lock(generator.mutex());
  return static_cast<int64_t>(at::check_generator<at::CPUGeneratorImpl>(generator)->random64());
}

}  // namespace

torch::Tensor hashed_dropout(const torch::Tensor& x, double p, bool training) {
  if (!training || p == 0) return x;
  const auto type = x.scalar_type();
  const bool known = type == torch::kFloat || type == torch::kDouble || type == torch::kBFloat16;
  if (!x.is_cpu() || !known) return torch::dropout(x, p, training);
  return HashedDropout::apply(x, draw_seed(), p);
}

}  // namespace zoo
