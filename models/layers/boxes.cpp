#include "models/layers/boxes.h"

#include <torch/torch.h>

namespace zoo {

namespace {

/// Below the area of any box that float32 can tell from a line, far above its smallest number.
constexpr double kNoArea = 1e-24;

struct Overlap {
  torch::Tensor iou, united;
};

Overlap overlap(const torch::Tensor& a, const torch::Tensor& b) {
  const torch::Tensor low = torch::maximum(a.slice(-1, 0, 2), b.slice(-1, 0, 2));
  const torch::Tensor high = torch::minimum(a.slice(-1, 2, 4), b.slice(-1, 2, 4));
  const torch::Tensor sides = (high - low).clamp_min(0);  // [..,2]
  const torch::Tensor shared = sides.select(-1, 0) * sides.select(-1, 1);
  const torch::Tensor united = box_area(a) + box_area(b) - shared;
  return {shared / united.clamp_min(kNoArea), united};
}

}  // namespace

torch::Tensor to_corners(const torch::Tensor& boxes) {
  const torch::Tensor centre = boxes.slice(-1, 0, 2), half = boxes.slice(-1, 2, 4) * 0.5;
  return torch::cat({centre - half, centre + half}, -1);
}

torch::Tensor to_centre_size(const torch::Tensor& corners) {
  const torch::Tensor low = corners.slice(-1, 0, 2), high = corners.slice(-1, 2, 4);
  return torch::cat({(low + high) * 0.5, high - low}, -1);
}

torch::Tensor box_area(const torch::Tensor& corners) {
  const torch::Tensor sides = corners.slice(-1, 2, 4) - corners.slice(-1, 0, 2);  // [..,2]
  return sides.select(-1, 0) * sides.select(-1, 1);
}

torch::Tensor box_iou(const torch::Tensor& a, const torch::Tensor& b) {
  return overlap(a, b).iou;
}

torch::Tensor box_giou(const torch::Tensor& a, const torch::Tensor& b) {
  const Overlap parts = overlap(a, b);
  const torch::Tensor low = torch::minimum(a.slice(-1, 0, 2), b.slice(-1, 0, 2));
  const torch::Tensor high = torch::maximum(a.slice(-1, 2, 4), b.slice(-1, 2, 4));
  const torch::Tensor hull = box_area(torch::cat({low, high}, -1));
  return parts.iou - (hull - parts.united) / hull.clamp_min(kNoArea);
}

}  // namespace zoo
