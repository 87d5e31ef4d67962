#pragma once
#include <cstdint>
#include <string>

#include <torch/types.h>

#include "core/options.h"

namespace zoo {

/// How far made pictures are from real ones, by features of both [N,D] of any float type. All in double.

/// Section `eval.generation` of what scores generated pictures.
struct GenerationOptions {
  int64_t kid_subsets = 100;       ///< Bińkowski et al. 2018 (arXiv 1801.01401), section 4
  int64_t kid_subset_size = 1000;  ///< at most as many as there are pictures
  int64_t is_splits = 10;          ///< Salimans et al. 2016 (arXiv 1606.03498)
  uint64_t seed = 0;               ///< of the subsets
  /// How Inception gets its pictures: bilinear, as pytorch-fid | clean, antialiased as clean-fid. FIDs of the two differ.
  std::string resize = "bilinear";

  /// Throws UsageError naming the key, its value and the range.
  void validate() const;
};
NLOHMANN_DEFINE_TYPE_NON_INTRUSIVE(GenerationOptions, kid_subsets, kid_subset_size, is_splits, seed, resize)

/// Mean and spread (of the population) over subsets or splits.
struct MeanAndSpread {
  double mean = 0, spread = 0;
};

/// Fréchet distance of the two Gaussians (Heusel et al. 2017, arXiv 1706.08500, equation 6): |μ1-μ2|² + tr(Σ1 + Σ2 -
/// 2(Σ1Σ2)^½), covariances over N - 1. The root is taken as (Σ1^½ Σ2 Σ1^½)^½, which is symmetric: no complex numbers
/// appear, and fewer pictures than features do no harm. Throws Error naming `source` for less than two rows, other
/// widths, or a number that is not finite.
double frechet_distance(const torch::Tensor& real, const torch::Tensor& fake, const std::string& source);

/// Kernel distance: mean over subsets of the unbiased MMD² with k(x,y) = (x·y/D + 1)³. Can be below 0. Throws Error as
/// above.
MeanAndSpread kernel_distance(const torch::Tensor& real, const torch::Tensor& fake,
                              const GenerationOptions& options, const std::string& source);

/// Inception score: exp of the mean KL(p(y|x) ‖ p(y)) of each of `is_splits` equal runs of rows, from logits [N,C]. Throws
/// Error for fewer rows than splits, or a number that is not finite.
MeanAndSpread inception_score(const torch::Tensor& logits, const GenerationOptions& options,
                              const std::string& source);

/// `FID` and `KID` of the contract.
Json generation_json(const torch::Tensor& real, const torch::Tensor& fake, const GenerationOptions& options,
                     const std::string& source);

}  // namespace zoo
