#include <gtest/gtest.h>
#include <torch/torch.h>

#include <cmath>

#include "tests/support.h"
#include "trainers/metrics/generation.h"
#include "trainers/metrics/image_quality.h"

namespace zoo {
namespace {

TEST(Generation, FrechetDistanceOfKnownGaussians) {
  // Features without correlation: variances 4/3 and 16/3 against 16/3 and 16/3 (of n - 1), means apart by (3, 4).
  const torch::Tensor real = torch::tensor({{-1.0, -2.0}, {-1.0, 2.0}, {1.0, -2.0}, {1.0, 2.0}});
  const torch::Tensor fake = torch::tensor({{1.0, 2.0}, {1.0, 6.0}, {5.0, 2.0}, {5.0, 6.0}});
  const double expected = 9 + 16 + 4 / 3.0 + 16 / 3.0 - 2 * std::sqrt(4 / 3.0 * 16 / 3.0);
  EXPECT_NEAR(frechet_distance(real, fake, "t"), expected, 1e-12);
  EXPECT_NEAR(frechet_distance(fake, real, "t"), expected, 1e-12);
  EXPECT_NEAR(frechet_distance(fake, fake, "t"), 0, 1e-7);
}

TEST(Generation, KernelDistanceIsUnbiasedAndSeeded) {
  torch::manual_seed(0);
  const torch::Tensor rows = torch::randn({600, 8}, torch::kDouble), far = rows + 1;
  GenerationOptions options;
  options.kid_subset_size = 100;
  const MeanAndSpread same = kernel_distance(rows.slice(0, 0, 300), rows.slice(0, 300), options, "t");
  EXPECT_LT(std::fabs(same.mean), 0.1);
  EXPECT_GT(same.spread, 0);
  EXPECT_GT(kernel_distance(rows, far, options, "t").mean, 1);
  EXPECT_EQ(kernel_distance(rows, far, options, "t").mean, kernel_distance(rows, far, options, "t").mean);
  options.seed = 1;
  EXPECT_NE(kernel_distance(rows.slice(0, 0, 300), rows.slice(0, 300), options, "t").mean, same.mean);
  // Two rows each: k(x1,x2) + k(y1,y2) - 2·mean k(x,y), k(a,b) = (ab + 1)³
  const torch::Tensor x = torch::tensor({{0.0}, {1.0}}, torch::kDouble),
                      y = torch::tensor({{1.0}, {2.0}}, torch::kDouble);
  EXPECT_NEAR(kernel_distance(x, y, options, "t").mean, 1 + 27 - 2 * (1 + 1 + 8 + 27) / 4.0, 1e-12);
}

TEST(Generation, InceptionScoreBetweenOneAndTheClasses) {
  GenerationOptions options;
  options.is_splits = 2;
  const torch::Tensor certain = torch::eye(4, torch::kDouble).repeat({4, 1}) * 1000;
  EXPECT_NEAR(inception_score(certain, options, "t").mean, 4, 1e-9);
  EXPECT_NEAR(inception_score(torch::zeros({6, 5}), options, "t").mean, 1, 1e-12);
}

TEST(Generation, ErrorsNameTensorAndSource) {
  const torch::Tensor rows = torch::rand({4, 3});
  const GenerationOptions options;
  EXPECT_EQ(test::error_of([&] {
              frechet_distance(rows, torch::rand({4, 2}), "F");
            }),
            "F: 'real' has 3 features and 'fake' 2, expected equal numbers");
  EXPECT_EQ(test::error_of([&] { frechet_distance(rows, rows.slice(0, 0, 1), "F"); }),
            "F: 'fake' has 1 rows, expected at least 2");
  EXPECT_EQ(test::error_of([&] { kernel_distance(rows / 0.0, rows, options, "F"); }),
            "F: 'real' holds a number that is not finite");
  EXPECT_EQ(test::error_of([&] { inception_score(rows, options, "F"); }),
            "F: 4 pictures in 10 splits, expected at least one each");
}

TEST(Generation, PictureQualityOnEightBits) {
  const torch::Tensor original = torch::linspace(-1, 1, 2 * 3 * 12 * 14).view({2, 3, 12, 14});
  EXPECT_TRUE(torch::isinf(psnr(original, original, "t")).all().item<bool>());
  EXPECT_NEAR(ssim(original, original, "t").min().item<double>(), 1, 1e-12);
  EXPECT_TRUE(
      torch::isinf(psnr(original + 1e-6, original, "t")).any().item<bool>());  // the same after rounding
  const torch::Tensor grey = torch::full({1, 3, 12, 12}, 127.5 / 127.5 - 1);
  EXPECT_NEAR(psnr(grey, grey + 10 / 127.5, "t").item<double>(), 20 * std::log10(255.0 / 10), 1e-9);
  EXPECT_NE(test::error_of([&] { psnr(grey, original, "t"); }), "");
  EXPECT_EQ(test::error_of([&] { ssim(grey.slice(2, 0, 8), grey.slice(2, 0, 8), "t"); }),
            "t: pictures of 8x12, expected sides of at least 11");
}

}  // namespace
}  // namespace zoo
