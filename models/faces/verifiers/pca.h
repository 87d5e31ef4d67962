#pragma once
#include <cstdint>

#include <torch/types.h>

namespace zoo {

/// The directions of largest variance.
struct Pca {
  torch::Tensor mean;   ///< [D] double
  torch::Tensor basis;  ///< [D,K] double, orthonormal columns, the largest variance first

  /// [N,D] -> [N,K], mean taken off.
  torch::Tensor project(const torch::Tensor& x) const { return (x - mean).matmul(basis); }
};

/// Of the rows of x [N,D] double; at most min(N - 1, D) components. `components` 0: no rotation, the mean alone. Where
/// N and D are both above 2048 the directions come from a few iterations, and those of like variance may be mixed.
Pca fit_pca(const torch::Tensor& x, int64_t components);

}  // namespace zoo
