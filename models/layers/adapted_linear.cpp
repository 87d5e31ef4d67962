#include "models/layers/adapted_linear.h"

#include <cmath>

#include <torch/torch.h>

namespace zoo {

AdaptedLinearImpl::AdaptedLinearImpl(int64_t in, int64_t out, bool bias)
    : LinearImpl(torch::nn::LinearOptions(in, out).bias(bias)) {}

torch::Tensor AdaptedLinearImpl::forward(const torch::Tensor& x) {
  const torch::Tensor y = LinearImpl::forward(x);
  return has_adapter() ? y + scale_ * lora_B_(lora_A_(x)) : y;
}

void AdaptedLinearImpl::add_adapter(int64_t rank, double scale) {
  remove_adapter();
  const int64_t in = weight.size(1), out = weight.size(0);
  lora_A_ = register_module("lora_A", torch::nn::Linear(torch::nn::LinearOptions(in, rank).bias(false)));
  lora_B_ = register_module("lora_B", torch::nn::Linear(torch::nn::LinearOptions(rank, out).bias(false)));
  torch::nn::init::kaiming_uniform_(lora_A_->weight, std::sqrt(5.0));
  torch::nn::init::zeros_(lora_B_->weight);
  lora_A_->to(weight.device(), weight.scalar_type());
  lora_B_->to(weight.device(), weight.scalar_type());
  scale_ = scale;
}

void AdaptedLinearImpl::remove_adapter() {
  if (!has_adapter()) return;
  unregister_module("lora_A");
  unregister_module("lora_B");
  lora_A_ = nullptr;
  lora_B_ = nullptr;
}

torch::Tensor AdaptedLinearImpl::adapter_change() const {
  return scale_ * torch::matmul(lora_B_->weight, lora_A_->weight);
}

}  // namespace zoo
