#pragma once
#include <memory>
#include <string>
#include <vector>

#include "models/diffusion/sampler.h"

namespace zoo {

/// What every family of samplers is made from.
struct SamplerPlan {
  SchedulerOptions options;
  std::vector<double> alphas_cumprod;
  int64_t steps = 0;    ///< of the whole run
  int64_t skipped = 0;  ///< of these, left out at the beginning

  /// ᾱ at a whole time.
  double alpha_at(double time) const { return alphas_cumprod[static_cast<size_t>(time)]; }
};

std::unique_ptr<Sampler> make_ddpm(const SamplerPlan& plan);
std::unique_ptr<Sampler> make_ddim(const SamplerPlan& plan);
std::unique_ptr<Sampler> make_plms(const SamplerPlan& plan);
std::unique_ptr<Sampler> make_euler(const SamplerPlan& plan);
std::unique_ptr<Sampler> make_euler_ancestral(const SamplerPlan& plan);
std::unique_ptr<Sampler> make_heun(const SamplerPlan& plan);
std::unique_ptr<Sampler> make_lms(const SamplerPlan& plan);
std::unique_ptr<Sampler> make_dpmpp_2m(const SamplerPlan& plan);
std::unique_ptr<Sampler> make_dpmpp_2m_karras(const SamplerPlan& plan);
std::unique_ptr<Sampler> make_unipc(const SamplerPlan& plan);

}  // namespace zoo
