#pragma once
#include <torch/types.h>

namespace zoo {

/// What torch does slowly in inference, for the programs of models/runtime/.

constexpr int64_t kPoolChannels = 32;
/// Max pooling of x [B,C,H,W], bfloat16 in channels_last, C a multiple of kPoolChannels, every window with a
/// row and a column inside, without dilation, sizes rounded down -> the same layout. NaN wins, as in torch.
/// ATen's also makes the indices of the largest values and takes many times as long.
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

/// The edges of a picture that a pixel lies at, together the row of a shift with edges.
constexpr int kTopEdge = 1, kBottomEdge = 2, kLeftEdge = 4, kRightEdge = 8, kEdges = 16;

/// What happens to every number of a channel: x scale + shift, then times slope where that is negative; each
/// float32 [C]. A shift of [kEdges,C] differs at the picture's edges.
struct ChannelMap {
  torch::Tensor scale, shift, slope;
};
/// x [B,C,H,W] or (without edges) [B,C], float32 or bfloat16, in channels_last -> the same type and layout; written over x
/// where `in_place`. Batch norms and PReLUs that no product could take along.
torch::Tensor map_channels(const torch::Tensor& x, const ChannelMap& map, bool in_place);

/// a + b, float32, rounded to bfloat16 in the same pass where b is repeated along a's first dimensions alone
/// (other broadcasts of two tensors of a's shape are done as two).
torch::Tensor narrow_sum(const torch::Tensor& a, const torch::Tensor& b);

/// Attention softmax(q k^T scale) v in bfloat16 without a mask: q [B,H,L,D], k [B,H,N,D], v [B,H,N,E] with
/// dense last dimensions and D even -> [B,H,L,E], laid out as [B,L,H,E]. The scores of 64 queries with all
/// keys are held at once. For a processor with AVX512-BF16 or AMX.
torch::Tensor attention_bf16(const torch::Tensor& q, const torch::Tensor& k, const torch::Tensor& v,
                             double scale);

}  // namespace zoo
