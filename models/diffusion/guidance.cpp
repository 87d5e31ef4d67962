#include "models/diffusion/guidance.h"

#include <torch/torch.h>

namespace zoo {

torch::Tensor guided(const torch::Tensor& both, double scale, double rescale) {
  const std::vector<torch::Tensor> halves = both.chunk(2);
  const torch::Tensor result = halves[0] + scale * (halves[1] - halves[0]);
  if (rescale == 0) return result;
  std::vector<int64_t> inner;
  for (int64_t d = 1; d < both.dim(); ++d) inner.push_back(d);
  const torch::Tensor factor = halves[1].std(inner, true, true) / result.std(inner, true, true);
  return rescale * (result * factor) + (1 - rescale) * result;
}

}  // namespace zoo
