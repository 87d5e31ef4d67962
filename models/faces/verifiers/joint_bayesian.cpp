#include "models/faces/verifiers/joint_bayesian.h"

#include <torch/torch.h>

#include <algorithm>
#include <map>

#include "core/error.h"

namespace zoo {

namespace {

/// Subjects with equally many images.
struct SubjectGroup {
  int64_t images = 0;  ///< m of each subject
  torch::Tensor rows;  ///< [S,m] rows of x
};

std::vector<SubjectGroup> group_subjects(const std::vector<int64_t>& identities) {
  std::map<int64_t, std::vector<int64_t>> subjects;
  for (size_t i = 0; i < identities.size(); ++i) {
    if (identities[i] >= 0) subjects[identities[i]].push_back(static_cast<int64_t>(i));
  }
  std::map<int64_t, std::vector<int64_t>> rows_by_size;
  for (const auto& [identity, rows] : subjects) {
    std::vector<int64_t>& group = rows_by_size[static_cast<int64_t>(rows.size())];
    group.insert(group.end(), rows.begin(), rows.end());
  }
  if (rows_by_size.empty() || rows_by_size.rbegin()->first < 2)
    throw Error("verify.metric=joint_bayesian: no identity has two embeddings to learn from");
  std::vector<SubjectGroup> groups;
  for (const auto& [images, rows] : rows_by_size)
    groups.push_back({images, torch::tensor(rows, torch::kLong).view({-1, images})});
  return groups;
}

/// A little on the diagonal keeps a covariance of few samples invertible.
torch::Tensor regular(const torch::Tensor& covariance) {
  const int64_t size = covariance.size(0);
  const torch::Tensor ridge = 1e-6 * covariance.trace() / static_cast<double>(size);
  return (covariance + covariance.t()) / 2 + ridge.clamp_min(1e-12) * torch::eye(size, torch::kDouble);
}

/// Sums over subjects and images that the M step averages.
struct Moments {
  torch::Tensor identity, within;
  int64_t subjects = 0, images = 0;

  explicit Moments(int64_t size)
      : identity(torch::zeros({size, size}, torch::kDouble)), within(torch::zeros_like(identity)) {}
  /// `mean` [S,d] of each subject, `rest` [S,m,d] of its images.
  void add(const torch::Tensor& mean, const torch::Tensor& rest) {
    const torch::Tensor flat = rest.flatten(0, 1);
    identity += mean.t().matmul(mean);
    within += flat.t().matmul(flat);
    subjects += rest.size(0);
    images += flat.size(0);
  }
  JointCovariances covariances() const {
    return {regular(identity / static_cast<double>(subjects)), regular(within / static_cast<double>(images))};
  }
};

JointCovariances first_covariances(const torch::Tensor& x, const std::vector<SubjectGroup>& groups) {
  Moments moments(x.size(1));
  for (const SubjectGroup& group : groups) {
    const torch::Tensor images = x.index({group.rows});  // [S,m,d]
    const torch::Tensor mean = images.mean(1);
    moments.add(mean, images - mean.unsqueeze(1));
  }
  return moments.covariances();
}

JointCovariances next_covariances(const torch::Tensor& x, const std::vector<SubjectGroup>& groups,
                                  const JointCovariances& now, bool posterior_covariance) {
  Moments moments(x.size(1));
  for (const SubjectGroup& group : groups) {
    const auto m = static_cast<double>(group.images);
    const torch::Tensor factor = torch::linalg_cholesky(m * now.identity + now.within);
    const torch::Tensor gain = torch::cholesky_solve(now.identity, factor);  // (mSμ+Sε)⁻¹Sμ
    const torch::Tensor images = x.index({group.rows});                      // [S,m,d]
    const torch::Tensor mean = images.sum(1).matmul(gain);                   // [S,d]
    moments.add(mean, images - mean.unsqueeze(1));
    if (!posterior_covariance) continue;
    const torch::Tensor spread = now.within.matmul(gain);  // Sε(mSμ+Sε)⁻¹Sμ
    const auto subjects = static_cast<double>(group.rows.size(0));
    moments.identity += subjects * spread;
    moments.within += subjects * m * spread;
  }
  return moments.covariances();
}

double relative_change(const torch::Tensor& now, const torch::Tensor& next) {
  return ((next - now).norm() / now.norm().clamp_min(1e-300)).item<double>();
}

}  // namespace

void JointBayesianOptions::validate() const {
  require_count("verify.joint_bayesian.pca", pca, 0);
  require_count("verify.joint_bayesian.iterations", iterations, 1);
  require_range("verify.joint_bayesian.tolerance", tolerance, 0);
}

JointCovariances fit_joint_covariances(const torch::Tensor& x, const std::vector<int64_t>& identities,
                                       const JointBayesianOptions& options) {
  const std::vector<SubjectGroup> groups = group_subjects(identities);
  JointCovariances now = first_covariances(x, groups);
  for (int64_t i = 0; i < options.iterations; ++i) {
    const JointCovariances next = next_covariances(x, groups, now, options.posterior_covariance);
    const double change =
        std::max(relative_change(now.identity, next.identity), relative_change(now.within, next.within));
    now = next;
    if (change < options.tolerance) break;
  }
  return now;
}

JointScore::JointScore(const JointCovariances& covariances) {
  const torch::Tensor within_inverse = torch::cholesky_inverse(torch::linalg_cholesky(covariances.within));
  const torch::Tensor one = torch::linalg_cholesky(covariances.identity + covariances.within);
  const torch::Tensor two = torch::linalg_cholesky(2 * covariances.identity + covariances.within);
  g = -torch::cholesky_solve(covariances.identity, two).matmul(within_inverse);
  a = torch::cholesky_inverse(one) - (within_inverse + g);
}

torch::Tensor JointScore::operator()(const torch::Tensor& x1, const torch::Tensor& x2) const {
  const auto form = [](const torch::Tensor& left, const torch::Tensor& matrix, const torch::Tensor& right) {
    return (left.matmul(matrix) * right).sum(1);
  };
  return form(x1, a, x1) + form(x2, a, x2) - 2 * form(x1, g, x2);
}

}  // namespace zoo
