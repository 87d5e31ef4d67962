#pragma once
#include <cstdint>
#include <string>
#include <vector>

#include <torch/types.h>

namespace zoo {

// Of embeddings in rows, in double: a·b / √(|a|²|b|²), so exactly 1 for equal rows; 0 where a row is zero.

/// Cosines of row i of `a` with row i of `b`, both [P,D] of any float type. Throws Error naming `source` and the
/// first pair that holds a number that is not finite.
std::vector<double> pair_cosines(const torch::Tensor& a, const torch::Tensor& b, const std::string& source);
/// Cosines of rows `first[i]` and `second[i]` of one matrix [N,D], which are valid row numbers.
std::vector<double> pair_cosines(const torch::Tensor& embeddings, const std::vector<int64_t>& first,
                                 const std::vector<int64_t>& second, const std::string& source);

/// Lengths [N] double of the rows of a contiguous float matrix [N,D]. Throws Error naming `source` and the first
/// row that holds a number that is not finite.
torch::Tensor row_lengths(const torch::Tensor& embeddings, const std::string& source);

}  // namespace zoo
