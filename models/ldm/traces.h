#pragma once
#include <string>
#include <utility>
#include <vector>

#include "models/export/trace.h"
#include "models/ldm/ldm.h"

namespace zoo {

/// The four networks that export writes, each a file of this name:
///   text_encoder  ids [B,L] int64 -> states [B,L,W]
///   unet          latents [B,C,h,w], timesteps [B], states [B,L,W] -> prediction [B,C,h,w]
///   vae_encoder   images [B,3,H,W] -> moments [B,2C,H/f,W/f]
///   vae_decoder   latents [B,C,h,w] -> images [B,3,h·f,w·f]; not scaled: divided by the scaling factor
/// before Examples are small and differ in size and batch; latents also where no level halves evenly.
std::vector<std::pair<std::string, TraceSpec>> ldm_trace_specs(const Ldm& ldm);

/// The UNet as a sampler calls it, which has each cross-attention's keys and values already (UNetImpl::forward_with):
/// latents, timesteps, then their keys and values in turn -> prediction.
TraceSpec denoiser_trace_spec(const Ldm& ldm);
std::vector<torch::Tensor> denoiser_inputs(const torch::Tensor& latents, const torch::Tensor& timesteps,
                                           const UNetContext& context);
/// The autoencoder's decoder, as in the file vae_decoder.
TraceSpec decoder_trace_spec(const Ldm& ldm);

}  // namespace zoo
