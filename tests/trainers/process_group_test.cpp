// Two processes against one. The tests start this program again, as the two ranks of ProcessGroupRank.
#include "trainers/process_group.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <torch/torch.h>

#include <algorithm>
#include <cstdlib>
#include <map>

#include "core/files.h"
#include "models/face_losses/class_weights.h"
#include "models/face_losses/face_loss.h"
#include "models/weights/state_dict.h"
#include "tests/process.h"
#include "tests/support.h"
#include "tests/trainers/toy_task.h"
#include "trainers/row_cuts.h"
#include "trainers/training_step.h"

namespace zoo::test {
namespace {

using testing::HasSubstr;

constexpr int64_t kRankClasses = 21, kEmbedding = 16, kRankBatch = 12, kRankSteps = 4;  // classes: 11 and 10
constexpr uint64_t kLossSeed = 11;
constexpr double kSampleRate = 0.5, kCosineScale = 8, kCosineMargin = 0.3;

/// A loss in both worlds.
struct LossCase {
  std::string name;
  FaceLossOptions options;
};

LossCase loss_case(const std::string& loss, int64_t chunk_bytes, double sample_rate = 1) {
  LossCase one{loss + (chunk_bytes > 0 ? "-blocks" : "") + (sample_rate < 1 ? "-sampled" : ""), {}};
  one.options.name = loss;
  one.options.arcface.scale = one.options.cosface.scale = one.options.curricularface.scale = kCosineScale;
  one.options.adaface.scale = one.options.elasticface.scale = one.options.magface.scale = kCosineScale;
  one.options.circle.scale = one.options.combined.scale = kCosineScale;
  one.options.cosface.margin = kCosineMargin;
  one.options.contrastive.margin_every = 2;
  one.options.classes.chunk_bytes = chunk_bytes;
  one.options.classes.sample_rate = sample_rate;
  return one;
}

/// Every loss in blocks and, where that is another way, by one product.
std::vector<LossCase> whole_cases() {
  std::vector<LossCase> cases;
  for (const FaceLossInfo& info : face_losses()) {
    cases.push_back(loss_case(info.name, int64_t{1} << 20));
    if (info.needs_classes) cases.push_back(loss_case(info.name, 0));
  }
  return cases;
}

std::vector<LossCase> sampled_cases() {
  return {loss_case("cosface", 0, kSampleRate), loss_case("cosface", int64_t{1} << 20, kSampleRate)};
}

/// The toy's first layer as an embedding, under a face loss; each process takes its part of every batch. The
/// toy's batch norm has parameters that no pass uses.
class EmbeddingTask : public ToyTask {
 public:
  explicit EmbeddingTask(const LossCase& one) : ToyTask(10, kRankBatch), options_(one.options) {}

  void join(const SharedRanks& ranks) override {
    ToyTask::join(ranks);
    if (face_loss == nullptr)
      face_loss = make_face_loss(options_, kEmbedding, kRankClasses, kLossSeed, ranks);
  }
  std::shared_ptr<LossModule> loss_module() override { return face_loss; }
  std::vector<ParameterGroup> parameter_groups(const OptimizerOptions& options) override {
    ParameterGroup group{"all", {}, options.lr, options.weight_decay};
    for (const auto& item : net->backbone->named_parameters()) add(group, "backbone." + item.key(), item);
    for (const auto& item : net->norm->named_parameters()) add(group, "norm." + item.key(), item);
    for (const auto& item : face_loss->named_parameters()) add(group, "loss." + item.key(), item);
    return {group};
  }
  LossTerms loss(const Batch& batch, torch::Device) override {
    const auto& toy = dynamic_cast<const ToyBatch&>(batch);
    const torch::Tensor x = net->backbone(toy.x);  // [b,D]
    // An average over processes follows, so that a process's part is as many times larger.
    x.register_hook([this](const torch::Tensor& g) { gradient = g / batch_part().count; });
    return face_loss->forward(x, (toy.y * 4).to(torch::kLong).remainder(kRankClasses));
  }
  /// This process's part of a batch.
  std::unique_ptr<Batch> part_of(int64_t index) const {
    std::unique_ptr<ToyBatch> batch = source.make(0, index);
    const BatchPart part = batch_part();
    const int64_t size = kRankBatch / part.count, first = part.index * size;
    batch->x = batch->x.narrow(0, first, size), batch->y = batch->y.narrow(0, first, size);
    batch->ids.resize(static_cast<size_t>(size));
    return batch;
  }

