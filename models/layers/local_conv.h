#pragma once
#include <array>
#include <cstdint>

#include <torch/nn/module.h>
#include <torch/nn/pimpl.h>
#include <torch/types.h>

namespace zoo {

/// A convolution, without padding, whose output positions do not all share their weights.
struct LocalConvOptions {
  int64_t in_channels = 1, out_channels = 1;
  int64_t kernel = 3;                          ///< k, height and width
  int64_t stride = 1;                          ///< of LocalConv2d; BlockConv2d knows only 1
  std::array<int64_t, 2> input_size = {3, 3};  ///< H, W of the map
  int64_t block = 2;  ///< of BlockConv2d: rows and columns of outputs that share weights

  /// OH, OW: floor((size - kernel) / stride) + 1
  std::array<int64_t, 2> output_size() const;
};

/// Every output position has weights of its own (Taigman et al. 2014, section 3: the locally connected layers of
/// DeepFace). y[b,o,l] = bias[l,o] + Σ weight[l,o,i]·x[b,i-th value of the window at l].
///
/// Computed a band of positions at a time for the whole batch, by batched matrix products over windows that are
/// gathered into at most 4 MB; backward gathers them again. So the weights, of which each is used once an image,
/// cross the memory once a pass, and memory beyond weights, maps and gradients does not grow with the batch. In
/// the weights' type whatever autocast says: cast, they would cross it once more.
class LocalConv2dImpl : public torch::nn::Module {
 public:
  explicit LocalConv2dImpl(const LocalConvOptions& options);

  torch::Tensor forward(const torch::Tensor& x);  ///< [B,Cin,H,W] -> [B,Cout,OH,OW]

  LocalConvOptions options;
  torch::Tensor
      weight;  ///< [OH·OW,Cout,k·k·Cin]; positions by row, a window's values by row, column, channel
  torch::Tensor bias;  ///< [OH·OW,Cout]
};
TORCH_MODULE(LocalConv2d);

/// Weights shared within each block of `block` x `block` outputs only (Sun et al. 2014, section 3.1: the third
/// convolution of DeepID). OH and OW must be multiples of `block`.
class BlockConv2dImpl : public torch::nn::Module {
 public:
  explicit BlockConv2dImpl(const LocalConvOptions& options);

  torch::Tensor forward(const torch::Tensor& x);  ///< [B,Cin,H,W] -> [B,Cout,OH,OW]

  LocalConvOptions options;
  torch::Tensor weight;  ///< [N·Cout,Cin,k,k] of N blocks by row
  torch::Tensor bias;    ///< [N·Cout]
};
TORCH_MODULE(BlockConv2d);

}  // namespace zoo
