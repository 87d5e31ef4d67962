#include "trainers/tasks/fused_evaluation.h"

#include "core/log.h"
#include "models/layers/channels_last.h"
#include "models/precision.h"

namespace zoo {

namespace {

/// Tracing, fusing and checking cost a few forward passes.
constexpr int64_t kBatchesToFuseFor = 64;

}  // namespace

FusedEvaluation::FusedEvaluation(const Json& config, Purpose purpose) : purpose_(purpose) {
  if (purpose_ != Purpose::training) precision_ = precision_type(config.at("trainer").at("precision"));
}

void FusedEvaluation::start(const TraceSpec& spec, int64_t batches, torch::Device device) {
  const bool bf16 = precision_ == torch::kBFloat16;
  if (purpose_ == Purpose::training || !device.is_cpu() || (!bf16 && batches < kBatchesToFuseFor)) return;
  runtime_ = std::make_unique<Runtime>(spec, RuntimeOptions{bf16 ? "bf16" : "fp32"});
}

void FusedEvaluation::count_pass(const std::function<TraceSpec()>& spec, torch::Device device) {
  if (purpose_ == Purpose::inference && !running() && passes_++ == kBatchesToFuseFor)
    start(spec(), kBatchesToFuseFor, device);
}

std::vector<torch::Tensor> FusedEvaluation::run(const std::vector<torch::Tensor>& inputs) {
  auto outputs = runtime_->run(inputs);
  if (!told_ && !runtime_->fallback().empty()) {
    log_warning("runs slower than it could: " + runtime_->fallback());
    told_ = true;
  }
  return outputs;
}

void FusedEvaluation::lay_out(torch::nn::Module& module, torch::Device device) {
  if (purpose_ != Purpose::training && !laid_out_ && device.is_cpu()) use_channels_last(module);
  laid_out_ = true;
}

}  // namespace zoo
