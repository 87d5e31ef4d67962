// Pictures of what face losses do: where two classes are decided, and embeddings of two values.
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <torch/torch.h>

#include <cmath>

#include "core/error.h"
#include "core/numbers.h"
#include "models/face_losses/classifier.h"
#include "tests/support.h"
#include "trainers/tasks/embedding_plane.h"
#include "trainers/tasks/margin_regions.h"

namespace zoo {
namespace {

using testing::HasSubstr;

FaceLossOptions named(const std::string& name) {
  FaceLossOptions options;
  options.name = name;
  return options;
}

/// Angles in degrees.
int region(const FaceLossOptions& options, double angle1, double angle2) {
  const auto radians = [](double degrees) { return torch::full({1}, degrees * kPi / 180, torch::kDouble); };
  return margin_regions(options, radians(angle1), radians(angle2)).item<int>();
}

/// Class 1 is decided from `edge` on, at that angle to it, and class 2 by the mirrored rule.
void expect_edge(const FaceLossOptions& options, double angle1, double edge) {
  EXPECT_EQ(region(options, angle1, edge - 0.1), 0) << options.name;
  EXPECT_EQ(region(options, angle1, edge + 0.1), 1) << options.name;
  EXPECT_EQ(region(options, edge - 0.1, angle1), 0) << options.name;
  EXPECT_EQ(region(options, edge + 0.1, angle1), 2) << options.name;
}

TEST(MarginRegions, WithoutMarginTheNearerClassIsDecided) {
  for (const char* name : {"softmax", "normface", "l2softmax"}) {
    EXPECT_EQ(region(named(name), 40, 40.1), 1) << name;
    EXPECT_EQ(region(named(name), 40.1, 40), 2) << name;
  }
}

TEST(MarginRegions, EdgesAreTheFormulas) {
  FaceLossOptions cosface = named("cosface");
  cosface.cosface.margin = 0.35;
  expect_edge(cosface, 60, 81.373);            // cos 60° − 0.35 = 0.15
  expect_edge(named("arcface"), 30, 58.648);   // 30° + 0.5
  expect_edge(named("combined"), 30, 61.342);  // cos(30° + 0.3) − 0.2 = 0.4796
  expect_edge(named("circle"), 20, 69.612);    // c² − 0.25² = (1.25 − cos 20°)(cos 20° − 0.75)
  FaceLossOptions asoftmax = named("asoftmax");
  asoftmax.asoftmax.lambda_min = asoftmax.asoftmax.lambda_max = 0;
  expect_edge(asoftmax, 20, 80);           // 4 · 20°
  EXPECT_EQ(region(asoftmax, 50, 90), 0);  // ψ = −cos 200° − 2
  asoftmax.asoftmax.lambda_min = asoftmax.asoftmax.lambda_max = 5;
  expect_edge(asoftmax, 20, 35.706);  // (5 cos 20° + cos 80°) / 6 = 0.8120
}

TEST(MarginRegions, MultiplesBelowOneOverlap) {
  FaceLossOptions options = named("combined");
  options.combined.m1 = 0.9;
  options.combined.m2 = options.combined.m3 = 0;
  EXPECT_EQ(region(options, 40, 41), 3);  // 36° and 36.9° count
  EXPECT_EQ(region(options, 40, 45), 1);
}

TEST(MarginRegions, OnlySoftmaxesHaveThem) {
  for (const char* name : {"triplet", "sphereface2"}) {
    const std::string error = test::error_of([&] { region(named(name), 1, 1); });
    EXPECT_THAT(error, HasSubstr(std::string("loss.name=") + name));
  }
}

/// x = (a, 0) between two rows at these angles: the loss is log(1 + e^(other − own)).
TEST(MarginRegions, LogitsAreThoseOfTheLoss) {
  const double angle1 = 0.7, angle2 = 0.9, norm = 12;
  for (const char* name : {"softmax", "normface", "l2softmax", "asoftmax", "cosface", "arcface", "combined",
                           "adaface", "curricularface", "circle"}) {
    FaceLossOptions options = named(name);
    for (double* scale : {&options.cosface.scale, &options.arcface.scale, &options.combined.scale,
                          &options.adaface.scale, &options.curricularface.scale, &options.circle.scale}) {
      *scale = 10;
    }
    const auto loss = make_face_loss(options, 2, 2, 0);
    loss->to(torch::kDouble);
    loss->eval();
    const torch::NoGradGuard no_grad;
    loss->named_parameters()["weight"].copy_(torch::tensor(
        {{std::cos(angle1), std::sin(angle1)}, {std::cos(angle2), -std::sin(angle2)}}, torch::kDouble));
    const double total =
        loss->forward(torch::tensor({{norm, 0.0}}, torch::kDouble), torch::zeros({1}, torch::kLong))
            .total.item<double>();
    const auto at = [](double value) { return torch::full({1}, value, torch::kDouble); };
    const auto [own, other] = dynamic_cast<ClassifierLossImpl&>(*loss).logits_at(
        at(std::cos(angle1)), at(std::cos(angle2)), at(norm));
    EXPECT_NEAR(total, std::log1p(std::exp((other - own).item<double>())), 1e-9) << name;
  }
}

bool blue(const cv::Vec3b& pixel) {
  return pixel[2] > pixel[0] + 40;
}
bool orange(const cv::Vec3b& pixel) {
  return pixel[0] > pixel[2] + 40;
}

TEST(MarginRegions, AreDrawnWhereTheyAre) {
  const cv::Mat rgb = draw_margin_regions({{"normface", named("normface")}, {"arcface", named("arcface")}});
  ASSERT_EQ(rgb.size(), cv::Size(640, 344));
  const auto pixel = [&](int panel, double angle1, double angle2) {  // squares of 240 pixels for 90 degrees
    return rgb.at<cv::Vec3b>(cvRound(44 + 240 * (1 - angle2 / 90)),
                             cvRound(320 * panel + 52 + 240 * angle1 / 90));
  };
  for (const int panel : {0, 1}) {
    EXPECT_TRUE(blue(pixel(panel, 5, 50)));
    EXPECT_TRUE(orange(pixel(panel, 50, 5)));
  }
  EXPECT_TRUE(blue(pixel(0, 40, 60)));
  EXPECT_TRUE(orange(pixel(0, 60, 40)));
  for (const cv::Vec3b& margin : {pixel(1, 40, 60), pixel(1, 60, 40)})
    EXPECT_FALSE(blue(margin) || orange(margin));
}

TEST(EmbeddingPlane, PointsAndRowsLieWhereTheyAre) {
  EmbeddingPlane plane{torch::tensor({{1.0F, 0.0F}, {0.0F, 2.0F}}), {0, 1}, {}};
  const auto pixel = [&](double x, double y) {  // a circle of 170 pixels around (200, 276)
    const cv::Mat rgb = draw_embedding_plane(plane, "title", "words");
    return rgb.at<cv::Vec3b>(cvRound(276 - 170 * y), cvRound(200 + 170 * x));
  };
  EXPECT_TRUE(blue(pixel(0.9 / 1.99, 0)));  // 0.99 of the way from norm 1 to 2 lies at 0.9
  EXPECT_TRUE(orange(pixel(0, 0.9)));
  EXPECT_TRUE(blue(pixel(1, 0)));
  EXPECT_TRUE(orange(pixel(0, 1)));
  EXPECT_FALSE(blue(pixel(0.707, -0.707)) || orange(pixel(0.707, -0.707)));
  plane.rows = torch::tensor({{3.0F, -3.0F}, {-0.1F, 0.0F}, {1.0F, 1.0F}});
  EXPECT_TRUE(blue(pixel(0.754, -0.754)));  // outside of the circle
  EXPECT_TRUE(orange(pixel(-1.066, 0)));
  EXPECT_FALSE(blue(pixel(0.754, 0.754)) || orange(pixel(0.754, 0.754)));  // of a person without a picture
}

}  // namespace
}  // namespace zoo
