#pragma once
#include <torch/types.h>

namespace zoo {

/// What torch does slowly in inference, for the programs of models/runtime/.

/// Max pooling of x [B,C,H,W], bfloat16 in channels_last, without dilation, sizes rounded down -> the same
/// layout. NaN wins, as in torch. ATen's also makes the indices of the largest values and takes ten times as
/// long.
torch::Tensor max_pool_bf16(const torch::Tensor& x, at::IntArrayRef kernel, at::IntArrayRef stride,
                            at::IntArrayRef padding);

struct Normalized {
  torch::Tensor wide;    ///< float32
  torch::Tensor narrow;  ///< the same in bfloat16; undefined where not asked for
};
/// LayerNorm of a + b over the last dimension in one pass: a, b float32 or bfloat16 of one shape, weight and
/// bias float32 [D].
Normalized add_layer_norm(const torch::Tensor& a, const torch::Tensor& b, const torch::Tensor& weight,
                          const torch::Tensor& bias, double eps, bool narrow);

}  // namespace zoo
