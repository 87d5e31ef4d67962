#pragma once
#include <memory>
#include <vector>

#include <torch/nn/module.h>
#include <torch/nn/modules/conv.h>
#include <torch/nn/modules/linear.h>
#include <torch/types.h>

#include "models/layers/batch_norm.h"

namespace zoo {

/// ResNet of bottlenecks (He et al. 2015) whose stride sits in the 3x3, as torchvision has it ("v1.5").
struct ResNetOptions {
  std::vector<int64_t> blocks = {3, 4, 6, 3};  ///< of the four stages
  /// Batch norms that never update, for pretrained weights. Random weights start so that the signal keeps its
  /// size all the same: each block's last gain at 1/√(number of blocks).
  bool frozen_norm = false;
  /// "DC5": the last stage keeps its resolution and dilates by 2 from its second block on.
  bool dilate_last = false;
  int64_t num_classes = 1000;  ///< of the classifier; other users have none
};

ResNetOptions resnet50();
ResNetOptions resnet101();

class ResNetStageImpl;

/// Names as in torchvision: conv1, bn1, layer1.0.conv1, …, layer4.2.bn3, layer1.0.downsample.{0,1}.
class ResNetImpl : public torch::nn::Module {
 public:
  explicit ResNetImpl(const ResNetOptions& options);

  /// pixels [B,3,H,W] -> outputs of the four stages: [B,256,H/4,W/4], [B,512,H/8,W/8], [B,1024,H/16,W/16],
  /// [B,2048,H/32,W/32] (H/16 with dilate_last), sizes rounded up.
  std::vector<torch::Tensor> stages(const torch::Tensor& pixels);
  /// The last stage only.
  torch::Tensor features(const torch::Tensor& pixels) { return stages(pixels).back(); }

  static constexpr int64_t kChannels = 2048;  ///< of the last stage

 private:
  torch::nn::Conv2d conv1_{nullptr};
  BatchNorm2d bn1_{nullptr};
  std::vector<std::shared_ptr<ResNetStageImpl>> stages_;
};
TORCH_MODULE(ResNet);

/// With global average pooling and the classifier `fc`.
class ResNetClassifierImpl : public ResNetImpl {
 public:
  explicit ResNetClassifierImpl(const ResNetOptions& options);

  torch::Tensor forward(const torch::Tensor& pixels);  ///< [B,3,H,W] -> logits [B,num_classes]

 private:
  torch::nn::Linear fc_{nullptr};
};
TORCH_MODULE(ResNetClassifier);

}  // namespace zoo
