#pragma once
#include <cstdint>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include <torch/types.h>

#include "models/faces/verifiers/joint_bayesian.h"
#include "models/faces/verifiers/weighted_metrics.h"
#include "models/weights/state_dict.h"

namespace zoo {

/// Tells how alike the faces of two embeddings are.
class Verifier {
 public:
  virtual ~Verifier() = default;
  /// Rows of a and b [P,D] -> scores [P] double, larger: more alike.
  virtual torch::Tensor score(const torch::Tensor& a, const torch::Tensor& b) const = 0;
  /// What was fitted, by name; empty where nothing is.
  virtual std::vector<std::pair<std::string, torch::Tensor>> parameters() const { return {}; }
};

/// Which verifier, and how it is fitted.
struct VerifierOptions {
  /// cosine; euclidean (of the raw embeddings, with their lengths); chi_square and siamese (DeepFace);
  /// joint_bayesian (DeepID).
  std::string metric = "cosine";
  ChiSquareOptions chi_square;
  SiameseOptions siamese;
  JointBayesianOptions joint_bayesian;

  /// Throws UsageError naming the key below `verify`.
  void validate() const;
};

const std::vector<std::string>& verifier_names();
/// Whether a metric has parameters to fit.
bool is_fitted(const std::string& metric);

/// Embeddings to fit a verifier to: pairs for chi_square and siamese, identities for joint_bayesian.
struct VerifierData {
  torch::Tensor embeddings;            ///< [N,D]
  std::vector<int64_t> identities;     ///< [N] any numbers, -1: not used
  std::vector<int64_t> first, second;  ///< rows of pairs
  std::vector<uint8_t> same;           ///< beside first
};

/// Throws Error where the data has too little to fit: no pairs of one kind, no identity twice.
std::unique_ptr<Verifier> fit_verifier(const VerifierOptions& options, const VerifierData& data);

/// Writes the parameters as safetensors; `verification` says what they are of and how they did: {"metric",
/// "threshold", "accuracy"} (`zoo.verifier` of the metadata).
void save_verifier(const std::string& path, const Verifier& verifier, const Json& verification);
/// A verifier and what stands beside it.
struct StoredVerifier {
  std::unique_ptr<Verifier> verifier;
  Json verification;
};
/// Reads such a file. Throws Error naming it where it holds another metric or no verifier.
StoredVerifier load_verifier(const std::string& path, const std::string& metric);

}  // namespace zoo
