#include "models/layers/position_encoding.h"

#include <torch/torch.h>

#include "core/error.h"
#include "core/text.h"

namespace zoo {

namespace {

/// coordinate [..], a part of the whole -> [..,channels], sines and cosines in turn.
torch::Tensor encode(const torch::Tensor& coordinate, int64_t channels) {
  constexpr double kTemperature = 10000;
  const torch::Tensor pair = torch::arange(channels / 2, coordinate.options());
  const torch::Tensor wavelength = torch::pow(kTemperature, 2 * pair / static_cast<double>(channels));
  const torch::Tensor angle = (coordinate * (2 * M_PI)).unsqueeze(-1) / wavelength;
  return torch::stack({angle.sin(), angle.cos()}, -1).flatten(-2);
}

}  // namespace

torch::Tensor sine_position_encoding(const torch::Tensor& valid, int64_t dim) {
  constexpr double kEps = 1e-6;
  const torch::Tensor real = valid.to(at::promote_types(valid.scalar_type(), torch::kFloat));
  const torch::Tensor y = real.cumsum(1), x = real.cumsum(2);  // [B,h,w]
  return torch::cat(
      {encode(y / (y.slice(1, -1) + kEps), dim / 2), encode(x / (x.slice(2, -1) + kEps), dim / 2)}, -1);
}

torch::Tensor sine_point_encoding(const torch::Tensor& points, int64_t dim) {
  return torch::cat({encode(points.select(-1, 1), dim / 2), encode(points.select(-1, 0), dim / 2)}, -1);
}

LearnedPositionEncodingImpl::LearnedPositionEncodingImpl(int64_t dim) {
  row_embed_ = register_module("row_embed", torch::nn::Embedding(kCells, dim / 2));
  col_embed_ = register_module("col_embed", torch::nn::Embedding(kCells, dim / 2));
  torch::nn::init::uniform_(row_embed_->weight);
  torch::nn::init::uniform_(col_embed_->weight);
}

torch::Tensor LearnedPositionEncodingImpl::forward(const torch::Tensor& valid) {
  if (valid.size(1) > kCells || valid.size(2) > kCells) {
    throw Error(
        format("learned positions: a map of %ldx%ld cells, expected at most %ldx%ld (smaller pictures, or "
               "model.position=sine)",
               static_cast<long>(valid.size(1)), static_cast<long>(valid.size(2)), static_cast<long>(kCells),
               static_cast<long>(kCells)));
  }
  // Indices by counting ones: arange would keep the traced size.
  const torch::Tensor ones = torch::ones_like(valid.select(0, 0), torch::kLong);  // [h,w]
  const torch::Tensor row = ones.select(1, 0).cumsum(0) - 1;                      // [h]
  const torch::Tensor col = ones.select(0, 0).cumsum(0) - 1;                      // [w]
  const torch::Tensor x = col_embed_->weight.index_select(0, col).unsqueeze(0);   // [1,w,dim/2]
  const torch::Tensor y = row_embed_->weight.index_select(0, row).unsqueeze(1);   // [h,1,dim/2]
  const torch::Tensor zeros =
      torch::zeros_like(x.slice(2, 0, 1)) + torch::zeros_like(y.slice(2, 0, 1));  // [h,w,1]
  return torch::cat({x + zeros, y + zeros}, -1).unsqueeze(0);
}

}  // namespace zoo
