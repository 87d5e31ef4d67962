#pragma once
#include <cstdint>
#include <initializer_list>
#include <vector>

namespace zoo {

/// A seeded stream of random numbers, the same on every machine and standard library (which the standard's
/// own distributions are not). A sample of a data set gets its own from (seed, epoch, index), so that numbers
/// depend neither on the order of work nor on the number of threads. The generator is xoshiro256**, seeded by
/// splitmix64.
class RandomStream {
 public:
  explicit RandomStream(uint64_t seed) : RandomStream({seed}) {}
  /// The stream of a tuple, for example {seed, epoch, index}; different tuples give unrelated streams.
  RandomStream(std::initializer_list<uint64_t> key);

  uint64_t next();
  /// Uniform in [0, 1), 53 bits.
  double uniform();
  double uniform(double low, double high) { return low + (high - low) * uniform(); }
  /// Uniform integer in [low, high], both ends included; needs low <= high.
  int64_t integer(int64_t low, int64_t high);
  bool chance(double probability) { return uniform() < probability; }
  /// Standard normal (Box and Muller, one value a call).
  double normal();
  /// A permutation of 0..n-1.
  std::vector<int64_t> permutation(int64_t n);

 private:
  uint64_t state_[4];
};

}  // namespace zoo
