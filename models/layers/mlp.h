#pragma once
#include <vector>

#include <torch/nn/modules/container/modulelist.h>
#include <torch/nn/modules/linear.h>
#include <torch/types.h>

namespace zoo {

/// Linear layers of the given widths (input first) with ReLU between, under the names `layers.0`, `layers.1`,
/// …
class MlpImpl : public torch::nn::Module {
 public:
  explicit MlpImpl(const std::vector<int64_t>& widths);

  torch::Tensor forward(torch::Tensor x);  ///< [..,widths.front()] -> [..,widths.back()]

  std::vector<torch::nn::Linear> layers;
};
TORCH_MODULE(Mlp);

}  // namespace zoo
