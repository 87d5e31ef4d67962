#include "trainers/optimizers.h"

#include <gtest/gtest.h>

#include "core/files.h"
#include "models/weights/state_dict.h"
#include "tests/support.h"
#include "trainers/schedules.h"

namespace zoo::test {
namespace {

constexpr int kSteps = 12;
constexpr double kOptimizerTolerance = 1e-7;
const std::vector<std::string> kNames = {"conv.weight", "linear.weight", "linear.bias", "late.weight"};

struct OptimizerCase {
  std::string name;
  OptimizerOptions options;
};

std::vector<OptimizerCase> cases() {
  OptimizerOptions adamw, betas, sgd, momentum, nesterov;
  betas.beta1 = 0.8, betas.beta2 = 0.95, betas.eps = 1e-6;
  sgd.name = momentum.name = nesterov.name = "sgd";
  sgd.momentum = 0;
  nesterov.momentum = 0.8, nesterov.nesterov = true;
  return {{"adamw", adamw},
          {"adamw_betas", betas},
          {"sgd", sgd},
          {"sgd_momentum", momentum},
          {"sgd_nesterov", nesterov}};
}

class OptimizersParity : public testing::Test {
 protected:
  void SetUp() override {
    ZOO_NEEDS_PYTHON();
    folder_ = scratch_dir("optimizers");
    run_python("optimizers.py", {folder_});
  }
  std::string folder_;
};

/// Our parameters follow the reference's through all steps; `restart` saves and loads the state in the
/// middle.
void follow(const StateDict& reference, const OptimizerCase& one, bool clipped, bool restart) {
  const std::string name = one.name + (clipped ? "_clipped" : "");
  std::map<std::string, torch::Tensor> parameters;
  for (const std::string& key : kNames) {
    torch::Tensor value = reference.find(name + ".0." + key)->clone();
    if (value.dim() == 4) value = value.contiguous(torch::MemoryFormat::ChannelsLast);
    parameters[key] = value.set_requires_grad(true);
  }
  const auto group = [&](const std::vector<std::string>& keys, double lr, double weight_decay) {
    ParameterGroup made{"group", {}, lr, weight_decay};
    for (const std::string& key : keys) made.parameters.emplace_back(key, parameters.at(key));
    return made;
  };
  const std::vector<ParameterGroup> groups = {group({"conv.weight", "late.weight"}, 3e-3, 0.05),
                                              group({"linear.weight", "linear.bias"}, 1e-2, 0)};
  auto optimizer = std::make_unique<Optimizer>(one.options, groups);
  for (int step = 1; step <= kSteps; ++step) {
    const std::string prefix = name + "." + std::to_string(step) + ".";
    optimizer->zero_grad();
    for (auto& [key, parameter] : parameters) {
      const torch::Tensor* gradient = reference.find(prefix + "gradient." + key);
      if (gradient != nullptr) parameter.mutable_grad() = gradient->clone();
    }
    double scale = 1;
    if (clipped) {
      const double norm = gradient_norm(optimizer->gradients()).item<double>();
      EXPECT_NEAR(norm, reference.find(prefix + "norm")->item<double>(), 1e-5);
      scale = clip_factor(norm, 2.0);
    }
    optimizer->step(1.0, scale);
    for (const auto& [key, parameter] : parameters) {
      const double difference = (parameter - *reference.find(prefix + key)).abs().max().item<double>();
      EXPECT_LE(difference, kOptimizerTolerance) << prefix << key;
    }
    if (restart && step == kSteps / 2) {
      StateDict state;
      for (const auto& [key, tensor] : optimizer->state())
        state.tensors.emplace_back("x." + key, tensor.clone());
      optimizer = std::make_unique<Optimizer>(one.options, groups);
      EXPECT_EQ(optimizer->load_state(state, "x."), 0);
    }
  }
}

TEST_F(OptimizersParity, StepsAsTorchDoes) {
  const StateDict reference = load_tensors(folder_ + "/optimizers.safetensors");
  for (const OptimizerCase& one : cases()) {
    for (const bool clipped : {false, true}) {
      for (const bool restart : {false, true}) follow(reference, one, clipped, restart);
    }
  }
}

TEST_F(OptimizersParity, SchedulesAsTorchDoes) {
  for (const Json& row : read_json(folder_ + "/schedules.json")) {
    Json options = ScheduleOptions();
    overlay(options, row.at("options"), "reference");
    const auto total = row.at("total").get<int64_t>();
    for (int64_t step = 0; step < total; ++step) {
      EXPECT_NEAR(schedule_factor(step, total, options.get<ScheduleOptions>()),
                  row.at("factors").at(static_cast<size_t>(step)).get<double>(), 1e-9)
          << row.at("options") << " step " << step;
    }
  }
}

}  // namespace
}  // namespace zoo::test
