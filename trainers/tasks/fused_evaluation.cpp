#include "trainers/tasks/fused_evaluation.h"

#include "core/log.h"
#include "models/layers/channels_last.h"
#include "models/precision.h"

namespace zoo {

namespace {

/// Tracing, fusing and checking cost a few forward passes.
constexpr int64_t kBatchesToFuseFor = 64;

}  // namespace

FusedEvaluation::FusedEvaluation(const Json& config, Purpose purpose)
    : frozen_(purpose != Purpose::training) {
  if (frozen_) precision_ = precision_type(config.at("trainer").at("precision"));
}

void FusedEvaluation::start(const TraceSpec& spec, int64_t batches, torch::Device device) {
  const bool bf16 = precision_ == torch::kBFloat16;
  if (!frozen_ || !device.is_cpu() || (!bf16 && batches < kBatchesToFuseFor)) return;
  runtime_ = std::make_unique<Runtime>(spec, RuntimeOptions{bf16 ? "bf16" : "fp32"});
}

void FusedEvaluation::stop() {
  if (runtime_ != nullptr && !runtime_->fallback().empty())
    log_warning("evaluation runs slower: " + runtime_->fallback());
  runtime_.reset();
}

void FusedEvaluation::lay_out(torch::nn::Module& module, torch::Device device) {
  if (frozen_ && !laid_out_ && device.is_cpu()) use_channels_last(module);
  laid_out_ = true;
}

}  // namespace zoo
