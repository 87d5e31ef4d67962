#include "models/backbones/tiny.h"

#include <string>

#include <torch/torch.h>

#include "models/layers/batch_norm.h"

namespace zoo {

namespace {

torch::nn::Conv2d conv(int64_t in, int64_t out, int64_t kernel, int64_t stride) {
  return torch::nn::Conv2d(
      torch::nn::Conv2dOptions(in, out, kernel).stride(stride).padding(kernel / 2).bias(false));
}

/// Two 3x3 and a shortcut (He et al. 2015, figure 5 left).
class BasicBlockImpl : public torch::nn::Module {
 public:
  BasicBlockImpl(int64_t in, int64_t out, int64_t stride) {
    conv1_ = register_module("conv1", conv(in, out, 3, stride));
    bn1_ = register_module("bn1", BatchNorm2d(out));
    conv2_ = register_module("conv2", conv(out, out, 3, 1));
    bn2_ = register_module("bn2", BatchNorm2d(out));
    if (stride == 1 && in == out) return;
    downsample_ =
        register_module("downsample", torch::nn::Sequential(conv(in, out, 1, stride), BatchNorm2d(out)));
  }

  torch::Tensor forward(const torch::Tensor& x) {
    const torch::Tensor y = bn2_(conv2_(bn1_(conv1_(x)).relu_()));
    return (y + (downsample_.is_empty() ? x : downsample_->forward(x))).relu_();
  }

 private:
  torch::nn::Conv2d conv1_{nullptr}, conv2_{nullptr};
  BatchNorm2d bn1_{nullptr}, bn2_{nullptr};
  torch::nn::Sequential downsample_{nullptr};
};
TORCH_MODULE(BasicBlock);

}  // namespace

TinyBackboneImpl::TinyBackboneImpl() {
  stem_ =
      register_module("stem", torch::nn::Sequential(conv(3, 16, 3, 2), BatchNorm2d(16), torch::nn::ReLU()));
  int64_t in = 16;
  for (const int64_t out : {int64_t{32}, int64_t{64}, kChannels}) {
    const std::string name = "layer" + std::to_string(stages_.size() + 1);
    stages_.push_back(register_module(name, torch::nn::Sequential(BasicBlock(in, out, 2))));
    in = out;
  }
  for (const auto& module : modules(/*include_self=*/false)) {
    if (auto* layer = module->as<torch::nn::Conv2dImpl>()) {
      torch::nn::init::kaiming_normal_(layer->weight, 0, torch::kFanOut, torch::kReLU);
    }
  }
}

std::vector<torch::Tensor> TinyBackboneImpl::stages(const torch::Tensor& pixels) {
  torch::Tensor x = stem_->forward(pixels);  // [B,16,H/2,W/2]
  std::vector<torch::Tensor> outputs;
  for (torch::nn::Sequential& stage : stages_) {
    x = stage->forward(x);
    outputs.push_back(x);
  }
  return outputs;
}

}  // namespace zoo
