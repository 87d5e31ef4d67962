#include "models/mobilefacenet/mobilefacenet.h"

#include <torch/torch.h>

#include "core/error.h"
#include "models/layers/full_precision.h"

namespace zoo {

namespace {

constexpr int64_t kStem = 64, kLast = 512;

/// Table 1: expansion, channels, blocks and the stride of the first of them.
struct Stage {
  int64_t expansion, channels, blocks, stride;
};
constexpr Stage kStages[] = {{2, 64, 5, 2}, {4, 128, 1, 2}, {2, 128, 6, 1}, {4, 128, 1, 2}, {2, 128, 2, 1}};

torch::nn::Conv2d conv(int64_t in, int64_t out, int64_t kernel, int64_t stride = 1, int64_t groups = 1) {
  return torch::nn::Conv2d(torch::nn::Conv2dOptions(in, out, kernel)
                               .stride(stride)
                               .padding(kernel / 2)
                               .groups(groups)
                               .bias(false));
}

Chain conv_norm_relu6(const torch::nn::Conv2d& conv) {
  return Chain(conv, counted_batch_norm(conv->options.out_channels()), torch::nn::ReLU6());
}

/// Expansion, depthwise 3x3, projection without activation (Sandler et al. 2018), and a shortcut where the shape
/// stays.
class InvertedResidualImpl : public torch::nn::Module {
 public:
  InvertedResidualImpl(int64_t in, int64_t out, int64_t expansion, int64_t stride)
      : shortcut_(stride == 1 && in == out) {
    const int64_t hidden = in * expansion;
    conv_ = register_module("conv", Chain(conv_norm_relu6(conv(in, hidden, 1)),
                                          conv_norm_relu6(conv(hidden, hidden, 3, stride, /*groups=*/hidden)),
                                          conv(hidden, out, 1), counted_batch_norm(out)));
  }

  torch::Tensor forward(const torch::Tensor& x) {
    const torch::Tensor y = conv_(x);
    return shortcut_ ? y + x : y;
  }

 private:
  bool shortcut_;
  Chain conv_{nullptr};
};
TORCH_MODULE(InvertedResidual);

}  // namespace

MapSize MobileFaceNetOptions::map_size() const {
  MapSize size = input_size;
  for (int64_t& side : size) side = (side + 15) / 16;
  return size;
}

void MobileFaceNetOptions::validate() const {
  require_count("model.embedding_size", embedding_size, 1, 65536);
  for (const int64_t side : input_size) require_count("model.input_size", side, 16, 4096);
}

MobileFaceNetImpl::MobileFaceNetImpl(const MobileFaceNetOptions& given) : options(given) {
  options.validate();
  conv1_ = register_module("conv1", conv_norm_relu6(conv(3, kStem, 3, 2)));
  const auto separable =
      register_module("dw_conv", std::make_shared<torch::nn::Module>("DepthwiseSeparableConv"));
  depthwise_ = separable->register_module("depthwise", conv(kStem, kStem, 3, 1, /*groups=*/kStem));
  pointwise_ = separable->register_module("pointwise", conv(kStem, kStem, 1));
  depthwise_norm_ = separable->register_module("bn1", counted_batch_norm(kStem));
  pointwise_norm_ = separable->register_module("bn2", counted_batch_norm(kStem));
  add_inverted_residuals();
  conv2_ = register_module("conv2", conv_norm_relu6(conv(kStages[4].channels, kLast, 1)));
  const auto global = register_module("gdconv", std::make_shared<torch::nn::Module>("GlobalDepthwiseConv"));
  const auto [height, width] = options.map_size();
  global_ = global->register_module(
      "depthwise",
      torch::nn::Conv2d(torch::nn::Conv2dOptions(kLast, kLast, {height, width}).groups(kLast).bias(false)));
  global_norm_ = global->register_module("bn", counted_batch_norm(kLast));
  conv3_ =
      register_module("conv3", torch::nn::Conv2d(torch::nn::Conv2dOptions(kLast, options.embedding_size, 1)));
  bn_ = register_module("bn", counted_batch_norm(options.embedding_size));
  for (const auto& module : modules(/*include_self=*/false)) {
    auto* layer = module->as<torch::nn::Conv2dImpl>();
    if (layer == nullptr) continue;
    torch::nn::init::kaiming_normal_(layer->weight, 0, torch::kFanOut);
    if (layer->bias.defined()) torch::nn::init::zeros_(layer->bias);
  }
}

void MobileFaceNetImpl::add_inverted_residuals() {
  Chain blocks;
  int64_t channels = kStem;
  for (const Stage& stage : kStages) {
    for (int64_t i = 0; i < stage.blocks; ++i) {
      blocks->push_back(
          InvertedResidual(channels, stage.channels, stage.expansion, i == 0 ? stage.stride : 1));
      channels = stage.channels;
    }
  }
  features_ = register_module("features", blocks);
}

torch::Tensor MobileFaceNetImpl::forward(const torch::Tensor& images) {
  require_faces(images, 3, options.input_size, is_training());
  torch::Tensor x = conv1_(images);  // [B,64,H/2,W/2]
  x = depthwise_norm_(depthwise_(x)).relu_();
  x = pointwise_norm_(pointwise_(x)).relu_();
  x = conv2_(features_(x));      // [B,512,H/16,W/16]
  x = global_norm_(global_(x));  // [B,512,1,1]
  const WithoutAutocast full;
  return bn_(conv3_(as_type_of(conv3_->weight, x))).flatten(1);  // [B,D]
}

FaceModel make_mobilefacenet(const MobileFaceNetOptions& options) {
  return face_model(MobileFaceNet(options), options.embedding_size);
}

MobileFaceNetOptions mobilefacenet_options_of(const StateDict& state, MobileFaceNetOptions options) {
  if (!mobilefacenet_recognises(state)) {
    throw Error(
        state.source +
        ": the names of its tensors are not MobileFaceNet's (conv1, dw_conv, features, …, conv3, bn)");
  }
  options.embedding_size = state.find("conv3.weight")->size(0);
  const torch::Tensor& kernel = *state.find("gdconv.depthwise.weight");
  const MapSize map = {kernel.size(2), kernel.size(3)};
  if (map != options.map_size()) options.input_size = {16 * map[0], 16 * map[1]};
  return options;
}

bool mobilefacenet_recognises(const StateDict& state) {
  const torch::Tensor* kernel = state.find("gdconv.depthwise.weight");
  const torch::Tensor* last = state.find("conv3.weight");
  return kernel != nullptr && kernel->dim() == 4 && last != nullptr && last->dim() == 4 &&
         state.find("dw_conv.pointwise.weight") != nullptr &&
         state.find("features.14.conv.3.running_var") != nullptr;
}

}  // namespace zoo
