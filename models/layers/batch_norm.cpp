#include "models/layers/batch_norm.h"

#include <torch/torch.h>

namespace zoo {

BatchNorm2dImpl::BatchNorm2dImpl(int64_t channels, bool frozen) : frozen(frozen) {
  weight = torch::ones(channels);
  bias = torch::zeros(channels);
  if (frozen) {
    weight = register_buffer("weight", weight);
    bias = register_buffer("bias", bias);
  } else {
    weight = register_parameter("weight", weight);
    bias = register_parameter("bias", bias);
  }
  running_mean = register_buffer("running_mean", torch::zeros(channels));
  running_var = register_buffer("running_var", torch::ones(channels));
}

torch::Tensor BatchNorm2dImpl::forward(const torch::Tensor& x) {
  constexpr double kMomentum = 0.1, kEps = 1e-5;
  return torch::batch_norm(x, weight, bias, running_mean, running_var, is_training() && !frozen, kMomentum,
                           kEps,
                           /*cudnn_enabled=*/true);
}

}  // namespace zoo
