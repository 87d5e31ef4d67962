#include "models/runtime/input_norm.h"

#include <torch/torch.h>

namespace zoo {

namespace {

/// 1 for the taps of three that lie on the picture at a position that is its first, its last, both or neither.
torch::Tensor taps_inside(bool first, bool last) {
  return torch::tensor({first ? 0.0F : 1.0F, 1.0F, last ? 0.0F : 1.0F});
}

}  // namespace

FoldedInputNorm fold_input_norm(const torch::Tensor& weight, const ChannelMap& norm) {
  FoldedInputNorm folded;
  folded.weight = weight * norm.scale.view({1, -1, 1, 1});
  const torch::Tensor taps = (weight * norm.shift.view({1, -1, 1, 1})).sum(1);  // [O,kh,kw]
  folded.bias = taps.sum({1, 2});
  if (weight.size(2) == 1) return folded;
  std::vector<torch::Tensor> rows;
  for (int edge = 0; edge < kEdges; ++edge) {
    const torch::Tensor vertical = taps_inside((edge & kTopEdge) != 0, (edge & kBottomEdge) != 0);
    const torch::Tensor horizontal = taps_inside((edge & kLeftEdge) != 0, (edge & kRightEdge) != 0);
    rows.push_back((taps * (torch::outer(vertical, horizontal) - 1)).sum({1, 2}));
  }
  folded.edges = torch::stack(rows);
  return folded;
}

}  // namespace zoo
