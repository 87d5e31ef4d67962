#include "trainers/metrics/online_action.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <torch/torch.h>

#include <cmath>

#include "datasets/image.h"
#include "tests/support.h"
#include "trainers/action_timeline.h"
#include "trainers/canvas.h"

namespace zoo {
namespace {

using testing::HasSubstr;

constexpr double kExact = 1e-15;

/// Scores of one action beside background.
ActionVideoScores video_of(const std::vector<double>& scores, const std::vector<int>& labels) {
  ActionVideoScores video;
  const torch::Tensor action = torch::tensor(scores, torch::kDouble);
  video.current = torch::stack({1 - action, action}, 1);
  const torch::Tensor present = torch::tensor(labels, torch::kByte);
  video.labels = torch::stack({1 - present, present}, 1);
  return video;
}

torch::Tensor flag_list(const std::vector<int>& flags) {
  return torch::tensor(flags, torch::kByte).to(torch::kBool);
}

double map_of(const ActionVideoScores& video, const ActionProtocol& protocol = {}) {
  return online_action_metrics({video}, protocol, 1, "scores").all.map;
}

// Ranks of the positives are 1, 3 and 4: (1/1 + 2/3 + 3/4) / 3.
TEST(OnlineActionMetrics, AveragePrecisionByHand) {
  const ClassPrecision found = average_precision({0.9, 0.8, 0.7, 0.6, 0.1}, {1, 0, 1, 1, 0});
  EXPECT_NEAR(found.ap, (1 + 2.0 / 3 + 3.0 / 4) / 3, kExact);
  EXPECT_EQ(found.positives, 3);
  EXPECT_EQ(found.negatives, 2);
  // w = 2/3: precisions 1, (4/3)/(4/3 + 1), 2/(2 + 1)
  EXPECT_NEAR(found.calibrated, (1 + 4.0 / 7 + 2.0 / 3) / 3, kExact);
}

// Two thresholds: 1 of 3 (2 positives at 0.5 among 3), then all.
TEST(OnlineActionMetrics, TiesAreOneStepOrEachItsOwn) {
  const std::vector<double> scores = {0.5, 0.5, 0.5, 0.1, 0.1};
  const std::vector<uint8_t> positive = {0, 1, 1, 0, 1};
  EXPECT_NEAR(average_precision(scores, positive).ap, 2.0 / 3 * 2 / 3 + 1.0 / 3 * 3 / 5, kExact);
  EXPECT_NEAR(average_precision(scores, positive, false).ap, (1.0 / 2 + 2.0 / 3 + 3.0 / 5) / 3, kExact);
  EXPECT_NEAR(average_precision({-0.0, 0.0}, {0, 1}).ap, 0.5, kExact);  // equal, too
}

TEST(OnlineActionMetrics, EndsOfTheScale) {
  EXPECT_TRUE(std::isnan(average_precision({0.5, 0.4}, {0, 0}).ap));
  EXPECT_TRUE(std::isnan(average_precision({}, {}).calibrated));
  EXPECT_DOUBLE_EQ(average_precision({0.5, 0.4}, {1, 1}).calibrated, 1);
  EXPECT_NEAR(average_precision({-1e300, INFINITY, -INFINITY, 1e-310}, {1, 0, 0, 1}).ap,
              (1.0 / 2 + 2.0 / 3) / 2, kExact);
  EXPECT_THROW(average_precision({NAN}, {1}), std::invalid_argument);
}

TEST(OnlineActionMetrics, BackgroundAndAbsentClassesAreLeftOut) {
  ActionVideoScores video;
  video.current = torch::tensor({{0.1, 0.9, 0.3}, {0.8, 0.2, 0.4}, {0.2, 0.5, 0.1}});
  video.labels = torch::tensor({{0, 1, 0}, {1, 0, 0}, {0, 1, 0}}, torch::kByte);
  const OnlineActionMetrics metrics = online_action_metrics({video}, {}, 1, "scores");
  EXPECT_DOUBLE_EQ(metrics.all.map, 1);
  ActionNaming naming;
  naming.classes = {"background", "jump", "jump"};
  const Json document = online_action_json(metrics, naming);
  EXPECT_EQ(document.size(), 4U);
  EXPECT_DOUBLE_EQ(document["per_class"]["jump (1)"], 1);
  EXPECT_TRUE(document["per_class"]["jump (2)"].is_null());
  EXPECT_EQ(document["anticipation"], Json::object());
  const Json details = online_action_details(metrics, {}, naming);
  EXPECT_EQ(details["classes_without_positives"], Json({"jump (2)"}));
  EXPECT_TRUE(details["anticipation_mean"].is_null());
}

// Videos are ranked together, not averaged: ranks of the positives are 1 and 3.
TEST(OnlineActionMetrics, VideosShareOneRanking) {
  const ActionVideoScores a = video_of({0.9, 0.5}, {1, 0}), b = video_of({0.4, 0.3}, {1, 0});
  const OnlineActionMetrics metrics = online_action_metrics({a, b}, {}, 1, "scores");
  EXPECT_NEAR(metrics.all.map, (1 + 2.0 / 3) / 2, kExact);
  EXPECT_EQ(metrics.steps, 4);
}

TEST(OnlineActionMetrics, ProtocolChoosesTheSteps) {
  ActionVideoScores video = video_of({0.9, 0.8, 0.7, 0.6}, {0, 1, 0, 1});
  EXPECT_NEAR(map_of(video), (1.0 / 2 + 2.0 / 4) / 2, kExact);
  video.ambiguous = flag_list({1, 0, 0, 0});
  EXPECT_NEAR(map_of(video), (1 + 2.0 / 3) / 2, kExact);
  ActionProtocol protocol;
  protocol.ambiguous = true;
  EXPECT_NEAR(map_of(video, protocol), (1.0 / 2 + 2.0 / 4) / 2, kExact);
  video.predicted = flag_list({1, 1, 0, 1});
  EXPECT_NEAR(map_of(video), 1, kExact);
}

/// Five steps whose predictions k = 0, 1 for two steps hold their target's index as a score.
ActionVideoScores anticipating(const std::vector<int>& labels) {
  ActionVideoScores video = video_of({0.5, 0.4, 0.3, 0.2, 0.1}, labels);
  const torch::Tensor step = torch::arange(5, torch::kDouble).view({5, 1, 1});
  video.future =
      (step + torch::arange(2, torch::kDouble).view({1, 2, 1})).expand({5, 2, 2}).contiguous() * -0.1;
  return video;
}

TEST(OnlineActionMetrics, AnticipationIsOfTheStepThatFollows) {
  const ActionVideoScores video = anticipating({0, 1, 0, 0, 1});
  OnlineActionMetrics metrics = online_action_metrics({video}, {}, 1, "scores");
  // 1 step ahead: targets 1, 2, 3, 4 in falling order; 2 ahead: 2, 3, 4
  EXPECT_NEAR(metrics.anticipation[0].map, (1 + 2.0 / 4) / 2, kExact);
  EXPECT_NEAR(metrics.anticipation[1].map, 1.0 / 3, kExact);
  ActionProtocol clamp;
  clamp.clamp_future = true;
  metrics = online_action_metrics({video}, clamp, 0, "scores");
  EXPECT_NEAR(metrics.anticipation[0].map, (1.0 / 2 + 2.0 / 5) / 2, kExact);
  EXPECT_NEAR(metrics.anticipation[1].map, (1 + 2.0 / 4 + 3.0 / 5) / 3, kExact);  // 1, 2, 3, 4, 4
  const Json document = online_action_json(metrics, {{}, 4, 0, ""});
  EXPECT_EQ(document["anticipation"].size(), 2U);
  EXPECT_TRUE(document["anticipation"].contains("0"));
  EXPECT_TRUE(document["anticipation"].contains("0.25"));
}

TEST(OnlineActionMetrics, AmbiguousFutureIsLeftOutOrNegative) {
  ActionVideoScores video = anticipating({0, 0, 0, 0, 1});
  video.ambiguous = flag_list({1, 1, 0, 0, 0});
  EXPECT_NEAR(online_action_metrics({video}, {}, 1, "scores").anticipation[0].map, 1.0 / 3, kExact);
  ActionProtocol oadtr;
  oadtr.ambiguous_future = true;
  EXPECT_NEAR(online_action_metrics({video}, oadtr, 1, "scores").anticipation[0].map, 1.0 / 4, kExact);
}

// An action of 20 steps and one of 5: tenths 0, 2, 4, 6, 8 have three steps, the others two.
TEST(OnlineActionMetrics, TenthsOfAnActionsDuration) {
  std::vector<int> labels(30, 0);
  std::vector<double> scores(30, 0.5);
  for (size_t i = 2; i < 22; ++i) labels[i] = 1, scores[i] = i < 4 ? 0.1 : 0.9;
  for (size_t i = 24; i < 29; ++i) labels[i] = 1, scores[i] = 0.9;
  const ActionVideoScores video = video_of(scores, labels);
  const auto deciles = online_action_metrics({video}, {}, 1, "scores").deciles;
  // tenth 0: one step above the five negatives, two below them
  EXPECT_NEAR(deciles[0].map, 1.0 / 3 + 2.0 / 3 * 3 / 8, kExact);
  for (size_t tenth = 1; tenth < 10; ++tenth) EXPECT_DOUBLE_EQ(deciles[tenth].map, 1) << tenth;
  ActionProtocol protocol;
  protocol.deciles = "lstr";
  const auto stages = online_action_metrics({video}, protocol, 1, "scores").deciles;
  EXPECT_NEAR(stages[0].map, 1.0 / 2 + 1.0 / 2 * 2 / 7,
              kExact);  // ⌊19/10⌋ = 1 step, and one of the short run
  EXPECT_NEAR(stages[1].map, 2.0 / 3 + 1.0 / 3 * 3 / 8, kExact);  // steps 3 (below the negatives), 4 and 24
}

// Tenth 9 of an action of three steps has none of them.
TEST(OnlineActionMetrics, ShortActionsLeaveTenthsEmpty) {
  const ActionVideoScores video = video_of({0.1, 0.9, 0.8, 0.7, 0.2}, {0, 1, 1, 1, 0});
  const OnlineActionMetrics metrics = online_action_metrics({video}, {}, 1, "scores");
  EXPECT_DOUBLE_EQ(metrics.deciles[0].map, 1);
  EXPECT_DOUBLE_EQ(metrics.deciles[3].map, 1);
  EXPECT_DOUBLE_EQ(metrics.deciles[6].map, 1);
  EXPECT_TRUE(std::isnan(metrics.deciles[9].map));
  const Json details = online_action_details(metrics, {}, {});
  EXPECT_TRUE(details["deciles"]["mAP"][9].is_null());
}

TEST(OnlineActionMetrics, ProtocolIsToldInWords) {
  ActionNaming naming;
  naming.scores = "softmax over 21 columns";
  const Json details = online_action_details(
      online_action_metrics({anticipating({0, 1, 0, 0, 1})}, {}, 1, "scores"), {}, naming);
  EXPECT_EQ(details["protocol"],
            "all steps but ambiguous ones; softmax over 21 columns; background left out; all videos in one "
            "ranking; "
            "equal scores as one step; predictions from 0.25 s on, those beyond the end left out, ambiguous "
            "ones left "
            "out");
  EXPECT_EQ(details["scored_steps"], 5);
}

TEST(OnlineActionMetrics, NamesWhatDoesNotFit) {
  ActionVideoScores video = video_of({0.5, 0.4}, {0, 1});
  const auto error = [&] { return test::error_of([&] { online_action_metrics({video}, {}, 1, "FILE"); }); };
  EXPECT_THAT(error(), testing::IsEmpty());
  video.ambiguous = flag_list({0, 1, 1});
  EXPECT_THAT(error(), HasSubstr("FILE: expected scores [L,C]"));
  video.ambiguous = torch::Tensor();
  video.current[1][1] = NAN;
  EXPECT_THAT(error(), HasSubstr("FILE: a score is not a number"));
  EXPECT_THAT(test::error_of([] { online_action_metrics({}, {}, 1, "FILE"); }), HasSubstr("FILE: no video"));
  ActionProtocol wrong;
  wrong.ties = "togehter";
  EXPECT_THAT(test::error_of([&] { wrong.validate(); }), HasSubstr("eval.protocol.ties"));
}

TEST(OnlineActionMetrics, TakesTheTensorsOfAFile) {
  const torch::Tensor scores = torch::rand({6, 3}), labels = torch::randint(0, 3, {6, 3}, torch::kInt);
  const ActionVideoScores video =
      listed_action_scores(scores, labels, torch::tensor({0, 1, 0, 2, 0, 0}), "FILE");
  EXPECT_EQ(video.labels.max().item<int64_t>(), 1);  // counts are made 0 or 1
  EXPECT_EQ(online_action_metrics({video}, {}, 1, "FILE").scored, 4);
  EXPECT_THAT(test::error_of([&] { listed_action_scores(labels, labels, {}, "FILE"); }),
              HasSubstr("FILE: scores"));
  EXPECT_THAT(test::error_of([&] { listed_action_scores(scores, scores, {}, "FILE"); }),
              HasSubstr("FILE: labels"));
  EXPECT_THAT(
      test::error_of([&] { listed_action_scores(scores, labels, torch::zeros({5}, torch::kInt), "FILE"); }),
      HasSubstr("FILE: ambiguous: expected a list of 6 integers"));
}

cv::Scalar color_at(const cv::Mat& picture, int x, int y) {
  return cv::Scalar(picture.at<cv::Vec3b>(y, x));
}

// 40 steps: background, then class 1, then classes 1 and 2, then ambiguous; predicted is class 1 throughout.
TEST(OnlineActionMetricsTimeline, BandsShowTruthAndPrediction) {
  ActionTimeline timeline;
  timeline.title = "video";
  timeline.class_names = {"background", "jump", "throw"};
  timeline.labels = torch::zeros({40, 3}, torch::kByte);
  timeline.labels.slice(0, 0, 10).select(1, 0).fill_(1);
  timeline.labels.slice(0, 10, 30).select(1, 1).fill_(1);
  timeline.labels.slice(0, 20, 30).select(1, 2).fill_(1);
  timeline.ambiguous = torch::arange(40) >= 30;
  timeline.scores = torch::tensor({0.0, 1.0, 0.0}).expand({40, 3});
  const cv::Mat picture = draw_action_timeline(timeline);
  const int left = 96, width = 1040, truth = 64, predicted = 118;
  EXPECT_EQ(color_at(picture, left + width / 8, truth + 20), cv::Scalar(245, 246, 248));
  EXPECT_EQ(color_at(picture, left + 3 * width / 8, truth + 20), kLineColors[0]);
  EXPECT_EQ(color_at(picture, left + 5 * width / 8, truth + 10), kLineColors[0]);
  EXPECT_EQ(color_at(picture, left + 5 * width / 8, truth + 34), kLineColors[1]);
  EXPECT_EQ(color_at(picture, left + 7 * width / 8, truth + 20), cv::Scalar(196, 200, 206));
  for (const int eighth : {1, 3, 5, 7}) {
    EXPECT_EQ(color_at(picture, left + eighth * width / 8, predicted + 20), kLineColors[0]);
  }
  timeline.labels = torch::Tensor();
  EXPECT_EQ(color_at(draw_action_timeline(timeline), left + 3 * width / 8, truth + 20), kPaper);
  timeline.scores = torch::zeros({0, 3});
  EXPECT_THROW(draw_action_timeline(timeline), std::invalid_argument);
}

}  // namespace
}  // namespace zoo
