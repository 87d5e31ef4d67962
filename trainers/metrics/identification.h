#pragma once
#include <cstdint>
#include <string>
#include <vector>

#include <torch/types.h>

#include "core/options.h"

namespace zoo {

/// Embeddings that probes are looked up in. The embeddings are not copied where they are float and contiguous
/// already; they need not have unit length.
class Gallery {
 public:
  /// `embeddings` [G,D], `labels` [G] int64. Throws Error naming `source` where shapes do not fit or a number is
  /// not finite.
  Gallery(const torch::Tensor& embeddings, const torch::Tensor& labels, const std::string& source);

  int64_t size() const { return embeddings_.size(0); }

  /// For each probe [P,D] of an identity [P] the rank of the first entry of that identity when all entries are
  /// sorted by falling cosine, entries with equal cosines in gallery order: 1 is the best. 0 where the gallery
  /// does not have the identity. Ranks are those of cosines in double: products are in float, by blocks of the
  /// gallery and all probes at once, and what lies within their rounding is computed again.
  std::vector<int64_t> ranks(const torch::Tensor& probes, const torch::Tensor& probe_labels,
                             const std::string& source) const;

 private:
  torch::Tensor embeddings_;       ///< [G,D] float
  torch::Tensor inverse_lengths_;  ///< [G] float
  torch::Tensor labels_;           ///< [G] int64
};

/// Closed-set identification: shares of the probes whose identity is among the k best entries.
struct IdentificationMetrics {
  double rank1 = 0, rank5 = 0;
  std::vector<double> cmc;   ///< ranks 1, 2, …
  int64_t without_mate = 0;  ///< probes whose identity the gallery does not have: they count as missed
};

/// `ranks` as above; the curve has `cmc_ranks` values. NaN where there is no probe.
IdentificationMetrics identification_metrics(const std::vector<int64_t>& ranks, int64_t cmc_ranks);

/// The `metrics` document of the contract; `cmc` is a list, rank 1 first.
Json identification_json(const IdentificationMetrics& metrics);

}  // namespace zoo
