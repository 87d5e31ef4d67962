#include "trainers/policy.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>

#include "core/error.h"

namespace zoo::test {
namespace {

/// Steps of a run of 3 epochs of 4 steps (or as the options say) at which `due` holds.
template <class Due>
std::vector<int64_t> steps_due(const TrainerOptions& options, const Due& due) {
  std::vector<int64_t> steps;
  TrainerState state;
  for (state.step = 0; state.step <= 12; ++state.step) {
    state.epoch = state.step / 4, state.batch = state.step % 4;
    if (due(state)) steps.push_back(state.step);
    if (reached_end(state, options)) break;
  }
  return steps;
}

TrainerOptions three_epochs() {
  TrainerOptions options;
  options.epochs = 3;
  return options;
}

std::vector<int64_t> validations(const TrainerOptions& options) {
  return steps_due(options, [&](const TrainerState& state) { return validation_due(state, options); });
}

TEST(PolicyTest, ValidatesByEpochsOrStepsAndAtTheEnd) {
  TrainerOptions options = three_epochs();
  EXPECT_THAT(validations(options), testing::ElementsAre(4, 8, 12));
  options.validate_every = 2;
  EXPECT_THAT(validations(options), testing::ElementsAre(8, 12));
  options.validate_every = 0;
  EXPECT_THAT(validations(options), testing::ElementsAre(12));
  options.validate_every_steps = 5;
  EXPECT_THAT(validations(options), testing::ElementsAre(5, 10, 12));
  options.max_steps = 7;
  EXPECT_THAT(validations(options), testing::ElementsAre(5, 7));
}

TEST(PolicyTest, WritesCheckpointsByEpochsOrSteps) {
  TrainerOptions options = three_epochs();
  const auto due = [&](const TrainerState& state) { return checkpoint_due(state, options); };
  EXPECT_THAT(steps_due(options, due), testing::ElementsAre(4, 8, 12));
  options.checkpoint_every = 5;
  EXPECT_THAT(steps_due(options, due), testing::ElementsAre(5, 10, 12));
}

TEST(PolicyTest, CountsSteps) {
  EXPECT_EQ(steps_per_epoch(10, 4), 3);
  EXPECT_EQ(steps_per_epoch(8, 4), 2);
  TrainerOptions options = three_epochs();
  EXPECT_EQ(total_steps(options, 7), 21);
  options.max_steps = 5;
  EXPECT_EQ(total_steps(options, 7), 5);
}

TEST(PolicyTest, ScoresAreLargerWhereBetter) {
  const Json metrics = {{"AP", 0.5}, {"error", 2}, {"APl", nullptr}, {"name", "x"}};
  EXPECT_EQ(metric_score(metrics, "AP"), 0.5);
  EXPECT_EQ(metric_score(metrics, "-error"), -2);
  EXPECT_TRUE(std::isnan(metric_score(metrics, "APl")));
  EXPECT_THROW(metric_score(metrics, "name"), Error);
  EXPECT_THROW(metric_score(metrics, "-"), Error);
}

TEST(PolicyTest, OnlyANumberThatIsMoreIsBetter) {
  TrainerState state;
  state.step = 1;
  EXPECT_FALSE(judge(state, std::nan("")));
  EXPECT_TRUE(state.best.is_null());
  EXPECT_TRUE(judge(state, -5));
  EXPECT_FALSE(judge(state, -5));
  EXPECT_FALSE(judge(state, std::nan("")));
  EXPECT_EQ(state.validations_without_better, 2);
  state.step = 9;
  EXPECT_TRUE(judge(state, -4));
  EXPECT_EQ(state.best_step, 9);
  EXPECT_EQ(state.validations_without_better, 0);
}

}  // namespace
}  // namespace zoo::test
