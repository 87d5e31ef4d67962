#include "trainers/metrics/image_quality.h"

#include <torch/torch.h>

#include "core/error.h"
#include "core/text.h"

namespace zoo {

namespace {

constexpr int64_t kWindow = 11;
constexpr double kDeviation = 1.5, kPeak = 255;

/// 0…255, whole numbers in double.
torch::Tensor eight_bits(const torch::Tensor& images) {
  return ((images.to(torch::kDouble) + 1) * (kPeak / 2)).clamp(0, kPeak).round();
}

void check_pictures(const torch::Tensor& images, const torch::Tensor& originals, int64_t least,
                    const std::string& source) {
  if (images.dim() != 4 || images.sizes() != originals.sizes())
    throw Error(source + ": pictures and originals differ in shape, expected two batches [B,3,H,W]");
  if (images.size(2) < least || images.size(3) < least)
    throw Error(format("%s: pictures of %lldx%lld, expected sides of at least %lld", source.c_str(),
                       static_cast<long long>(images.size(2)), static_cast<long long>(images.size(3)),
                       static_cast<long long>(least)));
}

/// Weighted means around every place, rows and columns one after the other.
torch::Tensor window_means(const torch::Tensor& x) {
  const torch::Tensor distance = torch::arange(kWindow, torch::kDouble) - (kWindow / 2);
  torch::Tensor weights = (-distance * distance / (2 * kDeviation * kDeviation)).exp();
  weights = weights / weights.sum();
  const torch::Tensor planes = x.flatten(0, 1).unsqueeze(1);
  const torch::Tensor rows = torch::conv2d(planes, weights.view({1, 1, kWindow, 1}));
  return torch::conv2d(rows, weights.view({1, 1, 1, kWindow}))
      .squeeze(1)
      .unflatten(0, {x.size(0), x.size(1)});
}

}  // namespace

torch::Tensor psnr(const torch::Tensor& images, const torch::Tensor& originals, const std::string& source) {
  check_pictures(images, originals, 1, source);
  const torch::Tensor error = (eight_bits(images) - eight_bits(originals)).square().flatten(1).mean(1);
  return 10 * (kPeak * kPeak / error).log10();
}

torch::Tensor ssim(const torch::Tensor& images, const torch::Tensor& originals, const std::string& source) {
  check_pictures(images, originals, kWindow, source);
  const torch::Tensor x = eight_bits(images), y = eight_bits(originals);
  const torch::Tensor mean_x = window_means(x), mean_y = window_means(y);
  const torch::Tensor variance_x = window_means(x * x) - mean_x.square();
  const torch::Tensor variance_y = window_means(y * y) - mean_y.square();
  const torch::Tensor covariance = window_means(x * y) - mean_x * mean_y;
  const double c1 = (0.01 * kPeak) * (0.01 * kPeak), c2 = (0.03 * kPeak) * (0.03 * kPeak);
  const torch::Tensor similarity =
      (2 * mean_x * mean_y + c1) * (2 * covariance + c2) /
      ((mean_x.square() + mean_y.square() + c1) * (variance_x + variance_y + c2));
  return similarity.flatten(1).mean(1);
}

}  // namespace zoo
