#pragma once
#include <vector>

#include <torch/nn/module.h>
#include <torch/nn/modules/container/sequential.h>
#include <torch/types.h>

namespace zoo {

/// A small residual network of our own: a stem and three stages of basic blocks with batch norms, stride 16.
/// For pictures of about 128 pixels, trained from scratch in minutes on two processor cores.
class TinyBackboneImpl : public torch::nn::Module {
 public:
  static constexpr int64_t kChannels = 128;  ///< of the last stage

  TinyBackboneImpl();

  /// pixels [B,3,H,W] -> [B,32,H/4,W/4], [B,64,H/8,W/8], [B,128,H/16,W/16], sizes rounded up
  std::vector<torch::Tensor> stages(const torch::Tensor& pixels);

 private:
  torch::nn::Sequential stem_{nullptr};
  std::vector<torch::nn::Sequential> stages_;
};
TORCH_MODULE(TinyBackbone);

}  // namespace zoo
