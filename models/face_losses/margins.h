#pragma once
#include <cstdint>

#include <torch/types.h>

namespace zoo {

// What margin losses make of a sample's own cosine; elementwise, differentiable, finite with finite gradients
// on all of [−1, 1] and for what rounding puts beyond.

/// 2-norms of rows [R,1] of [R,D].
torch::Tensor row_norms(const torch::Tensor& rows);
/// Norms below this have no direction.
inline constexpr double kLeastNorm = 1e-6;
/// Rows over their norms; 0 with gradient 0 where the norm is below kLeastNorm.
torch::Tensor unit_rows(const torch::Tensor& rows, const torch::Tensor& norms);

/// √(1 − c²), kept above the root of the type's precision: its slope is infinite at ±1.
torch::Tensor sine_of(const torch::Tensor& cosine);
/// acos in radians, off 0 and π by the root of twice the type's precision, where its slope is infinite.
torch::Tensor angle_of(const torch::Tensor& cosine);

/// cos(θ + m), m [] or [N]. It rises again beyond θ = π − m: there c − m sin m, or, with `easy`, c wherever
/// c ≤ 0. Neither joins smoothly: at m = 0.5 the value steps from −1 to −1.117 at the one, by sin m at the other.
torch::Tensor arc_margin(const torch::Tensor& cosine, const torch::Tensor& margin, bool easy);
/// cos(min(m1·θ + m2, π)) − m3.
torch::Tensor combined_margin(const torch::Tensor& cosine, double m1, double m2, double m3);
/// ψ(θ) = (−1)^k cos(mθ) − 2k, k = ⌊mθ/π⌋: falls from 1 to 1 − 2m, by Chebyshev's polynomial.
torch::Tensor multiplicative_margin(const torch::Tensor& cosine, int64_t margin);
/// The value of `bent` with the gradient of `cosine`.
torch::Tensor straight_through(const torch::Tensor& cosine, const torch::Tensor& bent);

/// log(1 + e^x), exact to rounding (torch's default is x beyond 20).
torch::Tensor log1p_exp(const torch::Tensor& x);

/// The scale s with which a sample at its class's centre, all C centres as far apart as they can be, has this
/// posterior: ((C−1)/C) ln((C−1)p/(1−p)), CosFace (arXiv 1801.09414), equation 6.
double least_scale(int64_t classes, double posterior);

}  // namespace zoo
