#pragma once
#include <string>
#include <vector>

#include <torch/nn/module.h>
#include <torch/nn/modules/container/modulelist.h>
#include <torch/nn/modules/conv.h>
#include <torch/nn/modules/linear.h>
#include <torch/nn/modules/normalization.h>
#include <torch/types.h>

#include "core/options.h"
#include "models/layers/residual.h"
#include "models/unet/transformer.h"

namespace zoo {

/// The denoiser of latent diffusion, Rombach et al. 2022 (arXiv 2112.10752), sections 3.2 and 3.3. Keys are
/// those of diffusers' config.json of a UNet2DConditionModel; defaults are Stable Diffusion 1's.
struct UNetOptions {
  int64_t sample_size = 64;  ///< side of the latents it was trained on; any size works
  int64_t in_channels = 4;   ///< 9 for inpainting: latents, mask, latents of the masked picture
  int64_t out_channels = 4;
  /// Levels, finest first: CrossAttnDownBlock2D with transformers, DownBlock2D without.
  std::vector<std::string> down_block_types = {"CrossAttnDownBlock2D", "CrossAttnDownBlock2D",
                                               "CrossAttnDownBlock2D", "DownBlock2D"};
  /// The way back, coarsest first: UpBlock2D | CrossAttnUpBlock2D.
  std::vector<std::string> up_block_types = {"UpBlock2D", "CrossAttnUpBlock2D", "CrossAttnUpBlock2D",
                                             "CrossAttnUpBlock2D"};
  std::vector<int64_t> block_out_channels = {320, 640, 1280, 1280};  ///< of the levels
  int64_t layers_per_block = 2;       ///< residual blocks of a level, one more on the way back
  int64_t cross_attention_dim = 768;  ///< of the text states
  /// The NUMBER of heads, which diffusers' configurations call so, of each level or of all (one entry).
  /// Stable Diffusion 2: 5, 10, 20, 20.
  std::vector<int64_t> attention_head_dim = {8};
  int64_t transformer_layers_per_block = 1;
  bool use_linear_projection = false;  ///< proj_in and proj_out are linear layers (Stable Diffusion 2)
  bool upcast_attention = false;       ///< attention in float32 in any precision (Stable Diffusion 2.1)
  int64_t norm_num_groups = 32;
  double norm_eps = 1e-5;       ///< of residual blocks and the last norm; transformers' are 1e-6
  bool flip_sin_to_cos = true;  ///< the time embedding's cosines first
  double freq_shift = 0;        ///< frequencies 10000^(−i/(d/2 − shift))
  double dropout = 0;           ///< in residual blocks

  /// Throws UsageError naming `prefix` and key, its value and the range.
  void validate(const std::string& prefix = "model.unet.") const;
  /// Heads of a level.
  int64_t heads_of(size_t level) const;
};
NLOHMANN_DEFINE_TYPE_NON_INTRUSIVE(UNetOptions, sample_size, in_channels, out_channels, down_block_types,
                                   up_block_types, block_out_channels, layers_per_block, cross_attention_dim,
                                   attention_head_dim, transformer_layers_per_block, use_linear_projection,
                                   upcast_attention, norm_num_groups, norm_eps, flip_sin_to_cos, freq_shift,
                                   dropout)

/// Keys and values of every cross-attention for one batch of text states, in the order in which forward meets
/// them: what a sampler computes once for all its steps.
struct UNetContext {
  std::vector<KeysValues> keys_values;  ///< each [B,L,width]
};

/// The sinusoid of times t [B], any number type, fractions too (Vaswani et al. 2017, section 3.5, cosines and
/// sines apart) -> [B,dim] float32.
torch::Tensor timestep_embedding(const torch::Tensor& timesteps, int64_t dim, bool flip_sin_to_cos,
                                 double freq_shift);

/// Linear, SiLU, linear.
class TimestepMlpImpl : public torch::nn::Module {
 public:
  TimestepMlpImpl(int64_t in, int64_t out);

  torch::Tensor forward(const torch::Tensor& x);  ///< [B,in] -> [B,out]

