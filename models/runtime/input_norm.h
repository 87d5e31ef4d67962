#pragma once
#include <torch/types.h>

#include "models/runtime/kernels.h"

namespace zoo {

/// A convolution that reads a batch norm's result, as one that reads the norm's input. Where the picture is
/// padded with zeros they stand for the norm's result, not its input, so that outputs at the edges want
/// another shift than those inside.
struct FoldedInputNorm {
  torch::Tensor weight;  ///< [O,I,kh,kw], with the norm's scale
  torch::Tensor bias;    ///< [O], what the norm's shift adds to outputs inside
  torch::Tensor edges;   ///< [kEdges,O] as ChannelMap::shift, to be added; undefined for a kernel of 1x1
};

/// weight [O,I,1,1] without padding, or [O,I,3,3] of stride 1 padded by 1; float32, as the norm's map (whose
/// slope is not looked at).
FoldedInputNorm fold_input_norm(const torch::Tensor& weight, const ChannelMap& norm);

}  // namespace zoo
