#pragma once
#include <string>
#include <vector>

#include <torch/types.h>

#include "core/options.h"

namespace zoo {

// DeepFace's two weighted metrics (Taigman et al. 2014, section 4): a linear model over one term a component.
// Embeddings are first divided by each component's largest magnitude in the fitted data (at least 0.05, as the
// paper) and made unit vectors.

/// Section `verify.chi_square`: Σ w_i (f_i − g_i)² / (|f_i| + |g_i|), w from a linear classifier on those terms; a
/// term whose components are both 0 is 0. (The paper's features are never negative; magnitudes allow any.)
struct ChiSquareOptions {
  std::string classifier = "svm";  ///< svm (squared hinge) | logistic
  double l2 = 1e-3;  ///< weight of ½‖w‖² beside the mean loss, terms scaled to deviation 1

  void validate() const;
};
NLOHMANN_DEFINE_TYPE_NON_INTRUSIVE(ChiSquareOptions, classifier, l2)

/// Section `verify.siamese`: p(same) = σ(b + Σ α_i |f_i − g_i|) by cross-entropy; of the paper's siamese network the
/// top layer alone, the embedding stays.
struct SiameseOptions {
  double l2 = 1e-3;  ///< as for chi_square

  void validate() const;
};
NLOHMANN_DEFINE_TYPE_NON_INTRUSIVE(SiameseOptions, l2)

/// [P,D] double terms of embeddings [P,D].
torch::Tensor chi_square_terms(const torch::Tensor& f, const torch::Tensor& g);
torch::Tensor siamese_terms(const torch::Tensor& f, const torch::Tensor& g);

/// DeepFace's normalisation (section 3): components by their largest magnitudes, then unit length.
struct FeatureScale {
  torch::Tensor largest;  ///< [D] double

  torch::Tensor apply(const torch::Tensor& x) const;
};
FeatureScale fit_feature_scale(const torch::Tensor& x);

/// A linear model; its score is positive for `same`.
struct LinearModel {
  torch::Tensor weight;  ///< [D] double
  torch::Tensor bias;    ///< [] double
};
/// Fits to terms [P,D] double and labels by L-BFGS: mean loss + l2/2‖w‖² on terms scaled to deviation 1.
/// `classifier` svm: squared hinge; logistic: cross-entropy. Throws Error where there are not pairs of both kinds.
LinearModel fit_linear(const torch::Tensor& terms, const std::vector<uint8_t>& same,
                       const std::string& classifier, double l2);

}  // namespace zoo
