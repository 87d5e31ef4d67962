// Runs the program as a user would: exit codes, the one line of an error, and what --json prints.
#include <gtest/gtest.h>

#include <algorithm>

#include "core/files.h"
#include "core/options.h"
#include "core/text.h"
#include "tests/support.h"

namespace zoo {
namespace {

using test::CommandResult;
using test::expect_error;
using test::zoo_json;
using test::zoo_run;

TEST(CliErrors, NameTheNearestCommandFlagModelAndKey) {
  expect_error({"trian"}, 2, {"unknown command 'trian'", "did you mean 'train'?"});
  expect_error({"data", "chekc", "shapes"}, 2, {"unknown command 'chekc'", "'check'"});
  expect_error({"train", "--modle", "detr-tiny"}, 2, {"unknown flag '--modle'", "'--model'"});
  expect_error({"train", "--model", "detr-tinny"}, 2, {"unknown model 'detr-tinny'", "'detr-tiny'"});
  expect_error({"train", "--model", "detr-tiny", "--set", "model.num_quries=5"}, 2,
               {"unknown key 'model.num_quries'", "'model.num_queries'"});
  expect_error({"train", "--model", "detr-tiny", "--data", "cocco:x"}, 2, {"cocco", "coco"});
}

TEST(CliErrors, NameTypeAndRange) {
  expect_error({"train", "--model", "detr-tiny", "--epochs", "many"}, 2, {"--epochs", "'many'", "integer"});
  expect_error({"train", "--model", "detr-tiny", "--epochs", "0"}, 2, {"trainer.epochs", "at least 1"});
  expect_error({"train", "--model", "detr-tiny", "--lr", "-1"}, 2, {"optimizer.lr", "more than 0"});
  expect_error({"train", "--model", "detr-tiny", "--set", "trainer.clip_norm=yes"}, 2,
               {"trainer.clip_norm", "number"});
  expect_error({"train", "--model", "detr-tiny", "--precision", "fp8"}, 2, {"trainer.precision", "fp8"});
  expect_error({"predict", "x.jpg", "--weights", "w", "--threshold", "1.5"}, 2, {"--threshold", "0 to 1"});
  expect_error({"bench", "--model", "detr-tiny", "--input-size", "big"}, 2, {"--input-size", "HxW"});
  expect_error({"train"}, 2, {"--model NAME"});
  expect_error({"eval"}, 2, {"--weights"});
  expect_error({"predict", "--weights", "w"}, 2, {"no input"});
}

TEST(CliErrors, OfTheWorldExitWithOne) {
  const std::string folder = test::scratch_dir("cli-errors");
  const std::string bad = join_path(folder, "bad.json");
  write_file(bad, "{\n  \"trainer\": {,}\n}\n");
  expect_error({"train", "--model", "detr-tiny", "--config", bad}, 1, {bad, "line 2"});
  expect_error({"train", "--model", "detr-tiny", "--config", join_path(folder, "none.json")}, 1,
               {"none.json"});
  expect_error({"eval", "--weights", join_path(folder, "none.safetensors")}, 1, {"none.safetensors"});
  write_file(join_path(folder, "text.safetensors"), "no weights at all");
  expect_error({"eval", "--weights", join_path(folder, "text.safetensors")}, 1, {"text.safetensors"});
  expect_error(
      {"train", "--model", "detr-tiny", "--data", "coco:" + folder, "--output", join_path(folder, "run")}, 1,
      {folder});
  EXPECT_FALSE(file_exists(join_path(folder, "run/config.json")));
}

TEST(CliErrors, KeysInsideAConfigurationAreUsageErrors) {
  const std::string folder = test::scratch_dir("cli-config");
  const std::string path = join_path(folder, "config.json");
  write_file(path, R"({"trainer": {"epoch": 3}})");
  expect_error({"train", "--model", "detr-tiny", "--config", path}, 2, {"trainer.epoch", "trainer.epochs"});
  write_file(path, R"({"trainer": {"epochs": 2.5}})");
  expect_error({"train", "--model", "detr-tiny", "--config", path}, 2, {"trainer.epochs", "2.5", "integer"});
  write_file(path, R"({"trainer": {"epochs": true}})");
  expect_error({"train", "--model", "detr-tiny", "--config", path}, 2, {"trainer.epochs", "true"});
}

TEST(CliHelp, EveryCommandHelpsAndExitsWithZero) {
  for (const char* command :
       {"list", "summary", "train", "eval", "predict", "export", "bench", "data", "completion"}) {
    const CommandResult result = zoo_run({command, "--help"});
    EXPECT_EQ(result.exit_code, 0) << command;
    EXPECT_NE(result.out.find(command), std::string::npos) << command;
    EXPECT_EQ(result.err, "") << command;
  }
  const CommandResult version = zoo_run({"--version"});
  EXPECT_EQ(version.exit_code, 0);
  EXPECT_NE(version.out.find("torch 2.13.0"), std::string::npos) << version.out;
}

TEST(CliList, KnowsModelsAndData) {
  const Json list = zoo_json({"list", "--json"});
  ASSERT_TRUE(list.is_object());
  std::vector<std::string> names;
  for (const Json& row : list.at("models")) names.push_back(row.at("name"));
  for (const char* name :
       {"detr-tiny", "detr-resnet50", "detr-resnet50-dc5", "detr-resnet101", "detr-resnet101-dc5"}) {
    EXPECT_NE(std::find(names.begin(), names.end(), name), names.end()) << name;
  }
}

TEST(CliCompletion, NamesEveryCommandAndParsesInBash) {
  const CommandResult script = zoo_run({"completion", "bash"});
  ASSERT_EQ(script.exit_code, 0);
  for (const char* word : {"train", "--resume", "detr-tiny", "check"}) {
    EXPECT_NE(script.out.find(word), std::string::npos) << word;
  }
  const CommandResult bash = test::run_command(
      {"bash", "-c",
       script.out + "\nCOMP_WORDS=(zoo train --mo) COMP_CWORD=2; _zoo; echo \"${COMPREPLY[@]}\""});
  EXPECT_EQ(trim(bash.out), "--model") << bash.err;
  expect_error({"completion", "fish"}, 2, {"fish", "bash"});
}

/// A run of a few steps on few pictures, shared by the tests that need weights.
const std::vector<std::string> kTinyRun = {"--model",      "detr-tiny",
                                           "--data",       "shapes,train=16,val=4",
                                           "--batch-size", "4",
                                           "--max-steps",  "4",
                                           "--threads",    "1",
                                           "--workers",    "0",
                                           "--set",        "trainer.validate_every_steps=2",
                                           "--set",        "trainer.checkpoint_every=2"};

std::string tiny_run() {
  static const std::string run = [] {
    const std::string folder = join_path(test::scratch_dir("cli-run"), "run");
    std::vector<std::string> arguments = {"train", "--output", folder};
    arguments.insert(arguments.end(), kTinyRun.begin(), kTinyRun.end());
    const CommandResult result = zoo_run(arguments);
    EXPECT_EQ(result.exit_code, 0) << result.err;
    return folder;
  }();
  return run;
}

TEST(CliRun, LeavesWhatTheContractNames) {
  const std::string run = tiny_run();
  for (const char* name : {"config.json", "metrics.jsonl", "last.ckpt", "best.safetensors",
                           "last.safetensors", "curves.png", "log.txt", "predictions"}) {
    EXPECT_TRUE(file_exists(join_path(run, name))) << name;
  }
  for (const std::string& name : list_folder(run)) EXPECT_EQ(name.find(".tmp"), std::string::npos) << name;
  std::vector<std::string> again = {"train", "--output", run};
  again.insert(again.end(), kTinyRun.begin(), kTinyRun.end());
  expect_error(again, 1, {run, "--resume"});
}

// DETR's loss over all decoder layers, and over the encoder's cells with their own weight.
TEST(CliRun, TheLossIsTheWeightedSumOfItsTerms) {
  for (const double weight : {0.0, 0.5}) {
    const std::string run = join_path(test::scratch_dir("cli-loss"), "run");
    std::vector<std::string> arguments = {"train", "--output", run};
    arguments.insert(arguments.end(), kTinyRun.begin(), kTinyRun.end());
    for (const std::string& set :
         {std::string("trainer.log_every=1"), format("loss.encoder_weight=%g", weight)}) {
      arguments.insert(arguments.end(), {"--set", set});
    }
    ASSERT_EQ(zoo_run(arguments).exit_code, 0);
    const std::string rows = read_file(join_path(run, "metrics.jsonl"));
    const Json row = Json::parse(rows.substr(0, rows.find('\n')));
    double sum = 0;
    for (const auto& [name, value] : row.at("terms").items()) {
      const double factor = starts_with(name, "loss_ce") ? 1 : starts_with(name, "loss_bbox") ? 5 : 2;
      if (!starts_with(name, "loss_")) continue;
      sum += value.get<double>() * factor * (ends_with(name, "_enc") ? weight : 1);
    }
    EXPECT_NEAR(row.at("loss").get<double>(), sum, 1e-3);
    EXPECT_EQ(row.at("terms").contains("loss_ce_enc"), weight > 0);
  }
}

TEST(CliRun, AFinishedRunSaysSoAndIsLeftAlone) {
  const std::string run = tiny_run();
  const std::string before = read_file(join_path(run, "last.ckpt"));
  const CommandResult result = zoo_run({"train", "--resume", run});
  EXPECT_EQ(result.exit_code, 0) << result.err;
  EXPECT_NE(result.err.find("finished"), std::string::npos) << result.err;
  EXPECT_EQ(read_file(join_path(run, "last.ckpt")), before);
  expect_error({"train", "--resume", run, "--lr", "0.1"}, 2, {"--lr"});
}

TEST(CliEval, PrintsAllTwelveNumbersAndNullForNone) {
  const Json document = zoo_json({"eval", "--weights", tiny_run(), "--json", "--threads", "1"});
  ASSERT_TRUE(document.is_object());
  EXPECT_EQ(document.at("command"), "eval");
  EXPECT_EQ(document.at("model"), "detr-tiny");
  for (const char* name :
       {"AP", "AP50", "AP75", "APs", "APm", "APl", "AR1", "AR10", "AR100", "ARs", "ARm", "ARl"}) {
    const Json& value = document.at("metrics").at(name);
    EXPECT_TRUE(value.is_null() || (value.get<double>() >= 0 && value.get<double>() <= 1)) << name << value;
  }
  EXPECT_TRUE(document.at("metrics").at("per_class").is_object());
  const Json two = zoo_json({"eval", "--weights", tiny_run(), "--json", "--threads", "1", "--data",
                             "shapes,val=3", "--data", "shapes,val=4"});
  EXPECT_EQ(two.at("results").size(), 2u);
}

TEST(CliEval, SavedPredictionsScoreTheSame) {
  const std::string folder = test::scratch_dir("cli-eval");
  ASSERT_EQ(zoo_run({"data", "make", "shapes,train=1,val=4", join_path(folder, "set")}).exit_code, 0);
  const std::string spec = "coco:" + join_path(folder, "set");
  const std::string file = join_path(folder, "predictions.json");
  const Json scored =
      zoo_json({"eval", "--weights", tiny_run(), "--data", spec, "--save-predictions", file, "--json"});
  const Json again = zoo_json({"eval", "--predictions", file, "--data", spec, "--json"});
  ASSERT_TRUE(again.is_object());
  EXPECT_TRUE(again.at("model").is_null());
  for (const auto& item : scored.at("metrics").items()) {
    if (!item.value().is_number()) continue;
    EXPECT_NEAR(item.value(), again.at("metrics").at(item.key()), 1e-9) << item.key();
  }
}

TEST(CliEval, PrecisionReachesTheModel) {
  const std::string folder = test::scratch_dir("cli-precision");
  const auto scores = [&](const std::string& precision) {
    const std::string file = join_path(folder, precision + ".json");
    zoo_json({"eval", "--weights", tiny_run(), "--data", "shapes,val=2", "--precision", precision,
              "--threads", "1", "--save-predictions", file, "--json"});
    double sum = 0;
    for (const Json& one : read_json(file)) sum += one.at("score").get<double>();
    return sum;
  };
  const double fp32 = scores("fp32"), bf16 = scores("bf16");
  EXPECT_NE(fp32, bf16);
  EXPECT_NEAR(fp32, bf16, 0.05 * fp32);
}

TEST(CliSummary, CountsModelsWhoseClassesComeFromData) {
  const Json tiny = zoo_json({"summary", "--model", "detr-tiny", "--json"});
  ASSERT_TRUE(tiny.is_object());
  EXPECT_EQ(tiny.at("input_size"), Json({128, 128}));
  EXPECT_EQ(tiny.at("metrics").at("parameters"), 1547853);
}

TEST(CliBench, PrintsEveryFigureOfTheContract) {
  const Json document = zoo_json({"bench", "--model", "detr-tiny", "--threads", "1", "--json"});
  ASSERT_TRUE(document.is_object());
  for (const char* name : {"seconds_per_step", "seconds_min", "seconds_p10", "seconds_p90", "steps",
                           "samples_per_second", "peak_memory_bytes", "precision", "fallback", "gflops"}) {
    EXPECT_TRUE(document.at("metrics").contains(name)) << name;
  }
  EXPECT_GT(document.at("metrics").at("seconds_per_step").get<double>(), 0);
}

TEST(CliPredict, NamesABadInputAndDoesTheRest) {
  const std::string folder = test::scratch_dir("cli-predict");
  ASSERT_EQ(zoo_run({"data", "make", "shapes,train=1,val=3", join_path(folder, "set")}).exit_code, 0);
  const std::string pictures = join_path(folder, "set/val"), bad = join_path(folder, "bad.jpg");
  write_file(bad, "this is no picture");
  const std::string output = join_path(folder, "out");
  const CommandResult result =
      zoo_run({"predict", pictures, bad, "--weights", tiny_run(), "--output", output, "--threshold", "0"});
  EXPECT_EQ(result.exit_code, 1);
  EXPECT_NE(result.err.find("bad.jpg"), std::string::npos) << result.err;
  const Json found = read_json(join_path(output, "predictions.json"));
  ASSERT_FALSE(found.empty());
  for (const char* key : {"image_id", "file_name", "category_id", "bbox", "score"}) {
    EXPECT_TRUE(found.at(0).contains(key)) << key;
  }
  const auto drawn = list_folder(output);
  EXPECT_EQ(
      std::count_if(drawn.begin(), drawn.end(), [](const auto& name) { return ends_with(name, ".png"); }), 3);
}

TEST(CliExport, WritesTorchScriptAndEveryLayout) {
  const std::string folder = test::scratch_dir("cli-export");
  const Json traced =
      zoo_json({"export", "--weights", tiny_run(), "--output", join_path(folder, "m.pt"), "--json"});
  ASSERT_TRUE(traced.is_object());
  EXPECT_LT(traced.at("metrics").at("max_difference").get<double>(), 1e-3);
  expect_error({"eval", "--weights", join_path(folder, "m.pt"), "--model", "detr-tiny"}, 1, {"TorchScript"});
  for (const char* name : {"m.safetensors", "m.pth"}) {
    EXPECT_EQ(zoo_run({"export", "--weights", tiny_run(), "--output", join_path(folder, name)}).exit_code, 0)
        << name;
  }
  const Json scored =
      zoo_json({"eval", "--weights", join_path(folder, "m.safetensors"), "--json", "--data", "shapes,val=4"});
  const Json original = zoo_json({"eval", "--weights", tiny_run(), "--json", "--data", "shapes,val=4"});
  EXPECT_EQ(scored.at("metrics").at("AP"), original.at("metrics").at("AP"));
  expect_error({"export", "--weights", tiny_run(), "--output", join_path(folder, "x.pth"), "--layout", "hff"},
               2, {"hff"});
}

TEST(CliDryRun, WritesNothing) {
  const std::string run = join_path(test::scratch_dir("cli-dry"), "run");
  std::vector<std::string> arguments = {"train", "--output", run, "--dry-run", "--json"};
  arguments.insert(arguments.end(), kTinyRun.begin(), kTinyRun.end());
  const Json document = zoo_json(arguments);
  ASSERT_TRUE(document.is_object());
  EXPECT_EQ(document.at("config").at("trainer").at("max_steps"), 4);
  EXPECT_FALSE(file_exists(run));
}

}  // namespace
}  // namespace zoo
