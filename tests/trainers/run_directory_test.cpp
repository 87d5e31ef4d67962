#include "trainers/run_directory.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "core/error.h"
#include "core/files.h"
#include "core/log.h"
#include "core/text.h"
#include "tests/support.h"

namespace zoo::test {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;

Json sections() {
  Json config;
  for (const char* name : {"model", "data", "loss", "optimizer", "schedule", "trainer", "eval", "verify"}) {
    config[name] = Json::object();
  }
  return config;
}

template <class Work>
std::string error_of(const Work& work) {
  try {
    work();
  } catch (const Error& error) {
    EXPECT_EQ(error.exit_code(), 1);
    return error.what();
  }
  ADD_FAILURE() << "no error";
  return "";
}

TEST(RunDirectoryTest, ARunIsNotOverwritten) {
  const std::string run = scratch_dir("runs") + "/a/b";
  EXPECT_NO_THROW(require_no_run(run));
  create_run(run, sections());
  EXPECT_EQ(read_run_config(run), sections());
  EXPECT_THAT(error_of([&] { create_run(run, sections()); }), HasSubstr("--resume " + run));
  const std::string file = scratch_dir("runs") + "/file";
  write_file(file, "x");
  EXPECT_THAT(error_of([&] { require_no_run(file); }), HasSubstr(file));
  const std::string foreign = scratch_dir("foreign");  // a folder with other things in it may be used
  write_file(foreign + "/notes.txt", "x");
  EXPECT_NO_THROW(create_run(foreign, sections()));
}

TEST(RunDirectoryTest, WhatIsNoRunIsNamed) {
  const std::string folder = scratch_dir("runs");
  EXPECT_THAT(error_of([&] { read_run_config(folder + "/none"); }), HasSubstr("none: there is no such run"));
  EXPECT_THAT(error_of([&] { read_run_config(folder); }), HasSubstr("no config.json"));
  write_file(folder + "/config.json", R"({"model": {}})");
  EXPECT_THAT(error_of([&] { read_run_config(folder); }), HasSubstr("no section 'data'"));
  write_file(folder + "/config.json", "[]");
  EXPECT_THAT(error_of([&] { read_run_config(folder); }), HasSubstr("config.json"));
  write_file(folder + "/config.json", "{");
  EXPECT_THAT(error_of([&] { read_run_config(folder); }), HasSubstr("config.json"));
}

TEST(RunDirectoryTest, ChangesReplaceTheConfiguration) {
  const std::string run = scratch_dir("runs") + "/run";
  Json config = sections();
  create_run(run, config);
  config["trainer"]["epochs"] = 7;
  update_run_config(run, config);
  EXPECT_EQ(read_run_config(run).at("trainer").at("epochs"), 7);
}

TEST(RunDirectoryTest, MetricsAfterTheCheckpointAreCut) {
  const std::string run = scratch_dir("runs") + "/run";
  create_run(run, sections());
  write_file(run + "/metrics.jsonl",
             "{\"kind\":\"train\",\"step\":5}\n{\"kind\":\"validation\",\"step\":5}\n{\"kind\":\"train\","
             "\"step\":10}\n"
             "{\"kind\":\"validation\",\"step\":10}\n{\"kind\":\"train\",\"step\":15}\nnonsense\n[]\n{"
             "\"kind\":\"tr");
  TrainerState state;
  state.step = state.logged_step = 10;
  state.validated_step = 5;  // stopped in the second validation
  {
    RunWriter writer(run, state);
    writer.add_metrics({{"kind", "validation"}, {"step", 10}, {"metrics", {{"AP", 0.5}}}});
  }
  EXPECT_EQ(read_file(run + "/metrics.jsonl"),
            "{\"kind\":\"train\",\"step\":5}\n{\"kind\":\"validation\",\"step\":5}\n{\"kind\":\"train\","
            "\"step\":10}\n"
            "{\"kind\":\"validation\",\"metrics\":{\"AP\":0.5},\"step\":10}\n");
}

TEST(RunDirectoryTest, LeftoversOfAKilledProcessAreRemovedAndNothingElse) {
  const std::string run = scratch_dir("runs") + "/run";
  create_run(run, sections());
  make_folders(run + "/predictions");
  for (const char* name : {"last.ckpt.tmp.123", "predictions/a.png.tmp.9", "notes.tmp.txt", "tmp.5x"}) {
    write_file(join_path(run, name), "x");
  }
  const RunWriter writer(run, TrainerState());
  EXPECT_FALSE(file_exists(run + "/last.ckpt.tmp.123"));
  EXPECT_FALSE(file_exists(run + "/predictions/a.png.tmp.9"));
  EXPECT_TRUE(file_exists(run + "/notes.tmp.txt"));
  EXPECT_TRUE(file_exists(run + "/tmp.5x"));
}

TEST(RunDirectoryTest, LogLinesGoIntoTheRunWhileItLives) {
  const std::string run = scratch_dir("runs") + "/run";
  create_run(run, sections());
  set_log_level(LogLevel::quiet);
  {
    const RunWriter writer(run, TrainerState());
    log_info("inside");
    log_verbose("in detail");
  }
  log_info("outside");
  set_log_level(LogLevel::normal);
  const std::string log = read_file(run + "/log.txt");
  EXPECT_THAT(log, HasSubstr("inside\n"));
  EXPECT_THAT(log, HasSubstr("in detail\n"));
  EXPECT_EQ(log.find("outside"), std::string::npos);
}

TEST(RunDirectoryTest, ALockIsFreeAgainAfterwards) {
  const std::string run = scratch_dir("runs") + "/run";
  create_run(run, sections());
  {
    const RunWriter first(run, TrainerState());
    EXPECT_THAT(error_of([&] { RunWriter second(run, TrainerState()); }), HasSubstr("another process"));
  }
  EXPECT_NO_THROW(RunWriter(run, TrainerState()));
}

}  // namespace
}  // namespace zoo::test
