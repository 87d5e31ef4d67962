#include "models/faces/verifiers/verifier.h"

#include <torch/torch.h>

#include <algorithm>

#include "core/error.h"

namespace zoo {

namespace {

constexpr const char* kMetadata = "zoo.verifier";
constexpr int64_t kPairsAtOnce = 4096;

torch::Tensor unit(const torch::Tensor& x) {
  return x / x.norm(2, 1, true).clamp_min(1e-300);
}

class Cosine : public Verifier {
 public:
  torch::Tensor score(const torch::Tensor& a, const torch::Tensor& b) const override {
    return (unit(a.to(torch::kDouble)) * unit(b.to(torch::kDouble))).sum(1);
  }
};

class Euclidean : public Verifier {
 public:
  torch::Tensor score(const torch::Tensor& a, const torch::Tensor& b) const override {
    return -(a.to(torch::kDouble) - b.to(torch::kDouble)).norm(2, 1);
  }
};

using Terms = torch::Tensor (*)(const torch::Tensor&, const torch::Tensor&);

/// A linear model over terms of scaled embeddings.
class WeightedMetric : public Verifier {
 public:
  WeightedMetric(Terms terms, FeatureScale scale, LinearModel model)
      : terms_(terms), scale_(std::move(scale)), model_(std::move(model)) {}

  torch::Tensor score(const torch::Tensor& a, const torch::Tensor& b) const override {
    torch::Tensor scores = torch::empty({a.size(0)}, torch::kDouble);
    for (int64_t begin = 0; begin < a.size(0); begin += kPairsAtOnce) {
      const int64_t count = std::min(kPairsAtOnce, a.size(0) - begin);
      const auto part = [&](const torch::Tensor& x) {
        return scale_.apply(x.narrow(0, begin, count).to(torch::kDouble));
      };
      scores.narrow(0, begin, count) = terms_(part(a), part(b)).mv(model_.weight) + model_.bias;
    }
    return scores;
  }
  std::vector<std::pair<std::string, torch::Tensor>> parameters() const override {
    return {{"largest", scale_.largest}, {"weight", model_.weight}, {"bias", model_.bias}};
  }

 private:
  Terms terms_;
  FeatureScale scale_;
  LinearModel model_;
};

class JointBayesian : public Verifier {
 public:
  JointBayesian(Pca pca, JointScore score, bool normalize)
      : pca_(std::move(pca)), score_(std::move(score)), normalize_(normalize) {}

  torch::Tensor score(const torch::Tensor& a, const torch::Tensor& b) const override {
    return score_(pca_.project(prepared(a, normalize_)), pca_.project(prepared(b, normalize_)));
  }
  std::vector<std::pair<std::string, torch::Tensor>> parameters() const override {
    return {{"mean", pca_.mean},
            {"basis", pca_.basis},
            {"a", score_.a},
            {"g", score_.g},
            {"normalize", torch::tensor(normalize_ ? 1 : 0, torch::kLong)}};
  }
  static torch::Tensor prepared(const torch::Tensor& x, bool normalize) {
    return normalize ? unit(x.to(torch::kDouble)) : x.to(torch::kDouble);
  }

 private:
  Pca pca_;
  JointScore score_;
  bool normalize_;
};

Terms terms_of(const std::string& metric) {
  return metric == "chi_square" ? chi_square_terms : siamese_terms;
}

std::unique_ptr<Verifier> fit_weighted(const VerifierOptions& options, const VerifierData& data) {
  const torch::Tensor x = data.embeddings.to(torch::kDouble);
  const auto rows = [&](const std::vector<int64_t>& numbers) {
    return x.index_select(0, torch::tensor(numbers, torch::kLong));
  };
  const torch::Tensor first = rows(data.first), second = rows(data.second);
  const FeatureScale scale = fit_feature_scale(torch::cat({first, second}));
  const Terms terms = terms_of(options.metric);
  const bool chi_square = options.metric == "chi_square";
  const LinearModel model = fit_linear(terms(scale.apply(first), scale.apply(second)), data.same,
                                       chi_square ? options.chi_square.classifier : "logistic",
                                       chi_square ? options.chi_square.l2 : options.siamese.l2);
  return std::make_unique<WeightedMetric>(terms, scale, model);
}

std::unique_ptr<Verifier> fit_joint_bayesian(const JointBayesianOptions& options, const VerifierData& data) {
  std::vector<int64_t> rows, identities;
  for (size_t i = 0; i < data.identities.size(); ++i) {
    if (data.identities[i] < 0) continue;
    rows.push_back(static_cast<int64_t>(i));
    identities.push_back(data.identities[i]);
  }
  const torch::Tensor x = JointBayesian::prepared(
      data.embeddings.index_select(0, torch::tensor(rows, torch::kLong)), options.normalize);
  const Pca pca = fit_pca(x, options.pca);
  const JointCovariances covariances = fit_joint_covariances(pca.project(x), identities, options);
  return std::make_unique<JointBayesian>(pca, JointScore(covariances), options.normalize);
}

}  // namespace

void VerifierOptions::validate() const {
  require_choice("verify.metric", metric, verifier_names());
  chi_square.validate();
  siamese.validate();
  joint_bayesian.validate();
}

const std::vector<std::string>& verifier_names() {
  static const std::vector<std::string> names = {"cosine", "euclidean", "chi_square", "siamese",
                                                 "joint_bayesian"};
  return names;
}

bool is_fitted(const std::string& metric) {
  return metric != "cosine" && metric != "euclidean";
}

std::unique_ptr<Verifier> fit_verifier(const VerifierOptions& options, const VerifierData& data) {
  if (options.metric == "cosine") return std::make_unique<Cosine>();
  if (options.metric == "euclidean") return std::make_unique<Euclidean>();
  if (options.metric == "joint_bayesian") return fit_joint_bayesian(options.joint_bayesian, data);
  return fit_weighted(options, data);
}

void save_verifier(const std::string& path, const Verifier& verifier, const Json& verification) {
  StateDict state;
  state.tensors = verifier.parameters();
  state.metadata[kMetadata] = verification.dump();
  save_safetensors(path, state);
}

StoredVerifier load_verifier(const std::string& path, const std::string& metric) {
  const StateDict state = load_state_dict(path);
  const auto kind = state.metadata.find(kMetadata);
  const Json stored = kind == state.metadata.end() ? Json() : Json::parse(kind->second, nullptr, false);
  if (!stored.is_object() || stored.value("metric", "") != metric || !is_fitted(metric))
    throw Error(path + ": holds no parameters of verify.metric=" + metric);
  const auto tensor = [&](const char* name) {
    const torch::Tensor* found = state.find(name);
    if (found == nullptr) throw Error(path + ": has no tensor '" + name + "'");
    return found->clone();
  };
  if (metric == "joint_bayesian") {
    return {std::make_unique<JointBayesian>(Pca{tensor("mean"), tensor("basis")},
                                            JointScore(tensor("a"), tensor("g")),
                                            tensor("normalize").item<int64_t>() != 0),
            stored};
  }
  return {std::make_unique<WeightedMetric>(terms_of(metric), FeatureScale{tensor("largest")},
                                           LinearModel{tensor("weight"), tensor("bias")}),
          stored};
}

}  // namespace zoo
