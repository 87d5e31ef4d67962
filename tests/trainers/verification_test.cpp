#include "trainers/metrics/verification.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <torch/torch.h>

#include <cmath>
#include <limits>

#include "core/files.h"
#include "core/random.h"
#include "core/text.h"
#include "datasets/image.h"
#include "tests/support.h"
#include "trainers/metrics/cosines.h"
#include "trainers/roc_curves.h"

namespace zoo {
namespace {

using testing::DoubleNear;
using testing::ElementsAre;
using testing::HasSubstr;

Roc small_roc() {
  return Roc({0.9, 0.8, 0.8, 0.4, 0.8, 0.5, 0.3, 0.1}, {1, 1, 1, 1, 0, 0, 0, 0});
}

// Genuine 0.9 0.8 0.8 0.4, impostors 0.8 0.5 0.3 0.1: of 16 couples 12 are in order and 2 equal.
TEST(VerificationRoc, AreaCountsEqualScoresHalf) {
  EXPECT_DOUBLE_EQ(area_under_curve(small_roc()), (12 + 2 * 0.5) / 16);
  EXPECT_TRUE(std::isnan(area_under_curve(Roc({0.5}, {1}))));
}

// Points (0, 0.25), (0.25, 0.75) and on: at (0.25, 0.75) both error rates are a quarter.
TEST(VerificationRoc, EqualErrorRateLiesOnTheCurve) {
  EXPECT_DOUBLE_EQ(equal_error_rate(small_roc()), 0.25);
  // One step from (0, 0) to (1, 1): half-way.
  EXPECT_DOUBLE_EQ(equal_error_rate(Roc({0.5, 0.5}, {1, 0})), 0.5);
  EXPECT_DOUBLE_EQ(equal_error_rate(Roc({0.9, 0.1}, {1, 0})), 0.0);
}

TEST(VerificationRoc, TarIsStrictlyAboveTheImpostor) {
  std::vector<double> scores;
  std::vector<uint8_t> same;
  for (int i = 0; i < 100; ++i) scores.push_back(i / 100.0), same.push_back(0);
  for (const double genuine : {0.895, 0.89, 0.995, 0.5}) scores.push_back(genuine), same.push_back(1);
  const Roc roc(scores, same);
  EXPECT_DOUBLE_EQ(tar_at_far(roc, 1), 0.5);   // the 11th highest is 0.89: equal is not above
  EXPECT_DOUBLE_EQ(tar_at_far(roc, 2), 0.25);  // above the 2nd highest, 0.98
  EXPECT_DOUBLE_EQ(tar_at_far(roc, 6), 0.25);  // above every impostor
}

// 10 impostors: the rate 1e-1 is one accept; 1e-2 is nearest to none. Ties of distance take the larger rate.
TEST(VerificationRoc, NearestPointOfTheCurve) {
  const Roc roc({0.95, 0.85, 0.75, 0.65, 0.9, 0.8, 0.7, 0.1, 0.1, 0.1, 0.1, 0.1, 0.1, 0.1},
                {1, 1, 1, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0});
  EXPECT_DOUBLE_EQ(tar_at_nearest_far(roc, 1), 0.5);
  EXPECT_DOUBLE_EQ(tar_at_nearest_far(roc, 2), 0.25);
  EXPECT_DOUBLE_EQ(tar_at_far(roc, 1), 0.5);
}

TEST(VerificationFolds, FirstOnesAreLonger) {
  const std::vector<int64_t> folds = equal_folds(23);
  std::vector<int64_t> sizes(10, 0);
  for (const int64_t fold : folds) ++sizes[static_cast<size_t>(fold)];
  EXPECT_THAT(sizes, ElementsAre(3, 3, 3, 2, 2, 2, 2, 2, 2, 2));
  EXPECT_THAT(numbered_folds({7, -2, 7, 100}), ElementsAre(1, 0, 1, 2));
}

// Two folds. Fold 0 has d = 0.2 same and d = 1.0 not; fold 1 has d = 0.6 same and d = 0.8 not. The first best
// threshold of fold 1 is 0.61, which is right about all of fold 0; that of fold 0 is 0.21, wrong about 0.6.
TEST(VerificationAccuracy, TakesTheFirstBestThresholdOfTheOtherFolds) {
  const auto cosine = [](double distance) { return 1 - distance / 2; };
  ScoredPairs pairs;
  pairs.same = {1, 0, 1, 0};
  pairs.folds = {0, 0, 1, 1};
  pairs.scores = {{cosine(0.2), cosine(1.0), cosine(0.6), cosine(0.8)}};
  const VerificationMetrics metrics = verification_metrics(pairs);
  EXPECT_DOUBLE_EQ(metrics.accuracy, 0.75);
  EXPECT_DOUBLE_EQ(metrics.accuracy_std, 0.25);
  // 0.6 as computed lies just above the double 60 * 0.01 or below: the threshold is 0.60 or 0.61.
  const double first = 2 - 2 * cosine(0.6) < 60 * 0.01 ? 0.60 : 0.61;
  const double second = 2 - 2 * cosine(0.2) < 20 * 0.01 ? 0.20 : 0.21;
  EXPECT_NEAR(metrics.threshold, 1 - (first + second) / 4, 1e-15);
}

// A distance of exactly 1.00 is not the same at the threshold 1.00, only at 1.01.
TEST(VerificationAccuracy, SameIsStrictlyBelowTheThreshold) {
  ScoredPairs pairs;
  pairs.same = {1, 0, 1, 0};
  pairs.folds = {0, 0, 1, 1};
  pairs.scores = {{0.5, 0.375, 0.5, 0.375}};
  const VerificationMetrics metrics = verification_metrics(pairs);
  EXPECT_DOUBLE_EQ(metrics.accuracy, 1);
  EXPECT_DOUBLE_EQ(metrics.threshold, 1 - 101 * 0.01 / 2);
}

TEST(VerificationAccuracy, OtherScoresGetAThresholdHalfWay) {
  ScoredPairs pairs;
  pairs.cosine = false;
  pairs.same = {1, 0, 1, 0, 1};
  pairs.folds = {0, 0, 1, 1, 1};
  pairs.scores = {{-3, -20, -5, -10, -7}, {-3, -9, -100, -100, -100}};
  const VerificationMetrics metrics = verification_metrics(pairs);
  // Fold 0 is judged by the others' -5, -7 | -10: -8.5; fold 1, by its own scores, by -3 | -9: -6, all wrong but one.
  EXPECT_DOUBLE_EQ(metrics.threshold, (-8.5 - 6) / 2);
  EXPECT_DOUBLE_EQ(metrics.accuracy, (1 + 1.0 / 3) / 2);
}

TEST(VerificationAccuracy, WithoutFoldsOrKindsFiguresDoNotExist) {
  ScoredPairs pairs;
  pairs.same = {1};
  pairs.folds = equal_folds(1);
  pairs.scores = {{0.5}};
  const Json document = verification_json(verification_metrics(pairs));
  for (const char* name : {"accuracy", "accuracy_std", "threshold", "auc", "eer"}) {
    EXPECT_TRUE(document.at(name).is_null()) << name;
  }
  EXPECT_EQ(document.at("tar_at_far").size(), 6U);
  for (const char* name : far_names()) EXPECT_TRUE(document.at("tar_at_far").contains(name)) << name;
}

// Eight other impostors of distances 0.1005, 0.2005 … 0.8005; at a rate of 1/4 two are accepted. The last
// threshold below that rate is 0.200, where one is; at 0.201 it is reached: the threshold is 0.201.
TEST(VerificationVal, ThresholdIsInterpolatedOnTheOtherFolds) {
  ScoredPairs pairs;
  std::vector<double> scores;
  for (int fold = 0; fold < 2; ++fold) {
    for (int i = 1; i <= 8; ++i) {
      scores.push_back(1 - (0.1 * i + 0.0005) / 2);
      pairs.same.push_back(0);
      pairs.folds.push_back(fold);
    }
    for (const double distance : {0.15, 0.2008, 0.2015, 0.9}) {
      scores.push_back(1 - distance / 2);
      pairs.same.push_back(1);
      pairs.folds.push_back(fold);
    }
  }
  pairs.scores = {scores};
  pairs.val_far = 0.25;
  const VerificationMetrics metrics = verification_metrics(pairs);
  ASSERT_TRUE(metrics.val_at_far.has_value());
  EXPECT_DOUBLE_EQ(metrics.val_at_far->val, 0.5);
  EXPECT_DOUBLE_EQ(metrics.val_at_far->val_std, 0);
  EXPECT_DOUBLE_EQ(metrics.val_at_far->measured_far, 0.25);
  EXPECT_EQ(verification_json(metrics).at("val_at_far").at("far"), 0.25);
  pairs.val_far = 1e-3;  // one in eight is the least above 0: between 0.100 and 0.101
  EXPECT_DOUBLE_EQ(verification_metrics(pairs).val_at_far->measured_far, 0);
}

TEST(VerificationCosines, AreExactForEqualRowsAndKnownAngles) {
  torch::manual_seed(1);
  const torch::Tensor x = torch::randn({50, 37}) * 10;
  for (const double cosine : pair_cosines(x, x, "x")) EXPECT_EQ(cosine, 1.0);
  for (const double cosine : pair_cosines(x, -x, "x")) EXPECT_EQ(cosine, -1.0);
  const torch::Tensor a = torch::tensor({{3.0, 4.0}, {1.0, 0.0}, {0.0, 0.0}}, torch::kDouble);
  const torch::Tensor b = torch::tensor({{4.0, 3.0}, {1.0, 1.0}, {1.0, 2.0}}, torch::kDouble);
  EXPECT_THAT(pair_cosines(a, b, "x"), ElementsAre(0.96, DoubleNear(std::sqrt(0.5), 1e-15), 0));
  EXPECT_THAT(pair_cosines(a, {0, 1}, {1, 0}, "x"), ElementsAre(0.6, 0.6));
  EXPECT_THAT(pair_cosines(a * 1e-120, b * 1e-120, "x"), ElementsAre(DoubleNear(0.96, 1e-15), testing::_, 0));
}

TEST(VerificationCosines, NameThePairThatIsNotFinite) {
  torch::Tensor a = torch::ones({3, 4});
  a[2][1] = std::numeric_limits<float>::quiet_NaN();
  EXPECT_THAT(test::error_of([&] {
                pair_cosines(torch::ones({3, 4}), a, "FILE");
              }),
              testing::AllOf(HasSubstr("FILE"), HasSubstr("pair 2")));
}

TEST(VerificationRoc, SortsOnAllCores) {
  RandomStream rng(3);
  std::vector<double> scores;
  std::vector<uint8_t> same;
  for (int i = 0; i < 200001; ++i) scores.push_back(rng.uniform()), same.push_back(i % 400 == 0 ? 1 : 0);
  const Roc roc(scores, same);
  EXPECT_EQ(roc.genuine.size(), 501U);
  EXPECT_TRUE(std::is_sorted(roc.impostor.rbegin(), roc.impostor.rend()));
  EXPECT_NEAR(area_under_curve(roc), 0.5, 0.05);
  const auto points = roc_points(roc);
  EXPECT_LT(points.size(), 5000U);
  EXPECT_EQ(points.front(), std::make_pair(0.0, 0.0));
  EXPECT_EQ(points.back(), std::make_pair(1.0, 1.0));
  for (size_t i = 1; i < points.size(); ++i) {
    EXPECT_GE(points[i].first, points[i - 1].first);
    EXPECT_GE(points[i].second, points[i - 1].second);
  }
}

// Perfect scores: the curve runs along the top of the frame, in the first line's blue.
TEST(VerificationRoc, PictureShowsTheCurve) {
  const std::string file = join_path(test::scratch_dir("roc"), "roc.png");
  draw_roc(file, "faces", {{"perfect", Roc({0.9, 0.8, 0.2, 0.1}, {1, 1, 0, 0})}});
  const cv::Mat rgb = read_image(file);
  ASSERT_EQ(rgb.size(), cv::Size(900, 640));
  for (const int x : {200, 480, 800}) {
    const cv::Vec3b pixel = rgb.at<cv::Vec3b>(77, x);
    EXPECT_GT(pixel[2], pixel[0] + 60) << x;
  }
}

}  // namespace
}  // namespace zoo
