#pragma once
#include <torch/types.h>

namespace zoo {

/// Classifier-free guidance (Ho and Salimans 2022, arXiv 2207.12598, equation 6 in the form of Stable Diffusion):
/// e_u + scale·(e_c - e_u) for a network's output [2B,…], the first half without and the second with the prompt -> [B,…].
/// With `rescale` φ > 0 each picture's deviation is led back to that of e_c (Lin et al. 2023, arXiv 2305.08891, section
/// 3.4): φ·e·std(e_c)/std(e) + (1-φ)·e.
torch::Tensor guided(const torch::Tensor& both, double scale, double rescale = 0);

}  // namespace zoo
