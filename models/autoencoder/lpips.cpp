#include "models/autoencoder/lpips.h"

#include <torch/torch.h>

#include "core/error.h"
#include "models/shape_text.h"

namespace zoo {

namespace {

/// Channels of VGG-16's stages, and where torchvision numbers their convolutions.
struct VggStage {
  int64_t in, out;
  std::vector<int> places;
};
const std::vector<VggStage>& vgg_stages() {
  static const std::vector<VggStage> stages = {{3, 64, {0, 2}},
                                               {64, 128, {5, 7}},
                                               {128, 256, {10, 12, 14}},
                                               {256, 512, {17, 19, 21}},
                                               {512, 512, {24, 26, 28}}};
  return stages;
}

torch::Tensor frozen(const StateDict& state, const std::string& name, const std::vector<int64_t>& shape) {
  const torch::Tensor* found = state.find(name);
  if (found == nullptr) throw Error(state.source + ": no tensor " + name + ", which LPIPS is made of");
  if (found->sizes() != torch::IntArrayRef(shape)) {
    throw Error(state.source + ": " + name + " has shape " + shape_text(*found) + ", expected " +
                shape_text(shape.data(), shape.size()));
  }
  return found->detach().to(torch::kFloat).clone();
}

torch::Tensor per_channel(std::vector<float> values, const torch::Tensor& like) {
  return torch::tensor(values, like.options().dtype(torch::kFloat)).view({1, 3, 1, 1});
}

}  // namespace

Lpips::Lpips(const StateDict& vgg, const StateDict& heads) {
  for (const VggStage& stage : vgg_stages()) {
    std::vector<Layer>& layers = stages_.emplace_back();
    int64_t in = stage.in;
    for (const int place : stage.places) {
      const std::string name = "features." + std::to_string(place);
      layers.push_back(
          {frozen(vgg, name + ".weight", {stage.out, in, 3, 3}), frozen(vgg, name + ".bias", {stage.out})});
      in = stage.out;
    }
    const std::string head = "lin" + std::to_string(heads_.size()) + ".model.1.weight";
    heads_.push_back(frozen(heads, head, {1, stage.out, 1, 1}));
  }
}

void Lpips::follow(const torch::Tensor& x) {
  if (heads_.front().device() == x.device() && heads_.front().scalar_type() == x.scalar_type()) return;
  for (auto& stage : stages_) {
    for (Layer& layer : stage)
      layer.weight = layer.weight.to(x.options()), layer.bias = layer.bias.to(x.options());
  }
  for (torch::Tensor& head : heads_) head = head.to(x.options());
}

std::vector<torch::Tensor> Lpips::features(torch::Tensor x) const {
  std::vector<torch::Tensor> maps;
  for (const auto& stage : stages_) {
    if (!maps.empty()) x = torch::max_pool2d(x, 2);
    for (const Layer& layer : stage) x = torch::relu(torch::conv2d(x, layer.weight, layer.bias, 1, 1));
    const torch::Tensor length = x.square().sum(1, /*keepdim=*/true).sqrt();
    maps.push_back(x / (length + 1e-10));
  }
  return maps;
}

torch::Tensor Lpips::distance(const torch::Tensor& a, const torch::Tensor& b) {
  follow(a);
  const torch::Tensor shift = per_channel({-0.030F, -0.088F, -0.188F}, a),
                      scale = per_channel({0.458F, 0.448F, 0.450F}, a);
  const std::vector<torch::Tensor> of_a = features((a - shift) / scale), of_b = features((b - shift) / scale);
  torch::Tensor sum;
  for (size_t i = 0; i < of_a.size(); ++i) {
    const torch::Tensor each = torch::conv2d((of_a[i] - of_b[i]).square(), heads_[i]).mean({1, 2, 3});  // [B]
    sum = sum.defined() ? sum + each : each;
  }
  return sum;
}

}  // namespace zoo
