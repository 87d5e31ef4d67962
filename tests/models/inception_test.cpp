#include "models/inception/inception.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <torch/torch.h>

#include "core/error.h"
#include "models/clip_vision/clip.h"
#include "tests/support.h"

namespace zoo {
namespace {

using testing::HasSubstr;

TEST(InceptionInput, IsResizedAsEachReferenceDoes) {
  // A checkerboard of single pixels, three times too large: antialiased it becomes grey, else it does not.
  const torch::Tensor places = torch::arange(3 * 299);
  const torch::Tensor board =
      (places.unsqueeze(1) + places.unsqueeze(0)).remainder(2).to(torch::kFloat).expand({1, 3, 897, 897});
  const torch::Tensor plain = inception_input(board, "bilinear"), clean = inception_input(board, "clean");
  EXPECT_EQ(plain.sizes(), (std::vector<int64_t>{1, 3, 299, 299}));
  // Of three pixels the middle one alone counts: 1, 0, 1, …
  EXPECT_NEAR(plain[0][0][0][0].item<double>(), -1, 1e-5);
  EXPECT_NEAR(plain[0][0][0][1].item<double>(), 1, 1e-5);
  EXPECT_LT(clean.slice(2, 5, 290).slice(3, 5, 290).abs().max().item<double>(), 0.2);
  // White and black are where the references put them.
  EXPECT_NEAR(inception_input(torch::ones({1, 3, 5, 7}), "bilinear").max().item<double>(), 1, 1e-5);
  EXPECT_NEAR(inception_input(torch::ones({1, 3, 5, 7}), "clean").max().item<double>(), 127.0 / 128, 1e-5);
  EXPECT_NEAR(inception_input(torch::zeros({1, 3, 5, 7}), "clean").min().item<double>(), -1, 1e-5);
  EXPECT_THAT(test::error_of([&] { inception_input(board[0], "clean"); }), HasSubstr("expected [B,3,H,W]"));
  EXPECT_THROW(inception_input(board, "bicubic"), UsageError);
}

TEST(InceptionWeights, OtherNetworksAreRefused) {
  StateDict state = module_state(*Inception());
  state.source = "FILE";
  EXPECT_EQ(state.find("Mixed_6e.branch7x7dbl_4.conv.weight")->sizes(),
            (std::vector<int64_t>{192, 192, 7, 1}));
  EXPECT_EQ(state.find("Mixed_7c.branch3x3dbl_3b.conv.weight")->sizes(),
            (std::vector<int64_t>{384, 384, 3, 1}));
  EXPECT_EQ(state.find("Mixed_6a.branch3x3.conv.weight")->sizes(), (std::vector<int64_t>{384, 288, 3, 3}));
  int64_t count = 0;
  for (const auto& [name, tensor] : state.tensors) {
    if (name.find("num_batches") == std::string::npos && name.find("running") == std::string::npos)
      count += tensor.numel();
  }
  EXPECT_EQ(
      count,
      23'850'960);  // torchvision's 23,834,568 without the second classifier, and 8 classes of 2,049 more
  EXPECT_NO_THROW(load_inception(state));
  for (auto& [name, tensor] : state.tensors) {
    if (name == "fc.weight") tensor = torch::zeros({1000, 2048});
  }
  EXPECT_THAT(
      test::error_of([&] { load_inception(state); }),
      testing::AllOf(HasSubstr("FILE"), HasSubstr("1000 classes"), HasSubstr("pt_inception-2015-12-05")));
  state.tensors.resize(20);
  EXPECT_THAT(test::error_of([&] { load_inception(state); }), HasSubstr("missing"));
  EXPECT_FALSE(is_inception(state));
}

TEST(InceptionClip, TheFirstEndTokenIsRead) {
  ClipOptions options;
  options.text_config = {10, 8, 8, 1, 2, 6, "quick_gelu", 1e-5};
  options.vision_config = {8, 8, 1, 2, 4, 2, "gelu", 1e-5};
  options.projection_dim = 4;
  torch::manual_seed(2);
  Clip clip(options);
  const torch::NoGradGuard no_grad;
  const torch::Tensor ids = torch::tensor({{8, 1, 9, 9, 9, 9}, {8, 1, 2, 3, 9, 9}});
  const torch::Tensor states = clip->text_projection(clip->text_model->forward(ids));
  const torch::Tensor features = clip->text_features(ids, 9);
  EXPECT_TRUE(features[0].allclose(states[0][2]));
  EXPECT_TRUE(features[1].allclose(states[1][4]));
  // What follows the end token does not matter.
  const torch::Tensor other = torch::tensor({{8, 1, 9, 0, 0, 0}, {8, 1, 2, 3, 9, 0}});
  EXPECT_TRUE(clip->text_features(other, 9).allclose(features, 1e-5, 1e-6));
  EXPECT_EQ(clip->picture_features(torch::zeros({3, 3, 4, 4})).sizes(), (std::vector<int64_t>{3, 4}));
  EXPECT_THAT(test::error_of([&] {
                clip->picture_features(torch::zeros({1, 3, 4, 5}));
              }),
              HasSubstr("expected [B,3,4,4]"));
}

TEST(InceptionClip, PixelsAreCutInTheMiddle) {
  torch::Tensor rgb = torch::zeros({1, 3, 4, 9}, torch::kByte);
  rgb.narrow(3, 2, 4).fill_(255);  // (9 - 4) / 2 = 2
  const torch::Tensor pixels = clip_pixels(rgb, 4);
  EXPECT_EQ(pixels.sizes(), (std::vector<int64_t>{1, 3, 4, 4}));
  EXPECT_NEAR(pixels.select(1, 0).min().item<double>(), (1 - 0.48145466) / 0.26862954, 1e-5);
  EXPECT_NEAR(pixels.select(1, 2).max().item<double>(), (1 - 0.40821073) / 0.27577711, 1e-5);
}

}  // namespace
}  // namespace zoo
