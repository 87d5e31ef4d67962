#pragma once
#include <cstdint>
#include <functional>

#include <torch/types.h>

#include "models/ranks.h"

namespace zoo {

/// Rows of the classes that take part in a step: n of them.
struct ClassRows {
  torch::Tensor weight;   ///< [n,D]
  torch::Tensor bias;     ///< [n]; undefined: none
  bool normalise = true;  ///< rows over their norms (those below 1e-6 over 1e-6)
  torch::Tensor labels;   ///< [N] int64, the row of each sample's own class; −1: it is not among these
};

/// What a loss makes of the products with classes that are not a sample's own: elementwise, so that it can go
/// block by block. Without functions products are logits.
struct OtherLogits {
  std::function<torch::Tensor(const torch::Tensor& z)> value;  ///< [N,b] -> [N,b], differentiable
  std::function<torch::Tensor(const torch::Tensor& z)> slope;  ///< its derivative
};

/// Of products z_ij = x_i·Ŵ_j + b_j, with h the loss's OtherLogits.
struct ClassScores {
  torch::Tensor own;     ///< [N] z_iy; 0 where the label is −1
  torch::Tensor others;  ///< [N] log Σ_{j≠y} e^{h(z_ij)}
  torch::Tensor best;    ///< [N] the largest z_ij with j ≠ y, without gradient
};

/// Scores of features x [N,D]; one that is not a sample's own at least, differentiable in x, weight and bias.
/// With chunk_bytes = 0 by torch's operators, whose products [N,n] and normalised rows are there as a whole.
///
/// Else block by block (each as large as a processor's cache, where chunk_bytes allows): the forward pass
/// keeps a running maximum and sum, the backward pass makes each block's products again (as Wijmans et al.
/// 2024, arXiv 2411.09009), and no more than chunk_bytes are held beside inputs and gradients (blocks have 16
/// classes at least, and every thread a gradient of x). Equal but for rounding, which depends on the number of
/// threads.
ClassScores class_scores(const torch::Tensor& x, const ClassRows& rows, const OtherLogits& other,
                         int64_t chunk_bytes);

/// Scores among all classes from what each process has of its own: a sample's class is with one of them, and
/// every one has a class that is not the sample's.
ClassScores scores_of_ranks(const ClassScores& part, const SharedRanks& ranks);

/// Products with a sample's own class [N], without gradient.
torch::Tensor own_products(const torch::Tensor& x, const ClassRows& rows);

}  // namespace zoo
