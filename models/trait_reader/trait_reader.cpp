#include "models/trait_reader/trait_reader.h"

#include <torch/nn/options/conv.h>
#include <torch/nn/options/normalization.h>

#include "core/error.h"
#include "core/text.h"

namespace zoo {

void TraitReaderOptions::validate() const {
  if (widths.empty()) throw UsageError("model.widths: no numbers, expected one for each level");
  require_count("model.groups", groups, 1, 1024);
  for (const int64_t width : widths) {
    require_count("model.widths", width, 1, 4096);
    if (width % groups != 0)
      throw UsageError(format("model.widths: %lld is no multiple of model.groups=%lld",
                              static_cast<long long>(width), static_cast<long long>(groups)));
  }
  require_count("model.feature_size", feature_size, 1, 65536);
  for (const int64_t size : trait_sizes) require_count("model.trait_sizes", size, 2, 100'000);
}

TraitReaderImpl::TraitReaderImpl(const TraitReaderOptions& options) : options(options) {
  options.validate();
  int64_t channels = 3;
  const auto add = [&](int64_t width, int64_t kernel, int64_t stride) {
    convolutions->push_back(torch::nn::Conv2d(
        torch::nn::Conv2dOptions(channels, width, kernel).stride(stride).padding(1).bias(false)));
    norms->push_back(torch::nn::GroupNorm(torch::nn::GroupNormOptions(this->options.groups, width)));
    channels = width;
  };
  for (const int64_t width : options.widths) {
    add(width, 4, 2);
    add(width, 3, 1);
  }
  projection = torch::nn::Linear(2 * channels, options.feature_size);
  for (const int64_t size : options.trait_sizes)
    heads->push_back(torch::nn::Linear(options.feature_size, size));
  register_module("convolutions", convolutions);
  register_module("norms", norms);
  register_module("projection", projection);
  register_module("heads", heads);
}

torch::Tensor TraitReaderImpl::features(const torch::Tensor& images) {
  torch::Tensor x = images;
  for (size_t i = 0; i < convolutions->size(); ++i) {
    x = convolutions->ptr<torch::nn::Conv2dImpl>(i)->forward(x);
    x = torch::silu(norms->ptr<torch::nn::GroupNormImpl>(i)->forward(x));  // [B,C,h,w]
  }
  return torch::silu(projection(torch::cat({x.mean({2, 3}), x.amax({2, 3})}, 1)));  // [B,D]
}

std::vector<torch::Tensor> TraitReaderImpl::forward(const torch::Tensor& images) {
  const torch::Tensor read = features(images);
  std::vector<torch::Tensor> logits;
  for (const auto& head : *heads) logits.push_back(head->as<torch::nn::Linear>()->forward(read));
  return logits;
}

}  // namespace zoo
