#include "models/deepid/deepid_ensemble.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <torch/torch.h>

#include "tests/support.h"

namespace zoo {
namespace {

DeepIdEnsembleOptions small_ensemble() {
  DeepIdEnsembleOptions options;
  options.input_size = {64, 64};
  options.regions = {"face", "left_eye"};
  options.scales = {1.0, 0.5};
  options.widths = {4, 6, 8, 10};
  options.features = 16;
  return options;
}

TEST(DeepIdEnsemble, PatchesLieAtTheTemplatesPlaces) {
  const FacePatch eye = face_patch("left_eye", 1, {112, 112});  // 0.4 of the face around (38.3, 51.7)
  EXPECT_EQ(eye.bottom - eye.top, 45);
  EXPECT_EQ(eye.right - eye.left, 45);
  EXPECT_NEAR(static_cast<double>(eye.left + eye.right) / 2, 38.3, 1);
  EXPECT_NEAR(static_cast<double>(eye.top + eye.bottom) / 2, 51.7, 1);
  const FacePatch mouth = face_patch("left_mouth", 1.25, {112, 112});  // would stand out below: moved up
  EXPECT_EQ(mouth.bottom, 112);
  EXPECT_EQ(mouth.bottom - mouth.top, 56);
  const FacePatch all = face_patch("face", 9, {112, 96});
  EXPECT_EQ(all.bottom - all.top, 112);
  EXPECT_EQ(all.right - all.left, 96);
  EXPECT_THAT(test::error_of([] { face_patch("ear", 1, {112, 112}); }), testing::HasSubstr("left_eye"));
}

TEST(DeepIdEnsemble, FeaturesStandSideBySide) {
  torch::manual_seed(1);
  const DeepIdEnsembleOptions options = small_ensemble();
  DeepIdEnsemble ensemble(options);
  ensemble->eval();
  const torch::Tensor images = torch::randn({3, 3, 64, 64});
  const torch::Tensor features = ensemble->forward(images);
  ASSERT_EQ(features.sizes(), torch::IntArrayRef({3, 8 * 16}));
  // The fourth net is the face at half its size in grey: what lies outside of its patch does not matter to it.
  const FacePatch patch = face_patch("face", 0.5, options.input_size);
  torch::Tensor changed = torch::zeros_like(images);
  changed.slice(2, patch.top, patch.bottom).slice(3, patch.left, patch.right) =
      images.slice(2, patch.top, patch.bottom).slice(3, patch.left, patch.right).mean(1, true);
  const torch::Tensor again = ensemble->forward(changed);
  EXPECT_LT((again - features).slice(1, 48, 64).abs().max().item<double>(), 1e-5);
  EXPECT_GT((again - features).slice(1, 0, 16).abs().max().item<double>(), 1e-4);
}

TEST(DeepIdEnsemble, GradientReachesEveryNet) {
  torch::manual_seed(2);
  DeepIdEnsemble ensemble(small_ensemble());
  ensemble->forward(torch::randn({4, 3, 64, 64})).sum().backward();
  for (const auto& item : ensemble->named_parameters()) {
    ASSERT_TRUE(item.value().grad().defined()) << item.key();
    if (item.key().find("deepid.weight") != std::string::npos) {
      EXPECT_GT(item.value().grad().abs().max().item<double>(), 0) << item.key();
    }
  }
}

TEST(DeepIdEnsemble, DefaultsAreThePapersSixtyNets) {
  const DeepIdEnsembleOptions options;
  EXPECT_EQ(options.nets(), 60);
  EXPECT_EQ(options.embedding_size(), 9600);
  DeepIdEnsembleOptions none;
  none.scales = {};
  EXPECT_THAT(test::error_of([&] { none.validate(); }), testing::HasSubstr("at least one of each"));
}

}  // namespace
}  // namespace zoo
