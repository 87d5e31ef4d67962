#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <signal.h>

#include "core/error.h"
#include "core/files.h"
#include "models/face_losses/face_loss.h"
#include "models/weights/state_dict.h"
#include "tests/support.h"
#include "tests/trainers/toy_task.h"
#include "trainers/checkpoint.h"
#include "trainers/run_directory.h"
#include "trainers/signals.h"
#include "trainers/trainer.h"
#include "trainers/training_step.h"

namespace zoo::test {
namespace {

constexpr int64_t kClasses = 60;

/// The toy's net as an embedding, under a face loss that samples its classes.
class ToyFaces : public ToyTask {
 public:
  explicit ToyFaces(double sample_rate = 0.4, const std::string& name = "curricularface") {
    FaceLossOptions options;
    options.name = name;
    options.curricularface.scale = options.cosface.scale = 16;
    options.classes.sample_rate = sample_rate;
    face_loss = make_face_loss(options, 16, kClasses, 11);
  }
  std::shared_ptr<LossModule> loss_module() override { return face_loss; }
  std::vector<ParameterGroup> parameter_groups(const OptimizerOptions& options) override {
    std::vector<ParameterGroup> groups = ToyTask::parameter_groups(options);
    auto& head = groups.front().parameters;
    head.erase(std::remove_if(head.begin(), head.end(),
                              [](const auto& item) { return item.first.find("head") == 0; }),
               head.end());
    for (const auto& item : face_loss->named_parameters())
      head.emplace_back("loss." + item.key(), item.value());
    return groups;
  }
  LossTerms loss(const Batch& batch, torch::Device device) override {
    const auto& toy = dynamic_cast<const ToyBatch&>(batch);
    if (on_loss) on_loss(++losses);
    const torch::Tensor x = net->dropout(net->norm(net->backbone(toy.x.to(device))));  // [B,16]
    const torch::Tensor labels = (toy.y * 8).nan_to_num(0).clamp(0, kClasses - 1).to(torch::kLong);
    LossTerms terms = face_loss->forward(x, labels);
    terms.total = terms.total + 0 * toy.y.sum();  // a spoilt batch spoils the loss
    return terms;
  }
  torch::Tensor buffer(const std::string& name) const { return face_loss->named_buffers()[name]; }

