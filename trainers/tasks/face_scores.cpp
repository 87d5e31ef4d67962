#include "trainers/tasks/face_scores.h"

#include <torch/torch.h>

#include <algorithm>
#include <numeric>
#include <set>

#include "core/error.h"
#include "core/log.h"
#include "core/text.h"
#include "trainers/metrics/cosines.h"

namespace zoo {

namespace {

torch::Tensor rows_of(const torch::Tensor& embeddings, const std::vector<int64_t>& numbers) {
  return embeddings.index_select(0, torch::tensor(numbers, torch::kLong));
}

std::vector<double> scores_of(const Verifier& verifier, const torch::Tensor& embeddings,
                              const PairList& pairs, const std::string& source) {
  const torch::Tensor scores =
      verifier.score(rows_of(embeddings, pairs.first), rows_of(embeddings, pairs.second)).contiguous();
  const torch::Tensor bad = scores.isfinite().logical_not().nonzero();
  if (bad.size(0) > 0) {
    throw Error(source + format(": the score of pair %lld is not finite",
                                static_cast<long long>(bad[0].item<int64_t>())));
  }
  const auto* values = scores.const_data_ptr<double>();
  return {values, values + scores.numel()};
}

/// The pairs that `use` marks, as data for a verifier.
VerifierData verifier_data(const torch::Tensor& embeddings, const PairList& pairs,
                           const std::vector<bool>& use) {
  VerifierData data{embeddings, identities_of_pairs(embeddings.size(0), pairs, use), {}, {}, {}};
  for (size_t i = 0; i < pairs.size(); ++i) {
    if (!use[i]) continue;
    data.first.push_back(pairs.first[i]);
    data.second.push_back(pairs.second[i]);
    data.same.push_back(pairs.same[i]);
  }
  return data;
}

/// The pairs of people whom no pair of `fold` shows. Throws Error where there are none.
std::vector<bool> pairs_of_others(const PairList& pairs, const std::vector<int64_t>& identities, int64_t fold,
                                  const std::string& source) {
  std::set<int64_t> tested;
  for (size_t i = 0; i < pairs.size(); ++i) {
    if (pairs.folds[i] != fold) continue;
    tested.insert(
        {identities[static_cast<size_t>(pairs.first[i])], identities[static_cast<size_t>(pairs.second[i])]});
  }
  std::vector<bool> others;
  for (size_t i = 0; i < pairs.size(); ++i) {
    others.push_back(tested.count(identities[static_cast<size_t>(pairs.first[i])]) == 0 &&
                     tested.count(identities[static_cast<size_t>(pairs.second[i])]) == 0);
  }
  if (std::find(others.begin(), others.end(), true) == others.end()) {
    throw Error(source +
                ": its folds show the same people, so that nothing is left to fit a metric to, expected "
                "verify.fit=SPEC of training data");
  }
  return others;
}

}  // namespace

void VerifyOptions::validate() const {
  verifier().validate();
  if (fit != "folds") parse_data_spec(fit);
  require_range("verify.threshold", threshold, -1e6, 1e6);
  require_range("verify.val_far", val_far, 0, 1);
  require_count("verify.cmc_ranks", cmc_ranks, 1, 100000);
}

PairList pair_list(const std::vector<FacePair>& pairs) {
  PairList list;
  bool told = !pairs.empty();
  for (const FacePair& pair : pairs) {
    list.first.push_back(pair.a);
    list.second.push_back(pair.b);
    list.same.push_back(pair.same ? 1 : 0);
    list.folds.push_back(pair.fold);
    told = told && pair.fold >= 0;
  }
  list.folds = told ? numbered_folds(list.folds) : equal_folds(static_cast<int64_t>(pairs.size()));
  return list;
}

std::vector<int64_t> identities_of_pairs(int64_t rows, const PairList& pairs, const std::vector<bool>& use) {
  std::vector<int64_t> parent(static_cast<size_t>(rows));
  std::iota(parent.begin(), parent.end(), 0);
  const auto root = [&](int64_t row) {
    while (parent[static_cast<size_t>(row)] != row) {
      int64_t& above = parent[static_cast<size_t>(row)];
      above = parent[static_cast<size_t>(above)];
      row = above;
    }
    return row;
  };
  std::vector<bool> used(parent.size(), false);
  for (size_t i = 0; i < pairs.size(); ++i) {
    if (!use[i]) continue;
    used[static_cast<size_t>(pairs.first[i])] = used[static_cast<size_t>(pairs.second[i])] = true;
    if (pairs.same[i] != 0) parent[static_cast<size_t>(root(pairs.first[i]))] = root(pairs.second[i]);
  }
  std::vector<int64_t> identities(parent.size(), -1);
  for (int64_t row = 0; row < rows; ++row) {
    if (used[static_cast<size_t>(row)]) identities[static_cast<size_t>(row)] = root(row);
  }
  return identities;
}

std::unique_ptr<Verifier> make_verifier(const VerifyOptions& options, const torch::Tensor& embeddings,
                                        const PairList& pairs, const FittingSample* sample) {
  if (!options.parameters.empty()) return load_verifier(options.parameters, options.metric).verifier;
  if (sample != nullptr) {
    return fit_verifier(options.verifier(), {sample->embeddings, sample->identities, sample->pairs.first,
                                             sample->pairs.second, sample->pairs.same});
  }
  return fit_verifier(options.verifier(),
                      verifier_data(embeddings, pairs, std::vector<bool>(pairs.size(), true)));
}

ScoredPairs score_pairs(const torch::Tensor& embeddings, const PairList& pairs, const VerifyOptions& options,
                        const FittingSample* sample, const std::string& source) {
  ScoredPairs scored{pairs.same, pairs.folds, {}, options.metric == "cosine", options.val_far};
  if (scored.cosine) {
    scored.scores = {pair_cosines(embeddings, pairs.first, pairs.second, source)};
    return scored;
  }
  if (!is_fitted(options.metric) || sample != nullptr || !options.parameters.empty()) {
    scored.scores = {
        scores_of(*make_verifier(options, embeddings, pairs, sample), embeddings, pairs, source)};
    return scored;
  }
  const int64_t folds =
      pairs.folds.empty() ? 0 : *std::max_element(pairs.folds.begin(), pairs.folds.end()) + 1;
  const std::vector<int64_t> identities =
      identities_of_pairs(embeddings.size(0), pairs, std::vector<bool>(pairs.size(), true));
  for (int64_t fold = 0; fold < folds; ++fold) {
    const std::vector<bool> others = pairs_of_others(pairs, identities, fold, source);
    const auto verifier = fit_verifier(options.verifier(), verifier_data(embeddings, pairs, others));
    scored.scores.push_back(scores_of(*verifier, embeddings, pairs, source));
  }
  return scored;
}

Json verification_details(const ScoredPairs& pairs, const VerifyOptions& options) {
  const auto genuine = std::count(pairs.same.begin(), pairs.same.end(), 1);
  Json details = {
      {"protocol", "folds"},
      {"metric", options.metric},
      {"flip", options.flip},
      {"genuine", genuine},
      {"impostor", static_cast<int64_t>(pairs.same.size()) - genuine},
      {"folds", pairs.folds.empty() ? 0 : *std::max_element(pairs.folds.begin(), pairs.folds.end()) + 1}};
  if (is_fitted(options.metric))
    details["fit"] = options.parameters.empty() ? options.fit : options.parameters;
  return details;
}

Json template_details(const Roc& roc, const VerifyOptions& options) {
  return {{"protocol", "templates, TAR at the point nearest in FAR"},
          {"metric", "cosine"},
          {"flip", options.flip},
          {"keep_norm", options.templates.keep_norm},
          {"detector_score", options.templates.detector_score},
          {"genuine", roc.genuine.size()},
          {"impostor", roc.impostor.size()}};
}

Json identification_details(const IdentificationMetrics& metrics, int64_t gallery, int64_t probes) {
  if (metrics.without_mate > 0) {
    log_warning(format("%lld probes are of identities that the gallery does not have: they count as missed",
                       static_cast<long long>(metrics.without_mate)));
  }
  return {{"protocol", "closed-set identification"},
          {"metric", "cosine"},
          {"gallery", gallery},
          {"probes", probes},
          {"probes_without_mate", metrics.without_mate}};
}

}  // namespace zoo
