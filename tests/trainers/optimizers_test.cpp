#include "trainers/optimizers.h"

#include <gtest/gtest.h>

#include <cmath>

#include "core/error.h"

namespace zoo::test {
namespace {

ParameterGroup group_of(const std::vector<std::pair<std::string, torch::Tensor>>& parameters,
                        double lr = 0.1) {
  return {"all", parameters, lr, 0};
}

torch::Tensor parameter(const std::vector<double>& values) {
  return torch::tensor(values, torch::kFloat).set_requires_grad(true);
}

StateDict saved(const Optimizer& optimizer) {
  StateDict state;
  state.source = "state";
  for (const auto& [name, tensor] : optimizer.state()) state.tensors.emplace_back(name, tensor.clone());
  return state;
}

TEST(OptimizersTest, FirstAdamwStepIsTheSignTimesTheStepSize) {
  torch::Tensor weight = parameter({1, 2, 3});
  Optimizer optimizer(OptimizerOptions(), {group_of({{"w", weight}})});
  weight.mutable_grad() = torch::tensor({0.5, -2.0, 0.0}, torch::kFloat);
  optimizer.step(0.5);
  EXPECT_TRUE(torch::allclose(weight, torch::tensor({0.95, 2.05, 3.0}, torch::kFloat), 1e-6));
}

TEST(OptimizersTest, SgdStateIsKeptPerParameter) {
  OptimizerOptions options;
  options.name = "sgd";
  options.momentum = 0.5;
  torch::Tensor a = parameter({0}), b = parameter({0});
  Optimizer optimizer(options, {group_of({{"a", a}, {"b", b}}, 1)});
  a.mutable_grad() = torch::ones({1});
  optimizer.step(1);  // a: buffer 1, value -1; b has no gradient
  EXPECT_EQ(b.item<float>(), 0);
  b.mutable_grad() = torch::ones({1});
  optimizer.step(1);  // a: buffer 1.5, value -2.5; b: its first step, buffer 1
  EXPECT_FLOAT_EQ(a.item<float>(), -2.5);
  EXPECT_FLOAT_EQ(b.item<float>(), -1);
}

TEST(OptimizersTest, AGradientOfAnotherMemoryLayoutIsPairedRightly) {
  for (const std::string name : {"adamw", "sgd"}) {
    OptimizerOptions options;
    options.name = name;
    const torch::Tensor value = torch::arange(24, torch::kFloat).reshape({2, 3, 2, 2});
    torch::Tensor plain = value.clone().set_requires_grad(true);
    torch::Tensor last = value.contiguous(torch::MemoryFormat::ChannelsLast).set_requires_grad(true);
    Optimizer optimizer(options, {group_of({{"plain", plain}, {"last", last}})});
    for (int step = 0; step < 3; ++step) {
      plain.mutable_grad() = value.cos();
      last.mutable_grad() = value.cos();
      optimizer.step(1);
    }
    EXPECT_TRUE(torch::equal(plain, last));
  }
}

TEST(OptimizersTest, StateFollowsNamesNotOrder) {
  torch::Tensor a = parameter({1, 2}), b = parameter({3});
  Optimizer optimizer(OptimizerOptions(), {group_of({{"a", a}, {"b", b}})});
  a.mutable_grad() = torch::ones({2});
  b.mutable_grad() = torch::ones({1});
  optimizer.step(1);
  const StateDict state = saved(optimizer);
  ASSERT_EQ(state.tensors.size(), 6u);
  Optimizer other(OptimizerOptions(), {group_of({{"b", b}}), group_of({{"new", parameter({1})}, {"a", a}})});
  EXPECT_EQ(other.load_state(state, ""), 1);
  for (const auto& [name, tensor] : other.state())
    EXPECT_TRUE(torch::equal(tensor, *state.find(name))) << name;
}

TEST(OptimizersTest, AStateOfAnotherShapeIsNamed) {
  torch::Tensor a = parameter({1, 2});
  Optimizer optimizer(OptimizerOptions(), {group_of({{"a", a}})});
  a.mutable_grad() = torch::ones({2});
  optimizer.step(1);
  Optimizer other(OptimizerOptions(), {group_of({{"a", parameter({1, 2, 3})}})});
  try {
    other.load_state(saved(optimizer), "");
    FAIL();
  } catch (const Error& error) {
    EXPECT_STREQ(error.what(), "state: exp_avg.a [2], expected [3]");
  }
}

TEST(OptimizersTest, NormAndClipping) {
  const std::vector<torch::Tensor> gradients = {torch::tensor({3.0F}), torch::tensor({0.0F, 4.0F})};
  EXPECT_FLOAT_EQ(gradient_norm(gradients).item<float>(), 5);
  EXPECT_NEAR(clip_factor(5, 0.1), 0.02, 1e-8);
  EXPECT_EQ(clip_factor(0.05, 0.1), 1);
  EXPECT_EQ(clip_factor(5, 0), 1);
  const torch::Tensor bad = torch::tensor({std::nanf("")});
  EXPECT_FALSE(std::isfinite(gradient_norm({gradients[0], bad}).item<float>()));
  EXPECT_EQ(gradient_norm({}).item<float>(), 0);
}

}  // namespace
}  // namespace zoo::test
