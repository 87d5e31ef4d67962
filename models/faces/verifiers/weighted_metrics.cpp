#include "models/faces/verifiers/weighted_metrics.h"

#include <torch/torch.h>

#include <algorithm>

#include "core/error.h"

namespace zoo {

void ChiSquareOptions::validate() const {
  require_choice("verify.chi_square.classifier", classifier, {"svm", "logistic"});
  require_positive("verify.chi_square.l2", l2);
}

void SiameseOptions::validate() const {
  require_positive("verify.siamese.l2", l2);
}

torch::Tensor chi_square_terms(const torch::Tensor& f, const torch::Tensor& g) {
  const torch::Tensor sum = f.abs() + g.abs();
  return torch::where(sum > 0, (f - g).square() / sum.clamp_min(1e-300), torch::zeros_like(sum));
}

torch::Tensor siamese_terms(const torch::Tensor& f, const torch::Tensor& g) {
  return (f - g).abs();
}

torch::Tensor FeatureScale::apply(const torch::Tensor& x) const {
  const torch::Tensor scaled = x / largest;
  return scaled / scaled.norm(2, 1, true).clamp_min(1e-300);
}

FeatureScale fit_feature_scale(const torch::Tensor& x) {
  return {x.abs().amax(0).clamp_min(0.05)};
}

LinearModel fit_linear(const torch::Tensor& terms, const std::vector<uint8_t>& same,
                       const std::string& classifier, double l2) {
  const auto genuine = std::count(same.begin(), same.end(), 1);
  if (genuine == 0 || genuine == static_cast<int64_t>(same.size()))
    throw Error("a verifier needs pairs of one person and pairs of two to be fitted to");
  const torch::AutoGradMode gradients(true);
  const torch::Tensor sign =
      torch::tensor(std::vector<int64_t>(same.begin(), same.end())).to(torch::kDouble) * 2 - 1;
  const torch::Tensor mean = terms.mean(0);
  const torch::Tensor deviation = terms.std(0, /*unbiased=*/false);
  // A term that never varies gets no weight.
  const torch::Tensor inverse = torch::where(deviation > 1e-12, deviation.clamp_min(1e-12).reciprocal(), 0.0);
  const torch::Tensor x = (terms - mean) * inverse;
  torch::Tensor weight = torch::zeros({x.size(1)}, torch::kDouble).requires_grad_();
  torch::Tensor bias = torch::zeros({}, torch::kDouble).requires_grad_();
  torch::optim::LBFGS optimizer({weight, bias}, torch::optim::LBFGSOptions(1.0)
                                                    .max_iter(500)
                                                    .tolerance_grad(1e-8)
                                                    .tolerance_change(1e-12)
                                                    .line_search_fn("strong_wolfe"));
  optimizer.step([&] {
    optimizer.zero_grad();
    const torch::Tensor margin = sign * (x.mv(weight) + bias);
    const torch::Tensor loss =
        classifier == "svm" ? torch::relu(1 - margin).square().mean() : torch::softplus(-margin).mean();
    torch::Tensor total = loss + l2 / 2 * weight.square().sum();
    total.backward();
    return total;
  });
  const torch::Tensor scaled = weight.detach() * inverse;
  return {scaled, bias.detach() - scaled.dot(mean)};
}

}  // namespace zoo
