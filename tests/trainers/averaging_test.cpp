#include "trainers/averaging.h"

#include <gtest/gtest.h>

#include <stdexcept>

#include "core/error.h"

namespace zoo::test {
namespace {

torch::Tensor scalar(double value) {
  return torch::tensor({value}, torch::kFloat);
}

TEST(AveragingTest, FollowsTheFormula) {
  torch::Tensor weight = scalar(1).set_requires_grad(true), statistic = scalar(5);
  torch::Tensor count = torch::tensor({int64_t{7}});
  WeightAverage average(0.25, {{"weight", weight}}, {{"statistic", statistic}, {"count", count}});
  const torch::NoGradGuard no_grad;
  weight.fill_(2), statistic.fill_(6), count.fill_(8);
  average.update();  // d = 2/11
  const double first = 1 + (1 - 2.0 / 11) * (2 - 1);
  EXPECT_NEAR(average.state()[0].second.item<double>(), first, 1e-6);
  weight.fill_(3);
  average.update();  // d = min(0.25, 3/12)
  average.update();  // d = min(0.25, 4/13) = 0.25
  const double second = first + 0.75 * (3 - first);
  EXPECT_NEAR(average.state()[0].second.item<double>(), second + 0.75 * (3 - second), 1e-6);
  EXPECT_EQ(average.state()[1].second.item<float>(), 6);
  EXPECT_EQ(average.state()[2].second.item<int64_t>(), 8);
  EXPECT_EQ(average.updates(), 3);
}

TEST(AveragingTest, SwapExchangesAndPutsBackEvenWhenAnErrorPasses) {
  torch::Tensor weight = scalar(1).set_requires_grad(true);
  WeightAverage average(0.9, {{"weight", weight}, {"tied", weight}}, {});
  {
    const torch::NoGradGuard no_grad;
    weight.fill_(2);
  }
  EXPECT_EQ(average.state().size(), 1u);  // tied weights are exchanged once
  try {
    const AveragedWeights averaged(&average);
    EXPECT_EQ(weight.item<float>(), 1);
    throw std::runtime_error("in a validation");
  } catch (const std::runtime_error&) {
  }
  EXPECT_EQ(weight.item<float>(), 2);
  EXPECT_TRUE(weight.requires_grad());
  EXPECT_TRUE(weight.is_leaf());
  (weight * 3).sum().backward();
  EXPECT_EQ(weight.grad().item<float>(), 3);
}

TEST(AveragingTest, StateIsACopyThatLoadsBack) {
  torch::Tensor weight = scalar(4);
  WeightAverage average(0.9, {{"weight", weight}}, {});
  weight.fill_(1);
  EXPECT_EQ(average.state()[0].second.item<float>(), 4);
  StateDict state;
  state.source = "file";
  state.tensors = {{"average.weight", scalar(9)}};
  average.load_state(state, "average.", 12);
  EXPECT_EQ(average.state()[0].second.item<float>(), 9);
  EXPECT_EQ(average.updates(), 12);
  EXPECT_THROW(average.load_state(state, "other.", 0), Error);
  state.tensors = {{"average.weight", torch::zeros({2})}};
  EXPECT_THROW(average.load_state(state, "average.", 0), Error);
}

}  // namespace
}  // namespace zoo::test