  std::shared_ptr<FaceLossImpl> face_loss;
  torch::Tensor gradient;  ///< of the last embeddings [b,D]

 private:
  template <class Item>
  static void add(ParameterGroup& group, const std::string& name, const Item& item) {
    group.parameters.emplace_back(name, item.value());
  }

  FaceLossOptions options_;
};

/// Partial FC of two shards in one process. A step's classes are those that both shards' processes draw, each by
/// its own stream (seed, 1, first class, step) from its own classes; their rows alone move.
class SampledByTwo : public FaceLossImpl {
 public:
  SampledByTwo() {
    const auto whole = make_face_loss(loss_case("cosface", 0).options, kEmbedding, kRankClasses, kLossSeed);
    weight_ = register_buffer("weight", whole->named_parameters()["weight"].detach().clone());
    momentum_ = register_buffer("momentum", torch::zeros_like(weight_));
  }
  std::vector<std::string> own_weights() const override { return {"weight"}; }
  std::vector<std::string> own_state() const override { return {"momentum"}; }

  LossTerms forward(const torch::Tensor& x, const torch::Tensor& y) override {
    const torch::Tensor index = torch::tensor(draw(y), torch::kLong);
    const torch::Tensor rows = weight_.index_select(0, index).requires_grad_();
    taken_.emplace_back(index, rows);
    namespace F = torch::nn::functional;
    const torch::Tensor own = torch::searchsorted(index, y).unsqueeze(1);
    const torch::Tensor cosine = F::normalize(x).mm(F::normalize(rows).t());
    const torch::Tensor bent = cosine.scatter(1, own, cosine.gather(1, own) - kCosineMargin);
    return {F::cross_entropy(kCosineScale * bent, own.squeeze(1)), {}};
  }
  std::vector<torch::Tensor> own_gradients() override {
    torch::Tensor sum = torch::zeros_like(weight_);
    for (const auto& [index, rows] : taken_) sum.index_add_(0, index, rows.grad());
    return {sum};
  }
  void step(double lr, double weight_decay, double momentum, double gradient_scale) override {
    const torch::NoGradGuard no_grad;
    torch::Tensor touched = torch::zeros({kRankClasses, 1}, torch::kBool);
    for (const auto& item : taken_) touched.index_fill_(0, item.first, true);
    const torch::Tensor velocity =
        momentum * momentum_ + gradient_scale * own_gradients()[0] + weight_decay * weight_;
    momentum_.copy_(torch::where(touched, velocity, momentum_));
    weight_.copy_(torch::where(touched, weight_ - lr * velocity, weight_));
  }
  void release_gradients() override { taken_.clear(); }

 private:
  std::vector<int64_t> draw(const torch::Tensor& y) {
    std::vector<int64_t> sample;
    for (int64_t rank = 0; rank < 2; ++rank) {
      const ClassShard shard = ClassShard::of(kRankClasses, rank, 2);
      std::vector<int64_t> wanted;
      for (int64_t k = 0; k < shard.count; ++k) {
        if (y.eq(shard.start + k).any().item<bool>()) wanted.push_back(k);
      }
      RandomStream random{kLossSeed, 1, static_cast<uint64_t>(shard.start), draws_};
      const auto count = static_cast<int64_t>(kSampleRate * static_cast<double>(shard.count));
      for (const int64_t k : sample_classes(wanted, shard.count, count, random)) {
        sample.push_back(shard.start + k);
      }
    }
    ++draws_;
    return sample;
  }

  torch::Tensor weight_, momentum_;
  std::vector<std::pair<torch::Tensor, torch::Tensor>> taken_;
  uint64_t draws_ = 0;
};

/// A loss with own weights that every process has whole: mean (x·w − y)².
class OwnCopies : public FaceLossImpl {
 public:
  OwnCopies() {
    weight_ = register_buffer("weight", torch::linspace(-1, 1, kEmbedding));
    momentum_ = register_buffer("momentum", torch::zeros_like(weight_));
    weight_.set_requires_grad(true);
  }
  std::vector<std::string> own_weights() const override { return {"weight"}; }
  std::vector<std::string> own_state() const override { return {"momentum"}; }
  LossTerms forward(const torch::Tensor& x, const torch::Tensor& y) override {
    return {(x.mv(weight_) - y).square().mean(), {}};
  }
  std::vector<torch::Tensor> own_gradients() override { return {weight_.grad()}; }
  void step(double lr, double /*weight_decay*/, double momentum, double gradient_scale) override {
    const torch::NoGradGuard no_grad;
    momentum_.mul_(momentum).add_(weight_.grad(), gradient_scale);
    weight_.sub_(momentum_, lr);
  }
  void release_gradients() override { weight_.mutable_grad().reset(); }

