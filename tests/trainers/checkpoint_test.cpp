#include "trainers/checkpoint.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "core/error.h"
#include "core/files.h"
#include "core/text.h"
#include "tests/support.h"

namespace zoo::test {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;

StateDict tensors(double value) {
  StateDict state;
  state.tensors = {{"weight", torch::full({3}, value)},
                   {"trainer.optimizer.step.weight", torch::tensor(int64_t{5})}};
  state.metadata["zoo.config"] = "{}";
  return state;
}

TrainerState at_step(int64_t step) {
  TrainerState state;
  state.step = step;
  return state;
}

std::vector<std::string> checkpoints(const std::string& run) {
  std::vector<std::string> names;
  for (const std::string& name : list_folder(run)) {
    if (ends_with(name, ".ckpt")) names.push_back(name);
  }
  return names;
}

TEST(CheckpointTest, StateComesBackAsItWas) {
  const std::string run = scratch_dir("checkpoint");
  EXPECT_FALSE(load_checkpoint(run).has_value());
  TrainerState state = at_step(12);
  state.epoch = 3, state.batch = 4, state.seconds = 0.1 + 0.2;
  state.best = -1.0 / 3, state.best_metric = "-error";
  state.metrics = {{"AP", nullptr}, {"per_class", {{"caf\xc3\xa9", 0.5}}}};
  state.window = {{"loss", 1e-300, 3}};
  save_checkpoint(run, state, tensors(0.25), 1);
  const auto loaded = load_checkpoint(run);
  ASSERT_TRUE(loaded.has_value());
  EXPECT_EQ(Json(loaded->state), Json(state));
  EXPECT_EQ(loaded->state.best.get<double>(), -1.0 / 3);
  EXPECT_TRUE(torch::equal(*loaded->tensors.find("weight"), torch::full({3}, 0.25)));
  EXPECT_EQ(loaded->tensors.find("trainer.optimizer.step.weight")->item<int64_t>(), 5);
  EXPECT_EQ(loaded->tensors.metadata.at("zoo.config"), "{}");
  EXPECT_EQ(load_state_dict(run + "/last.ckpt").tensors.size(), 1u);  // as weights: without the trainer's
}

TEST(CheckpointTest, KeepsThoseBeforeAndNoOthers) {
  const std::string run = scratch_dir("checkpoint");
  for (const int64_t step : {10, 20, 20, 30, 40}) save_checkpoint(run, at_step(step), tensors(1), 3);
  EXPECT_THAT(checkpoints(run), ElementsAre("20.ckpt", "30.ckpt", "last.ckpt"));
  save_checkpoint(run, at_step(50), tensors(1), 1);
  EXPECT_THAT(checkpoints(run), ElementsAre("last.ckpt"));
}

TEST(CheckpointTest, StepsThatARunWentBackFromAreRemoved) {
  const std::string run = scratch_dir("checkpoint");
  for (const int64_t step : {10, 20, 30}) save_checkpoint(run, at_step(step), tensors(1), 3);
  write_file(run + "/last.ckpt", "damaged");
  ASSERT_EQ(load_checkpoint(run)->state.step, 20);
  save_checkpoint(run, at_step(15), tensors(1), 3);
  EXPECT_THAT(checkpoints(run), ElementsAre("10.ckpt", "last.ckpt"));
}

TEST(CheckpointTest, AnyTruncationIsNoticed) {
  const std::string run = scratch_dir("checkpoint");
  save_checkpoint(run, at_step(10), tensors(1), 2);
  save_checkpoint(run, at_step(20), tensors(2), 2);
  const std::string last = run + "/last.ckpt", bytes = read_file(last);
  for (size_t size = 0; size < bytes.size(); size += 97) {
    write_file(last, bytes.substr(0, size));
    const auto loaded = load_checkpoint(run);
    ASSERT_TRUE(loaded.has_value());
    EXPECT_EQ(loaded->state.step, 10) << size;
    EXPECT_EQ(loaded->path, run + "/10.ckpt");
  }
}

TEST(CheckpointTest, DamagedOnesAloneAreAnErrorThatNamesThem) {
  const std::string run = scratch_dir("checkpoint");
  save_checkpoint(run, at_step(20), tensors(2), 1);
  StateDict state = tensors(1);
  state.metadata["zoo.trainer"] = R"({"step": "many"})";
  for (const bool weights : {false, true}) {
    weights ? save_safetensors(run + "/last.ckpt", state) : write_file(run + "/last.ckpt", "{");
    try {
      load_checkpoint(run);
      FAIL();
    } catch (const Error& error) {
      EXPECT_THAT(error.what(), HasSubstr(run + "/last.ckpt"));
      EXPECT_THAT(error.what(), HasSubstr("no earlier checkpoint is whole"));
    }
  }
}

}  // namespace
}  // namespace zoo::test
