#pragma once
#include <string>
#include <vector>

#include <torch/nn/module.h>
#include <torch/nn/modules/container/modulelist.h>
#include <torch/nn/modules/conv.h>
#include <torch/nn/modules/embedding.h>
#include <torch/nn/modules/linear.h>
#include <torch/nn/modules/normalization.h>
#include <torch/types.h>

#include "core/options.h"
#include "models/layers/residual.h"

namespace zoo {

/// The autoencoder of latent diffusion, Rombach et al. 2022 (arXiv 2112.10752), section 3.1 and appendix G.
/// Keys are those of diffusers' config.json of an AutoencoderKL or VQModel; defaults are Stable Diffusion
/// 1's.
struct AutoencoderOptions {
  std::string kind = "kl";  ///< kl: latents are drawn from a normal distribution | vq: taken from a codebook
  int64_t in_channels = 3;
  int64_t out_channels = 3;
  std::vector<int64_t> block_out_channels = {128, 256, 512,
                                             512};  ///< of the levels; each but the last halves
  int64_t layers_per_block = 2;                     ///< residual blocks of a level, one more in the decoder
  int64_t latent_channels = 4;
  int64_t norm_num_groups = 32;
  bool mid_block_add_attention = true;
  int64_t num_vq_embeddings = 256;  ///< entries of the codebook, for vq
  int64_t sample_size = 512;        ///< side of the pictures it was trained on; others work
  /// The denoiser sees latents times this, so that their deviation is about 1; 0: measured on the first batch
  /// of its training and stored.
  double scaling_factor = 0.18215;

  /// Throws UsageError naming `prefix` and key, its value and the range.
  void validate(const std::string& prefix = "model.autoencoder.") const;
  /// Pixels of a latent's side: 8 for Stable Diffusion. Pictures must be multiples of it.
  int64_t factor() const;
};
NLOHMANN_DEFINE_TYPE_NON_INTRUSIVE(AutoencoderOptions, kind, in_channels, out_channels, block_out_channels,
                                   layers_per_block, latent_channels, norm_num_groups,
                                   mid_block_add_attention, num_vq_embeddings, sample_size, scaling_factor)

/// Mean and logarithm of the variance of latents, as `encode` gives them one below the other.
struct Posterior {
  torch::Tensor mean, logvar;  ///< each [B,C,h,w]; logvar held in −30…20
};
Posterior posterior_of(const torch::Tensor& moments);  ///< [B,2C,h,w]
/// μ + e^{lv/2}·noise; noise [B,C,h,w], undefined: the mean.
torch::Tensor posterior_sample(const torch::Tensor& moments, const torch::Tensor& noise);
/// Of each picture, to the standard normal: ½Σ(μ² + e^{lv} − 1 − lv) -> [B].
torch::Tensor posterior_kl(const torch::Tensor& moments);

/// Attention of one head among the cells of a map, added to it. Names as in diffusers.
class MapAttentionImpl : public torch::nn::Module {
 public:
  MapAttentionImpl(int64_t channels, int64_t groups);

  torch::Tensor forward(const torch::Tensor& x);  ///< [B,C,h,w] -> [B,C,h,w]

  torch::nn::GroupNorm group_norm{nullptr};
  torch::nn::Linear to_q{nullptr}, to_k{nullptr}, to_v{nullptr};
  torch::nn::ModuleList to_out;
};
TORCH_MODULE(MapAttention);

/// Residual block, attention (by the option), residual block.
class AutoencoderMidBlockImpl : public torch::nn::Module {
 public:
  explicit AutoencoderMidBlockImpl(const AutoencoderOptions& options);

  torch::Tensor forward(torch::Tensor x);  ///< [B,C,h,w] -> [B,C,h,w]

  torch::nn::ModuleList attentions, resnets;
};
TORCH_MODULE(AutoencoderMidBlock);

/// A level of encoder (`resnets`, `downsamplers`) or decoder (`resnets`, `upsamplers`).
class AutoencoderBlockImpl : public torch::nn::Module {
 public:
  enum class Way { kDown, kUp };
  /// `resampled`: ends in a Downsample or Upsample.
  AutoencoderBlockImpl(const AutoencoderOptions& options, Way way, int64_t in, int64_t out, bool resampled);

