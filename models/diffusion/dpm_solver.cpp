#include <torch/torch.h>

#include <cmath>

#include "models/diffusion/sampler_plan.h"
#include "models/diffusion/spacing.h"

namespace zoo {

namespace {

/// What the solvers in λ = log(α/σ) share (Lu et al. 2022, 2211.01095): x keeps variance 1, the network says x0.
class SolverSampler : public Sampler {
 protected:
  SolverSampler(const SamplerPlan& plan, bool karras)
      : Sampler(plan.options.prediction_type), few_(plan.steps < 15) {
    std::vector<double> times = spaced_times(plan.options, TimeGrid::solver, plan.steps);
    const std::vector<double> table = sigma_table(plan.alphas_cumprod);
    std::vector<double> sigmas;
    for (const double time : times) sigmas.push_back(value_at(table, time));
    if (karras) {
      sigmas = karras_sigmas(table.back(), table.front(), plan.steps);
      for (size_t i = 0; i < times.size(); ++i) times[i] = std::nearbyint(time_of_sigma(table, sigmas[i]));
    }
    timesteps_.assign(times.begin() + plan.skipped, times.end());
    sigmas_.assign(sigmas.begin() + plan.skipped, sigmas.end());
    sigmas_.push_back(plan.options.final_sigmas_type == "zero" ? 0 : table.front());
    for (size_t i = 0; i < timesteps_.size(); ++i) levels_.push_back(level_at(i));
  }

  /// α and σ at call i or, one further, at the end.
  Level level_at(size_t call) const {
    const double length = std::hypot(sigmas_[call], 1.0);
    return {1 / length, sigmas_[call] / length};
  }

  /// λ at call i less λ at call i - 1; infinite at an end without noise.
  double interval(size_t call) const { return std::log(sigmas_[call - 1] / sigmas_[call]); }

  /// From x at `call` to the next level along x0 + D1/2 (2211.01095, algorithm 2; UniPC's predictor is the same).
  torch::Tensor predict(size_t call, const torch::Tensor& x, const torch::Tensor& direction) const {
    const Level now = level_at(call), next = level_at(call + 1);
    return (next.noise / now.noise) * x - (next.signal * std::expm1(-interval(call + 1))) * direction;
  }

  /// x0 + D1/2, D1 = (x0 - x0_before)·h/h_before.
  torch::Tensor second_order(size_t call, const torch::Tensor& clean, const torch::Tensor& before) const {
    return clean + (interval(call + 1) / interval(call) / 2) * (clean - before);
  }

  bool last(size_t call) const { return call + 1 == timesteps_.size(); }

  const bool few_;  // steps, so that the last one is of order 1
};

class DpmSolver : public SolverSampler {
 public:
  DpmSolver(const SamplerPlan& plan, bool karras) : SolverSampler(plan, karras) {}

 protected:
  torch::Tensor advance(const torch::Tensor& output, size_t call, const torch::Tensor& x,
                        NoiseSource&) override {
    const torch::Tensor clean = clean_of(output, x, levels_[call]);
    const bool first_order = call == 0 || (last(call) && (few_ || sigmas_.back() == 0));
    torch::Tensor result = predict(call, x, first_order ? clean : second_order(call, clean, before_));
    before_ = clean;
    return result;
  }

 private:
  torch::Tensor before_;  // x0 of the call before
};

/// Zhao et al. 2023 (2302.04867), algorithms 5 and 6 at order 2 with B(h) = e^h - 1: every new x0 first redoes the step
/// that led to it.
class UniPc : public SolverSampler {
 public:
  explicit UniPc(const SamplerPlan& plan) : SolverSampler(plan, plan.options.use_karras_sigmas) {}

 protected:
  torch::Tensor advance(const torch::Tensor& output, size_t call, const torch::Tensor& x,
                        NoiseSource&) override {
    const torch::Tensor clean = clean_of(output, x, levels_[call]);
    const torch::Tensor corrected = call == 0 ? x : correct(call, clean);
    const bool first_order = call == 0 || last(call);
    torch::Tensor result = predict(call, corrected, first_order ? clean : second_order(call, clean, before_));
    x_ = corrected;
    twice_before_ = first_order ? torch::Tensor() : before_;
    before_ = clean;
    return result;
  }

 private:
  /// The step to this call again, from the corrected x before it.
  torch::Tensor correct(size_t call, const torch::Tensor& clean) const {
    const Level before = level_at(call - 1), now = level_at(call);
    const double h = -interval(call), growth = std::expm1(h);
    torch::Tensor correction;
    if (!twice_before_.defined()) {
      correction = (clean - before_) / 2;
    } else {
      // ρ1 + ρ2 = φ1/B, r·ρ1 + ρ2 = 2·φ2/B, r = (λ of two calls before - λ of the call before) / (this step's)
      const double ratio = -interval(call - 1) / interval(call);
      const double phi1 = growth / h - 1, phi2 = phi1 / h - 0.5;
      const double right1 = phi1 / growth, right2 = 2 * phi2 / growth;
      const double rho1 = (right2 - right1) / (ratio - 1), rho2 = right1 - rho1;
      correction = (rho1 / ratio) * (twice_before_ - before_) + rho2 * (clean - before_);
    }
    return (now.noise / before.noise) * x_ - (now.signal * growth) * (before_ + correction);
  }

  torch::Tensor x_;  // corrected, at the call before
  torch::Tensor before_,
      twice_before_;  // x0 of the calls before; the second undefined where that step had order 1
};

}  // namespace

std::unique_ptr<Sampler> make_dpmpp_2m(const SamplerPlan& plan) {
  return std::make_unique<DpmSolver>(plan, plan.options.use_karras_sigmas);
}

std::unique_ptr<Sampler> make_dpmpp_2m_karras(const SamplerPlan& plan) {
  return std::make_unique<DpmSolver>(plan, true);
}

std::unique_ptr<Sampler> make_unipc(const SamplerPlan& plan) {
  return std::make_unique<UniPc>(plan);
}

}  // namespace zoo
