#include "models/faces/verifiers/verifier.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <torch/torch.h>

#include <cmath>

#include "core/files.h"
#include "tests/support.h"
#include "trainers/tasks/face_scores.h"

namespace zoo {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;

torch::Tensor random_covariance(int64_t size) {
  const torch::Tensor root = torch::randn({size, size}, torch::kDouble);
  return root.matmul(root.t()) / static_cast<double>(size) + 0.2 * torch::eye(size, torch::kDouble);
}

/// Samples of the model: subjects with `images` each, and the true covariances.
struct Drawn {
  JointCovariances truth;
  torch::Tensor x;
  std::vector<int64_t> identities;
};
Drawn draw_subjects(int64_t subjects, int64_t images, int64_t size) {
  torch::manual_seed(11);
  Drawn drawn{{random_covariance(size), random_covariance(size)}, {}, {}};
  const auto sample = [&](const torch::Tensor& covariance, int64_t count) {
    return torch::randn({count, size}, torch::kDouble).matmul(torch::linalg_cholesky(covariance).t());
  };
  const torch::Tensor means = sample(drawn.truth.identity, subjects);
  drawn.x = means.repeat_interleave(images, 0) + sample(drawn.truth.within, subjects * images);
  for (int64_t i = 0; i < subjects * images; ++i) drawn.identities.push_back(i / images);
  return drawn;
}

double relative_error(const torch::Tensor& found, const torch::Tensor& truth) {
  return ((found - truth).norm() / truth.norm()).item<double>();
}

// face.md section 2: 0.05 and 0.025 with the posterior's covariance, 0.18 and 0.20 without.
TEST(VerifiersJointBayesian, FindsTheCovariances) {
  const Drawn drawn = draw_subjects(1500, 3, 5);
  JointBayesianOptions options;
  const JointCovariances found = fit_joint_covariances(drawn.x, drawn.identities, options);
  EXPECT_LT(relative_error(found.identity, drawn.truth.identity), 0.08);
  EXPECT_LT(relative_error(found.within, drawn.truth.within), 0.07);
  options.posterior_covariance = false;
  const JointCovariances published = fit_joint_covariances(drawn.x, drawn.identities, options);
  EXPECT_GT(relative_error(published.identity, drawn.truth.identity), 0.1);
  EXPECT_GT(relative_error(published.within, drawn.truth.within), 0.1);
}

/// log N(x; 0, covariance).
double log_density(const torch::Tensor& x, const torch::Tensor& covariance) {
  const torch::Tensor quadratic = x.dot(torch::linalg_solve(covariance, x, true));
  const auto size = static_cast<double>(x.size(0));
  return -0.5 * (quadratic + torch::logdet(covariance)).item<double>() - 0.5 * size * std::log(2 * M_PI);
}

TEST(VerifiersJointBayesian, ScoreIsTwiceTheLogLikelihoodRatioLessAConstant) {
  torch::manual_seed(3);
  const int64_t size = 4;
  const JointCovariances s{random_covariance(size), random_covariance(size)};
  const torch::Tensor total = s.identity + s.within;
  const torch::Tensor joint =
      torch::cat({torch::cat({total, s.identity}, 1), torch::cat({s.identity, total}, 1)});
  const torch::Tensor a = torch::randn({6, size}, torch::kDouble),
                      b = torch::randn({6, size}, torch::kDouble);
  const torch::Tensor scores = JointScore(s)(a, b);
  std::vector<double> constants;
  for (int64_t i = 0; i < 6; ++i) {
    const double ratio =
        log_density(torch::cat({a[i], b[i]}), joint) - log_density(a[i], total) - log_density(b[i], total);
    constants.push_back(scores[i].item<double>() - 2 * ratio);
  }
  for (const double constant : constants) EXPECT_NEAR(constant, constants.front(), 1e-9);
}

TEST(VerifiersJointBayesian, NeedsAnIdentityTwice) {
  const torch::Tensor x = torch::randn({4, 3}, torch::kDouble);
  EXPECT_THAT(test::error_of([&] {
                fit_joint_covariances(x, {0, 1, 2, 3}, {});
              }),
              HasSubstr("two embeddings"));
  EXPECT_EQ(test::error_of([&] { fit_joint_covariances(x, {0, 1, 1, -1}, {}); }), "");
}

TEST(VerifiersPca, FindsTheDirectionsOfBothKindsOfMatrix) {
  torch::manual_seed(2);
  const torch::Tensor axes = torch::tensor({9.0, 4.0, 0.1, 0.05}, torch::kDouble);
  const torch::Tensor tall = torch::randn({500, 4}, torch::kDouble) * axes + 3;
  const Pca pca = fit_pca(tall, 2);
  EXPECT_GT(pca.basis[0][0].abs().item<double>(), 0.99);
  EXPECT_GT(pca.basis[1][1].abs().item<double>(), 0.99);
  EXPECT_LT(pca.project(tall).mean(0).abs().max().item<double>(), 1e-12);
  // As many rows as columns less one: the same space by either product.
  const torch::Tensor wide = tall.slice(0, 0, 3);
  const Pca few = fit_pca(wide, 10);
  ASSERT_EQ(few.basis.size(1), 2);
  const torch::Tensor centred = wide - few.mean;
  EXPECT_LT((centred - few.project(wide).matmul(few.basis.t())).abs().max().item<double>(), 1e-9);
  EXPECT_EQ(fit_pca(tall, 0).basis.size(1), 4);
}

// Beyond the size that is decomposed as a whole: 12 directions stand out of the noise by far.
TEST(VerifiersPca, LargeMatricesAreIterated) {
  torch::manual_seed(6);
  const int64_t count = 2100, size = 2200, told = 12;
  const torch::Tensor axes = std::get<0>(torch::linalg_qr(torch::randn({size, told}, torch::kDouble)));
  const torch::Tensor spread = torch::linspace(30, 8, told, torch::kDouble);
  const torch::Tensor x = (torch::randn({count, told}, torch::kDouble) * spread).matmul(axes.t()) +
                          0.01 * torch::randn({count, size}, torch::kDouble);
  const Pca pca = fit_pca(x, told);
  const torch::Tensor inner = pca.basis.t().matmul(axes);  // [told,told]: a rotation
  EXPECT_LT((inner.matmul(inner.t()) - torch::eye(told, torch::kDouble)).abs().max().item<double>(), 1e-4);
  const torch::Tensor variances = pca.project(x).var(0);
  EXPECT_TRUE(torch::equal(variances, std::get<0>(variances.sort(0, true))));
}

TEST(VerifiersWeighted, Terms) {
  const torch::Tensor f = torch::tensor({{1.0, 0.0, 3.0, -2.0}}, torch::kDouble);
  const torch::Tensor g = torch::tensor({{3.0, 0.0, 3.0, 2.0}}, torch::kDouble);
  EXPECT_TRUE(torch::equal(chi_square_terms(f, g), torch::tensor({{1.0, 0.0, 0.0, 4.0}}, torch::kDouble)));
  EXPECT_TRUE(torch::equal(siamese_terms(f, g), torch::tensor({{2.0, 0.0, 0.0, 4.0}}, torch::kDouble)));
}

TEST(VerifiersWeighted, FeaturesAreScaledByTheLargestAtLeastOneTwentieth) {
  const torch::Tensor x = torch::tensor({{0.5, 0.01}, {-2.0, 0.02}}, torch::kDouble);
  const FeatureScale scale = fit_feature_scale(x);
  EXPECT_DOUBLE_EQ(scale.largest[0].item<double>(), 2);
  EXPECT_DOUBLE_EQ(scale.largest[1].item<double>(), 0.05);
  EXPECT_LT((scale.apply(x).norm(2, 1) - 1).abs().max().item<double>(), 1e-15);
}

// One term, labels that do not separate: the optimum is where the gradient of loss + l2/2 w² is 0.
TEST(VerifiersWeighted, LinearModelIsAtTheOptimum) {
  torch::manual_seed(4);
  const torch::Tensor terms =
      torch::rand({200, 3}, torch::kDouble) * torch::tensor({1.0, 5.0, 0.01}, torch::kDouble);
  std::vector<uint8_t> same;
  for (int64_t i = 0; i < 200; ++i) {
    const double sum = terms[i][0].item<double>() + 0.1 * terms[i][1].item<double>();
    same.push_back(sum + 0.3 * torch::randn({1}).item<double>() < 0.7 ? 1 : 0);
  }
  const torch::Tensor sign =
      2 * torch::tensor(std::vector<int64_t>(same.begin(), same.end())).to(torch::kDouble) - 1;
  const torch::Tensor deviation = terms.std(0, false);
  for (const std::string classifier : {"svm", "logistic"}) {
    const double l2 = 0.01;
    const LinearModel model = fit_linear(terms, same, classifier, l2);
    torch::Tensor weight = model.weight.clone().requires_grad_(), bias = model.bias.clone().requires_grad_();
    const torch::Tensor margin = sign * (terms.mv(weight) + bias);
    const torch::Tensor loss =
        classifier == "svm" ? torch::relu(1 - margin).square().mean() : torch::softplus(-margin).mean();
    (loss + l2 / 2 * (weight * deviation).square().sum()).backward();
    EXPECT_LT((weight.grad() / deviation).abs().max().item<double>(), 1e-5) << classifier;
    EXPECT_LT(bias.grad().abs().item<double>(), 1e-5) << classifier;
    EXPECT_LT(model.weight[0].item<double>(), 0) << classifier;
  }
  EXPECT_THAT(test::error_of([&] { fit_linear(terms, std::vector<uint8_t>(200, 1), "svm", 1); }),
              HasSubstr("pairs of one person and pairs of two"));
}

/// Embeddings whose first elements tell the person and whose others are noise that is louder.
struct Noisy {
  torch::Tensor embeddings;
  PairList pairs;
};
Noisy noisy_people(int64_t people) {
  torch::manual_seed(8);
  const int64_t size = 24, told = 8;
  Noisy noisy;
  const torch::Tensor person = torch::randn({people, size}) * 1.0;
  noisy.embeddings = person.repeat_interleave(2, 0) + 0.3 * torch::randn({2 * people, size});
  noisy.embeddings.slice(1, told) = 2.0 * torch::randn({2 * people, size - told});
  std::vector<FacePair> pairs;
  for (int64_t i = 0; i < people; ++i) {
    pairs.push_back({2 * i, 2 * i + 1, true, i % 10});
    pairs.push_back({2 * i, (2 * i + 3) % (2 * people), false, i % 10});
  }
  noisy.pairs = pair_list(pairs);
  return noisy;
}

TEST(Verifiers, FittedMetricsLearnWhichElementsTell) {
  const Noisy noisy = noisy_people(400);
  std::map<std::string, double> accuracy;
  for (const std::string& metric : verifier_names()) {
    VerifyOptions options;
    options.metric = metric;
    const ScoredPairs scored = score_pairs(noisy.embeddings, noisy.pairs, options, nullptr, "test");
    EXPECT_EQ(scored.scores.size(), is_fitted(metric) ? 10U : 1U) << metric;
    accuracy[metric] = verification_metrics(scored).accuracy;
  }
  EXPECT_LT(accuracy["cosine"], 0.75);
  EXPECT_LT(accuracy["euclidean"], 0.75);
  EXPECT_GT(accuracy["chi_square"], 0.85);
  EXPECT_GT(accuracy["siamese"], 0.9);
  EXPECT_GT(accuracy["joint_bayesian"], 0.93);
}

// Pictures of people whom a fold shows say nothing to what scores it.
TEST(Verifiers, FoldsAreScoredByWhatNeverSawTheirPeople) {
  Noisy noisy = noisy_people(60);
  VerifyOptions options;
  options.metric = "joint_bayesian";
  const auto scores = [&] {
    return score_pairs(noisy.embeddings, noisy.pairs, options, nullptr, "test").scores;
  };
  const std::vector<double> before = scores()[0];
  // A pair of fold 1 shows a person of fold 0 (the first) under another picture.
  noisy.embeddings = torch::cat({noisy.embeddings, 100 * torch::ones({1, noisy.embeddings.size(1)})});
  noisy.pairs.first.push_back(0), noisy.pairs.second.push_back(120);
  noisy.pairs.same.push_back(1), noisy.pairs.folds.push_back(1);
  const std::vector<double> after = scores()[0];
  for (size_t i = 0; i < before.size(); ++i) EXPECT_EQ(after[i], before[i]);
  for (int64_t& fold : noisy.pairs.folds) fold = fold % 2;
  EXPECT_THAT(test::error_of(scores), HasSubstr("test: its folds show the same people"));
}

// The scores of a fold do not change with the labels of its own pairs.
TEST(Verifiers, FoldsAreScoredByWhatDoesNotKnowThem) {
  Noisy noisy = noisy_people(60);
  VerifyOptions options;
  options.metric = "siamese";
  const ScoredPairs before = score_pairs(noisy.embeddings, noisy.pairs, options, nullptr, "test");
  for (size_t i = 0; i < noisy.pairs.size(); ++i) {
    if (noisy.pairs.folds[i] == 0) noisy.pairs.same[i] ^= 1;
  }
  const ScoredPairs after = score_pairs(noisy.embeddings, noisy.pairs, options, nullptr, "test");
  EXPECT_EQ(before.scores[0], after.scores[0]);
  EXPECT_NE(before.scores[1], after.scores[1]);
}

TEST(Verifiers, IdentitiesComeFromPairs) {
  PairList pairs;
  pairs.first = {0, 1, 3, 5};
  pairs.second = {1, 2, 4, 0};
  pairs.same = {1, 1, 0, 1};
  const auto numbers = identities_of_pairs(7, pairs, {true, true, true, false});
  EXPECT_EQ(numbers[0], numbers[2]);
  EXPECT_NE(numbers[3], numbers[4]);
  EXPECT_EQ(numbers[5], -1);
  EXPECT_EQ(numbers[6], -1);
}

TEST(Verifiers, FilesGiveTheSameScores) {
  const Noisy noisy = noisy_people(50);
  const torch::Tensor a = noisy.embeddings.slice(0, 0, 20), b = noisy.embeddings.slice(0, 20, 40);
  const std::string file = join_path(test::scratch_dir("verifier"), "verifier.safetensors");
  for (const std::string metric : {"chi_square", "siamese", "joint_bayesian"}) {
    VerifyOptions options;
    options.metric = metric;
    const auto verifier = make_verifier(options, noisy.embeddings, noisy.pairs, nullptr);
    save_verifier(file, *verifier, {{"metric", metric}, {"threshold", 0.25}});
    const StoredVerifier stored = load_verifier(file, metric);
    EXPECT_TRUE(torch::equal(stored.verifier->score(a, b), verifier->score(a, b))) << metric;
    EXPECT_EQ(stored.verification.at("threshold"), 0.25);
  }
  EXPECT_THAT(test::error_of([&] { load_verifier(file, "siamese"); }), HasSubstr(file));
}

}  // namespace
}  // namespace zoo
