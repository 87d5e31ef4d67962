#pragma once
#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include <torch/types.h>

#include "core/options.h"
#include "datasets/faces/faces.h"
#include "models/faces/verifiers/verifier.h"
#include "trainers/metrics/identification.h"
#include "trainers/metrics/templates.h"
#include "trainers/metrics/verification.h"

namespace zoo {

/// Section `verify` of face recipes: how two embeddings are compared, and by what rule that is scored.
struct VerifyOptions {
  std::string metric = "cosine";  ///< cosine | euclidean | chi_square | siamese | joint_bayesian
  /// What a metric with parameters is fitted to. folds: each fold's to the pairs of people whom it does not
  /// show; else a SPEC of faces, of which it takes split train.
  std::string fit = "folds";
  std::string parameters;  ///< a verifier.safetensors of `zoo eval --output`: used instead of fitting
  bool flip = true;        ///< embeddings of the picture and of its mirror image are added
  double threshold = 0.3;  ///< of `predict`, where neither --threshold nor the weights tell one
  double val_far = 0;      ///< > 0: adds facenet's VAL at this false accept rate
  int64_t cmc_ranks = 20;  ///< of an identification
  ChiSquareOptions chi_square;
  SiameseOptions siamese;
  JointBayesianOptions joint_bayesian;
  TemplateOptions templates;

  /// Throws UsageError naming key, value and range.
  void validate() const;
  VerifierOptions verifier() const { return {metric, chi_square, siamese, joint_bayesian}; }
};
NLOHMANN_DEFINE_TYPE_NON_INTRUSIVE(VerifyOptions, metric, fit, parameters, flip, threshold, val_far,
                                   cmc_ranks, chi_square, siamese, joint_bayesian, templates)

/// Labelled pairs of rows of one matrix of embeddings.
struct PairList {
  std::vector<int64_t> first, second;
  std::vector<uint8_t> same;
  std::vector<int64_t> folds;  ///< 0, 1, 2, …

  size_t size() const { return same.size(); }
};
/// Folds are those of the set where it tells them of all pairs, else ten of equal run.
PairList pair_list(const std::vector<FacePair>& pairs);

/// Identities as far as the pairs of one person tell: rows that such pairs join have one number; rows of no pair
/// in `use` have -1.
std::vector<int64_t> identities_of_pairs(int64_t rows, const PairList& pairs, const std::vector<bool>& use);

/// Embeddings of people, to fit a verifier to.
struct FittingSample {
  torch::Tensor embeddings;         ///< [N,D]
  std::vector<int64_t> identities;  ///< [N]
  PairList pairs;
};
/// The verifier that `options` ask for: read from `options.parameters`, or fitted to `sample`, or where that is null
/// to all of `pairs`.
std::unique_ptr<Verifier> make_verifier(const VerifyOptions& options, const torch::Tensor& embeddings,
                                        const PairList& pairs, const FittingSample* sample);

/// Scores of all pairs: by a metric without parameters, by one that was fitted elsewhere (`sample`, or
/// options.parameters), or fold by fold. `source` names the embeddings in messages.
ScoredPairs score_pairs(const torch::Tensor& embeddings, const PairList& pairs, const VerifyOptions& options,
                        const FittingSample* sample, const std::string& source);

// What stands beside the metrics of each kind of evaluation: how many there are of what, and the rules.
Json verification_details(const ScoredPairs& pairs, const VerifyOptions& options);
Json template_details(const Roc& roc, const VerifyOptions& options);
/// Warns of probes whose identity the gallery does not have.
Json identification_details(const IdentificationMetrics& metrics, int64_t gallery, int64_t probes);

}  // namespace zoo
