#include "trainers/metrics/templates.h"

#include <ATen/Parallel.h>
#include <torch/torch.h>

#include <algorithm>
#include <numeric>
#include <unordered_map>

#include "core/error.h"
#include "core/text.h"
#include "trainers/metrics/cosines.h"
#include "trainers/metrics/figure.h"
#include "trainers/metrics/verification.h"

namespace zoo {

namespace {

/// A template and one of its pictures or films.
std::pair<int64_t, int64_t> medium_of(const FaceTemplates& set, int64_t picture) {
  const auto i = static_cast<size_t>(picture);
  return {set.templates[i], set.media[i]};
}

/// Where runs of equal values of `value(order[i])` begin, and the end.
template <class Value>
std::vector<size_t> runs(const std::vector<int64_t>& order, const Value& value) {
  std::vector<size_t> begins;
  for (size_t i = 0; i < order.size(); ++i) {
    if (i == 0 || value(order[i]) != value(order[i - 1])) begins.push_back(i);
  }
  begins.push_back(order.size());
  return begins;
}

/// Picture numbers in the order of templates and their media.
std::vector<int64_t> grouped_pictures(const FaceTemplates& set) {
  std::vector<int64_t> order(set.templates.size());
  std::iota(order.begin(), order.end(), 0);
  std::stable_sort(order.begin(), order.end(),
                   [&](int64_t a, int64_t b) { return medium_of(set, a) < medium_of(set, b); });
  return order;
}

/// The weight of each picture in its template's sum.
std::vector<double> picture_weights(const torch::Tensor& embeddings, const FaceTemplates& set,
                                    const TemplateOptions& options, const std::vector<int64_t>& order,
                                    const std::string& source) {
  std::vector<double> weights(order.size(), 1);
  const std::vector<size_t> media = runs(order, [&](int64_t i) { return medium_of(set, i); });
  for (size_t m = 0; m + 1 < media.size(); ++m) {
    for (size_t i = media[m]; i < media[m + 1]; ++i)
      weights[static_cast<size_t>(order[i])] = 1.0 / static_cast<double>(media[m + 1] - media[m]);
  }
  const torch::Tensor lengths = row_lengths(embeddings, source);  // in any case: finds what is not finite
  for (size_t i = 0; i < weights.size(); ++i) {
    const double length = lengths.const_data_ptr<double>()[i];
    if (!options.keep_norm) weights[i] /= length > 0 ? length : 1;
    if (options.detector_score) weights[i] *= static_cast<double>(set.scores[i]);
  }
  return weights;
}

/// Weighted sums [T,D] double of the rows of each template; `begins` are its runs in `order`.
torch::Tensor template_sums(const torch::Tensor& embeddings, const std::vector<double>& weights,
                            const std::vector<int64_t>& order, const std::vector<size_t>& begins) {
  const int64_t count = static_cast<int64_t>(begins.size()) - 1, size = embeddings.size(1);
  torch::Tensor sums = torch::zeros({count, size}, torch::kDouble);
  const auto* from = embeddings.const_data_ptr<float>();
  auto* to = sums.mutable_data_ptr<double>();
  at::parallel_for(0, count, 16, [&](int64_t first, int64_t last) {
    for (int64_t t = first; t < last; ++t) {
      for (size_t i = begins[static_cast<size_t>(t)]; i < begins[static_cast<size_t>(t) + 1]; ++i) {
        const double weight = weights[static_cast<size_t>(order[i])];
        for (int64_t k = 0; k < size; ++k)
          to[t * size + k] += weight * static_cast<double>(from[order[i] * size + k]);
      }
    }
  });
  return sums;
}

}  // namespace

Roc compare_templates(const torch::Tensor& embeddings, const FaceTemplates& set,
                      const TemplateOptions& options, const std::string& source) {
  const auto pictures = static_cast<int64_t>(set.templates.size());
  if (embeddings.dim() != 2 || embeddings.size(0) != pictures) {
    throw Error(source + format(": expected embeddings [%lld,D], one a picture of the set",
                                static_cast<long long>(pictures)));
  }
  const torch::Tensor rows = embeddings.to(torch::kFloat).contiguous();
  const std::vector<int64_t> order = grouped_pictures(set);
  const auto id = [&](int64_t i) { return set.templates[static_cast<size_t>(i)]; };
  const std::vector<size_t> begins = runs(order, id);
  const torch::Tensor sums =
      template_sums(rows, picture_weights(rows, set, options, order, source), order, begins);
  std::unordered_map<int64_t, int64_t> numbers;
  for (size_t t = 0; t + 1 < begins.size(); ++t) numbers[id(order[begins[t]])] = static_cast<int64_t>(t);
  std::vector<int64_t> first, second;
  std::vector<uint8_t> same;
  const auto row_of = [&](int64_t number) {
    const auto found = numbers.find(number);
    if (found != numbers.end()) return found->second;
    throw Error(
        format("a pair compares template %lld, which has no picture", static_cast<long long>(number)));
  };
  for (const FaceTemplates::Pair& pair : set.pairs) {
    first.push_back(row_of(pair.a));
    second.push_back(row_of(pair.b));
    same.push_back(pair.same ? 1 : 0);
  }
  return Roc(pair_cosines(sums, first, second, source), same);
}

Json template_metrics_json(const Roc& roc) {
  Json document = {{"accuracy", nullptr},
                   {"accuracy_std", nullptr},
                   {"threshold", nullptr},
                   {"auc", figure(area_under_curve(roc))},
                   {"eer", figure(equal_error_rate(roc))}};
  for (size_t i = 0; i < far_names().size(); ++i) {
    document["tar_at_far"][far_names()[i]] =
        figure(tar_at_nearest_far(roc, static_cast<int>(far_names().size() - i)));
  }
  return document;
}

}  // namespace zoo
