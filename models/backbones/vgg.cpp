#include "models/backbones/vgg.h"

#include <torch/torch.h>

namespace zoo {

namespace {

/// (convolutions, channels) of the five stages; each ends in a 2x2 pooling.
constexpr std::pair<int, int64_t> kStages[] = {{2, 64}, {2, 128}, {3, 256}, {3, 512}, {3, 512}};

torch::nn::Sequential convolutions() {
  torch::nn::Sequential layers;
  int64_t in = 3;
  for (const auto& [count, channels] : kStages) {
    for (int i = 0; i < count; ++i) {
      torch::nn::Conv2d conv(torch::nn::Conv2dOptions(in, channels, 3).padding(1));
      torch::nn::init::kaiming_normal_(conv->weight, 0, torch::kFanOut, torch::kReLU);
      torch::nn::init::zeros_(conv->bias);
      layers->push_back(conv);
      layers->push_back(torch::nn::ReLU());
      in = channels;
    }
    layers->push_back(torch::nn::MaxPool2d(2));
  }
  return layers;
}

torch::nn::Linear linear(int64_t in, int64_t out) {
  torch::nn::Linear layer(in, out);
  torch::nn::init::normal_(layer->weight, 0, 0.01);
  torch::nn::init::zeros_(layer->bias);
  return layer;
}

}  // namespace

VggImpl::VggImpl(const VggOptions& options) {
  features_ = register_module("features", convolutions());
  classifier_ = register_module(
      "classifier",
      torch::nn::Sequential(linear(512 * 7 * 7, 4096), torch::nn::ReLU(), torch::nn::Dropout(options.dropout),
                            linear(4096, 4096), torch::nn::ReLU(), torch::nn::Dropout(options.dropout),
                            linear(4096, options.num_classes)));
}

torch::Tensor VggImpl::features(const torch::Tensor& pixels) {
  return features_->forward(pixels);
}

torch::Tensor VggImpl::forward(const torch::Tensor& pixels) {
  return classifier_->forward(torch::adaptive_avg_pool2d(features(pixels), {7, 7}).flatten(1));
}

}  // namespace zoo
