#include "models/face_losses/margins.h"

#include <cmath>
#include <limits>

#include <torch/torch.h>

#include "core/numbers.h"

namespace zoo {

namespace {

double precision_of(const torch::Tensor& x) {
  return x.scalar_type() == torch::kDouble ? std::numeric_limits<double>::epsilon()
                                           : std::numeric_limits<float>::epsilon();
}

}  // namespace

torch::Tensor row_norms(const torch::Tensor& rows) {
  return torch::linalg_vector_norm(rows, 2, torch::IntArrayRef({1}), /*keepdim=*/true);
}

torch::Tensor unit_rows(const torch::Tensor& rows, const torch::Tensor& norms) {
  const torch::Tensor directed = norms.ge(kLeastNorm);
  return torch::where(directed, rows, 0) / torch::where(directed, norms, 1);
}

torch::Tensor sine_of(const torch::Tensor& cosine) {
  return (1 - cosine * cosine).clamp_min(precision_of(cosine)).sqrt();
}

torch::Tensor angle_of(const torch::Tensor& cosine) {
  const double most = 1 - precision_of(cosine);
  return cosine.clamp(-most, most).acos();
}

torch::Tensor arc_margin(const torch::Tensor& cosine, const torch::Tensor& margin, bool easy) {
  const torch::Tensor cos_m = margin.cos(), sin_m = margin.sin();
  const torch::Tensor bent = cosine * cos_m - sine_of(cosine) * sin_m;
  if (easy) return torch::where(cosine > 0, bent, cosine);
  return torch::where(cosine > -cos_m, bent, cosine - margin * sin_m);
}

torch::Tensor combined_margin(const torch::Tensor& cosine, double m1, double m2, double m3) {
  return (m1 * angle_of(cosine) + m2).clamp_max(kPi).cos() - m3;
}

torch::Tensor multiplicative_margin(const torch::Tensor& cosine, int64_t margin) {
  torch::Tensor before = torch::ones_like(cosine), multiple = cosine;  // cos(0·θ), cos(1·θ)
  torch::Tensor k = torch::zeros_like(cosine);
  for (int64_t i = 1; i < margin; ++i) {
    const torch::Tensor next = 2 * cosine * multiple - before;
    before = multiple, multiple = next;
    k = k + cosine.detach().le(std::cos(kPi * static_cast<double>(i) / static_cast<double>(margin)));
  }
  return (1 - 2 * k.remainder(2)) * multiple - 2 * k;
}

torch::Tensor straight_through(const torch::Tensor& cosine, const torch::Tensor& bent) {
  return cosine + (bent - cosine).detach();
}

torch::Tensor log1p_exp(const torch::Tensor& x) {
  return torch::softplus(x, /*beta=*/1, /*threshold=*/50);
}

double least_scale(int64_t classes, double posterior) {
  const double others = static_cast<double>(classes) - 1;
  return others / (others + 1) * std::log(others * posterior / (1 - posterior));
}

}  // namespace zoo
