#include "models/iresnet/iresnet.h"

#include <cmath>
#include <string>

#include <torch/torch.h>

#include "core/error.h"
#include "core/text.h"
#include "models/layers/dropout.h"
#include "models/layers/full_precision.h"

namespace zoo {

namespace {

torch::nn::Conv2d conv(int64_t in, int64_t out, int64_t kernel, int64_t stride) {
  return torch::nn::Conv2d(
      torch::nn::Conv2dOptions(in, out, kernel).stride(stride).padding(kernel / 2).bias(false));
}

torch::nn::PReLU prelu(int64_t channels) {
  return torch::nn::PReLU(torch::nn::PReLUOptions().num_parameters(channels));
}

/// Norm, 3x3, norm, PReLU, 3x3 with the stride, norm, and a shortcut; nothing after the sum.
class IResNetBlockImpl : public torch::nn::Module {
 public:
  IResNetBlockImpl(int64_t in, int64_t out, int64_t stride) {
    bn1_ = register_module("bn1", counted_batch_norm(in));
    conv1_ = register_module("conv1", conv(in, out, 3, 1));
    bn2_ = register_module("bn2", counted_batch_norm(out));
    prelu_ = register_module("prelu", prelu(out));
    conv2_ = register_module("conv2", conv(out, out, 3, stride));
    bn3_ = register_module("bn3", counted_batch_norm(out));
    if (stride == 1 && in == out) return;
    downsample_ = register_module("downsample", Chain(conv(in, out, 1, stride), counted_batch_norm(out)));
  }

  torch::Tensor forward(const torch::Tensor& x) {
    const torch::Tensor y = prelu_(bn2_(conv1_(bn1_(x))));
    return bn3_(conv2_(y)) + (downsample_.is_empty() ? x : downsample_(x));
  }

