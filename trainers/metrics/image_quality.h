#pragma once
#include <string>

#include <torch/types.h>

namespace zoo {

// How near pictures are to their originals: both [B,3,H,W] in -1…1, rounded to the 8 bits of a file first. One figure a
// picture, [B] double. Throw Error naming `source` where the shapes differ.

/// 10·log10(255²/mean squared difference) in decibels; infinite for equal pictures.
torch::Tensor psnr(const torch::Tensor& images, const torch::Tensor& originals, const std::string& source);

/// Wang et al. 2004, "Image quality assessment: from error visibility to structural similarity", equation 13: Gaussian
/// window 11×11 of σ 1.5, K1 = 0.01, K2 = 0.03, population statistics, mean over the channels and the places where the
/// window lies within the picture. Throws Error for sides below 11.
torch::Tensor ssim(const torch::Tensor& images, const torch::Tensor& originals, const std::string& source);

}  // namespace zoo