 private:
  torch::Tensor weight_, momentum_;
};
LossCase copies_case() {
  LossCase one;
  one.name = "own-copies";
  return one;
}

/// Steps of two batches each, with momentum, decay and clipping. Losses, norms, the last embeddings' gradient
/// (at rank 0 of all), and what the model then has.
StateDict numbers_of(EmbeddingTask& task, const std::shared_ptr<ProcessGroup>& group) {
  Json config = toy_config();
  config["optimizer"]["name"] = "sgd";
  config["optimizer"]["lr"] = 0.05;
  config["optimizer"]["weight_decay"] = 1e-3;
  config["trainer"]["clip_norm"] = 0.5;
  task.join(group);
  TrainingStep step(task, config, torch::kCPU, group);
  const RowCuts cuts(step.tensors().shard, group);
  torch::manual_seed(5 + (group == nullptr ? 0 : group->rank()));
  std::vector<double> losses, norms;
  for (int64_t i = 0; i < kRankSteps; ++i) {
    std::vector<std::unique_ptr<Batch>> batches;
    for (int64_t k = 0; k < 2; ++k) batches.push_back(task.part_of(2 * i + k));
    const StepResult result = step.run(batches, 1);
    EXPECT_EQ(result.samples, 2 * kRankBatch);
    losses.insert(losses.end(), result.losses.begin(), result.losses.end());
    norms.push_back(result.gradient_norm);
  }
  StateDict found;
  found.tensors = {{"losses", torch::tensor(losses, torch::kDouble)},
                   {"norms", torch::tensor(norms, torch::kDouble)},
                   {"gradient", group == nullptr ? task.gradient : group->gather(task.gradient)}};
  const ModelTensors& tensors = step.tensors();
  for (const NamedTensors* list :
       {&tensors.parameters, &tensors.buffers, &tensors.own_weights, &tensors.own_state}) {
    const std::string prefix = list == &tensors.own_state ? "momentum." : "";
    for (const auto& [name, tensor] : *list) {
      found.tensors.emplace_back(prefix + name, cuts.whole(name, tensor.detach()).clone());
    }
  }
  return found;
}

std::string results_path(const std::string& folder, const LossCase& one, int64_t rank) {
  return join_path(folder, one.name + "." + std::to_string(rank) + ".safetensors");
}

/// One of the two processes; its numbers go into files.
TEST(ProcessGroupRank, DISABLED_Steps) {
  const std::shared_ptr<ProcessGroup> group = join_processes(process_options());
  ASSERT_NE(group, nullptr);
  std::vector<LossCase> cases = whole_cases();
  for (const LossCase& one : sampled_cases()) cases.push_back(one);
  for (const LossCase& one : cases) {
    EmbeddingTask task(one);
    save_safetensors(results_path(std::getenv("ZOO_TEST_FOLDER"), one, group->rank()),
                     numbers_of(task, group));
  }
  EmbeddingTask task(copies_case());
  task.face_loss = std::make_shared<OwnCopies>();
  save_safetensors(results_path(std::getenv("ZOO_TEST_FOLDER"), copies_case(), group->rank()),
                   numbers_of(task, group));
}

/// Largest difference over the largest value.
double relative_difference(const torch::Tensor& ours, const torch::Tensor& theirs) {
  const double scale = std::max(1e-30, theirs.to(torch::kDouble).abs().max().item<double>());
  return (ours - theirs).to(torch::kDouble).abs().max().item<double>() / scale;
}

/// The two processes' files, made once.
class ProcessGroups : public testing::Test {
 protected:
  static void SetUpTestSuite() {
    if (!has_process_groups()) return;
    folder_ = scratch_dir("ranks");
    TwoRanks two({"/proc/self/exe", "--gtest_filter=ProcessGroupRank.*", "--gtest_also_run_disabled_tests"},
                 folder_, {"ZOO_TEST_FOLDER=" + folder_});
    for (size_t rank = 0; rank < 2; ++rank) EXPECT_EQ(two.rank(rank).wait(), 0) << two.output();
  }
  void SetUp() override {
    if (!has_process_groups()) GTEST_SKIP() << "built without gloo's headers";
  }

