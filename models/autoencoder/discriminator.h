#pragma once
#include <string>
#include <vector>

#include <torch/nn/module.h>
#include <torch/types.h>

namespace zoo {

/// PatchGAN, Isola et al. 2017 (arXiv 1611.07004), section 3.2: says of every patch of a picture whether it
/// is real. 4x4 convolutions, `layers` of stride 2 and two of stride 1, batch norm (by the batch's own
/// statistics, always) and LeakyReLU between. Its weights are buffers, named as in the published code
/// (`main.0.weight`, …): whoever owns it steps them.
class PatchDiscriminatorImpl : public torch::nn::Module {
 public:
  /// `channels` of the first layer, doubled at most three times.
  PatchDiscriminatorImpl(int64_t in, int64_t channels, int64_t layers);

  /// [B,in,H,W] -> scores [B,1,h,w]. `learns`: gradients reach the weights; else only the pictures.
  torch::Tensor forward(torch::Tensor x, bool learns);

  /// In the order of use; names below this module.
  const std::vector<std::string>& weight_names() const { return names_; }
  const std::vector<torch::Tensor>& weights() const { return weights_; }

 private:
  torch::Tensor add_weight(const std::string& name, torch::Tensor value);

  struct Layer {
    torch::Tensor weight, bias;            // bias: undefined where a norm follows
    torch::Tensor norm_weight, norm_bias;  // undefined: no norm
    int64_t stride = 1;
  };
  std::vector<Layer> layers_;
  std::vector<std::string> names_;
  std::vector<torch::Tensor> weights_;
};
TORCH_MODULE(PatchDiscriminator);

}  // namespace zoo
