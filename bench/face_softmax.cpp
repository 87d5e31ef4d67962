// One engine of bench/face_softmax.py: steps of a softmax over very many classes, as `zoo train` makes them.
//
//   face_softmax MODE CLASSES STEPS THREADS     MODE: plain | chunked | sampled
//
// Prints {"seconds": [...], "peak_bytes", "base_bytes", "state_bytes"}: seconds of each step after the first,
// peak memory of the process, its memory before the loss was made, bytes of class weights, gradient and
// momentum.
#include <chrono>
#include <iostream>
#include <string>

#include <ATen/Parallel.h>
#include <torch/torch.h>

#include "core/error.h"
#include "core/options.h"
#include "models/face_losses/face_loss.h"
#include "trainers/device.h"
#include "trainers/task.h"
#include "trainers/training_step.h"

namespace zoo {
namespace {

constexpr int64_t kBatch = 128, kSize = 512;
constexpr double kSampleRate = 0.1;

struct VectorBatch : Batch {
  torch::Tensor x, labels;  ///< [B,512], [B]
};

/// A linear layer as the network: the step is all but the softmax's.
class SoftmaxTask : public Task {
 public:
  SoftmaxTask(const std::string& mode, int64_t classes)
      : net_(torch::nn::LinearOptions(kSize, kSize).bias(false)) {
    FaceLossOptions options;
    options.name = "cosface";
    if (mode == "plain") options.classes.chunk_bytes = 0;
    if (mode == "sampled") options.classes.sample_rate = kSampleRate;
    loss_ = make_face_loss(options, kSize, classes, 1);
  }
  torch::nn::Module& module() override { return *net_; }
  std::shared_ptr<torch::nn::Module> shared_module() override { return net_.ptr(); }
  std::shared_ptr<LossModule> loss_module() override { return loss_; }
  std::vector<ParameterGroup> parameter_groups(const OptimizerOptions& options) override {
    ParameterGroup all{"all", {{"weight", net_->weight}}, options.lr, options.weight_decay};
    for (const auto& item : loss_->named_parameters())
      all.parameters.emplace_back("loss." + item.key(), item.value());
    return {all};
  }
  LossTerms loss(const Batch& batch, torch::Device) override {
    const auto& vectors = dynamic_cast<const VectorBatch&>(batch);
    return loss_->forward(net_->forward(vectors.x), vectors.labels);
  }
  int64_t class_bytes() const {
    int64_t bytes = 0;
    for (const auto& item : loss_->named_parameters())
      bytes += 3 * static_cast<int64_t>(item.value().nbytes());
    for (const auto& item : loss_->named_buffers()) bytes += static_cast<int64_t>(item.value().nbytes());
    return bytes;
  }

  BatchSource& training_batches() override { throw Error("the benchmark makes its batches itself"); }
  Json evaluate(torch::Device, const std::function<void(int64_t, int64_t)>&) override { return {}; }
  std::string best_metric() const override { return ""; }
  std::vector<Preview> previews(int64_t, torch::Device) override { return {}; }
  TraceSpec trace_spec() override { return {}; }
  std::vector<torch::Tensor> example_inputs(int64_t, std::pair<int64_t, int64_t>) const override {
    return {};
  }
  std::pair<int64_t, int64_t> default_input_size() const override { return {1, kSize}; }
  std::map<std::string, std::string> weight_metadata() const override { return {}; }
  std::vector<std::pair<std::string, std::string>> describe(const Batch&) const override { return {}; }

 private:
  torch::nn::Linear net_;
  std::shared_ptr<FaceLossImpl> loss_;
};

std::vector<std::unique_ptr<Batch>> random_batch(int64_t classes) {
  auto batch = std::make_unique<VectorBatch>();
  batch->x = torch::randn({kBatch, kSize});
  batch->labels = torch::randint(classes, {kBatch});
  batch->ids.resize(kBatch);
  std::vector<std::unique_ptr<Batch>> batches;
  batches.push_back(std::move(batch));
  return batches;
}

Json training_config() {
  OptimizerOptions optimizer;
  optimizer.name = "sgd";
  optimizer.lr = 0.1;
  optimizer.weight_decay = 5e-4;
  TrainerOptions trainer;
  trainer.clip_norm = 5;
  trainer.device = "cpu";
  return {{"optimizer", optimizer}, {"trainer", trainer}};
}

Json measure(const std::string& mode, int64_t classes, int steps) {
  torch::manual_seed(0);
  random_batch(classes);
  const int64_t base = peak_resident_memory();
  SoftmaxTask task(mode, classes);
  TrainingStep step(task, training_config(), torch::kCPU);
  std::vector<double> seconds;
  for (int i = 0; i <= steps; ++i) {
    const auto batches = random_batch(classes);
    const auto begin = std::chrono::steady_clock::now();
    step.run(batches, 1.0);
    seconds.push_back(std::chrono::duration<double>(std::chrono::steady_clock::now() - begin).count());
  }
  seconds.erase(seconds.begin());
  return {{"seconds", seconds},
          {"peak_bytes", peak_resident_memory()},
          {"base_bytes", base},
          {"state_bytes", task.class_bytes()}};
}

}  // namespace
}  // namespace zoo

int main(int argc, char** argv) {
  try {
    if (argc != 5) throw zoo::UsageError("face_softmax: expected MODE CLASSES STEPS THREADS");
    zoo::require_choice("MODE", argv[1], {"plain", "chunked", "sampled"});
    at::set_num_threads(std::stoi(argv[4]));
    std::cout << zoo::measure(argv[1], std::stoll(argv[2]), std::stoi(argv[3])).dump() << std::endl;
    return 0;
  } catch (const zoo::Error& error) {
    std::cerr << "error: " << error.what() << std::endl;
    return error.exit_code();
  }
}
