// Ends `zoo train` in the ways that runs end in, and goes on with them.
#include <gtest/gtest.h>
#include <signal.h>

#include "core/files.h"
#include "core/options.h"
#include "tests/process.h"
#include "tests/support.h"

namespace zoo {
namespace {

using test::CommandResult;
using test::Process;
using test::program;
using test::reaches;

constexpr int kSteps = 12;

std::vector<std::string> training(const std::string& run) {
  return {program(),      "train",
          "--model",      "detr-tiny",
          "--data",       "shapes,train=16,val=2",
          "--batch-size", "2",
          "--max-steps",  std::to_string(kSteps),
          "--threads",    "1",
          "--workers",    "1",
          "--set",        "trainer.checkpoint_every=2",
          "--set",        "trainer.log_every=1",
          "--set",        "trainer.validate_every_steps=0",
          "--output",     run};
}

std::string weights_of(const std::string& run) {
  return read_file(join_path(run, "last.safetensors"));
}

class Interrupt : public testing::Test {
 protected:
  Interrupt() : folder_(test::scratch_dir("interrupt")), errors_(join_path(folder_, "stderr")) {}

  std::string whole_run() const {
    const std::string run = join_path(folder_, "whole");
    EXPECT_EQ(test::run_command(training(run)).exit_code, 0);
    return run;
  }

  /// The same tensors as a run that nothing stopped.
  void expect_like_whole(const std::string& run) const {
    const CommandResult resumed = test::run_command({program(), "train", "--resume", run});
    EXPECT_EQ(resumed.exit_code, 0) << resumed.err;
    const std::string whole = weights_of(whole_run()), found = weights_of(run);
    ASSERT_EQ(whole.size(), found.size());
    EXPECT_TRUE(whole == found) << "the resumed run has other weights";
  }

  std::string folder_, errors_;
};

TEST_F(Interrupt, SigintAndSigtermWriteACheckpointAndExitWith130) {
  for (const int signal : {SIGINT, SIGTERM}) {
    const std::string run = join_path(folder_, "run" + std::to_string(signal));
    Process process(training(run), errors_);
    ASSERT_TRUE(reaches(process, run, 3)) << read_file(errors_);
    process.send(signal);
    EXPECT_EQ(process.wait(), 130);
    EXPECT_NE(read_file(errors_).find("--resume " + run), std::string::npos) << read_file(errors_);
    EXPECT_TRUE(file_exists(join_path(run, "last.ckpt")));
    const std::string metrics = read_file(join_path(run, "metrics.jsonl"));
    EXPECT_EQ(metrics.find("\"step\":" + std::to_string(kSteps) + ","), std::string::npos)
        << "it ended by itself";
  }
  expect_like_whole(join_path(folder_, "run" + std::to_string(SIGTERM)));
}

TEST_F(Interrupt, AfterSigkillTheLastCheckpointGoesOn) {
  const std::string run = join_path(folder_, "run");
  Process process(training(run), errors_);
  ASSERT_TRUE(reaches(process, run, 5)) << read_file(errors_);
  process.send(SIGKILL);
  EXPECT_EQ(process.wait(), 128 + SIGKILL);
  expect_like_whole(run);
}

TEST_F(Interrupt, AFullDiskIsOneLineAndLeavesTheRunResumable) {
  const std::string run = join_path(folder_, "run");
  Process process(training(run), errors_, {}, /*largest_file=*/1 << 20);  // weights are larger
  EXPECT_EQ(process.wait(), 1);
  const std::string errors = read_file(errors_);
  const size_t error = errors.find("error: ");
  ASSERT_NE(error, std::string::npos) << errors;
  EXPECT_NE(errors.find("cannot write " + run, error), std::string::npos) << errors;
  EXPECT_NE(errors.find("File too large", error), std::string::npos) << errors;
  EXPECT_LE(std::count(errors.begin() + static_cast<std::ptrdiff_t>(error), errors.end(), '\n'), 2) << errors;
  for (const char* name : {"last.ckpt", "last.safetensors", "best.safetensors"}) {
    EXPECT_FALSE(file_exists(join_path(run, name))) << name << " is there, but cannot be whole";
  }
  expect_like_whole(run);
}

TEST_F(Interrupt, AFolderThatCannotBeMadeIsNamed) {
  const CommandResult result = test::run_command(training("/proc/zoo-run"));
  EXPECT_EQ(result.exit_code, 1);
  EXPECT_NE(result.err.find("/proc/zoo-run"), std::string::npos) << result.err;
}

}  // namespace
}  // namespace zoo
