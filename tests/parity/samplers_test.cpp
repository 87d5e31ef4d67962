#include <gtest/gtest.h>
#include <torch/torch.h>

#include <cmath>
#include <map>

#include "core/files.h"
#include "models/diffusion/sampler.h"
#include "models/weights/state_dict.h"
#include "tests/support.h"

namespace zoo {
namespace {

/// What tests/parity/samplers.py has too.
torch::Tensor network(const torch::Tensor& x, double time) {
  const torch::Tensor index = torch::arange(x[0].numel(), torch::kFloat).reshape(x[0].sizes());
  return 0.6 * x.tanh() + 0.02 * x + 0.1 * (time / 1000) + 0.05 * (7 * index).sin();
}

double relative_difference(const torch::Tensor& ours, const torch::Tensor& theirs) {
  return ((ours - theirs).abs().max() / theirs.abs().max()).item<double>();
}

/// The greatest difference of two lists; infinite where the lengths differ.
double greatest_difference(const std::vector<double>& ours, const std::vector<double>& theirs) {
  if (ours.size() != theirs.size()) return INFINITY;
  double difference = 0;
  for (size_t i = 0; i < ours.size(); ++i) difference = std::max(difference, std::fabs(ours[i] - theirs[i]));
  return difference;
}

class SamplersParity : public testing::Test {
 protected:
  static void SetUpTestSuite() {
    if (test::python().empty()) return;
    const std::string folder = test::scratch_dir("samplers");
    test::run_python("samplers.py", {folder});
    runs_ = read_json(join_path(folder, "runs.json"));
    tensors_ = load_tensors(join_path(folder, "runs.safetensors"));
  }

  static torch::Tensor tensor(const std::string& name) { return *tensors_.find(name); }

  static SchedulerOptions options_of(const Json& run) {
    Json options = SchedulerOptions();
    options.update(run.at("options"));
    return options.get<SchedulerOptions>();
  }

  static torch::Tensor sample(const Json& run, Sampler& sampler) {
    torch::Tensor x = run.at("from_picture").get<bool>() ? sampler.noised(tensor("clean"), tensor("noise"), 0)
                                                         : tensor("noise") * sampler.start_factor();
    NoiseSource noise(11, 2);
    const std::vector<double>& times = sampler.timesteps();
    for (size_t i = 0; i < times.size(); ++i)
      x = sampler.step(network(sampler.scale_input(x, i), times[i]), i, x, noise);
    return x;
  }

  static Json runs_;
  static StateDict tensors_;
};
Json SamplersParity::runs_;
StateDict SamplersParity::tensors_;

TEST_F(SamplersParity, EveryRunEndsWhereDiffusersDoes) {
  ZOO_NEEDS_PYTHON();
  std::map<std::string, double> worst;
  for (size_t i = 0; i < runs_.size(); ++i) {
    const Json& run = runs_[i];
    const auto name = run.at("sampler").get<std::string>();
    const auto sampler =
        make_sampler(name, options_of(run), run.at("steps").get<int64_t>(), run.at("strength").get<double>());
    const auto times = run.at("timesteps").get<std::vector<double>>();
    EXPECT_LT(greatest_difference(sampler->timesteps(), times), 2e-3) << run << "\n"
                                                                      << Json(sampler->timesteps());
    const Json& levels = run.at("sigmas");
    const auto sigmas = levels.is_null() ? std::vector<double>() : levels.get<std::vector<double>>();
    const double highest = sigmas.empty() ? 1 : std::max(1.0, sigmas.front());
    EXPECT_LT(greatest_difference(sampler->sigmas(), sigmas), 1e-4 * highest) << run << "\n"
                                                                              << Json(sampler->sigmas());
    if (!run.at("from_picture").get<bool>()) {
      EXPECT_NEAR(sampler->start_factor() / run.at("start_factor").get<double>(), 1, 1e-4) << run;
    }
    const double difference = relative_difference(sample(run, *sampler), tensor("run." + std::to_string(i)));
    EXPECT_LT(difference, 1e-4) << run;
    worst[name] = std::max(worst[name], difference);
  }
  EXPECT_EQ(worst.size(), samplers().size());
  for (const auto& [name, difference] : worst) RecordProperty(name, std::to_string(difference));
}

TEST_F(SamplersParity, TrainingMixesAndWeighsAsDiffusersDoes) {
  ZOO_NEEDS_PYTHON();
  SchedulerOptions options;
  const torch::Tensor t = torch::tensor({13, 742}), all = torch::arange(1000);
  const NoiseSchedule epsilon(options);
  options.prediction_type = "v_prediction";
  const NoiseSchedule v(options);
  EXPECT_LT(
      relative_difference(epsilon.add_noise(tensor("clean"), tensor("noise"), t), tensor("train.noised")),
      1e-6);
  EXPECT_LT(relative_difference(v.target(tensor("clean"), tensor("noise"), t), tensor("train.v")), 1e-6);
  EXPECT_LT(relative_difference(epsilon.loss_weights(all, 5), tensor("train.epsilon_weights")), 1e-5);
  EXPECT_LT(relative_difference(v.loss_weights(all, 5), tensor("train.v_weights")), 1e-5);
}

}  // namespace
}  // namespace zoo
