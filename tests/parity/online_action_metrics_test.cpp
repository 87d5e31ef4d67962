// Online action detection's figures against scikit-learn and numpy, with equal scores and several labels a step.
#include <gtest/gtest.h>
#include <torch/torch.h>

#include <cmath>

#include "core/files.h"
#include "models/weights/state_dict.h"
#include "tests/support.h"
#include "trainers/metrics/online_action.h"

namespace zoo {
namespace {

constexpr double kTolerance = 1e-12;

/// The folder with the files of online_action_metrics.py.
const std::string& action_reference() {
  static const std::string folder = [] {
    std::string made = test::scratch_dir("online_action_metrics");
    test::run_python("online_action_metrics.py", {made});
    return made;
  }();
  return folder;
}

class OnlineActionMetricsParity : public testing::TestWithParam<const char*> {};

TEST_P(OnlineActionMetricsParity, EqualScikitLearn) {
  ZOO_NEEDS_PYTHON();
  const StateDict file =
      load_tensors(join_path(action_reference(), std::string(GetParam()) + ".safetensors"));
  const Json expected = read_json(join_path(action_reference(), "expected.json")).at(GetParam());
  ActionVideoScores video =
      listed_action_scores(*file.find("scores"), *file.find("labels"), *file.find("ambiguous"), "file");
  video.future = *file.find("future");
  ActionProtocol protocol;
  protocol.deciles = "lstr";
  const OnlineActionMetrics metrics = online_action_metrics({video}, protocol, 1, "file");
  double sum = 0, count = 0;
  for (size_t c = 0; c < metrics.per_class.size(); ++c) {
    const Json& wanted = expected.at("per_class")[c];
    ASSERT_EQ(std::isnan(metrics.per_class[c].ap), wanted.is_null()) << c;
    if (wanted.is_null()) continue;
    EXPECT_NEAR(metrics.per_class[c].ap, wanted.get<double>(), kTolerance) << c;
    sum += wanted.get<double>();
    ++count;
  }
  EXPECT_LT(count, static_cast<double>(metrics.per_class.size()));  // one never comes
  EXPECT_NEAR(metrics.all.map, sum / count, kTolerance);
  for (size_t tenth = 0; tenth < 10; ++tenth) {
    EXPECT_NEAR(metrics.deciles[tenth].map, expected.at("stages")[tenth].get<double>(), kTolerance) << tenth;
  }
  for (size_t k = 0; k < metrics.anticipation.size(); ++k) {
    EXPECT_NEAR(metrics.anticipation[k].map, expected.at("anticipation")[k].get<double>(), kTolerance) << k;
  }
  protocol.ties = "each";
  const OnlineActionMetrics each = online_action_metrics({video}, protocol, 1, "file");
  EXPECT_NEAR(each.all.map, expected.at("one_by_one").get<double>(), kTolerance);
  EXPECT_NEAR(each.all.calibrated, expected.at("calibrated").get<double>(), kTolerance);
}

INSTANTIATE_TEST_SUITE_P(Sets, OnlineActionMetricsParity, testing::Values("plain", "ties", "floats"));

}  // namespace
}  // namespace zoo
