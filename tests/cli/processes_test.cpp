// `zoo train` in two processes.
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <signal.h>
#include <torch/torch.h>

#include "core/files.h"
#include "models/weights/state_dict.h"
#include "tests/process.h"
#include "tests/support.h"
#include "trainers/checkpoint.h"
#include "trainers/process_group.h"

namespace zoo {
namespace {

using test::CommandResult;
using test::TwoRanks;
using testing::HasSubstr;

constexpr int64_t kPeople = 13;  // classes: 7 and 6

/// A training of faces: its classes sampled, with an average of the weights, ten steps in two epochs.
std::vector<std::string> faces_training(const std::string& run) {
  std::vector<std::string> command = {
      test::program(), "train",
      "--model",       "iresnet-tiny",
      "--data",        "faces,size=64,identities=13,val_identities=4,pictures=8",
      "--batch-size",  "20",
      "--epochs",      "2",
      "--threads",     "1",
      "--workers",     "1",
      "--output",      run};
  for (const char* edit :
       {"loss.classes.sample_rate=0.5", "trainer.ema_decay=0.9", "trainer.log_every=1", "eval.previews=0"}) {
    command.insert(command.end(), {"--set", edit});
  }
  return command;
}

std::vector<std::string> resuming(const std::string& run) {
  return {test::program(), "train", "--resume", run};
}

class Processes : public testing::Test {
 protected:
  void SetUp() override {
    if (!has_process_groups()) GTEST_SKIP() << "built without gloo's headers";
    folder_ = test::scratch_dir("processes");
  }
  /// Both end with that code.
  void expect_both(const std::vector<std::string>& command, int code) const {
    TwoRanks two(command, folder_);
    for (size_t rank = 0; rank < 2; ++rank) EXPECT_EQ(two.rank(rank).wait(), code) << two.output();
    if (code == 0) {
      EXPECT_EQ(two.output(1), "");
    }
  }
  std::string path(const std::string& name) const { return join_path(folder_, name); }

