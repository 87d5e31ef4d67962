#pragma once
#include <cstdint>
#include <string>
#include <vector>

#include <torch/types.h>

#include "core/options.h"

namespace zoo {

/// Section `model.scheduler`: how much noise a time has, what the network predicts, and which times sampling visits.
/// Keys and values are those of diffusers' scheduler_config.json where it has them; defaults are Stable Diffusion 1's.
struct SchedulerOptions {
  std::string sampler = "plms";        ///< where none is asked for; a row of samplers()
  int64_t num_train_timesteps = 1000;  ///< N
  double beta_start = 0.00085, beta_end = 0.012;
  std::string beta_schedule =
      "scaled_linear";  ///< linear (DDPM), scaled_linear (LDM), squaredcos_cap_v2 (2102.09672)
  std::string prediction_type = "epsilon";  ///< epsilon, v_prediction (2202.00512) or sample
  std::string timestep_spacing =
      "auto";                     ///< leading, linspace, trailing; auto: what diffusers has for the sampler
  int64_t steps_offset = 1;       ///< added to leading times
  bool set_alpha_to_one = false;  ///< ddim, plms: no noise after the last step, instead of that of time 0
  bool clip_sample = false;       ///< ddpm, ddim: x0 kept within ±clip_sample_range
  double clip_sample_range = 1;
  bool rescale_betas_zero_snr =
      false;  ///< Lin et al. 2023 (2305.08891), section 3.1: no signal at the last time
  bool use_karras_sigmas =
      false;  ///< Karras et al. 2022 (2206.00364), equation 5; not ddpm ddim plms euler_a
  std::string final_sigmas_type = "zero";  ///< dpmpp_2m, unipc: zero or sigma_min after the last step
  double eta = 0;                          ///< ddim: share of DDPM's noise (2010.02502, equation 16)

  /// Throws UsageError naming the key, its value and the range.
  void validate() const;
};
NLOHMANN_DEFINE_TYPE_NON_INTRUSIVE(SchedulerOptions, sampler, num_train_timesteps, beta_start, beta_end,
                                   beta_schedule, prediction_type, timestep_spacing, steps_offset,
                                   set_alpha_to_one, clip_sample, clip_sample_range, rescale_betas_zero_snr,
                                   use_karras_sigmas, final_sigmas_type, eta)

/// The options that a scheduler_config.json of diffusers tells; what it leaves out is its class's default. Throws Error
/// naming `source` for a value of another type or range, and for settings that change the result and are not known here
/// (thresholding, trained_betas, Runge-Kutta start, other solvers).
SchedulerOptions scheduler_from_diffusers(const Json& config, const std::string& source);
/// The scheduler_config.json of the same sampler for diffusers.
Json scheduler_to_diffusers(const SchedulerOptions& options);

/// Noise by time t = 0…N-1: a picture x0 becomes √ᾱ_t·x0 + √(1-ᾱ_t)·ε. Computed in double.
class NoiseSchedule {
 public:
  /// Throws UsageError as SchedulerOptions::validate.
  explicit NoiseSchedule(const SchedulerOptions& options);

  /// ᾱ_t, t = 0…N-1. With zero terminal SNR the last is 0.
  const std::vector<double>& alphas_cumprod() const { return alphas_cumprod_; }

  /// √ᾱ_t·x0 + √(1-ᾱ_t)·noise for x0 and noise [B,…] float and t [B] int64.
  torch::Tensor add_noise(const torch::Tensor& x0, const torch::Tensor& noise, const torch::Tensor& t) const;
  /// What the network is trained to say of that: noise, √ᾱ_t·noise - √(1-ᾱ_t)·x0 (v), or x0.
  torch::Tensor target(const torch::Tensor& x0, const torch::Tensor& noise, const torch::Tensor& t) const;
  /// Weights [B] float of the squared errors by min-SNR (Hang et al. 2023, 2303.09556): min(SNR,γ) on the error of x0,
  /// that is /SNR for epsilon and /(SNR+1) for v. γ <= 0: ones.
  torch::Tensor loss_weights(const torch::Tensor& t, double gamma) const;

 private:
  torch::Tensor rows(const std::vector<double>& table, const torch::Tensor& t,
                     const torch::Tensor& like) const;

  std::string prediction_;
  std::vector<double> alphas_cumprod_;
  std::vector<double> signal_, noise_;  // √ᾱ, √(1-ᾱ)
};

/// Gaussian noise like x [B,C,h,w] with a shift of `strength` deviations for each picture and channel ("offset noise"),
/// so that a network learns to change a picture's mean. From the default generator.
torch::Tensor training_noise(const torch::Tensor& like, double strength);

}  // namespace zoo
