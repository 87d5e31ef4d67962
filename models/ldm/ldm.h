#pragma once
#include <string>

#include <torch/nn/module.h>
#include <torch/types.h>

#include "core/options.h"
#include "models/autoencoder/autoencoder.h"
#include "models/clip_text/clip_text.h"
#include "models/diffusion/noise_schedule.h"
#include "models/ldm/lora.h"
#include "models/unet/unet.h"

namespace zoo {

/// Latent diffusion, "High-Resolution Image Synthesis with Latent Diffusion Models", Rombach et al. 2022
/// (arXiv 2112.10752): a denoiser of an autoencoder's latents that reads a prompt through a text encoder.
/// Defaults are those of Stable Diffusion 1.
struct LdmOptions {
  UNetOptions unet;
  AutoencoderOptions autoencoder;
  ClipTextOptions text_encoder;
  SchedulerOptions scheduler;
  LoraOptions lora;  ///< adapters that the model is made with
  /// Run or weight file whose autoencoder training of the denoiser starts from; empty: the one that is there.
  std::string autoencoder_weights;

  /// Throws UsageError naming the key, its value and the range; checks that the parts fit each other.
  void validate() const;
};
NLOHMANN_DEFINE_TYPE_NON_INTRUSIVE(LdmOptions, unet, autoencoder, text_encoder, scheduler, lora,
                                   autoencoder_weights)

/// Stable Diffusion 1.5: 859,520,964 + 83,653,863 + 123,060,480 parameters, pictures of 512 pixels.
LdmOptions sd15();
/// Stable Diffusion 2.1: OpenCLIP's text tower, linear projections, heads of 64 channels, predicts v, 768
/// pixels.
LdmOptions sd21();
/// For pictures of 64 pixels: latents of 16x16, a text encoder of two layers that is trained with the
/// denoiser. Its vocabulary comes from the tokenizer.
LdmOptions ldm_tiny();

/// Parameters have diffusers' names below `unet.`, `vae.` and `text_encoder.`.
class LdmImpl : public torch::nn::Module {
 public:
  /// Throws UsageError as LdmOptions::validate, and where the vocabulary is 0.
  explicit LdmImpl(const LdmOptions& options);

  /// ids [B,L] int64 -> states [B,L,W] for the UNet.
  torch::Tensor encode_text(const torch::Tensor& ids, int64_t clip_skip = 0);
  /// images [B,3,H,W] in −1…1 -> latents [B,C,H/f,W/f] as the UNet sees them: drawn with `noise` (undefined:
  /// the mean), times the scaling factor. Throws Error where that is not known yet.
  torch::Tensor encode(const torch::Tensor& images, const torch::Tensor& noise = {});
  /// The way back -> images [B,3,H,W], about −1…1.
  torch::Tensor decode(const torch::Tensor& latents);

  /// AutoencoderOptions::scaling_factor, 0 while it is to be measured.
  double scaling_factor() const { return options.autoencoder.scaling_factor; }
  void set_scaling_factor(double factor);
  double known_scaling_factor() const;  ///< throws Error while it is not known

  LdmOptions options;
  UNet unet{nullptr};
  Autoencoder vae{nullptr};
  ClipText text_encoder{nullptr};
};
TORCH_MODULE(Ldm);

}  // namespace zoo
