#pragma once
#include <cstdint>
#include <vector>

#include <torch/types.h>

#include "core/options.h"
#include "models/faces/verifiers/pca.h"

namespace zoo {

/// Section `verify.joint_bayesian`: PCA and Joint Bayesian, Chen et al. 2012 (ECCV), as DeepID uses them.
struct JointBayesianOptions {
  int64_t pca = 150;         ///< components kept, DeepID section 3.3; 0: no PCA
  int64_t iterations = 100;  ///< at most; ends when the covariances move by less than `tolerance`
  double tolerance = 1e-6;
  /// true: expectation maximisation; false: as published, whose M step leaves the posterior's covariance out
  /// (its covariances come out too small).
  bool posterior_covariance = true;
  bool normalize = true;  ///< unit vectors before PCA

  void validate() const;
};
NLOHMANN_DEFINE_TYPE_NON_INTRUSIVE(JointBayesianOptions, pca, iterations, tolerance, posterior_covariance,
                                   normalize)

/// Covariances of x = μ + ε: of identities, μ ~ N(0, Sμ), and within one, ε ~ N(0, Sε). [d,d] double.
struct JointCovariances {
  torch::Tensor identity, within;
};

/// E step: for a subject with m images x_i the posterior mean of μ is Sμ(mSμ + Sε)⁻¹ Σx_i and its covariance
/// Sμ(mSμ + Sε)⁻¹Sε (equations 7 and 8 of the paper, in a form that inverts no covariance). M step: means over
/// subjects of μμᵀ and over images of εεᵀ, each with the posterior's covariance where that is asked for.
/// `x` [N,d] double with mean 0; `identities` [N] any numbers. Starts from the covariances of the subjects' means
/// and of what is left. Throws Error where no identity has two images.
JointCovariances fit_joint_covariances(const torch::Tensor& x, const std::vector<int64_t>& identities,
                                       const JointBayesianOptions& options);

/// r(x₁,x₂) = x₁ᵀAx₁ + x₂ᵀAx₂ − 2x₁ᵀGx₂ for rows [P,d]: twice the log-likelihood ratio of "one person" to "two",
/// less a constant.
struct JointScore {
  torch::Tensor a, g;  ///< [d,d] double

  explicit JointScore(const JointCovariances& covariances);
  JointScore(torch::Tensor own, torch::Tensor cross) : a(std::move(own)), g(std::move(cross)) {}
  torch::Tensor operator()(const torch::Tensor& x1, const torch::Tensor& x2) const;
};

}  // namespace zoo
