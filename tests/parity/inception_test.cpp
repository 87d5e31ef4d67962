#include "models/inception/inception.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <torch/torch.h>

#include "core/error.h"
#include "tests/support.h"

namespace zoo {
namespace {

double relative_difference(const torch::Tensor& ours, const torch::Tensor& theirs) {
  return ((ours - theirs).abs().max() / theirs.abs().max()).item<double>();
}

TEST(InceptionParity, FeaturesAndLogitsEqualTheRestatement) {
  ZOO_NEEDS_PYTHON();
  const torch::NoGradGuard no_grad;
  const std::string folder = test::scratch_dir("inception");
  test::run_python("inception.py", {folder});
  const StateDict cases = load_tensors(folder + "/cases.safetensors");
  const StateDict weights = load_state_dict(folder + "/pt_inception.pth");
  ASSERT_TRUE(is_inception(weights));
  Inception network = load_inception(weights);
  for (const std::string name : {"small", "large"}) {
    const torch::Tensor pictures = *cases.find(name + ".pictures");
    for (const std::string& resize : inception_resizes()) {
      SCOPED_TRACE(name + " " + resize);
      const InceptionRows rows = network->forward(inception_input(pictures, resize));
      const torch::Tensor features = *cases.find(name + "." + resize + ".features"),
                          logits = *cases.find(name + "." + resize + ".logits");
      ASSERT_EQ(rows.features.sizes(), features.sizes());
      ASSERT_EQ(rows.logits.sizes(), logits.sizes());
      EXPECT_LE(relative_difference(rows.features, features), 1e-4);
      EXPECT_LE(relative_difference(rows.logits, logits), 1e-4);
    }
  }
  // The two ways of resizing are not the same thing.
  EXPECT_GT(relative_difference(*cases.find("large.bilinear.features"), *cases.find("large.clean.features")),
            0.01);
}

}  // namespace
}  // namespace zoo
