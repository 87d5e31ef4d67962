#include "trainers/schedules.h"

#include <gtest/gtest.h>

namespace zoo::test {
namespace {

ScheduleOptions named(const std::string& name) {
  ScheduleOptions options;
  options.name = name;
  return options;
}

TEST(SchedulesTest, PositionsAreFractionsOrSteps) {
  EXPECT_EQ(schedule_position(0.8, 100), 80);
  EXPECT_EQ(schedule_position(1, 100), 100);
  EXPECT_EQ(schedule_position(2, 100), 2);
  EXPECT_EQ(schedule_position(2.0 / 3.0, 300), 200);
  EXPECT_EQ(schedule_position(0, 100), 0);
}

TEST(SchedulesTest, AStepOfTwoThirdsDropsOnce) {
  ScheduleOptions options = named("step");
  options.step = 2.0 / 3.0;
  EXPECT_EQ(schedule_factor(199, 300, options), 1);
  EXPECT_DOUBLE_EQ(schedule_factor(200, 300, options), 0.1);
  EXPECT_DOUBLE_EQ(schedule_factor(299, 300, options), 0.1);
}

TEST(SchedulesTest, WarmupRisesToOne) {
  ScheduleOptions options = named("cosine");
  options.warmup = 4;
  options.warmup_factor = 0.2;
  EXPECT_DOUBLE_EQ(schedule_factor(0, 20, options), 0.2);
  EXPECT_DOUBLE_EQ(schedule_factor(2, 20, options), 0.6);
  EXPECT_DOUBLE_EQ(schedule_factor(4, 20, options), 1.0);
  EXPECT_LT(schedule_factor(5, 20, options), 1.0);
}

TEST(SchedulesTest, StepsBehindTheEndKeepTheLastValue) {
  for (const char* name : {"constant", "step", "multistep", "cosine", "polynomial", "onecycle"}) {
    EXPECT_EQ(schedule_factor(1000, 50, named(name)), schedule_factor(49, 50, named(name))) << name;
  }
}

TEST(SchedulesTest, ShortestRunsHaveFiniteFactors) {
  for (const char* name : {"constant", "step", "multistep", "cosine", "polynomial", "onecycle"}) {
    for (const double peak : {0.0, 0.3, 0.5, 1.0}) {
      for (const int64_t total : {0, 1, 2, 3, 10}) {
        for (int64_t step = 0; step <= total; ++step) {
          ScheduleOptions options = named(name);
          options.peak = peak;
          options.warmup = 1;
          const double factor = schedule_factor(step, total, options);
          EXPECT_TRUE(factor >= 0 && factor <= 1)
              << name << " " << peak << " " << total << " " << step << ": " << factor;
        }
      }
    }
  }
}

}  // namespace
}  // namespace zoo::test
