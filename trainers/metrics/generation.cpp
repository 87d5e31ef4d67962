#include "trainers/metrics/generation.h"

#include <torch/torch.h>

#include <algorithm>
#include <cmath>
#include <vector>

#include "core/error.h"
#include "core/random.h"
#include "core/text.h"
#include "models/inception/inception.h"

namespace zoo {

namespace {

/// [N,D] in double, checked.
torch::Tensor checked_rows(const torch::Tensor& rows, const char* name, const std::string& source) {
  if (rows.dim() != 2 || !rows.is_floating_point() || rows.size(1) == 0)
    throw Error(source + ": '" + name + "' is no matrix of floats, expected one row a picture");
  if (rows.size(0) < 2)
    throw Error(format("%s: '%s' has %lld rows, expected at least 2", source.c_str(), name,
                       static_cast<long long>(rows.size(0))));
  torch::Tensor result = rows.to(torch::kDouble);
  if (!result.isfinite().all().item<bool>())
    throw Error(source + ": '" + name + "' holds a number that is not finite");
  return result;
}

struct FeatureRows {
  torch::Tensor real, fake;

  FeatureRows(const torch::Tensor& given_real, const torch::Tensor& given_fake, const std::string& source)
      : real(checked_rows(given_real, "real", source)), fake(checked_rows(given_fake, "fake", source)) {
    if (real.size(1) != fake.size(1))
      throw Error(format("%s: 'real' has %lld features and 'fake' %lld, expected equal numbers",
                         source.c_str(), static_cast<long long>(real.size(1)),
                         static_cast<long long>(fake.size(1))));
  }
};

/// Σ over N - 1.
torch::Tensor covariance(const torch::Tensor& rows) {
  const torch::Tensor centred = rows - rows.mean(0);
  return centred.t().mm(centred) / static_cast<double>(rows.size(0) - 1);
}

/// Of a symmetric matrix without negative eigenvalues but for rounding.
torch::Tensor symmetric_root(const torch::Tensor& matrix) {
  const auto [values, vectors] = torch::linalg_eigh(matrix);
  return (vectors * values.clamp_min(0).sqrt()).mm(vectors.t());
}

torch::Tensor cubic_kernel(const torch::Tensor& a, const torch::Tensor& b) {
  return (a.mm(b.t()) / static_cast<double>(a.size(1)) + 1).pow(3);
}

/// Mean of k(x_i,x_j) over i ≠ j.
double mean_without_diagonal(const torch::Tensor& kernel) {
  const auto n = static_cast<double>(kernel.size(0));
  return ((kernel.sum() - kernel.diagonal().sum()) / (n * (n - 1))).item<double>();
}

/// Bińkowski et al. 2018, equation 4.
double unbiased_mmd2(const torch::Tensor& x, const torch::Tensor& y) {
  return mean_without_diagonal(cubic_kernel(x, x)) + mean_without_diagonal(cubic_kernel(y, y)) -
         2 * cubic_kernel(x, y).mean().item<double>();
}

torch::Tensor random_rows(const torch::Tensor& rows, int64_t count, RandomStream& random) {
  std::vector<int64_t> order = random.permutation(rows.size(0));
  order.resize(static_cast<size_t>(count));
  return rows.index_select(0, torch::tensor(order));
}

MeanAndSpread mean_and_spread(const std::vector<double>& values) {
  MeanAndSpread result;
  const auto count = static_cast<double>(values.size());
  for (const double value : values) result.mean += value / count;
  for (const double value : values) result.spread += (value - result.mean) * (value - result.mean) / count;
  result.spread = std::sqrt(result.spread);
  return result;
}

}  // namespace

void GenerationOptions::validate() const {
  require_count("eval.generation.kid_subsets", kid_subsets, 1, 1 << 20);
  require_count("eval.generation.kid_subset_size", kid_subset_size, 2, 1 << 20);
  require_count("eval.generation.is_splits", is_splits, 1, 1 << 20);
  require_choice("eval.generation.resize", resize, inception_resizes());
}

double frechet_distance(const torch::Tensor& real, const torch::Tensor& fake, const std::string& source) {
  const FeatureRows rows(real, fake, source);
  const torch::Tensor shift = rows.real.mean(0) - rows.fake.mean(0);
  const torch::Tensor first = covariance(rows.real), second = covariance(rows.fake);
  const torch::Tensor root = symmetric_root(first), product = root.mm(second).mm(root);
  const torch::Tensor values = torch::linalg_eigvalsh((product + product.t()) / 2).clamp_min(0);
  return (shift.dot(shift) + first.trace() + second.trace() - 2 * values.sqrt().sum()).item<double>();
}

MeanAndSpread kernel_distance(const torch::Tensor& real, const torch::Tensor& fake,
                              const GenerationOptions& options, const std::string& source) {
  const FeatureRows rows(real, fake, source);
  const int64_t most = std::min(rows.real.size(0), rows.fake.size(0));
  const int64_t size = std::min(options.kid_subset_size, most);
  // Where every subset is the whole, one is enough.
  const bool whole = size == rows.real.size(0) && size == rows.fake.size(0);
  std::vector<double> values;
  for (int64_t i = 0; i < (whole ? 1 : options.kid_subsets); ++i) {
    RandomStream random({options.seed, static_cast<uint64_t>(i)});
    const torch::Tensor x = random_rows(rows.real, size, random), y = random_rows(rows.fake, size, random);
    values.push_back(unbiased_mmd2(x, y));
  }
  return mean_and_spread(values);
}

MeanAndSpread inception_score(const torch::Tensor& logits, const GenerationOptions& options,
                              const std::string& source) {
  const torch::Tensor rows = checked_rows(logits, "logits", source);
  const int64_t count = rows.size(0), splits = options.is_splits;
  if (count < splits)
    throw Error(format("%s: %lld pictures in %lld splits, expected at least one each", source.c_str(),
                       static_cast<long long>(count), static_cast<long long>(splits)));
  const torch::Tensor logs = rows.log_softmax(1);
  std::vector<double> values;
  for (int64_t i = 0; i < splits; ++i) {
    const torch::Tensor part = logs.slice(0, i * count / splits, (i + 1) * count / splits);
    const torch::Tensor marginal = part.exp().mean(0, true).log();
    values.push_back(
        std::exp(torch::where(part.exp() > 0, part.exp() * (part - marginal), torch::zeros_like(part))
                     .sum(1)
                     .mean()
                     .item<double>()));
  }
  return mean_and_spread(values);
}

Json generation_json(const torch::Tensor& real, const torch::Tensor& fake, const GenerationOptions& options,
                     const std::string& source) {
  return {{"FID", frechet_distance(real, fake, source)},
          {"KID", kernel_distance(real, fake, options, source).mean}};
}

}  // namespace zoo
