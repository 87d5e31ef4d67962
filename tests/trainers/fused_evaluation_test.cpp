#include "trainers/tasks/fused_evaluation.h"

#include <gtest/gtest.h>

#include <torch/torch.h>

namespace zoo {
namespace {

TraceSpec doubling() {
  const auto module = std::make_shared<torch::nn::Module>("Doubling");
  TraceSpec spec;
  spec.module = module;
  spec.forward = [](const std::vector<torch::Tensor>& x) { return std::vector<torch::Tensor>{x[0] * 2}; };
  spec.example = [](int variant) { return std::vector<torch::Tensor>{torch::ones({variant + 1, 3})}; };
  return spec;
}

int64_t passes_before_runtime(Purpose purpose) {
  FusedEvaluation fused({{"trainer", {{"precision", "fp32"}}}}, purpose);
  int64_t specs = 0;
  for (int64_t passes = 0; passes < 200; ++passes) {
    fused.count_pass([&] { return ++specs, doubling(); }, torch::kCPU);
    if (!fused.running()) continue;
    EXPECT_EQ(specs, 1);
    EXPECT_TRUE(torch::equal(fused.run({torch::ones({2, 3})}).front(), torch::full({2, 3}, 2.0)));
    return passes;
  }
  return -1;
}

TEST(FusedEvaluation, StartsForPredictionsOnceTheyAreMany) {
  EXPECT_EQ(passes_before_runtime(Purpose::inference), 64);
  EXPECT_EQ(passes_before_runtime(Purpose::evaluation), -1);
  EXPECT_EQ(passes_before_runtime(Purpose::training), -1);
}

TEST(FusedEvaluation, StartsForLongEvaluationsAndNeverInTraining) {
  for (const auto& [purpose, batches, runs] :
       {std::tuple(Purpose::evaluation, 63, false), std::tuple(Purpose::evaluation, 64, true),
        std::tuple(Purpose::training, 640, false)}) {
    FusedEvaluation fused({{"trainer", {{"precision", "fp32"}}}}, purpose);
    fused.start(doubling(), batches, torch::kCPU);
    EXPECT_EQ(fused.running(), runs) << batches;
  }
}

}  // namespace
}  // namespace zoo
