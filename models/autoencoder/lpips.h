#pragma once
#include <vector>

#include <torch/types.h>

#include "models/weights/state_dict.h"

namespace zoo {

/// The perceptual distance LPIPS, Zhang et al. 2018 (arXiv 1801.03924), version 0.1 with VGG-16: at five
/// depths the channel-normalised features' squared differences, weighted by a 1x1 head and averaged over the
/// map. Its weights never change.
class Lpips {
 public:
  /// `vgg`: torchvision's VGG-16 (`features.N.weight`, `features.N.bias`; more may be there); `heads`:
  /// `linN.model.1.weight` [1,C,1,1]. Throws Error naming the first tensor that is missing or has another
  /// shape.
  Lpips(const StateDict& vgg, const StateDict& heads);

  /// Of pictures [B,3,H,W] in −1…1, at least 16 pixels a side -> [B].
  torch::Tensor distance(const torch::Tensor& a, const torch::Tensor& b);

 private:
  /// Five maps, normalised along the channels.
  std::vector<torch::Tensor> features(torch::Tensor x) const;
  void follow(const torch::Tensor& x);

  struct Layer {
    torch::Tensor weight, bias;
  };
  std::vector<std::vector<Layer>> stages_;
  std::vector<torch::Tensor> heads_;
};

}  // namespace zoo