  torch::Tensor forward(torch::Tensor x);

  torch::nn::ModuleList resnets, samplers;

 private:
  Way way_;
};
TORCH_MODULE(AutoencoderBlock);

class AutoencoderEncoderImpl : public torch::nn::Module {
 public:
  explicit AutoencoderEncoderImpl(const AutoencoderOptions& options);

  torch::Tensor forward(torch::Tensor x);  ///< images [B,3,H,W] -> [B,2C (vq: C),H/f,W/f]

  torch::nn::Conv2d conv_in{nullptr};
  torch::nn::ModuleList down_blocks;
  AutoencoderMidBlock mid_block{nullptr};
  torch::nn::GroupNorm conv_norm_out{nullptr};
  torch::nn::Conv2d conv_out{nullptr};
};
TORCH_MODULE(AutoencoderEncoder);

class AutoencoderDecoderImpl : public torch::nn::Module {
 public:
  explicit AutoencoderDecoderImpl(const AutoencoderOptions& options);

  torch::Tensor forward(torch::Tensor x);  ///< [B,C,h,w] -> [B,3,h·f,w·f]

  torch::nn::Conv2d conv_in{nullptr};
  AutoencoderMidBlock mid_block{nullptr};
  torch::nn::ModuleList up_blocks;
  torch::nn::GroupNorm conv_norm_out{nullptr};
  torch::nn::Conv2d conv_out{nullptr};
};
TORCH_MODULE(AutoencoderDecoder);

/// What a codebook makes of latents.
struct Quantised {
  torch::Tensor latents;  ///< [B,C,h,w] nearest entries; the gradient passes to the input unchanged
  torch::Tensor indices;  ///< [B,h,w] int64
  torch::Tensor loss;     ///< [] mean (sg(z) − e)² + β·mean (z − sg(e))², equation 3
};

/// The codebook of van den Oord et al. 2017 (arXiv 1711.00937), `embedding.weight` [K,C].
class VectorQuantizerImpl : public torch::nn::Module {
 public:
  VectorQuantizerImpl(int64_t entries, int64_t channels);

  /// `commitment`: β, how strongly the encoder is pulled to the entries.
  Quantised forward(const torch::Tensor& latents, double commitment = 0.25);

  torch::nn::Embedding embedding{nullptr};
};
TORCH_MODULE(VectorQuantizer);

/// Parameters have the names of diffusers' AutoencoderKL (VQModel for vq).
class AutoencoderImpl : public torch::nn::Module {
 public:
  /// Throws UsageError as AutoencoderOptions::validate.
  explicit AutoencoderImpl(const AutoencoderOptions& options);

  /// images [B,3,H,W] in −1…1 -> moments [B,2C,H/f,W/f] (see posterior_of); vq: latents [B,C,H/f,W/f] before
  /// the codebook. Sides that are no multiples of f lose their last pixels. Throws Error for other shapes.
  torch::Tensor encode(const torch::Tensor& images);
  /// Latents of images as `decode` takes them: drawn with `noise` [B,C,h,w], or the mean (undefined); vq:
  /// encode's.
  torch::Tensor latents_of(const torch::Tensor& images, const torch::Tensor& noise = {});
  /// latents [B,C,h,w], not scaled -> images [B,3,h·f,w·f], about −1…1; vq: through the codebook.
  torch::Tensor decode(const torch::Tensor& latents);
  /// The same without the codebook, for latents that are its entries.
  torch::Tensor decode_entries(const torch::Tensor& latents);

  AutoencoderOptions options;
  AutoencoderEncoder encoder{nullptr};
  AutoencoderDecoder decoder{nullptr};
  torch::nn::Conv2d quant_conv{nullptr}, post_quant_conv{nullptr};
  VectorQuantizer quantize{nullptr};  ///< of vq
};
TORCH_MODULE(Autoencoder);

}  // namespace zoo
