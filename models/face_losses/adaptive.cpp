#include "models/face_losses/adaptive.h"

#include <cmath>
#include <tuple>

#include <torch/torch.h>

#include "core/numbers.h"
#include "models/face_losses/margins.h"

namespace zoo {

namespace {

using torch::Tensor;

constexpr double kAdaFaceEps = 1e-3;

Tensor constant(double value, const Tensor& like) {
  return torch::full({}, value, like.options());
}

/// statistic += momentum (value − statistic)
void move_to(Tensor& statistic, const Tensor& value, double momentum) {
  statistic.lerp_(value.to(statistic.scalar_type()), momentum);
}

}  // namespace

AdaFaceLossImpl::AdaFaceLossImpl(const ClassifierSetup& setup, const AdaFaceOptions& options)
    : CosineLossImpl(setup, options.scale), options_(options) {
  norm_mean_ = register_buffer("norm_mean", torch::full({}, 20.0, torch::kFloat));
  norm_deviation_ = register_buffer("norm_deviation", torch::full({}, 100.0, torch::kFloat));
}

Tensor AdaFaceLossImpl::margin(const Tensor& cosine, const FaceSamples& samples) {
  Tensor quality;  // [N] −1…1
  {
    const torch::NoGradGuard no_grad;
    const Tensor norms = samples.norms.clamp(0.001, 100);
    if (is_training()) {
      move_to(norm_mean_, norms.mean(), options_.momentum);
      // A batch of one has no deviation.
      if (norms.size(0) > 1) move_to(norm_deviation_, norms.std(), options_.momentum);
    }
    quality = (norms - norm_mean_) / (norm_deviation_ + kAdaFaceEps) * options_.concentration;
    quality.clamp_(-1, 1);
  }
  const double m = options_.margin;
  const Tensor angle = angle_of(cosine.clamp(kAdaFaceEps - 1, 1 - kAdaFaceEps)) - m * quality;
  return angle.clamp(kAdaFaceEps, kPi - kAdaFaceEps).cos() - m * (1 + quality);
}

MagFaceLossImpl::MagFaceLossImpl(const ClassifierSetup& setup, const MagFaceOptions& options)
    : CosineLossImpl(setup, options.scale), options_(options) {}

Tensor MagFaceLossImpl::held(const Tensor& norms) const {
  return norms.clamp(options_.lower_norm, options_.upper_norm);
}

Tensor MagFaceLossImpl::margin(const Tensor& cosine, const FaceSamples& samples) {
  const double slope =
      (options_.upper_margin - options_.lower_margin) / (options_.upper_norm - options_.lower_norm);
  const Tensor margins = options_.lower_margin + slope * (held(samples.norms) - options_.lower_norm);
  return arc_margin(cosine, margins, options_.easy_margin);
}

void MagFaceLossImpl::add_terms(LossTerms& loss, const FaceSamples& samples) {
  const Tensor a = held(samples.norms);
  const Tensor g = (a / (options_.upper_norm * options_.upper_norm) + 1 / a).mean();
  loss.total = loss.total + options_.norm_weight * g;
  loss.terms.emplace_back("loss_g", g.detach());
}

CurricularFaceLossImpl::CurricularFaceLossImpl(const ClassifierSetup& setup,
                                               const CurricularFaceOptions& options)
    : CosineLossImpl(setup, options.scale), options_(options) {
  hardness_ = register_buffer("hardness", torch::zeros({}, torch::kFloat));
}

Tensor CurricularFaceLossImpl::margin(const Tensor& cosine, const FaceSamples&) {
  return arc_margin(cosine, constant(options_.margin, cosine), /*easy=*/false);
}

OtherLogits CurricularFaceLossImpl::other_logits(const Tensor& own) {
  const torch::NoGradGuard no_grad;
  const Tensor cosine = own / scale();
  if (is_training()) move_to(hardness_, cosine.mean(), options_.momentum);
  const Tensor t = hardness_.to(own.scalar_type(), /*non_blocking=*/false, /*copy=*/true);
  const double m = options_.margin, s = scale();
  const Tensor bent = cosine * std::cos(m) - sine_of(cosine) * std::sin(m);
  const Tensor threshold = (s * bent).unsqueeze(1);  // [N,1] of z = s·c
  return {[=](const Tensor& z) { return torch::where(z > threshold, z * (t + z / s), z); },
          [=](const Tensor& z) { return torch::where(z > threshold, t + z * (2 / s), 1); }};
}

ElasticFaceLossImpl::ElasticFaceLossImpl(const ClassifierSetup& setup, const ElasticFaceOptions& options)
    : CosineLossImpl(setup, options.scale), options_(options) {}

Tensor ElasticFaceLossImpl::margin(const Tensor& cosine, const FaceSamples&) {
  const Tensor drawn = drawn_by_first(torch::randn_like(cosine.detach()), ranks());  // [N]
  Tensor margins = options_.margin + options_.deviation * drawn;
  if (options_.plus) {
    const Tensor order = cosine.detach().argsort(/*dim=*/0, /*descending=*/true);
    margins = torch::empty_like(margins).index_copy_(0, order, std::get<0>(margins.sort()));
  }
  if (options_.kind == "cos") return cosine - margins;
  return arc_margin(cosine, margins, /*easy=*/false);
}

}  // namespace zoo
