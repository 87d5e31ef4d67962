#include "models/mobilefacenet/mbf.h"

#include <string>

#include <torch/torch.h>

#include "core/error.h"
#include "models/layers/batch_norm.h"
#include "models/layers/full_precision.h"

namespace zoo {

namespace {

constexpr int64_t kHeadChannels = 512;

struct ConvOptions {
  int64_t in, out, kernel = 1, stride = 1, groups = 1;
};

torch::nn::Conv2d conv(const ConvOptions& options) {
  return torch::nn::Conv2d(torch::nn::Conv2dOptions(options.in, options.out, options.kernel)
                               .stride(options.stride)
                               .padding(options.kernel / 2)
                               .groups(options.groups)
                               .bias(false));
}

/// The reference keeps every list of layers in a module of its own, as its `layers`.
Chain wrapped(const Chain& layers) {
  Chain outer;
  outer->push_back("layers", layers);
  return outer;
}

Chain conv_block(const ConvOptions& options) {
  return wrapped(Chain(conv(options), counted_batch_norm(options.out),
                       torch::nn::PReLU(torch::nn::PReLUOptions().num_parameters(options.out))));
}

Chain linear_block(const torch::nn::Conv2d& conv) {
  return wrapped(Chain(conv, counted_batch_norm(conv->options.out_channels())));
}

/// 1x1 to `hidden` channels, depthwise 3x3 with the stride, 1x1 without activation.
Chain depthwise_block(int64_t in, int64_t out, int64_t hidden, int64_t stride) {
  return wrapped(Chain(conv_block({in, hidden}), conv_block({hidden, hidden, 3, stride, hidden}),
                       linear_block(conv({hidden, out}))));
}

/// Depthwise blocks with shortcuts.
class ResidualsImpl : public torch::nn::Module {
 public:
  ResidualsImpl(int64_t channels, int64_t blocks, int64_t hidden) {
    const auto list = register_module("layers", torch::nn::ModuleList());
    for (int64_t i = 0; i < blocks; ++i) {
      blocks_.push_back(depthwise_block(channels, channels, hidden, 1));
      list->push_back(blocks_.back());
    }
  }

  torch::Tensor forward(torch::Tensor x) {
    for (Chain& block : blocks_) x = block(x) + x;
    return x;
  }

 private:
  std::vector<Chain> blocks_;
};
TORCH_MODULE(Residuals);

/// Number of consecutive PREFIX0SUFFIX, PREFIX1SUFFIX, …
int64_t count(const StateDict& state, const std::string& prefix, const std::string& suffix) {
  int64_t number = 0;
  while (state.find(prefix + std::to_string(number) + suffix) != nullptr) ++number;
  return number;
}

bool has_names(const StateDict& state) {
  for (const char* name :
       {"layers.0.layers.0.weight", "layers.7.layers.0.layers.0.layers.0.weight", "conv_sep.layers.0.weight",
        "features.layers.0.layers.0.weight", "features.layers.2.weight", "features.layers.3.running_var"}) {
    if (state.find(name) == nullptr) return false;
  }
  return true;
}

}  // namespace

MbfOptions mbf() {
  return {};
}

MbfOptions mbf_large() {
  MbfOptions options;
  options.blocks = {2, 8, 12, 4};
  options.scale = 4;
  return options;
}

MapSize MbfOptions::map_size() const {
  MapSize size = input_size;
  for (int64_t& side : size) side = (side + 15) / 16;
  return size;
}

void MbfOptions::validate() const {
  for (const int64_t number : blocks) require_count("model.blocks", number, 1, 1000);
  require_count("model.scale", scale, 1, 64);
  require_count("model.embedding_size", embedding_size, 1, 65536);
  for (const int64_t side : input_size) require_count("model.input_size", side, 16, 4096);
}

MbfImpl::MbfImpl(const MbfOptions& given) : options(given) {
  options.validate();
  const int64_t narrow = 64 * options.scale, wide = 128 * options.scale;
  const auto [first, second, third, fourth] = options.blocks;
  layers_ = register_module("layers", Chain());
  layers_->push_back(conv_block({3, narrow, 3, 2}));
  if (first == 1) {
    layers_->push_back(conv_block({narrow, narrow, 3, 1, /*groups=*/64}));
  } else {
    layers_->push_back(Residuals(narrow, first, 128));
  }
  layers_->push_back(depthwise_block(narrow, narrow, 128, 2));
  layers_->push_back(Residuals(narrow, second, 128));
  layers_->push_back(depthwise_block(narrow, wide, 256, 2));
  layers_->push_back(Residuals(wide, third, 256));
  layers_->push_back(depthwise_block(wide, wide, 512, 2));
  layers_->push_back(Residuals(wide, fourth, 256));
  conv_sep_ = register_module("conv_sep", conv_block({wide, kHeadChannels}));
  const auto [height, width] = options.map_size();
  const torch::nn::Conv2d global(torch::nn::Conv2dOptions(kHeadChannels, kHeadChannels, {height, width})
                                     .groups(kHeadChannels)
                                     .bias(false));
  features_ = register_module(
      "features",
      wrapped(Chain(
          linear_block(global), torch::nn::Flatten(),
          torch::nn::Linear(torch::nn::LinearOptions(kHeadChannels, options.embedding_size).bias(false)),
          counted_batch_norm(options.embedding_size))));
  for (const auto& module : modules(/*include_self=*/false)) {
    const auto* convolution = module->as<torch::nn::Conv2dImpl>();
    const auto* linear = module->as<torch::nn::LinearImpl>();
    if (convolution == nullptr && linear == nullptr) continue;
    torch::nn::init::kaiming_normal_(convolution != nullptr ? convolution->weight : linear->weight, 0,
                                     torch::kFanOut, torch::kReLU);
  }
}

torch::Tensor MbfImpl::forward(const torch::Tensor& images) {
  require_faces(images, 3, options.input_size, is_training());
  const torch::Tensor x = layers_(images);  // [B,128·scale,H/16,W/16]
  const WithoutAutocast full;
  const torch::Tensor weight = conv_sep_->parameters().front();
  return features_(conv_sep_(as_type_of(weight, x)));  // [B,D]
}

FaceModel make_mbf(const MbfOptions& options) {
  return face_model(Mbf(options), options.embedding_size);
}

MbfOptions mbf_options_of(const StateDict& state, MbfOptions options) {
  if (!has_names(state)) {
    throw Error(state.source +
                ": the names of its tensors are not mbf's, expected insightface's (layers.0, …, "
                "conv_sep, features)");
  }
  const int64_t first = count(state, "layers.1.layers.", ".layers.0.layers.0.weight");
  options.blocks[0] = std::max<int64_t>(first, 1);
  for (size_t i = 1; i < 4; ++i) {
    options.blocks[i] =
        count(state, "layers." + std::to_string(2 * i + 1) + ".layers.", ".layers.0.layers.0.weight");
  }
  options.scale = state.find("layers.0.layers.0.weight")->size(0) / 64;
  options.embedding_size = state.find("features.layers.2.weight")->size(0);
  const torch::Tensor& kernel = *state.find("features.layers.0.layers.0.weight");
  const MapSize map = {kernel.size(2), kernel.size(3)};
  if (map != options.map_size()) options.input_size = {16 * map[0], 16 * map[1]};
  return options;
}

bool mbf_recognises(const StateDict& state, const MbfOptions& options) {
  if (!has_names(state)) return false;
  const MbfOptions found = mbf_options_of(state);
  return found.blocks == options.blocks && found.scale == options.scale;
}

}  // namespace zoo
