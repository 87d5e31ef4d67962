#include "trainers/metrics/identification.h"

#include <ATen/Parallel.h>
#include <torch/torch.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <unordered_map>

#include "core/error.h"
#include "core/numbers.h"
#include "trainers/metrics/cosines.h"
#include "trainers/metrics/figure.h"

namespace zoo {

namespace {

constexpr int64_t kBlock =
    16384;  // entries of a product: few enough products that waiting for threads is cheap

void require_labelled(const torch::Tensor& embeddings, const torch::Tensor& labels,
                      const std::string& source) {
  if (embeddings.dim() != 2 || labels.dim() != 1 || embeddings.size(0) != labels.size(0) ||
      labels.scalar_type() != torch::kLong) {
    throw Error(source + ": expected embeddings [N,D] and as many labels [N] of int64");
  }
}

/// A probe and the entry that it should find.
struct Search {
  const float* probe = nullptr;
  double length = 0;  ///< of the probe
  int64_t label = 0;
  int64_t entry = -1;  ///< the best of its identity; -1: there is none
  double best = 0;     ///< its cosine
  int64_t before = 0;  ///< entries of other identities that come before it
};

/// Cosines of a search with single entries, in double.
class ExactCosine {
 public:
  explicit ExactCosine(const torch::Tensor& gallery)
      : rows_(gallery.const_data_ptr<float>()), size_(gallery.size(1)) {}

  double operator()(const Search& search, int64_t entry) const {
    const float* row = rows_ + entry * size_;
    double product = 0, square = 0;
    for (int64_t k = 0; k < size_; ++k) {
      const double value = row[k];
      product += value * static_cast<double>(search.probe[k]);
      square += value * value;
    }
    const double lengths = std::sqrt(square) * search.length;
    return lengths > 0 ? product / lengths : 0;
  }

 private:
  const float* rows_;
  int64_t size_;
};

/// Counts the entries of a block that come before the right one of a search.
void count_before(const float* cosines, int64_t first, int64_t count, const int64_t* labels, double rounding,
                  const ExactCosine& exact, Search& search) {
  const auto surely = static_cast<float>(search.best + rounding);
  const auto perhaps = static_cast<float>(search.best - rounding);
  for (int64_t i = 0; i < count; ++i) {
    if (cosines[i] < perhaps || labels[first + i] == search.label) continue;
    bool counts = cosines[i] > surely;
    if (!counts) {
      const double cosine = exact(search, first + i);
      counts = cosine > search.best || (cosine == search.best && first + i < search.entry);
    }
    search.before += counts ? 1 : 0;
  }
}

std::vector<Search> make_searches(const torch::Tensor& probes, const torch::Tensor& probe_labels,
                                  const torch::Tensor& lengths, const torch::Tensor& gallery,
                                  const torch::Tensor& gallery_labels) {
  std::unordered_map<int64_t, std::vector<int64_t>> entries;  // of the probes' identities
  for (int64_t p = 0; p < probe_labels.size(0); ++p) entries[probe_labels.const_data_ptr<int64_t>()[p]];
  for (int64_t i = 0; i < gallery_labels.size(0); ++i) {
    const auto found = entries.find(gallery_labels.const_data_ptr<int64_t>()[i]);
    if (found != entries.end()) found->second.push_back(i);
  }
  const ExactCosine exact(gallery);
  std::vector<Search> searches(static_cast<size_t>(probes.size(0)));
  for (int64_t p = 0; p < probes.size(0); ++p) {
    Search& search = searches[static_cast<size_t>(p)];
    search.probe = probes.const_data_ptr<float>() + p * probes.size(1);
    search.length = lengths.const_data_ptr<double>()[p];
    search.label = probe_labels.const_data_ptr<int64_t>()[p];
    for (const int64_t entry : entries.at(search.label)) {
      const double cosine = exact(search, entry);
      if (search.entry < 0 || cosine > search.best) search.entry = entry, search.best = cosine;
    }
  }
  return searches;
}

}  // namespace

Gallery::Gallery(const torch::Tensor& embeddings, const torch::Tensor& labels, const std::string& source) {
  require_labelled(embeddings, labels, source);
  embeddings_ = embeddings.to(torch::kFloat).contiguous();
  labels_ = labels.contiguous();
  inverse_lengths_ =
      row_lengths(embeddings_, source).clamp_min(1e-30).reciprocal().to(torch::kFloat).contiguous();
}

std::vector<int64_t> Gallery::ranks(const torch::Tensor& probes, const torch::Tensor& probe_labels,
                                    const std::string& source) const {
  require_labelled(probes, probe_labels, source);
  if (probes.size(1) != embeddings_.size(1))
    throw Error(source + ": probes have " + std::to_string(probes.size(1)) + " dimensions, the gallery has " +
                std::to_string(embeddings_.size(1)));
  const torch::NoGradGuard no_grad;
  const torch::Tensor rows = probes.to(torch::kFloat).contiguous(), labels = probe_labels.contiguous();
  const torch::Tensor lengths = row_lengths(rows, source);
  std::vector<Search> searches = make_searches(rows, labels, lengths, embeddings_, labels_);
  const torch::Tensor units = rows / lengths.clamp_min(1e-30).to(torch::kFloat).unsqueeze(1);  // [P,D]
  // A float product of unit vectors of D dimensions is off by at most about D units of the last place.
  const double rounding = static_cast<double>(rows.size(1) + 8) * 0x1p-24;
  const ExactCosine exact(embeddings_);
  torch::Tensor products = torch::empty({rows.size(0), kBlock});
  for (int64_t first = 0; first < size(); first += kBlock) {
    const int64_t count = std::min(kBlock, size() - first);
    torch::Tensor cosines = products.narrow(1, 0, count);
    at::mm_out(cosines, units, embeddings_.narrow(0, first, count).t());  // [P,block]
    cosines.mul_(inverse_lengths_.narrow(0, first, count));
    at::parallel_for(0, rows.size(0), 1, [&](int64_t begin, int64_t end) {
      for (int64_t p = begin; p < end; ++p) {
        Search& search = searches[static_cast<size_t>(p)];
        if (search.entry < 0) continue;
        count_before(products.const_data_ptr<float>() + p * kBlock, first, count,
                     labels_.const_data_ptr<int64_t>(), rounding, exact, search);
      }
    });
  }
  std::vector<int64_t> ranks;
  for (const Search& search : searches) ranks.push_back(search.entry < 0 ? 0 : search.before + 1);
  return ranks;
}

IdentificationMetrics identification_metrics(const std::vector<int64_t>& ranks, int64_t cmc_ranks) {
  const auto rate = [&](int64_t rank) {
    if (ranks.empty()) return kNaN;
    const auto found =
        std::count_if(ranks.begin(), ranks.end(), [&](int64_t r) { return r > 0 && r <= rank; });
    return static_cast<double>(found) / static_cast<double>(ranks.size());
  };
  IdentificationMetrics metrics;
  metrics.rank1 = rate(1);
  metrics.rank5 = rate(5);
  for (int64_t rank = 1; rank <= cmc_ranks; ++rank) metrics.cmc.push_back(rate(rank));
  metrics.without_mate = std::count(ranks.begin(), ranks.end(), 0);
  return metrics;
}

Json identification_json(const IdentificationMetrics& metrics) {
  Json document = {
      {"rank1", figure(metrics.rank1)}, {"rank5", figure(metrics.rank5)}, {"cmc", Json::array()}};
  for (const double rate : metrics.cmc) document["cmc"].push_back(figure(rate));
  return document;
}

}  // namespace zoo
