#include "models/diffusion/noise_schedule.h"

#include <torch/torch.h>

#include <algorithm>
#include <cmath>

#include "core/error.h"
#include "core/numbers.h"
#include "core/text.h"
#include "models/diffusion/sampler.h"

namespace zoo {

namespace {

/// n values from `first` to `last`, both included.
std::vector<double> straight(double first, double last, int64_t n) {
  std::vector<double> values(static_cast<size_t>(n), first);
  for (int64_t i = 1; i < n; ++i)
    values[static_cast<size_t>(i)] =
        first + (last - first) * static_cast<double>(i) / static_cast<double>(n - 1);
  return values;
}

/// Nichol and Dhariwal 2021, equation 17: no β above 0.999.
std::vector<double> cosine_betas(int64_t n) {
  const auto left = [&](int64_t i) {
    const double angle = (static_cast<double>(i) / static_cast<double>(n) + 0.008) / 1.008 * kPi / 2;
    return std::cos(angle) * std::cos(angle);
  };
  std::vector<double> betas;
  for (int64_t i = 0; i < n; ++i) betas.push_back(std::min(1 - left(i + 1) / left(i), 0.999));
  return betas;
}

std::vector<double> betas_of(const SchedulerOptions& options) {
  if (options.beta_schedule == "squaredcos_cap_v2") return cosine_betas(options.num_train_timesteps);
  if (options.beta_schedule == "linear")
    return straight(options.beta_start, options.beta_end, options.num_train_timesteps);
  std::vector<double> betas =
      straight(std::sqrt(options.beta_start), std::sqrt(options.beta_end), options.num_train_timesteps);
  for (double& beta : betas) beta *= beta;
  return betas;
}

/// √ᾱ shifted so that the last is 0 and stretched so that the first stays.
void remove_last_signal(std::vector<double>& alphas_cumprod) {
  const double first = std::sqrt(alphas_cumprod.front()), last = std::sqrt(alphas_cumprod.back());
  for (double& value : alphas_cumprod) {
    const double root = (std::sqrt(value) - last) * first / (first - last);
    value = root * root;
  }
}

}  // namespace

void SchedulerOptions::validate() const {
  std::vector<std::string> names;
  for (const SamplerInfo& info : samplers()) names.push_back(info.name);
  require_choice("model.scheduler.sampler", sampler, names);
  require_count("model.scheduler.num_train_timesteps", num_train_timesteps, 2, 1 << 20);
  require_positive("model.scheduler.beta_start", beta_start);
  require_range("model.scheduler.beta_end", beta_end, beta_start, 0.999);
  require_choice("model.scheduler.beta_schedule", beta_schedule,
                 {"linear", "scaled_linear", "squaredcos_cap_v2"});
  require_choice("model.scheduler.prediction_type", prediction_type, {"epsilon", "v_prediction", "sample"});
  require_choice("model.scheduler.timestep_spacing", timestep_spacing,
                 {"auto", "leading", "linspace", "trailing"});
  require_count("model.scheduler.steps_offset", steps_offset, 0,
                static_cast<double>(num_train_timesteps - 1));
  require_positive("model.scheduler.clip_sample_range", clip_sample_range);
  require_choice("model.scheduler.final_sigmas_type", final_sigmas_type, {"zero", "sigma_min"});
  require_range("model.scheduler.eta", eta, 0, 1);
  if (rescale_betas_zero_snr && prediction_type == "epsilon")
    throw UsageError(
        "model.scheduler.prediction_type: epsilon says nothing at the last time of rescale_betas_zero_snr, "
        "expected v_prediction or sample");
}

NoiseSchedule::NoiseSchedule(const SchedulerOptions& options) : prediction_(options.prediction_type) {
  options.validate();
  double product = 1;
  for (const double beta : betas_of(options)) alphas_cumprod_.push_back(product *= 1 - beta);
  if (options.rescale_betas_zero_snr) remove_last_signal(alphas_cumprod_);
  for (const double value : alphas_cumprod_) {
    signal_.push_back(std::sqrt(value));
    noise_.push_back(std::sqrt(1 - value));
  }
}

/// The table's values at t [B], as [B,1,…] to go with `like` [B,…].
torch::Tensor NoiseSchedule::rows(const std::vector<double>& table, const torch::Tensor& t,
                                  const torch::Tensor& like) const {
  const torch::Tensor values = torch::tensor(table, torch::kDouble).index_select(0, t.to(torch::kCPU));
  std::vector<int64_t> shape(static_cast<size_t>(like.dim()), 1);
  shape[0] = -1;
  return values.to(like.options()).view(shape);
}

torch::Tensor NoiseSchedule::add_noise(const torch::Tensor& x0, const torch::Tensor& noise,
                                       const torch::Tensor& t) const {
  return rows(signal_, t, x0) * x0 + rows(noise_, t, x0) * noise;
}

torch::Tensor NoiseSchedule::target(const torch::Tensor& x0, const torch::Tensor& noise,
                                    const torch::Tensor& t) const {
  if (prediction_ == "epsilon") return noise;
  if (prediction_ == "sample") return x0;
  return rows(signal_, t, x0) * noise - rows(noise_, t, x0) * x0;
}

torch::Tensor NoiseSchedule::loss_weights(const torch::Tensor& t, double gamma) const {
  std::vector<double> weights;
  for (const double value : alphas_cumprod_) {
    const double snr = value / (1 - value), weight = gamma > 0 ? std::min(snr, gamma) : 1;
    const double share = prediction_ == "epsilon" ? snr : prediction_ == "sample" ? 1 : snr + 1;
    weights.push_back(gamma > 0 ? weight / share : 1);
  }
  return rows(weights, t, torch::empty({1}, torch::TensorOptions().device(t.device())));
}

torch::Tensor training_noise(const torch::Tensor& like, double strength) {
  torch::Tensor noise = torch::randn_like(like);
  if (strength > 0) noise += strength * torch::randn_like(like.slice(2, 0, 1).slice(3, 0, 1));
  return noise;
}

}  // namespace zoo
