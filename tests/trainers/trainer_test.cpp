#include "trainers/trainer.h"

#include <ATen/autocast_mode.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <signal.h>
#include <sys/resource.h>

#include <fstream>

#include "core/error.h"
#include "core/files.h"
#include "core/text.h"
#include "models/weights/state_dict.h"
#include "tests/support.h"
#include "tests/trainers/toy_task.h"
#include "trainers/checkpoint.h"
#include "trainers/run_directory.h"
#include "trainers/signals.h"

namespace zoo::test {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;

std::string new_run(const std::string& name, const Json& config) {
  const std::string run = join_path(scratch_dir(name), "run");
  create_run(run, config);
  return run;
}

std::vector<Json> metric_lines(const std::string& run, const std::string& kind) {
  std::vector<Json> lines;
  for (const std::string& text : split(read_file(join_path(run, "metrics.jsonl")), '\n')) {
    if (text.empty()) continue;
    const Json line = Json::parse(text);
    if (line.at("kind") == kind) lines.push_back(line);
  }
  return lines;
}

std::vector<int64_t> steps_of(const std::vector<Json>& lines) {
  std::vector<int64_t> steps;
  for (const Json& line : lines) steps.push_back(line.at("step").get<int64_t>());
  return steps;
}

TEST(TrainerTest, LearnsAndLeavesARunDirectory) {
  Json config = toy_config();
  config["trainer"]["epochs"] = 20;
  config["trainer"]["validate_every"] = 5;
  const std::string run = new_run("learns", config);
  ToyTask task;
  const TrainResult result = train(task, config, run, false);
  EXPECT_EQ(result.steps, 200);
  EXPECT_FALSE(result.already_finished);
  const auto validations = metric_lines(run, "validation");
  ASSERT_EQ(validations.size(), 4u);
  EXPECT_EQ(validations.back().at("metrics"), result.metrics);
  EXPECT_LT(result.metrics.at("error").get<double>(),
            0.75 * validations.front().at("metrics").at("error").get<double>());
  for (const char* name : {"config.json", "metrics.jsonl", "last.ckpt", "best.safetensors",
                           "last.safetensors", "log.txt", "curves.png", "predictions/toy.png"}) {
    EXPECT_TRUE(file_exists(join_path(run, name))) << name;
  }
}

/// Tensors of a checkpoint by name, times left out of the comparison.
void expect_equal_checkpoints(const std::string& run, const std::string& other) {
  const auto mine = load_checkpoint(run), theirs = load_checkpoint(other);
  ASSERT_TRUE(mine && theirs);
  ASSERT_EQ(mine->tensors.tensors.size(), theirs->tensors.tensors.size());
  for (const auto& [name, tensor] : mine->tensors.tensors) {
    const torch::Tensor* same = theirs->tensors.find(name);
    ASSERT_NE(same, nullptr) << name;
    EXPECT_TRUE(torch::equal(tensor, *same)) << name;
  }
  EXPECT_EQ(mine->state.step, theirs->state.step);
  EXPECT_EQ(mine->state.epoch, theirs->state.epoch);
  EXPECT_EQ(mine->state.batch, theirs->state.batch);
  EXPECT_EQ(mine->state.best, theirs->state.best);
  EXPECT_EQ(mine->state.metrics, theirs->state.metrics);
}

/// Everything that carries state: dropout, batch norm, averages, accumulation, a moving step size.
Json stateful_config() {
  Json config = toy_config();
  config["trainer"]["ema_decay"] = 0.9;
  config["trainer"]["accumulate"] = 2;
  config["trainer"]["validate_every_steps"] = 4;
  config["schedule"]["name"] = "cosine";
  config["schedule"]["warmup"] = 3;
  return config;
}

/// Trains until the step in which the signal comes, then goes on in a new task, as another process would.
void train_with_interruption(const std::string& run, const Json& config, int64_t at_loss) {
  ToyTask first;
  first.on_loss = [&](int64_t count) {
    if (count == at_loss) ::raise(SIGINT);
  };
  EXPECT_THROW(train(first, config, run, false), Interrupted);
  reset_stop_request();
  torch::manual_seed(99);
  torch::rand({17});
  ToyTask second;
  train(second, config, run, true);
}

TEST(TrainerTest, AResumedRunIsEqualToOneNeverStopped) {
  for (const std::string optimizer : {"adamw", "sgd"}) {
    Json config = stateful_config();
    config["optimizer"]["name"] = optimizer;
    const std::string whole = new_run("whole", config);
    ToyTask task;
    train(task, config, whole, false);
    for (const int64_t at_loss :
         optimizer == "sgd" ? std::vector<int64_t>{9} : std::vector<int64_t>{1, 8, 21, 30}) {
      const std::string stopped = new_run("stopped", config);
      train_with_interruption(stopped, config, at_loss);
      expect_equal_checkpoints(whole, stopped);
      for (const char* kind : {"train", "validation"}) {
        const auto mine = metric_lines(whole, kind), theirs = metric_lines(stopped, kind);
        ASSERT_EQ(steps_of(mine), steps_of(theirs)) << kind << " stopped in loss " << at_loss;
        for (size_t i = 0; i < mine.size(); ++i) {
          for (const char* key : {"loss", "terms", "lr", "gradient_norm", "metrics", "epoch", "best"}) {
            EXPECT_EQ(mine[i].value(key, Json()), theirs[i].value(key, Json())) << key;
          }
        }
      }
    }
  }
}

TEST(TrainerTest, AnInterruptInAValidationEndsItAndIsMadeUpFor) {
  const Json config = stateful_config();
  const std::string whole = new_run("whole", config), run = new_run("validating", config);
  ToyTask task, stopped, resumed;
  train(task, config, whole, false);
  int64_t batches = 0;
  stopped.on_evaluate = [&](int64_t) {
    if (++batches == 5) ::raise(SIGTERM);  // the first batch of the second validation
  };
  EXPECT_THROW(train(stopped, config, run, false), Interrupted);
  reset_stop_request();
  EXPECT_EQ(batches, 5);
  EXPECT_EQ(load_trainer_state(run)->step, 8);
  EXPECT_EQ(load_trainer_state(run)->validated_step, 4);
  train(resumed, config, run, true);
  expect_equal_checkpoints(whole, run);
}

TEST(TrainerTest, AKilledRunGoesOnFromItsLastCheckpoint) {
  Json config = stateful_config();
  config["trainer"]["checkpoint_every"] = 3;
  const std::string whole = new_run("whole", config), run = new_run("killed", config);
  ToyTask task, killed, resumed;
  train(task, config, whole, false);
  killed.on_loss = [](int64_t count) {
    if (count == 21) throw std::runtime_error("as if killed");
  };
  EXPECT_THROW(train(killed, config, run, false), std::runtime_error);
  // Step 11 was under way, the last checkpoint is of step 9; the lines after it are written again.
  write_file(join_path(run, "last.ckpt.tmp.4242"), "half a file");
  std::ofstream(join_path(run, "metrics.jsonl"), std::ios::app) << "{\"kind\": \"train\", \"st";
  train(resumed, config, run, true);
  EXPECT_FALSE(file_exists(join_path(run, "last.ckpt.tmp.4242")));
  expect_equal_checkpoints(whole, run);
  EXPECT_EQ(steps_of(metric_lines(whole, "train")), steps_of(metric_lines(run, "train")));
}

TEST(TrainerTest, ARunWithoutCheckpointStartsFromStepZero) {
  const Json config = toy_config();
  const std::string whole = new_run("whole", config), run = new_run("nothing", config);
  ToyTask task, other;
  train(task, config, whole, false);
  train(other, config, run, true);
  expect_equal_checkpoints(whole, run);
}

TEST(TrainerTest, ADamagedCheckpointIsRefusedOrTheOneBeforeIsUsed) {
  for (const int64_t keep : {1, 2}) {
    Json config = toy_config();
    config["trainer"]["keep_checkpoints"] = keep;
    const std::string run = new_run("damaged", config);
    ToyTask task;
    train(task, config, run, false);
    const std::string last = join_path(run, "last.ckpt"), bytes = read_file(last);
    write_file(last, bytes.substr(0, bytes.size() - 100));
    ToyTask resumed;
    if (keep == 1) {
      try {
        train(resumed, config, run, true);
        FAIL() << "a damaged checkpoint was taken";
      } catch (const Error& error) {
        EXPECT_THAT(error.what(), HasSubstr("last.ckpt"));
        EXPECT_EQ(error.exit_code(), 1);
      }
    } else {
      EXPECT_TRUE(file_exists(join_path(run, "20.ckpt")));
      EXPECT_EQ(train(resumed, config, run, true).steps, 30);
      EXPECT_EQ(load_trainer_state(run)->step, 30);
    }
  }
}

TEST(TrainerTest, KeepsSoManyCheckpoints) {
  Json config = toy_config();
  config["trainer"]["checkpoint_every"] = 4;
  config["trainer"]["keep_checkpoints"] = 3;
  config["trainer"]["validate_every"] = 0;
  const std::string run = new_run("kept", config);
  ToyTask task;
  train(task, config, run, false);
  std::vector<std::string> names;
  for (const std::string& name : list_folder(run)) {
    if (ends_with(name, ".ckpt")) names.push_back(name);
  }
  EXPECT_THAT(names, ElementsAre("24.ckpt", "28.ckpt", "last.ckpt"));
}

TEST(TrainerTest, AFinishedRunIsLeftAlone) {
  const Json config = toy_config();
  const std::string run = new_run("finished", config);
  ToyTask task, again;
  const TrainResult result = train(task, config, run, false);
  EXPECT_TRUE(is_finished(run, config));
  const std::string before = read_file(join_path(run, "last.ckpt"));
  const TrainResult second = train(again, config, run, true);
  EXPECT_TRUE(second.already_finished);
  EXPECT_EQ(second.metrics, result.metrics);
  EXPECT_EQ(again.losses, 0);
  EXPECT_EQ(read_file(join_path(run, "last.ckpt")), before);
  Json longer = config;
  longer["trainer"]["epochs"] = 4;
  EXPECT_FALSE(is_finished(run, longer));
  ToyTask third;
  EXPECT_EQ(train(third, longer, run, true).steps, 40);
  EXPECT_EQ(third.losses, 10);
}

TEST(TrainerTest, StopsOnANonFiniteLossNamingStepAndSamples) {
  const Json config = toy_config();
  const std::string run = new_run("nonfinite", config);
  ToyTask task;
  task.source.on_batch = [](ToyBatch& batch) {
    if (batch.epoch == 1 && batch.index == 2) batch.y[0] = std::numeric_limits<float>::quiet_NaN();
  };
  try {
    train(task, config, run, false);
    FAIL() << "a loss of NaN was taken";
  } catch (const Error& error) {
    EXPECT_THAT(error.what(), HasSubstr("loss is not finite in step 13"));
    EXPECT_THAT(error.what(), HasSubstr("2-0, 2-1"));
    EXPECT_EQ(error.exit_code(), 1);
  }
  const Json incident = read_json(join_path(run, "nonfinite.json")).at(0);
  EXPECT_EQ(incident.at("step"), 13);
  EXPECT_EQ(incident.at("ids").size(), 16u);
  EXPECT_TRUE(incident.at("losses").at(0).is_null());
  EXPECT_EQ(load_trainer_state(run)->step, 10);
}

TEST(TrainerTest, LeavesNonFiniteStepsOutWhereAsked) {
  Json config = toy_config();
  config["trainer"]["nonfinite"] = "skip";
  config["trainer"]["nonfinite_limit"] = 2;
  config["trainer"]["ema_decay"] = 0.9;
  const std::string run = new_run("skip", config);
  const auto spoil = [](ToyTask& task, int64_t batches) {
    task.source.on_batch = [batches](ToyBatch& batch) {
      if (batch.epoch == 1 && batch.index < batches) batch.x[0][0] = std::numeric_limits<float>::infinity();
    };
  };
  ToyTask task;
  spoil(task, 2);
  EXPECT_EQ(train(task, config, run, false).steps, 30);
  EXPECT_EQ(load_trainer_state(run)->skipped_steps, 2);
  EXPECT_EQ(load_trainer_state(run)->average_updates, 28);
  for (const auto& [name, tensor] : load_state_dict(join_path(run, "last.safetensors")).tensors) {
    EXPECT_TRUE(tensor.isfinite().all().item<bool>()) << name;  // the running statistics too
  }
  ToyTask worse;
  spoil(worse, 3);
  const std::string other = new_run("too-many", config);
  EXPECT_THROW(train(worse, config, other, false), Error);
}

TEST(TrainerTest, MaxStepsEndsInTheMiddleOfAnEpochWithAValidation) {
  Json config = toy_config();
  config["trainer"]["max_steps"] = 13;
  const std::string run = new_run("max-steps", config);
  ToyTask task;
  EXPECT_EQ(train(task, config, run, false).steps, 13);
  EXPECT_THAT(steps_of(metric_lines(run, "train")), ElementsAre(4, 8, 10, 12, 13));
  EXPECT_THAT(steps_of(metric_lines(run, "validation")), ElementsAre(10, 13));
}

TEST(TrainerTest, AccumulatedBatchesAreOneLargeBatch) {
  // Without dropout and batch norm the mean of two batches' losses is the loss of both.
  Json config = toy_config();
  config["trainer"]["max_steps"] = 1;
  const auto step = [&](int64_t batch_size, int64_t accumulate) {
    config["trainer"]["accumulate"] = accumulate;
    ToyTask task(4, batch_size);
    task.net->plain = true;
    const std::string run = new_run("accumulate", config);
    task.source.on_batch = [whole =
                                std::make_shared<ToyBatch>(*ToySource(4, 8).make(0, 0))](ToyBatch& batch) {
      const int64_t size = batch.x.size(0), first = batch.index * size;
      batch.x = whole->x.slice(0, first, first + size);
      batch.y = whole->y.slice(0, first, first + size);
    };
    const torch::Tensor before = task.net->head->weight.detach().clone();
    train(task, config, run, false);
    return task.net->head->weight.detach() - before;
  };
  config["optimizer"]["name"] = "sgd";
  const torch::Tensor large = step(8, 1), small = step(4, 2);
  EXPECT_GT(large.abs().max().item<double>(), 1e-4);
  EXPECT_TRUE(torch::allclose(large, small, 1e-4, 1e-7)) << large << small;
}

TEST(TrainerTest, ALastStepOfAnEpochTakesTheBatchesThatAreLeft) {
  Json config = toy_config();
  config["trainer"]["accumulate"] = 4;
  config["trainer"]["epochs"] = 2;
  const std::string run = new_run("rest", config);
  ToyTask task(10);
  EXPECT_EQ(train(task, config, run, false).steps, 6);
  EXPECT_EQ(task.losses, 20);
}

TEST(TrainerTest, AnEpochThatEndsEarlyIsAnEpoch) {
  const Json config = toy_config();
  const std::string run = new_run("early", config);
  ToyTask task;
  task.source.missing = 3;
  EXPECT_EQ(train(task, config, run, false).steps, 21);
  EXPECT_EQ(load_trainer_state(run)->epoch, 3);
  ToyTask empty;
  empty.source.missing = 10;
  EXPECT_THROW(train(empty, config, new_run("empty", config), false), Error);
}

TEST(TrainerTest, StopsEarlyAndKeepsTheBest) {
  Json config = toy_config();
  config["trainer"]["epochs"] = 20;
  config["trainer"]["early_stop"] = 2;
  const std::string run = new_run("early-stop", config);
  ToyTask task;
  const std::vector<double> errors = {5, 3, 4, 2, 6, 7, 1};
  task.fixed_error = [&](int64_t count) { return errors[static_cast<size_t>(count - 1)]; };
  EXPECT_EQ(train(task, config, run, false).steps, 60);
  const TrainerState state = *load_trainer_state(run);
  EXPECT_EQ(state.best_step, 40);
  EXPECT_EQ(state.best, -2.0);
  EXPECT_TRUE(is_finished(run, config));
  const auto validations = metric_lines(run, "validation");
  std::vector<bool> best;
  for (const Json& line : validations) best.push_back(line.at("best"));
  EXPECT_THAT(best, ElementsAre(true, true, false, true, false, false));
}

TEST(TrainerTest, AMetricThatTheTaskDoesNotGiveIsNamed) {
  Json config = toy_config();
  config["trainer"]["best_metric"] = "eror";
  ToyTask task;
  try {
    train(task, config, new_run("metric", config), false);
    FAIL();
  } catch (const Error& error) {
    EXPECT_THAT(error.what(), HasSubstr("did you mean 'error'?"));
  }
}

TEST(TrainerTest, FrozenParametersStay) {
  Json config = toy_config();
  config["trainer"]["freeze"] = {"backbone.*", "norm.bias"};
  ToyTask task;
  const torch::Tensor backbone = task.net->backbone->weight.detach().clone(),
                      head = task.net->head->weight.detach().clone();
  train(task, config, new_run("frozen", config), false);
  EXPECT_TRUE(torch::equal(task.net->backbone->weight, backbone));
  EXPECT_TRUE(torch::equal(task.net->norm->bias, torch::zeros({16})));
  EXPECT_FALSE(torch::equal(task.net->head->weight, head));
  EXPECT_FALSE(task.net->backbone->weight.requires_grad());
  config["trainer"]["freeze"] = {"bakbone.*"};
  ToyTask other;
  EXPECT_THROW(train(other, config, new_run("slip", config), false), UsageError);
  config["trainer"]["freeze"] = {"*"};
  EXPECT_THROW(train(other, config, new_run("all", config), false), UsageError);
}

TEST(TrainerTest, AveragedWeightsAreValidatedAndKept) {
  Json config = toy_config();
  config["trainer"]["ema_decay"] = 0.99;
  const std::string run = new_run("average", config);
  ToyTask task;
  std::vector<torch::Tensor> seen;
  task.on_evaluate = [&](int64_t batch) {
    if (batch == 0) seen.push_back(task.net->head->weight.detach().clone());
  };
  train(task, config, run, false);
  const StateDict last = load_state_dict(join_path(run, "last.safetensors"));
  const StateDict checkpoint = load_tensors(join_path(run, "last.ckpt"));
  EXPECT_TRUE(torch::equal(*last.find("head.weight"), seen.back()));
  EXPECT_TRUE(torch::equal(*checkpoint.find("trainer.average.head.weight"), seen.back()));
  EXPECT_TRUE(torch::equal(*checkpoint.find("head.weight"), task.net->head->weight));
  EXPECT_FALSE(torch::equal(task.net->head->weight, seen.back()));
}

TEST(TrainerTest, WeightFilesTellTheirConfiguration) {
  const Json config = toy_config();
  const std::string run = new_run("metadata", config);
  ToyTask task;
  train(task, config, run, false);
  for (const char* name : {"best.safetensors", "last.safetensors", "last.ckpt"}) {
    const StateDict state = load_state_dict(join_path(run, name));
    EXPECT_EQ(Json::parse(state.metadata.at("zoo.config")), config) << name;
    EXPECT_EQ(state.metadata.at("zoo.categories"), "[]") << name;
    EXPECT_EQ(state.tensors.size(), 9u) << name;
  }
}

TEST(TrainerTest, TrainsInBf16) {
  Json config = toy_config();
  config["trainer"]["precision"] = "bf16";
  ToyTask task;
  bool cast = false;
  task.on_loss = [&](int64_t) { cast = at::autocast::is_autocast_enabled(at::kCPU); };
  task.on_evaluate = [&](int64_t) { EXPECT_FALSE(at::autocast::is_autocast_enabled(at::kCPU)); };
  const TrainResult result = train(task, config, new_run("bf16", config), false);
  EXPECT_TRUE(cast);
  EXPECT_EQ(task.net->head->weight.scalar_type(), torch::kFloat);
  EXPECT_TRUE(std::isfinite(result.metrics.at("error").get<double>()));
}

/// A disk that takes no more: no file of this process may grow past `bytes` while it lives.
class FullDisk {
 public:
  explicit FullDisk(rlim_t bytes) {
    ::signal(SIGXFSZ, SIG_IGN);
    ::getrlimit(RLIMIT_FSIZE, &before_);
    const rlimit limit = {bytes, before_.rlim_max};
    ::setrlimit(RLIMIT_FSIZE, &limit);
  }
  ~FullDisk() { ::setrlimit(RLIMIT_FSIZE, &before_); }

