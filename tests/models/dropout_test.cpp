#include "models/layers/dropout.h"

#include <gtest/gtest.h>
#include <torch/torch.h>

#include <cmath>

#include "models/layers/attention.h"

namespace zoo {
namespace {

TEST(Dropout, KeepsItsShareAndTheMean) {
  torch::manual_seed(5);
  for (const auto type : {torch::kFloat, torch::kDouble, torch::kBFloat16}) {
    const torch::Tensor y = hashed_dropout(torch::ones({1000, 1000}, type), 0.1, true).to(torch::kDouble);
    const double zeros = y.eq(0).to(torch::kDouble).mean().item<double>();
    EXPECT_NEAR(zeros, 0.1, 5 * std::sqrt(0.1 * 0.9 / 1e6));  // five standard deviations
    EXPECT_NEAR(y.max().item<double>(), 1 / 0.9, type == torch::kBFloat16 ? 5e-3 : 1e-6);
    // Rows, columns and neighbours are no more alike than chance makes them.
    const torch::Tensor dropped = y.eq(0).to(torch::kDouble);
    for (const int64_t axis : {0, 1}) {
      const double spread = dropped.mean(axis).std().item<double>();
      EXPECT_NEAR(spread, std::sqrt(0.1 * 0.9 / 1000), 1e-3);
      const double both = (dropped * dropped.roll(1, axis)).mean().item<double>();
      EXPECT_NEAR(both, 0.01, 5e-4);
    }
  }
}

TEST(Dropout, BackwardDropsTheSameElements) {
  torch::manual_seed(6);
  const torch::Tensor x = torch::randn({37, 501}, torch::requires_grad());
  const torch::Tensor y = hashed_dropout(x, 0.3, true);
  y.sum().backward();
  EXPECT_TRUE(torch::equal(x.grad().ne(0), y.ne(0)));
  EXPECT_LE((x.grad() - y.ne(0) / 0.7).abs().max().item<double>(), 1e-6);
  EXPECT_LE((y - x * x.grad()).abs().max().item<double>(), 1e-6);
}

TEST(Dropout, FollowsTheSeedAndNotTheThreads) {
  const torch::Tensor x = torch::ones({300, 300});
  const int threads = torch::get_num_threads();
  const auto draw = [&](uint64_t seed, int count) {
    torch::manual_seed(seed);
    torch::set_num_threads(count);
    return hashed_dropout(x, 0.5, true);
  };
  const torch::Tensor first = draw(1, 1), same = draw(1, 2), next = hashed_dropout(x, 0.5, true),
                      other = draw(2, 1);
  torch::set_num_threads(threads);
  EXPECT_TRUE(torch::equal(first, same));
  for (const torch::Tensor& different : {next, other}) {
    EXPECT_NEAR(first.ne(different).to(torch::kFloat).mean().item<float>(), 0.5, 0.02);
  }
}

TEST(Dropout, LeavesItsInputOutsideTraining) {
  const torch::Tensor x = torch::ones({4});
  EXPECT_TRUE(hashed_dropout(x, 0.5, false).is_same(x));
  EXPECT_TRUE(hashed_dropout(x, 0.0, true).is_same(x));
}

/// Without dropout the two ways of attention are one: this one's expectation is the other.
TEST(Dropout, AttentionWithDropoutHasTheFusedOnesMean) {
  torch::manual_seed(7);
  MultiHeadAttention with(16, 4, 0.2), without(16, 4, 0.0);
  const torch::NoGradGuard no_grad;
  without->in_proj_weight.copy_(with->in_proj_weight);
  without->out_proj->weight.copy_(with->out_proj->weight);
  const torch::Tensor query = torch::randn({1, 5, 16}), key = torch::randn({1, 9, 16});
  torch::Tensor mask = torch::ones({1, 1, 5, 9}, torch::kBool);
  mask[0][0][1].slice(0, 4).fill_(false);
  mask[0][0][2].fill_(false);
  const torch::Tensor expected = without(query, key, key, mask);
  const torch::Tensor many =
      with(query.expand({4000, 5, 16}), key.expand({4000, 9, 16}), key.expand({4000, 9, 16}), mask);
  EXPECT_LE((many.mean(0) - expected[0]).abs().max().item<double>(), 0.02);
  EXPECT_EQ(many.select(1, 2).abs().max().item<double>(), 0);  // attends to nothing; the bias is 0
  EXPECT_GT(many.select(1, 0).std(0).min().item<double>(), 0.01);
}

}  // namespace
}  // namespace zoo
