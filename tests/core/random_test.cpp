#include "core/random.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <numeric>

namespace zoo {
namespace {

using testing::ElementsAre;

// The numbers of a second implementation of xoshiro256** and splitmix64, in Python's integers.
TEST(Random, NumbersOfAStreamAreFixed) {
  RandomStream stream({1, 2, 3});
  EXPECT_EQ(stream.next(), 0x5e285f67690da043u);
  EXPECT_EQ(stream.next(), 0xf5a08a31d3f796bfu);
  EXPECT_EQ(stream.next(), 0x4b3450d9c9ef2076u);
  EXPECT_EQ(RandomStream(0).next(), 0xa4dbf5139e2ff2b0u);
  EXPECT_EQ(RandomStream({1, 2, 3}).uniform(), 0.3678035380808553);
  EXPECT_THAT(RandomStream(7).permutation(8), ElementsAre(3, 5, 0, 4, 2, 6, 1, 7));
}

TEST(Random, TuplesGiveUnrelatedStreams) {
  EXPECT_NE(RandomStream({1, 2}).next(), RandomStream({2, 1}).next());
  EXPECT_NE(RandomStream({0}).next(), RandomStream({0, 0}).next());
  EXPECT_NE(RandomStream({5, 0, 1}).next(), RandomStream({5, 1, 0}).next());
}

TEST(Random, UniformAndNormalHaveTheirMoments) {
  RandomStream stream({42});
  constexpr int kCount = 100'000;
  double uniform_sum = 0, sum = 0, squares = 0;
  for (int i = 0; i < kCount; ++i) {
    const double uniform = stream.uniform(), normal = stream.normal();
    ASSERT_GE(uniform, 0);
    ASSERT_LT(uniform, 1);
    uniform_sum += uniform;
    sum += normal;
    squares += normal * normal;
  }
  EXPECT_NEAR(uniform_sum / kCount, 0.5, 5 * 0.289 / std::sqrt(kCount));
  EXPECT_NEAR(sum / kCount, 0, 5 / std::sqrt(kCount));
  EXPECT_NEAR(squares / kCount, 1, 5 * std::sqrt(2.0 / kCount));
}

TEST(Random, IntegersCoverTheirRangeEvenly) {
  RandomStream stream({9});
  std::vector<int> counts(6, 0);
  for (int i = 0; i < 60'000; ++i) ++counts.at(static_cast<size_t>(stream.integer(-2, 3) + 2));
  for (const int count : counts) EXPECT_NEAR(count, 10'000, 500);  // 5 deviations
  EXPECT_EQ(stream.integer(4, 4), 4);
  stream.integer(INT64_MIN, INT64_MAX);
}

TEST(Random, PermutationsHoldEveryIndexOnce) {
  std::vector<int64_t> order = RandomStream(3).permutation(1000);
  EXPECT_FALSE(std::is_sorted(order.begin(), order.end()));
  std::sort(order.begin(), order.end());
  std::vector<int64_t> expected(1000);
  std::iota(expected.begin(), expected.end(), 0);
  EXPECT_EQ(order, expected);
  EXPECT_TRUE(RandomStream(3).permutation(0).empty());
}

}  // namespace
}  // namespace zoo