  torch::nn::Linear linear_1{nullptr}, linear_2{nullptr};
};
TORCH_MODULE(TimestepMlp);

/// Reads the pairs of a UNetContext one after another.
class ContextReader {
 public:
  explicit ContextReader(const UNetContext& context) : context_(context) {}
  const KeysValues& next() { return context_.keys_values.at(next_++); }

 private:
  const UNetContext& context_;
  size_t next_ = 0;
};

/// What the levels on both ways have in common.
struct UNetLevel {
  int64_t in = 0, out = 0;  ///< channels
  int64_t layers = 0;
  bool attention = false;  ///< a transformer after each residual block
  bool resampled = false;  ///< ends in a Downsample or Upsample
  int64_t heads = 1;
  std::vector<int64_t> skips;  ///< on the way back: channels that join before each residual block
};

/// A level on the way down: `resnets`, `attentions`, `downsamplers`.
class UNetDownBlockImpl : public torch::nn::Module {
 public:
  UNetDownBlockImpl(const UNetOptions& options, const UNetLevel& level);

  /// x [B,in,h,w], time [B,T]; gives every layer's output to `skips` and returns the last one.
  torch::Tensor forward(torch::Tensor x, const torch::Tensor& time, ContextReader& context,
                        std::vector<torch::Tensor>& skips);

  torch::nn::ModuleList resnets, attentions, downsamplers;
};
TORCH_MODULE(UNetDownBlock);

/// Residual block, transformer, residual block.
class UNetMidBlockImpl : public torch::nn::Module {
 public:
  UNetMidBlockImpl(const UNetOptions& options, int64_t channels, int64_t heads);

  torch::Tensor forward(torch::Tensor x, const torch::Tensor& time, ContextReader& context);

  torch::nn::ModuleList attentions, resnets;
};
TORCH_MODULE(UNetMidBlock);

/// A level on the way back: `resnets`, `attentions`, `upsamplers`.
class UNetUpBlockImpl : public torch::nn::Module {
 public:
  UNetUpBlockImpl(const UNetOptions& options, const UNetLevel& level);

  /// Takes a skip off the end of `skips` for each residual block; what is then last there says the size that
  /// an upsampler makes.
  torch::Tensor forward(torch::Tensor x, const torch::Tensor& time, ContextReader& context,
                        std::vector<torch::Tensor>& skips);

  torch::nn::ModuleList resnets, attentions, upsamplers;
};
TORCH_MODULE(UNetUpBlock);

/// Parameters have the names of diffusers' UNet2DConditionModel. The last convolution, and the last one of
/// every residual block and transformer, start at 0 (as in the paper's code): a fresh net gives 0.
class UNetImpl : public torch::nn::Module {
 public:
  /// Throws UsageError as UNetOptions::validate.
  explicit UNetImpl(const UNetOptions& options);

  /// latents [B,in_channels,h,w] of any size, timesteps [B], states [B,L,cross_attention_dim] ->
  /// [B,out_channels,h,w]. Throws Error for other shapes. May be traced in eval mode; the trace holds for
  /// every size and batch.
  torch::Tensor forward(const torch::Tensor& latents, const torch::Tensor& timesteps,
                        const torch::Tensor& states);

  /// The two parts of `forward`.
  UNetContext context(const torch::Tensor& states);
  torch::Tensor forward_with(const torch::Tensor& latents, const torch::Tensor& timesteps,
                             const UNetContext& context);

  UNetOptions options;
  torch::nn::Conv2d conv_in{nullptr};
  TimestepMlp time_embedding{nullptr};
  torch::nn::ModuleList down_blocks, up_blocks;
  UNetMidBlock mid_block{nullptr};
  torch::nn::GroupNorm conv_norm_out{nullptr};
  torch::nn::Conv2d conv_out{nullptr};

 private:
  void add_down_blocks();
  void add_up_blocks();
  std::vector<UNetTransformer> transformers() const;
};
TORCH_MODULE(UNet);

}  // namespace zoo