  static void expect_like_one(const LossCase& one, EmbeddingTask& alone) {
    SCOPED_TRACE(one.name);
    const StateDict first = load_tensors(results_path(folder_, one, 0)),
                    second = load_tensors(results_path(folder_, one, 1));
    const StateDict whole = numbers_of(alone, nullptr);
    for (const auto& [name, tensor] : whole.tensors) {
      const torch::Tensor* found = first.find(name);
      ASSERT_NE(found, nullptr) << name;
      ASSERT_EQ(found->sizes(), tensor.sizes()) << name;
      EXPECT_LE(relative_difference(*found, tensor), 1e-5) << name;
      const torch::Tensor& copy = *second.find(name);
      if (copy.sizes() == found->sizes()) {
        EXPECT_TRUE(copy.equal(*found)) << name << " of rank 1";
      } else {
        EXPECT_EQ(copy.size(0), ClassShard::of(kRankClasses, 1, 2).count) << name << " of rank 1";
      }
    }
  }

  static inline std::string folder_;
};

TEST_F(ProcessGroups, EveryLossStepsAsInOne) {
  for (const LossCase& one : whole_cases()) {
    EmbeddingTask alone(one);
    expect_like_one(one, alone);
  }
}

TEST_F(ProcessGroups, SampledClassesStepAsTheUnionOfTheSamplesInOne) {
  for (const LossCase& one : sampled_cases()) {
    EmbeddingTask alone(one);
    alone.face_loss = std::make_shared<SampledByTwo>();
    expect_like_one(one, alone);
  }
}

TEST_F(ProcessGroups, OwnWeightsThatAllHaveStepAsInOne) {
  EmbeddingTask alone(copies_case());
  alone.face_loss = std::make_shared<OwnCopies>();
  expect_like_one(copies_case(), alone);
}

/// The variables of two processes, with some of them changed.
std::string variables_error(const std::map<std::string, std::string>& changed) {
  const std::map<std::string, std::string> usual = {
      {"WORLD_SIZE", "2"}, {"RANK", "1"}, {"MASTER_ADDR", "localhost"}, {"MASTER_PORT", "29500"}};
  for (const auto& [name, value] : usual) setenv(name.c_str(), value.c_str(), 1);
  for (const auto& [name, value] : changed) setenv(name.c_str(), value.c_str(), 1);
  const std::string message = error_of([] { process_options(); });
  for (const auto& item : usual) unsetenv(item.first.c_str());
  return message;
}

TEST(ProcessGroupVariables, AreNamedWhereTheyAreWrong) {
  EXPECT_EQ(variables_error({}), "");
  EXPECT_EQ(variables_error({{"WORLD_SIZE", ""}, {"RANK", "x"}}), "");
  EXPECT_EQ(variables_error({{"WORLD_SIZE", "1"}, {"MASTER_PORT", "x"}}), "");
  for (const char* size : {"two", "0", "-2", "2.5"}) {
    EXPECT_THAT(variables_error({{"WORLD_SIZE", size}}), HasSubstr(std::string("WORLD_SIZE=") + size));
  }
  EXPECT_THAT(variables_error({{"RANK", ""}}), HasSubstr("RANK is not set"));
  EXPECT_THAT(variables_error({{"RANK", "2"}}), HasSubstr("RANK=2, expected a whole number in 0..1"));
  EXPECT_THAT(variables_error({{"MASTER_ADDR", ""}}), HasSubstr("MASTER_ADDR is not set"));
  EXPECT_THAT(variables_error({{"MASTER_PORT", ""}}), HasSubstr("MASTER_PORT is not set"));
  EXPECT_THAT(variables_error({{"MASTER_PORT", "99999"}}), HasSubstr("expected a whole number in 1..65535"));
}

TEST(ProcessGroupVariables, SayWhereAProcessStands) {
  EXPECT_EQ(process_options().ranks, 1);
  EXPECT_EQ(join_processes(process_options()), nullptr);
  setenv("WORLD_SIZE", "3", 1), setenv("RANK", "2", 1), setenv("MASTER_ADDR", "host", 1);
  setenv("MASTER_PORT", "1234", 1);
  const ProcessOptions options = process_options();
  for (const char* name : {"WORLD_SIZE", "RANK", "MASTER_ADDR", "MASTER_PORT"}) unsetenv(name);
  EXPECT_EQ(options.ranks, 3);
  EXPECT_EQ(options.rank, 2);
  EXPECT_EQ(options.address, "host");
  EXPECT_EQ(options.port, 1234);
}

}  // namespace
}  // namespace zoo::test
