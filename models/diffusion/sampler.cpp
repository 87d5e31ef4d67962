#include "models/diffusion/sampler.h"

#include <torch/torch.h>

#include <algorithm>
#include <cmath>
#include <utility>

#include "core/error.h"
#include "core/text.h"
#include "models/diffusion/sampler_plan.h"

namespace zoo {

namespace {

using MakeSampler = std::unique_ptr<Sampler> (*)(const SamplerPlan&);

const std::vector<std::pair<SamplerInfo, MakeSampler>>& sampler_rows() {
  static const std::vector<std::pair<SamplerInfo, MakeSampler>> rows = {
      {{"ddpm", "Ho et al. 2020: the Markov chain itself, noise at every step", "DDPMScheduler"}, make_ddpm},
      {{"ddim", "Song et al. 2020: deterministic; scheduler.eta adds noise", "DDIMScheduler"}, make_ddim},
      {{"plms", "Liu et al. 2022: linear multistep of order 4, Stable Diffusion's first", "PNDMScheduler"},
       make_plms},
      {{"euler", "Karras et al. 2022: one step along the tangent", "EulerDiscreteScheduler"}, make_euler},
      {{"euler_a", "ancestral Euler: noise at every step", "EulerAncestralDiscreteScheduler"},
       make_euler_ancestral},
      {{"heun", "Karras et al. 2022, algorithm 1: two calls a step", "HeunDiscreteScheduler"}, make_heun},
      {{"lms", "Adams-Bashforth of order 4 in sigma", "LMSDiscreteScheduler"}, make_lms},
      {{"dpmpp_2m", "Lu et al. 2022: DPM-Solver++, two steps", "DPMSolverMultistepScheduler"}, make_dpmpp_2m},
      {{"dpmpp_2m_karras", "the same with Karras' levels", "DPMSolverMultistepScheduler"},
       make_dpmpp_2m_karras},
      {{"unipc", "Zhao et al. 2023: order 2, predictor and corrector", "UniPCMultistepScheduler"},
       make_unipc},
  };
  return rows;
}

int64_t skipped_steps(int64_t steps, double strength) {
  require_range("--strength", strength, 0, 1);
  const auto kept = static_cast<int64_t>(static_cast<double>(steps) * strength);
  if (kept == 0)
    throw UsageError(format("--strength: %g of %lld steps keeps none, expected at least %.3g", strength,
                            static_cast<long long>(steps), 1.0 / static_cast<double>(steps)));
  return steps - kept;
}

}  // namespace

const std::vector<SamplerInfo>& samplers() {
  static const std::vector<SamplerInfo> infos = [] {
    std::vector<SamplerInfo> all;
    for (const auto& row : sampler_rows()) all.push_back(row.first);
    return all;
  }();
  return infos;
}

std::unique_ptr<Sampler> make_sampler(const std::string& name, const SchedulerOptions& options, int64_t steps,
                                      double strength) {
  require_count("--steps", steps, 1, static_cast<double>(options.num_train_timesteps));
  std::vector<std::string> names;
  for (const auto& row : sampler_rows()) names.push_back(row.first.name);
  require_choice("--sampler", name, names);
  if (name == "plms" && options.rescale_betas_zero_snr)
    throw UsageError(
        "--sampler: plms does not start from pure noise (rescale_betas_zero_snr), expected ddim");
  SamplerPlan plan{options, NoiseSchedule(options).alphas_cumprod(), steps, skipped_steps(steps, strength)};
  for (const auto& row : sampler_rows()) {
    if (row.first.name == name) return row.second(plan);
  }
  throw Error("sampler '" + name + "' has no row");
}

torch::Tensor Sampler::scale_input(const torch::Tensor& x, size_t call) const {
  if (!scales_input_) return x;
  return x / std::hypot(levels_.at(call).noise, 1.0);
}

torch::Tensor Sampler::noised(const torch::Tensor& clean, const torch::Tensor& noise, size_t call) const {
  if (call >= levels_.size()) return clean;
  return levels_[call].signal * clean + levels_[call].noise * noise;
}

torch::Tensor Sampler::step(const torch::Tensor& output, size_t call, const torch::Tensor& x,
                            NoiseSource& noise) {
  if (call >= timesteps_.size() || output.sizes() != x.sizes())
    throw Error(format("sampler: call %zu of %zu with another shape or place than expected", call,
                       timesteps_.size()));
  return advance(output.to(x.scalar_type()), call, x, noise);
}

torch::Tensor Sampler::clean_of(const torch::Tensor& output, const torch::Tensor& x,
                                const Level& level) const {
  if (prediction_ == "sample") return output;
  if (prediction_ == "epsilon") return (x - level.noise * output) / level.signal;
  const double length = std::hypot(level.signal, level.noise);  // of what the network saw as 1
  return (level.signal / (length * length)) * x - (level.noise / length) * output;
}

torch::Tensor Sampler::noise_of(const torch::Tensor& output, const torch::Tensor& x,
                                const Level& level) const {
  if (prediction_ == "epsilon") return output;
  if (prediction_ == "sample") return (x - level.signal * output) / level.noise;
  const double length = std::hypot(level.signal, level.noise);
  return (level.signal / length) * output + (level.noise / (length * length)) * x;
}

}  // namespace zoo
