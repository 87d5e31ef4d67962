#include "models/backbones/resnet.h"

#include <cmath>
#include <numeric>
#include <string>

#include <torch/torch.h>

namespace zoo {

namespace {

constexpr int64_t kExpansion = 4;

torch::nn::Conv2d conv(int64_t in, int64_t out, int64_t kernel, int64_t stride, int64_t dilation) {
  return torch::nn::Conv2d(torch::nn::Conv2dOptions(in, out, kernel)
                               .stride(stride)
                               .padding(dilation * (kernel / 2))
                               .dilation(dilation)
                               .bias(false));
}

struct BlockOptions {
  int64_t in, width, stride, dilation;
  bool frozen_norm;
};

/// 1x1, 3x3, 1x1 and a shortcut (He et al. 2015, figure 5 right).
class BottleneckImpl : public torch::nn::Module {
 public:
  explicit BottleneckImpl(const BlockOptions& options) {
    const int64_t out = options.width * kExpansion;
    conv1_ = register_module("conv1", conv(options.in, options.width, 1, 1, 1));
    bn1_ = register_module("bn1", BatchNorm2d(options.width, options.frozen_norm));
    conv2_ =
        register_module("conv2", conv(options.width, options.width, 3, options.stride, options.dilation));
    bn2_ = register_module("bn2", BatchNorm2d(options.width, options.frozen_norm));
    conv3_ = register_module("conv3", conv(options.width, out, 1, 1, 1));
    bn3_ = register_module("bn3", BatchNorm2d(out, options.frozen_norm));
    if (options.stride == 1 && options.in == out) return;
    downsample_ =
        register_module("downsample", torch::nn::Sequential(conv(options.in, out, 1, options.stride, 1),
                                                            BatchNorm2d(out, options.frozen_norm)));
  }

  /// May write the result into x.
  torch::Tensor forward(const torch::Tensor& x) {
    torch::Tensor y = bn1_->relu_after(*conv1_, x);
    y = bn2_->relu_after(*conv2_, y);
    if (downsample_.is_empty()) return bn3_->add_relu_after(*conv3_, y, x);
    y = bn3_->after(*conv3_, y);
    return downsample_->at<BatchNorm2dImpl>(1).add_relu_after(downsample_->at<torch::nn::Conv2dImpl>(0), x,
                                                              y);
  }

  BatchNorm2d& last_norm() { return bn3_; }

 private:
  torch::nn::Conv2d conv1_{nullptr}, conv2_{nullptr}, conv3_{nullptr};
  BatchNorm2d bn1_{nullptr}, bn2_{nullptr}, bn3_{nullptr};
  torch::nn::Sequential downsample_{nullptr};
};
TORCH_MODULE(Bottleneck);

/// He initialisation: over what goes out of a layer where batch norms see to the size of what comes in, over
/// what comes in where frozen ones cannot.
void initialise(ResNetImpl& net, const ResNetOptions& options) {
  const auto blocks = std::accumulate(options.blocks.begin(), options.blocks.end(), int64_t{0});
  for (const auto& module : net.modules(/*include_self=*/false)) {
    if (auto* layer = module->as<torch::nn::Conv2dImpl>()) {
      const torch::nn::init::FanModeType mode =
          options.frozen_norm ? torch::nn::init::FanModeType(torch::kFanIn) : torch::kFanOut;
      torch::nn::init::kaiming_normal_(layer->weight, 0, mode, torch::kReLU);
    } else if (auto* block = module->as<BottleneckImpl>(); block != nullptr && options.frozen_norm) {
      torch::nn::init::constant_(block->last_norm()->weight, 1 / std::sqrt(static_cast<double>(blocks)));
    }
  }
}

}  // namespace

/// Blocks under `0`, `1`, …
class ResNetStageImpl : public torch::nn::Module {
 public:
  ResNetStageImpl(BlockOptions options, int64_t blocks) {
    const int64_t dilation = options.dilation;
    for (int64_t i = 0; i < blocks; ++i) {
      // torchvision's rule: the first block keeps the dilation of the stage before, which is 1.
      options.dilation = i == 0 ? 1 : dilation;
      blocks_.push_back(register_module(std::to_string(i), Bottleneck(options)));
      options.in = options.width * kExpansion;
      options.stride = 1;
    }
  }

  /// Leaves x as it is: the first block has a shortcut of its own.
  torch::Tensor forward(torch::Tensor x) {
    for (Bottleneck& block : blocks_) x = block(x);
    return x;
  }

 private:
  std::vector<Bottleneck> blocks_;
};

ResNetOptions resnet50() {
  return {};
}

ResNetOptions resnet101() {
  ResNetOptions options;
  options.blocks = {3, 4, 23, 3};
  return options;
}

ResNetImpl::ResNetImpl(const ResNetOptions& options) {
  conv1_ = register_module("conv1", conv(3, 64, 7, 2, 1));
  bn1_ = register_module("bn1", BatchNorm2d(64, options.frozen_norm));
  int64_t in = 64;
  for (size_t i = 0; i < options.blocks.size(); ++i) {
    const bool dilate = options.dilate_last && i + 1 == options.blocks.size();
    const int64_t width = int64_t{64} << i;
    const BlockOptions block = {in, width, i == 0 || dilate ? 1 : 2, dilate ? 2 : 1, options.frozen_norm};
    stages_.push_back(register_module("layer" + std::to_string(i + 1),
                                      std::make_shared<ResNetStageImpl>(block, options.blocks[i])));
    in = width * kExpansion;
  }
  initialise(*this, options);
}

std::vector<torch::Tensor> ResNetImpl::stages(const torch::Tensor& pixels) {
  torch::Tensor x = bn1_->relu_after(*conv1_, pixels);  // [B,64,H/2,W/2]
  x = torch::max_pool2d(x, 3, 2, 1);                    // [B,64,H/4,W/4]
  std::vector<torch::Tensor> outputs;
  for (const auto& stage : stages_) {
    x = stage->forward(x);
    outputs.push_back(x);
  }
  return outputs;
}

ResNetClassifierImpl::ResNetClassifierImpl(const ResNetOptions& options) : ResNetImpl(options) {
  fc_ = register_module("fc", torch::nn::Linear(kChannels, options.num_classes));
}

torch::Tensor ResNetClassifierImpl::forward(const torch::Tensor& pixels) {
  return fc_(torch::adaptive_avg_pool2d(features(pixels), {1, 1}).flatten(1));
}

}  // namespace zoo
