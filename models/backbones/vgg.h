#pragma once
#include <torch/nn/module.h>
#include <torch/nn/modules/container/sequential.h>
#include <torch/types.h>

namespace zoo {

/// VGG-16 (Simonyan and Zisserman 2014, table 1, column D), names as in torchvision: features.N,
/// classifier.N.
struct VggOptions {
  int64_t num_classes = 1000;
  double dropout = 0.5;
};

class VggImpl : public torch::nn::Module {
 public:
  explicit VggImpl(const VggOptions& options = {});

  torch::Tensor features(const torch::Tensor& pixels);  ///< [B,3,H,W] -> [B,512,H/32,W/32]
  torch::Tensor forward(const torch::Tensor& pixels);   ///< -> logits [B,num_classes]

 private:
  torch::nn::Sequential features_{nullptr}, classifier_{nullptr};
};
TORCH_MODULE(Vgg);

}  // namespace zoo
