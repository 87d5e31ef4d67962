#pragma once
#include <torch/types.h>

namespace zoo {

/// Boxes [..,4] as centre and size, cx cy w h, to corners x0 y0 x1 y1, and back.
torch::Tensor to_corners(const torch::Tensor& boxes);
torch::Tensor to_centre_size(const torch::Tensor& corners);

/// Corner boxes [..,4] -> [..], negative where one pair of corners is swapped.
torch::Tensor box_area(const torch::Tensor& corners);

/// Intersection over union of corner boxes [..,4], broadcast: `box_iou(a.unsqueeze(-2), b.unsqueeze(-3))` of
/// [N,4] and [M,4] is [N,M]. 0, not NaN, where both areas are 0.
torch::Tensor box_iou(const torch::Tensor& a, const torch::Tensor& b);

/// Generalised IoU (Rezatofighi et al. 2019), IoU - (hull - union) / hull, in -1..1, broadcast likewise.
/// Differentiable; both quotients are 0, with gradient 0, where their divisor is.
torch::Tensor box_giou(const torch::Tensor& a, const torch::Tensor& b);

}  // namespace zoo
