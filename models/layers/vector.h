#pragma once
#include <cstdint>
#include <cstring>

// The compiler makes one version of a function per instruction set; the program picks the processor's at its
// start. (A version by the name of a processor, arch=skylake-avx512, is taken on that very processor alone.)
#if defined(__x86_64__) && defined(__GNUC__) && !defined(__clang__) && !defined(__SANITIZE_ADDRESS__)
#define ZOO_VECTOR_CLONES __attribute__((target_clones("arch=x86-64-v4", "avx2", "default"), optimize("O3")))
#else
#define ZOO_VECTOR_CLONES
#endif
#define ZOO_INLINE __attribute__((always_inline)) inline

namespace zoo {

ZOO_INLINE float widen(uint16_t bfloat16) {
  const uint32_t bits = static_cast<uint32_t>(bfloat16) << 16;
  float wide;
  std::memcpy(&wide, &bits, sizeof wide);
  return wide;
}

/// The nearest bfloat16, ties to even; NaN stays NaN.
ZOO_INLINE uint16_t narrow(float x) {
  uint32_t bits;
  std::memcpy(&bits, &x, sizeof bits);
  const uint32_t rounded = (bits + 0x7fff + ((bits >> 16) & 1)) >> 16;
  return static_cast<uint16_t>((bits & 0x7fffffff) > 0x7f800000 ? 0x7fc0 : rounded);
}

// Sixteen numbers at once, in whatever registers the instruction set has. Memory may be read and written
// through pointers to them wherever it holds such numbers. They are handed over by reference: the registers
// in which a value travels differ between instruction sets.
using Floats [[gnu::vector_size(64), gnu::aligned(4), gnu::may_alias]] = float;
using Words [[gnu::vector_size(64), gnu::aligned(4), gnu::may_alias]] = uint32_t;
using Halves [[gnu::vector_size(32), gnu::aligned(2), gnu::may_alias]] = uint16_t;
constexpr int64_t kLanes = 16;

ZOO_INLINE const Floats& floats_at(const float* x) {
  return *reinterpret_cast<const Floats*>(x);
}
ZOO_INLINE Floats& floats_at(float* x) {
  return *reinterpret_cast<Floats*>(x);
}
/// y = sixteen bfloat16.
ZOO_INLINE void widen(Floats& y, const uint16_t* x) {
  y = reinterpret_cast<Floats>(__builtin_convertvector(*reinterpret_cast<const Halves*>(x), Words) << 16);
}
/// Sixteen numbers to bfloat16 as the function of one number does it.
ZOO_INLINE void narrow(uint16_t* y, const Floats& x) {
  const auto bits = reinterpret_cast<Words>(x);
  const Words rounded = (bits + 0x7fff + ((bits >> 16) & 1)) >> 16;
  const Words safe = (bits & 0x7fffffff) > 0x7f800000 ? Words{} + 0x7fc0 : rounded;
  *reinterpret_cast<Halves*>(y) = __builtin_convertvector(safe, Halves);
}
/// Exchanges neighbouring groups of `Step` numbers.
template <uint32_t Step>
ZOO_INLINE void exchange(Floats& y, const Floats& x) {
  constexpr Words kOrder = {0 ^ Step,  1 ^ Step,  2 ^ Step,  3 ^ Step, 4 ^ Step,  5 ^ Step,
                            6 ^ Step,  7 ^ Step,  8 ^ Step,  9 ^ Step, 10 ^ Step, 11 ^ Step,
                            12 ^ Step, 13 ^ Step, 14 ^ Step, 15 ^ Step};
  y = __builtin_shuffle(x, kOrder);
}
ZOO_INLINE float sum_of(Floats x) {
  Floats y;
  exchange<8>(y, x), x += y;
  exchange<4>(y, x), x += y;
  exchange<2>(y, x), x += y;
  exchange<1>(y, x), x += y;
  return x[0];
}
ZOO_INLINE float largest_of(Floats x) {
  Floats y;
  exchange<8>(y, x), x = y > x ? y : x;
  exchange<4>(y, x), x = y > x ? y : x;
  exchange<2>(y, x), x = y > x ? y : x;
  exchange<1>(y, x), x = y > x ? y : x;
  return x[0];
}

}  // namespace zoo