  std::string folder_;
};

TEST_F(Processes, ARunOfTwoGoesOnWithOneAndWithTwoAgain) {
  const std::string run = path("run");
  expect_both(faces_training(run), 0);
  const auto checkpoint = load_checkpoint(run);
  ASSERT_TRUE(checkpoint);
  EXPECT_EQ(checkpoint->state.step, 10);
  const torch::Tensor* rows = checkpoint->tensors.find("loss.weight");
  ASSERT_NE(rows, nullptr);
  EXPECT_EQ(rows->size(0), kPeople);
  EXPECT_EQ(checkpoint->tensors.find("trainer.optimizer.momentum_buffer.loss.weight")->size(0), kPeople);
  EXPECT_NE(checkpoint->tensors.find("trainer.random.cpu.1"), nullptr);
  EXPECT_EQ(load_state_dict(run).find("loss.weight")->size(0), kPeople);
  std::vector<std::string> longer = resuming(run);
  longer.insert(longer.end(), {"--epochs", "3"});
  const CommandResult one = test::run_command(longer);
  EXPECT_EQ(one.exit_code, 0) << one.err;
  EXPECT_EQ(load_checkpoint(run)->state.step, 15);
  longer.back() = "4";
  expect_both(longer, 0);
  EXPECT_EQ(load_checkpoint(run)->state.step, 20);
}

TEST_F(Processes, ASignalToOneStopsBothAndTheRunGoesOnAsIfItHadNot) {
  expect_both(faces_training(path("whole")), 0);
  const std::string run = path("stopped");
  {
    TwoRanks two(faces_training(run), folder_);
    ASSERT_TRUE(test::reaches(two.rank(0), run, 3)) << two.output();
    two.rank(1).send(SIGTERM);
    for (size_t rank = 0; rank < 2; ++rank) EXPECT_EQ(two.rank(rank).wait(), 130) << two.output();
    EXPECT_THAT(two.output(0), HasSubstr("--resume " + run));
    EXPECT_EQ(two.output(1), "");
  }
  EXPECT_LT(load_checkpoint(run)->state.step, 10) << "it ended by itself";
  expect_both(resuming(run), 0);
  for (const char* name : {"last.safetensors", "best.safetensors"}) {
    EXPECT_TRUE(read_file(join_path(run, name)) == read_file(join_path(path("whole"), name))) << name;
  }
}

TEST_F(Processes, DetectionTrainsToo) {
  const std::string run = path("run");
  expect_both({test::program(), "train", "--model", "detr-tiny", "--data", "shapes,train=8,val=2",
               "--batch-size", "4", "--max-steps", "2", "--threads", "1", "--workers", "0", "--output", run},
              0);
  EXPECT_EQ(load_checkpoint(run)->state.step, 2);
}

TEST_F(Processes, ActionsTrainAsInOneProcess) {
  const auto training = [&](const std::string& run) {
    std::vector<std::string> command = {
        test::program(), "train",
        "--model",       "oad-gru-tiny",
        "--data",        "streams,videos=6,val_videos=2,steps=90,width=16,ambiguous=1",
        "--batch-size",  "8",
        "--max-steps",   "4",
        "--threads",     "1",
        "--workers",     "0",
        "--output",      path(run)};
    for (const char* edit : {"model.projection=16", "model.hidden_dim=12", "model.dropout=0",
                             "optimizer.name=sgd", "optimizer.lr=0.1", "trainer.validate_every=0"}) {
      command.insert(command.end(), {"--set", edit});
    }
    return command;
  };
  const CommandResult one = test::run_command(training("one"));
  ASSERT_EQ(one.exit_code, 0) << one.err;
  expect_both(training("two"), 0);
  const StateDict alone = load_tensors(path("one/last.safetensors")),
                  shared = load_tensors(path("two/last.safetensors"));
  ASSERT_EQ(alone.tensors.size(), shared.tensors.size());
  for (const auto& [name, tensor] : alone.tensors)
    EXPECT_LT((tensor - *shared.find(name)).abs().max().item<double>(), 1e-5) << name;
}

TEST_F(Processes, OneThatEndsEndsTheOther) {
  const std::string run = path("run");
  make_folders(run);
  write_file(join_path(run, "config.json"), "{}");
  TwoRanks two(faces_training(run), folder_);
  for (size_t rank = 0; rank < 2; ++rank) EXPECT_EQ(two.rank(rank).wait(), 1) << two.output();
  EXPECT_THAT(two.output(0), HasSubstr("already holds a run"));
  EXPECT_THAT(two.output(1), HasSubstr("error: another process of this training has ended"));
}

TEST_F(Processes, WithOtherDataOrConfigurationStop) {
  std::vector<std::string> command = {"/bin/sh", "-c", R"(exec "$0" "$@" --seed $RANK)"};
  const std::vector<std::string> training = faces_training(path("run"));
  command.insert(command.end(), training.begin(), training.end());
  TwoRanks two(command, folder_);
  for (size_t rank = 0; rank < 2; ++rank) EXPECT_EQ(two.rank(rank).wait(), 1) << two.output();
  EXPECT_THAT(two.output(0), HasSubstr("rank 1 has another configuration than rank 0"));
}

TEST_F(Processes, WrongVariablesAndBatchesAreOneLine) {
  const auto expect_usage_error = [&](const std::vector<std::string>& environment, const std::string& part) {
    std::vector<std::string> command = {"/usr/bin/env"};
    command.insert(command.end(), environment.begin(), environment.end());
    const std::vector<std::string> training = faces_training(path("run"));
    command.insert(command.end(), training.begin(), training.end());
    const CommandResult result = test::run_command(command);
    EXPECT_EQ(result.exit_code, 2) << result.err;
    EXPECT_THAT(result.err, HasSubstr("error: " + part));
    EXPECT_FALSE(file_exists(path("run")));
  };
  expect_usage_error({"WORLD_SIZE=many"}, "WORLD_SIZE=many, expected a whole number");
  expect_usage_error({"WORLD_SIZE=2", "RANK=0", "MASTER_PORT=1"}, "MASTER_ADDR is not set");
  expect_usage_error({"WORLD_SIZE=3", "RANK=0", "MASTER_ADDR=localhost", "MASTER_PORT=1"},
                     "data.batch_size=20: WORLD_SIZE=3 processes share it");
}

}  // namespace
}  // namespace zoo