 private:
  rlimit before_{};
};

TEST(TrainerTest, AFullDiskStopsTheRunAndLeavesTheCheckpointBefore) {
  const Json config = toy_config();
  const std::string run = new_run("full", config);
  ToyTask task;
  std::unique_ptr<FullDisk> full;
  task.on_loss = [&](int64_t count) {
    if (count == 15) full = std::make_unique<FullDisk>(4000);
  };
  try {
    train(task, config, run, false);
    FAIL() << "a full disk went unnoticed";
  } catch (const Error& error) {
    EXPECT_THAT(error.what(), HasSubstr("cannot write"));
    EXPECT_THAT(error.what(), HasSubstr(run));
  }
  full.reset();
  for (const std::string& name : list_folder(run)) EXPECT_EQ(name.find(".tmp."), std::string::npos) << name;
  EXPECT_EQ(load_trainer_state(run)->step, 10);
  ToyTask resumed;
  EXPECT_EQ(train(resumed, config, run, true).steps, 30);
}

TEST(TrainerTest, DryRunTellsSizesAndTimes) {
  Json config = toy_config();
  config["trainer"]["accumulate"] = 2;
  ToyTask task;
  const DryRun dry = dry_run(task, config);
  EXPECT_EQ(dry.parameters, 8 * 16 + 16 + 32 + 17);
  EXPECT_EQ(dry.trainable_parameters, dry.parameters);
  EXPECT_EQ(dry.total_steps, 15);
  EXPECT_EQ(dry.batches_per_epoch, 10);
  ASSERT_EQ(dry.batch.size(), 1u);
  EXPECT_EQ(dry.batch.front().second, "[16, 8]");
  EXPECT_GT(dry.seconds_per_step, 0);
  EXPECT_NEAR(dry.projected_seconds, 15 * dry.seconds_per_step, 1e-9);
  EXPECT_GT(dry.memory_bytes, 1 << 20);
  EXPECT_THAT(dry.str(), HasSubstr("[16, 8]"));
}

TEST(TrainerTest, AMovedEndIsExplained) {
  Json config = toy_config();
  config["schedule"]["name"] = "cosine";
  const std::string run = new_run("moved", config);
  ToyTask task;
  train(task, config, run, false);
  EXPECT_TRUE(explain_moved_end(run, config, config).empty());
  Json longer = config;
  longer["trainer"]["epochs"] = 6;
  const auto lines = explain_moved_end(run, config, longer);
  ASSERT_EQ(lines.size(), 2u);
  EXPECT_THAT(lines[0], HasSubstr("from step 30 to step 60"));
  EXPECT_THAT(lines[1], HasSubstr("0.5"));  // half a cosine is done instead of all of it
}

TEST(TrainerTest, ASecondProcessMayNotWriteIntoTheRun) {
  const Json config = toy_config();
  const std::string run = new_run("locked", config);
  ToyTask task;
  std::string message;
  task.on_loss = [&](int64_t count) {
    if (count != 2) return;
    try {
      const RunWriter second(run, TrainerState());
    } catch (const Error& error) {
      message = error.what();
    }
  };
  train(task, config, run, false);
  EXPECT_THAT(message, HasSubstr("another process"));
}

}  // namespace
}  // namespace zoo::test
