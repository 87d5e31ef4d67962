#pragma once
#include <memory>
#include <string>

#include <torch/types.h>

#include "models/ldm/ldm.h"
#include "models/runtime/runtime.h"

namespace zoo {

/// What making pictures calls again and again, as programs fused for this CPU (models/runtime/): the denoiser and the
/// decoder. Each is made where it is first called, with weights of its own (half as large in bf16); the model's must
/// stay as they are. Programs are compared with the live modules on small inputs.
class FusedLdm {
 public:
  /// precision: fp32 | bf16
  FusedLdm(Ldm ldm, std::string precision);

  /// As UNetImpl::forward_with.
  torch::Tensor denoise(const torch::Tensor& latents, const torch::Tensor& timesteps,
                        const UNetContext& context);
  /// As LdmImpl::decode.
  torch::Tensor decode(const torch::Tensor& latents);

  /// Why it is not all as asked for; empty where it is.
  std::string fallback() const;

 private:
  Ldm ldm_;
  std::string precision_;
  std::unique_ptr<Runtime> denoiser_, decoder_;
};

}  // namespace zoo