 private:
  BatchNorm2d bn1_{nullptr};
  torch::nn::Conv2d conv1_{nullptr};
  BatchNorm2d bn2_{nullptr};
  torch::nn::PReLU prelu_{nullptr};
  torch::nn::Conv2d conv2_{nullptr};
  BatchNorm2d bn3_{nullptr};
  Chain downsample_{nullptr};
};
TORCH_MODULE(IResNetBlock);

IResNetOptions published(const std::vector<int64_t>& blocks) {
  IResNetOptions options;
  options.blocks = blocks;
  return options;
}

std::string stage_name(size_t i) {
  return "layer" + std::to_string(i + 1);
}

/// Blocks of stage i; 0 where there is none.
int64_t count_blocks(const StateDict& state, size_t stage) {
  int64_t count = 0;
  while (state.find(stage_name(stage) + "." + std::to_string(count) + ".prelu.weight") != nullptr) ++count;
  return count;
}

/// Which blocks and widths the tensors are of; none where they are no IResNet's.
std::vector<std::pair<int64_t, int64_t>> stages_of(const StateDict& state) {
  std::vector<std::pair<int64_t, int64_t>> stages;
  for (const char* name :
       {"conv1.weight", "prelu.weight", "bn2.running_var", "fc.weight", "features.running_var"}) {
    if (state.find(name) == nullptr) return {};
  }
  while (const int64_t blocks = count_blocks(state, stages.size())) {
    stages.emplace_back(blocks, state.find(stage_name(stages.size()) + ".0.prelu.weight")->numel());
  }
  return stages;
}

}  // namespace

IResNetOptions iresnet18() {
  return published({2, 2, 2, 2});
}
IResNetOptions iresnet34() {
  return published({3, 4, 6, 3});
}
IResNetOptions iresnet50() {
  return published({3, 4, 14, 3});
}
IResNetOptions iresnet100() {
  return published({3, 13, 30, 3});
}
IResNetOptions iresnet200() {
  return published({6, 26, 60, 6});
}

MapSize IResNetOptions::map_size() const {
  MapSize size = input_size;
  for (int64_t& side : size) {
    side = (side + stem_stride - 1) / stem_stride;
    for (size_t i = 0; i < blocks.size(); ++i) side = (side + 1) / 2;
  }
  return size;
}

void IResNetOptions::validate() const {
  require_count("model.blocks", static_cast<int64_t>(blocks.size()), 1, 8);
  if (widths.size() != blocks.size()) {
    throw UsageError(format("model.widths: %zu values, expected %zu, one for each of model.blocks",
                            widths.size(), blocks.size()));
  }
  for (const int64_t count : blocks) require_count("model.blocks", count, 1, 1000);
  for (const int64_t width : widths) require_count("model.widths", width, 1, 65536);
  require_count("model.stem_stride", stem_stride, 1, 2);
  require_count("model.embedding_size", embedding_size, 1, 65536);
  for (const int64_t side : input_size) require_count("model.input_size", side, 8, 4096);
  require_range("model.dropout", dropout, 0, 0.99);
}

IResNetImpl::IResNetImpl(const IResNetOptions& given) : options(given) {
  options.validate();
  int64_t channels = options.widths[0];
  conv1_ = register_module("conv1", conv(3, channels, 3, options.stem_stride));
  bn1_ = register_module("bn1", counted_batch_norm(channels));
  prelu_ = register_module("prelu", prelu(channels));
  for (size_t i = 0; i < options.blocks.size(); ++i) {
    Chain stage;
    for (int64_t j = 0; j < options.blocks[i]; ++j) {
      stage->push_back(IResNetBlock(channels, options.widths[i], j == 0 ? 2 : 1));
      channels = options.widths[i];
    }
    layers_.push_back(register_module(stage_name(i), stage));
  }
  bn2_ = register_module("bn2", counted_batch_norm(channels));
  const auto [height, width] = options.map_size();
  fc_ = register_module("fc", torch::nn::Linear(channels * height * width, options.embedding_size));
  features_ = register_module("features", counted_batch_norm(options.embedding_size));
  initialise();
}

void IResNetImpl::initialise() {
  for (const auto& module : modules(/*include_self=*/false)) {
    if (auto* layer = module->as<torch::nn::Conv2dImpl>()) torch::nn::init::normal_(layer->weight, 0, 0.1);
  }
  features_->weight.set_requires_grad(false);
}

torch::Tensor IResNetImpl::forward(const torch::Tensor& images) {
  require_faces(images, 3, options.input_size, is_training());
  torch::Tensor x = prelu_(bn1_(conv1_(images)));  // [B,64,H,W]
  for (Chain& layer : layers_) x = layer(x);       // … [B,512,H/16,W/16]
  x = hashed_dropout(bn2_(x).flatten(1), options.dropout, is_training());
  const WithoutAutocast full;
  return features_(fc_(as_type_of(fc_->weight, x)));  // [B,D]
}

FaceModel make_iresnet(const IResNetOptions& options) {
  return face_model(IResNet(options), options.embedding_size);
}

IResNetOptions iresnet_options_of(const StateDict& state, IResNetOptions options) {
  const auto stages = stages_of(state);
  if (stages.empty()) {
    throw Error(state.source +
                ": the names of its tensors are not an IResNet's, expected insightface's (conv1, "
                "layer1.0.bn1, …, features)");
  }
  options.blocks.clear();
  options.widths.clear();
  for (const auto& [blocks, width] : stages) {
    options.blocks.push_back(blocks);
    options.widths.push_back(width);
  }
  const torch::Tensor& fc = *state.find("fc.weight");
  options.embedding_size = fc.size(0);
  const int64_t cells = fc.size(1) / options.widths.back();
  const auto [height, width] = options.map_size();
  if (cells != height * width) {
    const auto side = std::llround(std::sqrt(static_cast<double>(cells)));
    options.input_size.fill(side * options.stem_stride << options.blocks.size());
  }
  return options;
}

bool iresnet_recognises(const StateDict& state, const IResNetOptions& options) {
  const auto stages = stages_of(state);
  if (stages.size() != options.blocks.size()) return false;
  for (size_t i = 0; i < stages.size(); ++i) {
    if (stages[i].first != options.blocks[i]) return false;
  }
  return true;
}

}  // namespace zoo
