#include <torch/torch.h>

#include <algorithm>
#include <cmath>
#include <deque>

#include "models/diffusion/sampler_plan.h"
#include "models/diffusion/spacing.h"

namespace zoo {

namespace {

/// Samplers that go by σ̂ (Karras et al. 2022): x carries noise of deviation σ̂, the network sees x/√(σ̂²+1).
class SigmaSampler : public Sampler {
 protected:
  SigmaSampler(const SamplerPlan& plan, bool karras) : Sampler(plan.options.prediction_type) {
    scales_input_ = true;
    std::vector<double> times = spaced_times(plan.options, TimeGrid::fractional, plan.steps);
    const std::vector<double> table = sigma_table(plan.alphas_cumprod);
    std::vector<double> sigmas;
    for (const double time : times) sigmas.push_back(value_at(table, time));
    if (karras) {
      sigmas = karras_sigmas(sigmas.front(), sigmas.back(), plan.steps);
      for (size_t i = 0; i < times.size(); ++i) times[i] = time_of_sigma(table, sigmas[i]);
    }
    start_factor_ = start_of(plan.options, *std::max_element(sigmas.begin(), sigmas.end()));
    timesteps_.assign(times.begin() + plan.skipped, times.end());
    sigmas_.assign(sigmas.begin() + plan.skipped, sigmas.end());
    sigmas_.push_back(0);
    set_levels();
  }

  void set_levels() {
    levels_.clear();
    for (size_t i = 0; i < timesteps_.size(); ++i) levels_.push_back({1, sigmas_[i]});
  }

  /// dx/dσ̂ = (x - x0)/σ̂.
  torch::Tensor slope(const torch::Tensor& output, size_t call, const torch::Tensor& x) const {
    return noise_of(output, x, levels_[call]);
  }

 private:
  /// Leading times end below the highest level, so what is there of the picture counts.
  static double start_of(const SchedulerOptions& options, double highest) {
    return options.timestep_spacing == "leading" ? std::hypot(highest, 1.0) : highest;
  }
};

class Euler : public SigmaSampler {
 public:
  explicit Euler(const SamplerPlan& plan) : SigmaSampler(plan, plan.options.use_karras_sigmas) {}

 protected:
  torch::Tensor advance(const torch::Tensor& output, size_t call, const torch::Tensor& x,
                        NoiseSource&) override {
    return x + (sigmas_[call + 1] - sigmas_[call]) * slope(output, call, x);
  }
};

/// Goes further down than the next level and comes back up by new noise (DDPM's variance in terms of σ̂).
class EulerAncestral : public SigmaSampler {
 public:
  explicit EulerAncestral(const SamplerPlan& plan) : SigmaSampler(plan, false) {}

 protected:
  torch::Tensor advance(const torch::Tensor& output, size_t call, const torch::Tensor& x,
                        NoiseSource& noise) override {
    const double now = sigmas_[call], next = sigmas_[call + 1];
    const double up = std::sqrt(next * next * (now * now - next * next) / (now * now));
    const double down = std::sqrt(next * next - up * up);
    return x + (down - now) * slope(output, call, x) + up * noise.draw_like(x);
  }
};

/// Karras et al. 2022, algorithm 1: the mean of the slopes at both ends. Two calls a step, one for the last.
class Heun : public SigmaSampler {
 public:
  explicit Heun(const SamplerPlan& plan) : SigmaSampler(plan, plan.options.use_karras_sigmas) {
    timesteps_ = doubled(timesteps_, timesteps_.size());
    sigmas_ = doubled(sigmas_, sigmas_.size() - 1);
    set_levels();
  }

 protected:
  torch::Tensor advance(const torch::Tensor& output, size_t call, const torch::Tensor& x,
                        NoiseSource&) override {
    const torch::Tensor here = slope(output, call, x);
    if (call % 2 == 1) return start_ + (sigmas_[call] - sigmas_[call - 1]) * (slope_ + here) / 2;
    start_ = x;
    slope_ = here;
    return x + (sigmas_[call + 1] - sigmas_[call]) * here;
  }

 private:
  /// Every value but the first is there twice, up to `end`.
  static std::vector<double> doubled(const std::vector<double>& values, size_t end) {
    std::vector<double> result;
    for (size_t i = 0; i < values.size(); ++i)
      result.insert(result.end(), i == 0 || i >= end ? 1 : 2, values[i]);
    return result;
  }

  torch::Tensor start_, slope_;  // of the step that is half done
};

/// Linear multistep in σ̂: the slope between two levels by the polynomial through the last four.
class Lms : public SigmaSampler {
 public:
  explicit Lms(const SamplerPlan& plan) : SigmaSampler(plan, plan.options.use_karras_sigmas) {}

 protected:
  torch::Tensor advance(const torch::Tensor& output, size_t call, const torch::Tensor& x,
                        NoiseSource&) override {
    slopes_.push_front(slope(output, call, x));
    if (slopes_.size() > 4) slopes_.pop_back();
    torch::Tensor result = x;
    for (size_t j = 0; j < slopes_.size(); ++j) result = result + weight(call, j) * slopes_[j];
    return result;
  }

 private:
  /// ∫ of the Lagrange polynomial that is 1 at level call - j and 0 at the other levels of the history, from this level
  /// to the next: by two Gauss points, which is exact up to the cubics that there are.
  double weight(size_t call, size_t j) const {
    const double from = sigmas_[call], to = sigmas_[call + 1];
    double sum = 0;
    for (const double point : {-1 / std::sqrt(3.0), 1 / std::sqrt(3.0)}) {
      double value = 1;
      for (size_t k = 0; k < slopes_.size(); ++k) {
        if (k == j) continue;
        const double at = (from + to) / 2 + point * (to - from) / 2;
        value *= (at - sigmas_[call - k]) / (sigmas_[call - j] - sigmas_[call - k]);
      }
      sum += value;
    }
    return sum * (to - from) / 2;
  }

  std::deque<torch::Tensor> slopes_;  // newest first
};

}  // namespace

std::unique_ptr<Sampler> make_euler(const SamplerPlan& plan) {
  return std::make_unique<Euler>(plan);
}

std::unique_ptr<Sampler> make_euler_ancestral(const SamplerPlan& plan) {
  return std::make_unique<EulerAncestral>(plan);
}

std::unique_ptr<Sampler> make_heun(const SamplerPlan& plan) {
  return std::make_unique<Heun>(plan);
}

std::unique_ptr<Sampler> make_lms(const SamplerPlan& plan) {
  return std::make_unique<Lms>(plan);
}

}  // namespace zoo
