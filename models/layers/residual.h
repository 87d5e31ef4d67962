#pragma once
#include <torch/nn/init.h>
#include <torch/nn/module.h>
#include <torch/nn/modules/conv.h>
#include <torch/nn/modules/linear.h>
#include <torch/nn/modules/normalization.h>
#include <torch/types.h>

namespace zoo {

/// Sizes of a ResidualBlock.
struct ResidualBlockOptions {
  int64_t in = 0, out = 0;  ///< channels, multiples of `groups`
  int64_t time = 0;         ///< width of the time embedding; 0: the block has none
  int64_t groups = 32;      ///< of both norms
  double eps = 1e-5;        ///< of both norms
  double dropout = 0;       ///< before the second convolution
  /// The second convolution starts at 0, so that a fresh block is its shortcut (Dhariwal and Nichol 2021,
  /// arXiv 2105.05233, code; Rombach et al. 2022).
  bool zero_start = false;
};

/// The residual block of denoisers and autoencoders (Ho et al. 2020, arXiv 2006.11239, appendix B):
/// GroupNorm, SiLU, convolution; plus the time per channel; GroupNorm, SiLU, convolution; plus the input,
/// through a 1x1 convolution where channels change. Names as in diffusers' ResnetBlock2D.
class ResidualBlockImpl : public torch::nn::Module {
 public:
  explicit ResidualBlockImpl(const ResidualBlockOptions& options);

  /// x [B,in,h,w]; time [B,time] after its SiLU, undefined without `time` -> [B,out,h,w]
  torch::Tensor forward(const torch::Tensor& x, const torch::Tensor& time = {});

  torch::nn::GroupNorm norm1{nullptr}, norm2{nullptr};
  torch::nn::Conv2d conv1{nullptr}, conv2{nullptr}, conv_shortcut{nullptr};
  torch::nn::Linear time_emb_proj{nullptr};

 private:
  double dropout_;
};
TORCH_MODULE(ResidualBlock);

/// Halves height and width by a 3x3 convolution of stride 2, `conv`. `symmetric`: padded by 1 on all sides
/// (the denoiser); else by 1 right and below (the autoencoder), so that a side of n gives floor(n/2).
class DownsampleImpl : public torch::nn::Module {
 public:
  DownsampleImpl(int64_t channels, bool symmetric);

  torch::Tensor forward(const torch::Tensor& x);  ///< [B,C,h,w] -> [B,C,~h/2,~w/2]

  torch::nn::Conv2d conv{nullptr};

 private:
  bool symmetric_;
};
TORCH_MODULE(Downsample);

/// Nearest neighbour, then a 3x3 convolution, `conv`.
class UpsampleImpl : public torch::nn::Module {
 public:
  explicit UpsampleImpl(int64_t channels);

  /// [B,C,h,w] -> [B,C,2h,2w], or with `like` at its height and width.
  torch::Tensor forward(const torch::Tensor& x, const torch::Tensor& like = {});

  torch::nn::Conv2d conv{nullptr};
};
TORCH_MODULE(Upsample);

/// The layer with weights and bias 0: it starts as one that adds nothing. The weights are drawn with
/// deviation 0, not filled, so that a WeightsFollowScope leaves even that out.
template <class Layer>
Layer from_zero(Layer layer) {
  torch::nn::init::normal_(layer->weight, 0, 0);
  torch::nn::init::zeros_(layer->bias);
  return layer;
}

/// GroupNorm of `channels`, as every norm of these networks has it: learnt gain and bias.
torch::nn::GroupNorm group_norm(int64_t groups, int64_t channels, double eps);

/// A 3x3 convolution, padded by 1.
torch::nn::Conv2d conv3x3(int64_t in, int64_t out);

/// A 1x1 convolution.
torch::nn::Conv2d conv1x1(int64_t in, int64_t out);

}  // namespace zoo
