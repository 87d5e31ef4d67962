#pragma once
#include <torch/nn/module.h>
#include <torch/nn/modules/embedding.h>
#include <torch/types.h>

namespace zoo {

/// Sine encoding of places in a picture (Carion et al. 2020, appendix A.4, after Vaswani et al. 2017):
/// valid [B,h,w], 1 on real cells, 0 elsewhere -> [B,h,w,dim], float64 for float64, otherwise float32 (half
/// precision would blur the phases); dim a multiple of 4.
///
/// Coordinates count the real cells, the first one is 1, divided by the count in their column or row, times
/// 2π. The first half of the channels is of y, the second of x; channel k of a half is sin (k even) or cos (k
/// odd) of coordinate / 10000^(2·floor(k/2)/(dim/2)).
torch::Tensor sine_position_encoding(const torch::Tensor& valid, int64_t dim);

/// The same for points: [..,2] x and y in 0..1 -> [..,dim].
torch::Tensor sine_point_encoding(const torch::Tensor& points, int64_t dim);

/// Learned encoding: a vector for each column and one for each row, side by side, x first. Uniform in [0,1)
/// at first.
class LearnedPositionEncodingImpl : public torch::nn::Module {
 public:
  static constexpr int64_t kCells = 50;  ///< rows and columns that have a vector

  explicit LearnedPositionEncodingImpl(int64_t dim);

  /// valid [B,h,w] (only its size counts) -> [1,h,w,dim]. Throws Error above 50 rows or columns.
  torch::Tensor forward(const torch::Tensor& valid);

 private:
  torch::nn::Embedding row_embed_{nullptr}, col_embed_{nullptr};  // [50,dim/2]
};
TORCH_MODULE(LearnedPositionEncoding);

}  // namespace zoo
