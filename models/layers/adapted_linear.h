#pragma once
#include <torch/nn/module.h>
#include <torch/nn/modules/linear.h>
#include <torch/types.h>

namespace zoo {

/// A linear layer that may get an adapter of low rank (LoRA, Hu et al. 2021, arXiv 2106.09685, equation 3):
/// y = x Wᵀ + b + scale·(x Aᵀ) Bᵀ. Without one it is torch's. The adapter is named as in PEFT:
/// `lora_A.weight` [r,in], `lora_B.weight` [out,r].
class AdaptedLinearImpl : public torch::nn::LinearImpl {
 public:
  AdaptedLinearImpl(int64_t in, int64_t out, bool bias = true);

  torch::Tensor forward(const torch::Tensor& x);  ///< [..,in] -> [..,out]

  /// Gives it an adapter that changes nothing yet: A is drawn (Kaiming uniform, as PEFT), B is 0; in the type
  /// and on the device of the weight. Replaces one that is there.
  void add_adapter(int64_t rank, double scale);
  void remove_adapter();
  bool has_adapter() const { return !lora_A_.is_empty(); }
  /// scale·B·A [out,in], what the adapter adds to the weight. There must be one.
  torch::Tensor adapter_change() const;
  double adapter_scale() const { return scale_; }

 private:
  torch::nn::Linear lora_A_{nullptr}, lora_B_{nullptr};
  double scale_ = 1;
};
TORCH_MODULE(AdaptedLinear);

}  // namespace zoo
