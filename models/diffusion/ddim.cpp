#include <torch/torch.h>

#include <algorithm>
#include <cmath>

#include "models/diffusion/sampler_plan.h"
#include "models/diffusion/spacing.h"

namespace zoo {

namespace {

/// What DDPM and DDIM share: whole times, levels by ᾱ, x0 clipped where asked for.
class ChainSampler : public Sampler {
 protected:
  explicit ChainSampler(const SamplerPlan& plan) : Sampler(plan.options.prediction_type), plan_(plan) {
    const std::vector<double> all = spaced_times(plan.options, TimeGrid::whole, plan.steps);
    timesteps_.assign(all.begin() + plan.skipped, all.end());
    for (const double time : timesteps_)
      levels_.push_back({std::sqrt(plan.alpha_at(time)), std::sqrt(1 - plan.alpha_at(time))});
  }

  torch::Tensor clipped_clean_of(const torch::Tensor& output, const torch::Tensor& x, size_t call) const {
    const torch::Tensor clean = clean_of(output, x, levels_[call]);
    if (!plan_.options.clip_sample) return clean;
    return clean.clamp(-plan_.options.clip_sample_range, plan_.options.clip_sample_range);
  }

  const SamplerPlan plan_;
};

/// Ho et al. 2020, equations 7 and 15, over the pair of a time and the next one of the list.
class Ddpm : public ChainSampler {
 public:
  explicit Ddpm(const SamplerPlan& plan) : ChainSampler(plan) {}

 protected:
  torch::Tensor advance(const torch::Tensor& output, size_t call, const torch::Tensor& x,
                        NoiseSource& noise) override {
    const double now = plan_.alpha_at(timesteps_[call]);
    const double next = call + 1 < timesteps_.size() ? plan_.alpha_at(timesteps_[call + 1]) : 1;
    const double alpha = now / next, beta = 1 - alpha;
    const torch::Tensor mean = (std::sqrt(next) * beta / (1 - now)) * clipped_clean_of(output, x, call) +
                               (std::sqrt(alpha) * (1 - next) / (1 - now)) * x;
    if (timesteps_[call] == 0) return mean;
    // The last step draws too, so that generators stay in step with the reference; its variance is nothing.
    const double variance = std::max((1 - next) / (1 - now) * beta, 1e-20);
    return mean + std::sqrt(variance) * noise.draw_like(x);
  }
};

/// Song et al. 2020, equations 12 and 16. The next time is N div steps before, whatever the spacing.
class Ddim : public ChainSampler {
 public:
  explicit Ddim(const SamplerPlan& plan) : ChainSampler(plan) {}

 protected:
  torch::Tensor advance(const torch::Tensor& output, size_t call, const torch::Tensor& x,
                        NoiseSource& noise) override {
    const double interval = static_cast<double>(plan_.options.num_train_timesteps / plan_.steps);
    const double next_time = timesteps_[call] - interval;
    const double last = plan_.options.set_alpha_to_one ? 1 : plan_.alphas_cumprod.front();
    const double now = plan_.alpha_at(timesteps_[call]),
                 next = next_time >= 0 ? plan_.alpha_at(next_time) : last;
    const double variance = (1 - next) / (1 - now) * (1 - now / next);
    const double deviation = plan_.options.eta * std::sqrt(variance);
    const double direction = std::sqrt(std::max(1 - next - deviation * deviation, 0.0));
    torch::Tensor result =
        std::sqrt(next) * clipped_clean_of(output, x, call) + direction * noise_of(output, x, levels_[call]);
    if (deviation > 0) result += deviation * noise.draw_like(x);
    return result;
  }
};

}  // namespace

std::unique_ptr<Sampler> make_ddpm(const SamplerPlan& plan) {
  return std::make_unique<Ddpm>(plan);
}

std::unique_ptr<Sampler> make_ddim(const SamplerPlan& plan) {
  return std::make_unique<Ddim>(plan);
}

}  // namespace zoo
