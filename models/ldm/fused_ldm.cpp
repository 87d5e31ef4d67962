#include "models/ldm/fused_ldm.h"

#include <torch/torch.h>

#include "models/ldm/traces.h"

namespace zoo {

namespace {

std::unique_ptr<Runtime> fused(TraceSpec spec, const std::string& precision) {
  RuntimeOptions options;
  options.precision = precision;
  options.probe = spec.example(0);
  return std::make_unique<Runtime>(std::move(spec), options);
}

}  // namespace

FusedLdm::FusedLdm(Ldm ldm, std::string precision) : ldm_(std::move(ldm)), precision_(std::move(precision)) {}

torch::Tensor FusedLdm::denoise(const torch::Tensor& latents, const torch::Tensor& timesteps,
                                const UNetContext& context) {
  if (denoiser_ == nullptr) denoiser_ = fused(denoiser_trace_spec(ldm_), precision_);
  return denoiser_->run(denoiser_inputs(latents, timesteps, context)).front();
}

torch::Tensor FusedLdm::decode(const torch::Tensor& latents) {
  if (decoder_ == nullptr) decoder_ = fused(decoder_trace_spec(ldm_), precision_);
  return decoder_->run({latents / ldm_->known_scaling_factor()}).front();
}

std::string FusedLdm::fallback() const {
  for (const auto* program : {&denoiser_, &decoder_}) {
    if (*program != nullptr && !(*program)->fallback().empty()) return (*program)->fallback();
  }
  return "";
}

}  // namespace zoo
