#pragma once
#include <memory>
#include <string>
#include <vector>

#include <torch/types.h>

#include "models/diffusion/noise_schedule.h"
#include "models/diffusion/noise_source.h"

namespace zoo {

/// A sampler by name, as `--sampler` and `zoo list samplers` have it.
struct SamplerInfo {
  std::string name, description;
  std::string diffusers_class;  ///< "DDIMScheduler"
};
/// Every sampler, in the order to show.
const std::vector<SamplerInfo>& samplers();

/// One run from noise to latents, or from a noised picture. Use:
///
///     auto sampler = make_sampler("ddim", options, 50);
///     x = noise.draw(shape) * sampler->start_factor();              // or sampler->noised(z, noise.draw(shape), 0)
///     for (size_t i = 0; i < sampler->timesteps().size(); ++i)
///       x = sampler->step(network(sampler->scale_input(x, i), sampler->timesteps()[i]), i, x, noise);
///
/// An object holds the history of its run; calls come in order. Numbers by time are doubles, tensors keep their dtype.
class Sampler {
 public:
  virtual ~Sampler() = default;

  /// A time for every call of the network, 0…N-1, possibly between whole ones.
  const std::vector<double>& timesteps() const { return timesteps_; }
  /// σ̂ = σ/α at every call and at the end; empty for ddpm, ddim and plms, which do not go by it.
  const std::vector<double>& sigmas() const { return sigmas_; }
  /// What noise of deviation 1 is multiplied by at the start.
  double start_factor() const { return start_factor_; }
  /// What the network sees of x at call i.
  torch::Tensor scale_input(const torch::Tensor& x, size_t call) const;
  /// Clean latents with noise of deviation 1 mixed in as they would be at call i: the start of image-to-image, and the
  /// known part of a picture while the rest is painted. After the last call: the clean ones.
  torch::Tensor noised(const torch::Tensor& clean, const torch::Tensor& noise, size_t call) const;

  /// What the network's output at call i says the clean latents are.
  torch::Tensor clean(const torch::Tensor& output, size_t call, const torch::Tensor& x) const {
    return clean_of(output.to(x.scalar_type()), x, levels_.at(call));
  }

  /// x after call i, from the network's output there (converted to x's dtype). `noise` has x's rows.
  torch::Tensor step(const torch::Tensor& output, size_t call, const torch::Tensor& x, NoiseSource& noise);

 protected:
  /// x = signal·x0 + noise·ε.
  struct Level {
    double signal = 1, noise = 0;
  };

  explicit Sampler(std::string prediction) : prediction_(std::move(prediction)) {}
  virtual torch::Tensor advance(const torch::Tensor& output, size_t call, const torch::Tensor& x,
                                NoiseSource& noise) = 0;

  /// x0 and ε of what a network says of x at a level: equation 12 of 2010.02502, appendix D of 2202.00512.
  torch::Tensor clean_of(const torch::Tensor& output, const torch::Tensor& x, const Level& level) const;
  torch::Tensor noise_of(const torch::Tensor& output, const torch::Tensor& x, const Level& level) const;

  std::vector<double> timesteps_, sigmas_;
  std::vector<Level> levels_;  ///< by call
  double start_factor_ = 1;
  bool scales_input_ = false;  ///< x carries noise of deviation σ̂ and the network wants deviation 1

 private:
  std::string prediction_;
};

/// `steps` of N, of which image-to-image with strength < 1 keeps the last ⌊steps·strength⌋. Options as
/// SchedulerOptions::validate demands. Throws UsageError for a name that is none, more steps than times, a strength that
/// keeps no step, and options that the sampler does not have (Karras' levels, zero terminal SNR).
std::unique_ptr<Sampler> make_sampler(const std::string& name, const SchedulerOptions& options, int64_t steps,
                                      double strength = 1);

}  // namespace zoo
