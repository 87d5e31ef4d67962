#include "core/random.h"

#include <cmath>
#include <numeric>
#include <utility>

namespace zoo {

namespace {

uint64_t splitmix64(uint64_t& state) {
  uint64_t z = (state += 0x9E3779B97F4A7C15ull);
  z = (z ^ (z >> 30)) * 0xBF58476D1CE4E5B9ull;
  z = (z ^ (z >> 27)) * 0x94D049BB133111EBull;
  return z ^ (z >> 31);
}

uint64_t rotate_left(uint64_t x, int k) {
  return (x << k) | (x >> (64 - k));
}

}  // namespace

RandomStream::RandomStream(std::initializer_list<uint64_t> key) {
  uint64_t mixed = 0x6A09E667F3BCC908ull;
  for (const uint64_t part : key) {
    uint64_t state = mixed ^ part;
    mixed = splitmix64(state) + rotate_left(mixed, 23);
  }
  for (uint64_t& word : state_) word = splitmix64(mixed);
}

uint64_t RandomStream::next() {
  const uint64_t result = rotate_left(state_[1] * 5, 7) * 9;
  const uint64_t t = state_[1] << 17;
  state_[2] ^= state_[0];
  state_[3] ^= state_[1];
  state_[1] ^= state_[2];
  state_[0] ^= state_[3];
  state_[2] ^= t;
  state_[3] = rotate_left(state_[3], 45);
  return result;
}

double RandomStream::uniform() {
  return static_cast<double>(next() >> 11) * 0x1.0p-53;
}

int64_t RandomStream::integer(int64_t low, int64_t high) {
  const uint64_t span = static_cast<uint64_t>(high) - static_cast<uint64_t>(low) + 1;
  if (span == 0) return static_cast<int64_t>(next());  // the whole range of int64
  const uint64_t limit = UINT64_MAX - UINT64_MAX % span;
  uint64_t value = next();
  while (value >= limit) value = next();
  return low + static_cast<int64_t>(value % span);
}

double RandomStream::normal() {
  const double radius = std::sqrt(-2.0 * std::log(1.0 - uniform()));
  return radius * std::cos(2.0 * M_PI * uniform());
}

std::vector<int64_t> RandomStream::permutation(int64_t n) {
  std::vector<int64_t> order(static_cast<size_t>(n));
  std::iota(order.begin(), order.end(), 0);
  for (int64_t i = n - 1; i > 0; --i) {
    std::swap(order[static_cast<size_t>(i)], order[static_cast<size_t>(integer(0, i))]);
  }
  return order;
}

}  // namespace zoo
