#pragma once
#include <functional>
#include <limits>
#include <memory>
#include <string>
#include <vector>

#include <ATen/Parallel.h>
#include <torch/torch.h>

#include "core/random.h"
#include "datasets/batch.h"
#include "trainers/task.h"

namespace zoo::test {

/// A regression that ends in milliseconds: y = |sum of eight inputs|, by a net with dropout and batch
/// norm.
struct ToyNetImpl : torch::nn::Module {
  ToyNetImpl() {
    backbone = register_module("backbone", torch::nn::Linear(8, 16));
    norm = register_module("norm", torch::nn::BatchNorm1d(16));
    dropout = register_module("dropout", torch::nn::Dropout(0.2));
    head = register_module("head", torch::nn::Linear(16, 1));
  }
  torch::Tensor forward(torch::Tensor x) {  // [B,8]
    if (plain) return head(torch::relu(backbone(x))).squeeze(1);
    x = dropout(torch::relu(norm(backbone(x))));  // [B,16]
    return head(x).squeeze(1);                    // [B]
  }
  bool plain = false;  ///< neither dropout nor batch norm
  torch::nn::Linear backbone{nullptr}, head{nullptr};
  torch::nn::BatchNorm1d norm{nullptr};
  torch::nn::Dropout dropout{nullptr};
};
TORCH_MODULE(ToyNet);

struct ToyBatch : Batch {
  torch::Tensor x, y;  ///< [B,8], [B]
  int64_t epoch = 0, index = 0;
};

/// Batches made from (epoch, index) alone.
class ToySource : public BatchSource {
 public:
  ToySource(int64_t batches, int64_t batch_size) : batches_(batches), batch_size_(batch_size) {}
  int64_t batches_per_epoch() const override { return batches_; }
  int64_t samples() const override { return batches_ * batch_size_; }
  void start_epoch(int64_t epoch, int64_t first_batch) override { epoch_ = epoch, next_ = first_batch; }
  std::unique_ptr<Batch> next() override {
    if (next_ >= batches_ - missing) return nullptr;
    auto batch = make(static_cast<uint64_t>(epoch_), next_++);
    if (on_batch) on_batch(*batch);
    return batch;
  }
  std::unique_ptr<ToyBatch> make(uint64_t epoch, int64_t index) const {
    auto batch = std::make_unique<ToyBatch>();
    batch->epoch = static_cast<int64_t>(epoch), batch->index = index;
    RandomStream random{7, epoch, static_cast<uint64_t>(index)};
    batch->x = torch::empty({batch_size_, 8});
    for (int64_t i = 0; i < batch->x.numel(); ++i)
      batch->x.data_ptr<float>()[i] = static_cast<float>(random.normal());
    batch->y = batch->x.sum(1).abs();
    for (int64_t i = 0; i < batch_size_; ++i)
      batch->ids.push_back(std::to_string(index) + "-" + std::to_string(i));
    return batch;
  }

  std::function<void(ToyBatch&)> on_batch;
  int64_t missing = 0;  ///< batches that an epoch ends too early

 private:
  int64_t batches_, batch_size_, epoch_ = 0, next_ = 0;
};

class ToyTask : public Task {
 public:
  explicit ToyTask(int64_t batches = 10, int64_t batch_size = 16) : source(batches, batch_size) {
    at::set_num_threads(1);  // so small a net gains nothing from more
    torch::manual_seed(3);
    net = ToyNet();
  }
  torch::nn::Module& module() override { return *net; }
  std::shared_ptr<torch::nn::Module> shared_module() override { return net.ptr(); }
  std::vector<ParameterGroup> parameter_groups(const OptimizerOptions& options) override {
    ParameterGroup head{"head", {}, options.lr, options.weight_decay};
    ParameterGroup backbone{"backbone", {}, options.backbone_lr, 0};
    for (const auto& item : net->named_parameters()) {
      (item.key().find("backbone") == 0 ? backbone : head).parameters.emplace_back(item.key(), item.value());
    }
    return {head, backbone};
  }
  BatchSource& training_batches() override { return source; }
  LossTerms loss(const Batch& batch, torch::Device device) override {
    const auto& toy = dynamic_cast<const ToyBatch&>(batch);
    ++losses;
    if (on_loss) on_loss(losses);
    const torch::Tensor error = net->forward(toy.x.to(device)).to(torch::kFloat) - toy.y.to(device);
    const torch::Tensor square = error.pow(2).mean(), absolute = error.abs().mean();
    return {square + 0.1 * absolute, {{"square", square.detach()}, {"absolute", absolute.detach()}}};
  }
  Json evaluate(torch::Device device, const std::function<void(int64_t, int64_t)>& progress) override {
    ++evaluations;
    double sum = 0;
    for (int64_t i = 0; i < 4; ++i) {
      const auto batch = source.make(1000, i);
      sum += (net->forward(batch->x.to(device)) - batch->y.to(device)).pow(2).mean().item<double>();
      if (on_evaluate) on_evaluate(i);
      progress(i + 1, 4);
    }
    torch::rand({3});  // evaluations of other tasks draw numbers too
    if (fixed_error) return {{"error", fixed_error(evaluations)}, {"accuracy", nullptr}, {"name", "toy"}};
    return {{"error", sum / 4}, {"accuracy", nullptr}, {"name", "toy"}};
  }
  std::string best_metric() const override { return "-error"; }
  std::vector<Preview> previews(int64_t, torch::Device) override {
    return {{"toy", cv::Mat(8, 8, CV_8UC3, cv::Scalar(200, 100, 50))}};
  }
  TraceSpec trace_spec() override { return {}; }
  std::vector<torch::Tensor> example_inputs(int64_t, std::pair<int64_t, int64_t>) const override {
    return {};
  }
  std::pair<int64_t, int64_t> default_input_size() const override { return {1, 8}; }
  std::map<std::string, std::string> weight_metadata() const override { return {{"zoo.categories", "[]"}}; }
  std::vector<std::pair<std::string, std::string>> describe(const Batch& batch) const override {
    return {{"x", c10::str(dynamic_cast<const ToyBatch&>(batch).x.sizes())}};
  }

  ToySource source;
  ToyNet net{nullptr};
  int64_t losses = 0, evaluations = 0;
  std::function<void(int64_t)> on_loss, on_evaluate;
  std::function<double(int64_t)> fixed_error;  ///< of evaluation 1, 2, …
};

/// Sections that every run has; short runs without schedule.
inline Json toy_config() {
  Json config = {{"model", {{"name", "toy"}}},    {"data", Json::object()},
                 {"loss", Json::object()},        {"optimizer", OptimizerOptions()},
                 {"schedule", ScheduleOptions()}, {"trainer", TrainerOptions()},
                 {"eval", Json::object()},        {"verify", Json::object()}};
  config["optimizer"]["lr"] = 1e-2;
  config["optimizer"]["backbone_lr"] = 5e-3;
  config["trainer"]["epochs"] = 3;
  config["trainer"]["clip_norm"] = 1.0;
  config["trainer"]["log_every"] = 4;
  config["trainer"]["device"] = "cpu";
  return config;
}

}  // namespace zoo::test
