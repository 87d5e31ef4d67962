#include "models/diffusion/noise_source.h"

#include <ATen/CPUGeneratorImpl.h>
#include <torch/torch.h>

namespace zoo {

NoiseSource::NoiseSource(uint64_t seed, int64_t pictures) {
  for (int64_t i = 0; i < pictures; ++i)
    generators_.push_back(at::detail::createCPUGenerator(seed + static_cast<uint64_t>(i)));
}

torch::Tensor NoiseSource::draw(const std::vector<int64_t>& shape) {
  std::vector<torch::Tensor> rows;
  for (at::Generator& generator : generators_) rows.push_back(torch::randn(shape, generator, torch::kFloat));
  return torch::stack(rows);
}

torch::Tensor NoiseSource::draw_like(const torch::Tensor& x) {
  return draw(x.sizes().slice(1).vec()).to(x.options());
}

}  // namespace zoo
