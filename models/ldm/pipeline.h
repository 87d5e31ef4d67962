#pragma once
#include <cstdint>
#include <functional>
#include <string>
#include <vector>

#include <torch/types.h>

#include "models/ldm/fused_ldm.h"
#include "models/ldm/ldm.h"

namespace zoo {

/// How pictures are made from prompts.
struct PictureOptions {
  std::string sampler;  ///< empty: model.scheduler.sampler
  int64_t steps = 50;
  double guidance_scale = 7.5;    ///< 1 and below: the prompt alone, at half the cost
  double guidance_rescale = 0;    ///< φ of guided(); 0.7 for models with zero terminal SNR
  int64_t height = 0, width = 0;  ///< pixels, multiples of the autoencoder's factor
  uint64_t seed = 0;              ///< picture i draws from seed + i
  double strength = 1;            ///< with a picture to start from: share of the steps that is done
  int64_t clip_skip = 0;          ///< layers of the text encoder that are left out at its end
};

/// What is painted. Pictures and masks are one for all or one each, of the options' size.
struct PictureRequest {
  torch::Tensor prompts;    ///< ids [B,L] int64
  torch::Tensor negatives;  ///< ids [B,L] of what guidance leads away from: an empty or a negative prompt
  torch::Tensor latents;    ///< [B,C,h,w] Gaussian noise to start from; undefined: drawn
  torch::Tensor
      image;  ///< [1 or B,3,H,W] in −1…1: image-to-image, and what inpainting keeps; undefined: none
  torch::Tensor mask;  ///< [1 or B,1,H,W] in 0…1, painted where ≥ 0.5; needs `image`; undefined: none
};

/// A step that was done. `clean` computes what the picture looks like so far, in latents [B,C,h,w].
struct PictureStep {
  int64_t done = 0, all = 0;  ///< calls of the denoiser
  std::function<torch::Tensor()> clean;
};
/// Called after every step; false stops the work.
using OnPictureStep = std::function<bool(const PictureStep&)>;

/// Latents [B,C,h,w] as the UNet has them, from a prompt, a picture, or a picture and a mask: a UNet of 9 channels is
/// shown mask and masked picture (section "inpainting" of Rombach et al. 2022), one of 4 has what is known put back after
/// every step. Text states, and each cross-attention's keys and values of them, are computed once; both halves of
/// guidance are one batch, the empty one first. Random numbers are drawn in diffusers' order, so that the same seeds
/// give the same pictures. Undefined where `on_step` stopped it. Gradients off, module in eval mode.
///
/// Throws UsageError for sizes that are no multiples of the factor, naming the nearest that are, and as make_sampler;
/// Error for tensors of other shapes, and a UNet of 9 channels without a mask.
/// `fused` runs the denoiser in the model's place.
torch::Tensor make_latents(LdmImpl& model, const PictureRequest& request, const PictureOptions& options,
                           const OnPictureStep& on_step = {}, FusedLdm* fused = nullptr);

/// Pictures [B,3,H,W] in 0…1 of latents, one at a time. `tile` > 0: in squares of `tile` latents that overlap by a
/// quarter and are blended there, so that memory does not grow with the picture; colours may drift a little between
/// tiles, whose norms see only themselves. `fused` runs the decoder in the model's place.
torch::Tensor decode_pictures(LdmImpl& model, const torch::Tensor& latents, int64_t tile = 0,
                              FusedLdm* fused = nullptr);

/// Throws UsageError naming the nearest multiples of `factor` where height or width is none.
void check_picture_size(int64_t height, int64_t width, int64_t factor);

/// Bytes that making B pictures needs at its peak, weights included: an estimate from the widest maps of UNet and
/// decoder. `fused_share`: of their weights' bytes, what a FusedLdm keeps beside them; 0 without one.
struct PictureMemory {
  double weights = 0, denoiser = 0, decoder = 0;
  double peak() const;
};
PictureMemory picture_memory(const LdmImpl& model, int64_t pictures, const PictureOptions& options,
                             int64_t tile, double fused_share = 0);

}  // namespace zoo