  std::shared_ptr<FaceLossImpl> face_loss;
};

Json faces_config() {
  Json config = toy_config();
  config["optimizer"]["name"] = "sgd";
  config["optimizer"]["weight_decay"] = 1e-3;
  config["trainer"]["ema_decay"] = 0.9;
  config["trainer"]["accumulate"] = 2;
  config["trainer"]["epochs"] = 2;
  config["trainer"]["nonfinite"] = "skip";
  config["schedule"]["name"] = "cosine";
  return config;
}

std::string new_run(const std::string& name, const Json& config) {
  const std::string run = join_path(scratch_dir(name), "run");
  create_run(run, config);
  return run;
}

TEST(OwnWeights, AResumedRunIsEqualToOneNeverStopped) {
  for (const int64_t at_loss : {1, 8, 13}) {
    const Json config = faces_config();
    const std::string whole = new_run("own_whole", config), stopped = new_run("own_stopped", config);
    ToyFaces task;
    train(task, config, whole, false);
    ToyFaces first;
    first.on_loss = [&](int64_t count) {
      if (count == at_loss) ::raise(SIGINT);
    };
    EXPECT_THROW(train(first, config, stopped, false), Interrupted);
    reset_stop_request();
    torch::manual_seed(99);
    ToyFaces second;
    train(second, config, stopped, true);
    const auto mine = load_checkpoint(whole), theirs = load_checkpoint(stopped);
    ASSERT_TRUE(mine && theirs);
    ASSERT_EQ(mine->tensors.tensors.size(), theirs->tensors.tensors.size());
    for (const auto& [name, tensor] : mine->tensors.tensors) {
      const torch::Tensor* same = theirs->tensors.find(name);
      ASSERT_NE(same, nullptr) << name;
      EXPECT_TRUE(torch::equal(tensor, *same)) << name;
    }
    EXPECT_EQ(mine->tensors.find("loss.draws")->item<int64_t>(), 20);
  }
}

TEST(OwnWeights, FilesHoldWeightsAndCheckpointsTheirMomentum) {
  const Json config = faces_config();
  const std::string run = new_run("own_files", config);
  ToyFaces task;
  train(task, config, run, false);
  const StateDict weights = load_tensors(join_path(run, "last.safetensors"));
  ASSERT_NE(weights.find("loss.weight"), nullptr);
  EXPECT_TRUE(weights.find("loss.weight")->equal(task.buffer("weight")));
  EXPECT_NE(weights.find("loss.hardness"), nullptr);
  EXPECT_EQ(weights.find("loss.momentum"), nullptr);
  const StateDict checkpoint = load_tensors(join_path(run, "last.ckpt"));
  ASSERT_NE(checkpoint.find("trainer.optimizer.momentum_buffer.loss.weight"), nullptr);
  EXPECT_TRUE(
      checkpoint.find("trainer.optimizer.momentum_buffer.loss.weight")->equal(task.buffer("momentum")));
  EXPECT_EQ(checkpoint.find("trainer.average.loss.weight"), nullptr);
}

std::vector<std::unique_ptr<Batch>> one_batch(ToyTask& task, bool spoilt = false) {
  std::vector<std::unique_ptr<Batch>> batches;
  auto batch = task.source.make(0, 0);
  if (spoilt) batch->y[0] = NAN;
  batches.push_back(std::move(batch));
  return batches;
}

TEST(OwnWeights, TakePartInTheNormTheClippingAndTheSchedule) {
  Json config = faces_config();
  config["optimizer"]["momentum"] = 0;
  config["optimizer"]["weight_decay"] = 0;
  config["trainer"]["ema_decay"] = 0;
  const auto moved = [&](double clip_norm, double lr_factor, double* norm) {
    config["trainer"]["clip_norm"] = clip_norm;
    ToyFaces task;
    TrainingStep step(task, config, torch::kCPU);
    const torch::Tensor before = task.buffer("weight").clone();
    torch::manual_seed(1);
    *norm = step.run(one_batch(task), lr_factor).gradient_norm;
    return (task.buffer("weight") - before).norm().item<double>();
  };
  double norm = 0, again = 0;
  const double whole = moved(0, 1, &norm);
  const double lr = config["optimizer"]["lr"];
  EXPECT_GT(norm, whole / lr);  // and the net's part
  EXPECT_NEAR(moved(norm / 4, 1, &again), whole / 4, 1e-4 * whole);
  EXPECT_NEAR(again, norm, 1e-6 * norm);
  EXPECT_NEAR(moved(0, 0.1, &again), whole / 10, 1e-4 * whole);
}

TEST(OwnWeights, AStepThatIsLeftOutMovesNothing) {
  ToyFaces task;
  TrainingStep step(task, faces_config(), torch::kCPU);
  step.run(one_batch(task), 1);
  std::map<std::string, torch::Tensor> before;
  for (const auto& item : task.face_loss->named_buffers()) before[item.key()] = item.value().clone();
  EXPECT_FALSE(step.run(one_batch(task, /*spoilt=*/true), 1).finite);
  for (const auto& item : task.face_loss->named_buffers()) {
    EXPECT_TRUE(item.value().equal(before.at(item.key()))) << item.key();
  }
  EXPECT_TRUE(task.face_loss->own_gradients().empty());
  EXPECT_TRUE(step.run(one_batch(task), 1).finite);
}

TEST(OwnWeights, AWholeSoftmaxIsTheOptimisers) {
  const Json config = faces_config();
  const std::string run = new_run("own_none", config);
  ToyFaces task(/*sample_rate=*/1, "cosface");
  train(task, config, run, false);
  const StateDict checkpoint = load_tensors(join_path(run, "last.ckpt"));
  EXPECT_NE(checkpoint.find("trainer.optimizer.momentum_buffer.loss.weight"), nullptr);
  EXPECT_NE(checkpoint.find("trainer.average.loss.weight"), nullptr);
  EXPECT_NE(checkpoint.find("loss.weight"), nullptr);
}

}  // namespace
}  // namespace zoo::test
