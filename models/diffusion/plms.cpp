#include <torch/torch.h>

#include <algorithm>
#include <cmath>
#include <deque>

#include "models/diffusion/sampler_plan.h"
#include "models/diffusion/spacing.h"

namespace zoo {

namespace {

/// Liu et al. 2022 (PNDM), sections 3.3 and 3.4, without the Runge-Kutta start: the first interval is gone through
/// twice, the second time with the mean of both ends.
class Plms : public Sampler {
 public:
  explicit Plms(const SamplerPlan& plan)
      : Sampler(plan.options.prediction_type),
        plan_(plan),
        interval_(static_cast<double>(plan.options.num_train_timesteps / plan.steps)) {
    const std::vector<double> all = spaced_times(plan.options, TimeGrid::whole, plan.steps);
    timesteps_.assign(all.begin() + plan.skipped, all.end());
    if (timesteps_.size() > 1) timesteps_.insert(timesteps_.begin() + 1, timesteps_[1]);
    for (const double time : timesteps_) levels_.push_back(level(time));
  }

 protected:
  torch::Tensor advance(const torch::Tensor& output, size_t call, const torch::Tensor& x,
                        NoiseSource&) override {
    if (call == 1) {  // the first interval again, which ends where this call is
      const torch::Tensor mean = (output + history_.front()) / 2;
      return transfer(mean, first_, timesteps_[1] + interval_, timesteps_[1]);
    }
    if (call == 0) first_ = x;
    history_.push_front(output);
    if (history_.size() > 4) history_.pop_back();
    return transfer(combined(), x, timesteps_[call], timesteps_[call] - interval_);
  }

 private:
  Level level(double time) const {
    return {std::sqrt(plan_.alpha_at(time)), std::sqrt(1 - plan_.alpha_at(time))};
  }

  /// Equation 12; of what the network said, newest first.
  torch::Tensor combined() const {
    const auto& e = history_;
    if (e.size() == 1) return e[0];
    if (e.size() == 2) return (3 * e[0] - e[1]) / 2;
    if (e.size() == 3) return (23 * e[0] - 16 * e[1] + 5 * e[2]) / 12;
    return (55 * e[0] - 59 * e[1] + 37 * e[2] - 9 * e[3]) / 24;
  }

  /// Equation 11, from x at `time` to `next`.
  torch::Tensor transfer(const torch::Tensor& output, const torch::Tensor& x, double time,
                         double next) const {
    const double start = std::min(time, static_cast<double>(plan_.options.num_train_timesteps - 1));
    const double last = plan_.options.set_alpha_to_one ? 1 : plan_.alphas_cumprod.front();
    const double now = plan_.alpha_at(start), then = next >= 0 ? plan_.alpha_at(next) : last;
    const double divisor = now * std::sqrt(1 - then) + std::sqrt(now * (1 - now) * then);
    return std::sqrt(then / now) * x - ((then - now) / divisor) * noise_of(output, x, level(start));
  }

  const SamplerPlan plan_;
  const double interval_;
  torch::Tensor first_;  // x before the first call
  std::deque<torch::Tensor> history_;
};

}  // namespace

std::unique_ptr<Sampler> make_plms(const SamplerPlan& plan) {
  return std::make_unique<Plms>(plan);
}

}  // namespace zoo
