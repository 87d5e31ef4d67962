#include "models/autoencoder/discriminator.h"

#include <algorithm>

#include <torch/torch.h>

namespace zoo {

namespace {

/// A buffer's name has no dots, so its module is made of modules.
torch::nn::Module& submodule(torch::nn::Module& owner, const std::string& name) {
  const auto children = owner.named_children();
  if (const auto* found = children.find(name)) return **found;
  return *owner.register_module(name, std::make_shared<torch::nn::Module>("Layer"));
}

}  // namespace

PatchDiscriminatorImpl::PatchDiscriminatorImpl(int64_t in, int64_t channels, int64_t layers) {
  int place = 0;  // in the published Sequential: convolution, norm, activation
  for (int64_t i = 0; i <= layers + 1; ++i) {
    const bool first = i == 0, last = i == layers + 1, normed = !first && !last;
    const int64_t out = last ? 1 : channels * std::min<int64_t>(int64_t{1} << i, 8);
    const std::string name = "main." + std::to_string(place);
    Layer layer;
    layer.stride = i < layers ? 2 : 1;
    layer.weight = add_weight(name + ".weight", torch::randn({out, in, 4, 4}) * 0.02);
    if (!normed) layer.bias = add_weight(name + ".bias", torch::zeros(out));
    if (normed) {
      const std::string norm = "main." + std::to_string(place + 1);
      layer.norm_weight = add_weight(norm + ".weight", 1 + torch::randn(out) * 0.02);
      layer.norm_bias = add_weight(norm + ".bias", torch::zeros(out));
    }
    layers_.push_back(layer);
    place += normed ? 3 : 2;
    in = out;
  }
}

torch::Tensor PatchDiscriminatorImpl::add_weight(const std::string& name, torch::Tensor value) {
  const size_t dot = name.rfind('.');
  const std::string place = name.substr(5, dot - 5);  // behind "main."
  torch::nn::Module& owner = submodule(submodule(*this, "main"), place);
  names_.push_back(name);
  weights_.push_back(owner.register_buffer(name.substr(dot + 1), value.set_requires_grad(true)));
  return weights_.back();
}

torch::Tensor PatchDiscriminatorImpl::forward(torch::Tensor x, bool learns) {
  const auto use = [&](const torch::Tensor& weight) {
    return weight.defined() && !learns ? weight.detach() : weight;
  };
  for (size_t i = 0; i < layers_.size(); ++i) {
    const Layer& layer = layers_[i];
    x = torch::conv2d(x, use(layer.weight), use(layer.bias), layer.stride, 1);
    if (layer.norm_weight.defined()) {
      x = torch::batch_norm(x, use(layer.norm_weight), use(layer.norm_bias), {}, {}, /*training=*/true,
                            /*momentum=*/0.1, /*eps=*/1e-5, /*cudnn_enabled=*/true);
    }
    if (i + 1 < layers_.size()) x = torch::leaky_relu(x, 0.2);
  }
  return x;
}

}  // namespace zoo
