#include "models/layers/mlp.h"

#include <torch/torch.h>

namespace zoo {

MlpImpl::MlpImpl(const std::vector<int64_t>& widths) {
  const auto list = register_module("layers", torch::nn::ModuleList());
  for (size_t i = 0; i + 1 < widths.size(); ++i) {
    layers.emplace_back(widths[i], widths[i + 1]);
    list->push_back(layers.back());
  }
}

torch::Tensor MlpImpl::forward(torch::Tensor x) {
  for (size_t i = 0; i + 1 < layers.size(); ++i) x = layers[i](x).relu();
  return layers.back()(x);
}

}  // namespace zoo
