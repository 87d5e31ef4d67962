#include "models/detr/detr.h"

#include <ATen/autocast_mode.h>
#include <torch/torch.h>

#include "core/error.h"
#include "core/text.h"
#include "models/layers/tracing.h"
#include "models/shape_text.h"

namespace zoo {

namespace {

DetrOptions published(const std::string& backbone, bool dilation) {
  DetrOptions options;
  options.backbone = backbone;
  options.dilation = dilation;
  return options;
}

TransformerOptions transformer_options(const DetrOptions& options) {
  TransformerOptions transformer;
  transformer.dim = options.hidden_dim;
  transformer.heads = options.heads;
  transformer.feedforward = options.feedforward;
  transformer.dropout = options.dropout;
  transformer.pre_norm = options.pre_norm;
  return transformer;
}

ResNetOptions resnet_options(const DetrOptions& options) {
  ResNetOptions resnet = options.backbone == "resnet50" ? resnet50() : resnet101();
  resnet.frozen_norm = options.frozen_norm;
  resnet.dilate_last = options.dilation;
  return resnet;
}

/// All but the last `trainable` of stem, layer1, …, layer4 learn nothing.
void freeze_stages(ResNetImpl& resnet, int64_t trainable) {
  for (auto& item : resnet.named_parameters()) {
    const int64_t stage = starts_with(item.key(), "layer") ? item.key()[5] - '0' : 0;
    if (stage <= 4 - trainable) item.value().set_requires_grad(false);
  }
}

void check_input(const torch::Tensor& pixels, const torch::Tensor& mask) {
  if (pixels.dim() != 4 || pixels.size(1) != 3) {
    throw Error("pixels have shape " + shape_text(pixels) + ", expected [B, 3, H, W]");
  }
  if (!mask.defined()) return;
  if (mask.scalar_type() != torch::kBool || mask.dim() != 3 || mask.size(0) != pixels.size(0) ||
      mask.size(1) != pixels.size(2) || mask.size(2) != pixels.size(3)) {
    throw Error("the mask has shape " + shape_text(mask) + " for pixels " + shape_text(pixels) +
                ", expected [B, H, W] of booleans");
  }
}

constexpr double kEdge = 0.02;  // how near to the picture's edge a point of reference may start

/// The first `count` points of the Halton sequence of bases 2 and 3, [count,2] in 0..1: even for any count.
torch::Tensor halton_points(int64_t count) {
  const auto radical_inverse = [](int64_t index, int64_t base) {
    double value = 0, digit = 1;
    for (; index > 0; index /= base)
      value += (digit /= static_cast<double>(base)) * static_cast<double>(index % base);
    return static_cast<float>(value);
  };
  torch::Tensor points = torch::empty({count, 2});
  auto rows = points.accessor<float, 2>();
  for (int64_t i = 0; i < count; ++i) {
    rows[i][0] = radical_inverse(i + 1, 2);
    rows[i][1] = radical_inverse(i + 1, 3);
  }
  return points;
}

}  // namespace

DetrOptions detr_resnet50() {
  return published("resnet50", false);
}
DetrOptions detr_resnet50_dc5() {
  return published("resnet50", true);
}
DetrOptions detr_resnet101() {
  return published("resnet101", false);
}
DetrOptions detr_resnet101_dc5() {
  return published("resnet101", true);
}

DetrOptions detr_tiny() {
  DetrOptions options;
  options.backbone = "tiny";
  options.num_classes = 0;
  options.num_queries = 25;
  options.hidden_dim = 128;
  options.heads = 4;
  options.encoder_layers = 2;
  options.decoder_layers = 3;
  options.feedforward = 512;
  options.dropout = 0;
  options.pre_norm = true;
  options.positions_in_values = true;
  options.reference_points = true;
  return options;
}

void DetrOptions::validate() const {
  require_choice("model.backbone", backbone, {"resnet50", "resnet101", "tiny"});
  require_choice("model.position", position, {"sine", "learned"});
  require_count("model.trainable_stages", trainable_stages, 0, 5);
  require_count("model.num_classes", num_classes, 0, 1e6);
  require_count("model.num_queries", num_queries, 1, 1e5);
  require_count("model.hidden_dim", hidden_dim, 4, 65536);
  require_count("model.heads", heads, 1, 1024);
  require_count("model.encoder_layers", encoder_layers, 0, 1000);
  require_count("model.decoder_layers", decoder_layers, 1, 1000);
  require_count("model.feedforward", feedforward, 1, 1e6);
  require_range("model.dropout", dropout, 0, 0.99);
  if (hidden_dim % heads != 0 || hidden_dim % 4 != 0) {
    throw UsageError("model.hidden_dim: " + std::to_string(hidden_dim) +
                     ", expected a multiple of 4 and of model.heads (" + std::to_string(heads) + ")");
  }
  if (dilation && backbone == "tiny") {
    throw UsageError("model.dilation: true for the backbone 'tiny', expected resnet50 or resnet101");
  }
}

DetrBackboneImpl::DetrBackboneImpl(const DetrOptions& options) : dim_(options.hidden_dim) {
  const auto net = register_module("0", std::make_shared<torch::nn::Module>("DetrBackboneNet"));
  if (options.backbone == "tiny") {
    tiny_ = net->register_module("body", TinyBackbone());
  } else {
    resnet_ = net->register_module("body", ResNet(resnet_options(options)));
    freeze_stages(*resnet_, options.trainable_stages);
  }
  if (options.position == "learned") learned_ = register_module("1", LearnedPositionEncoding(dim_));
}

std::vector<torch::Tensor> DetrBackboneImpl::stages(const torch::Tensor& pixels) {
  return resnet_.is_empty() ? tiny_->stages(pixels) : resnet_->stages(pixels);
}

torch::Tensor DetrBackboneImpl::position(const torch::Tensor& valid) {
  return learned_.is_empty() ? sine_position_encoding(valid, dim_) : learned_(valid);
}

int64_t DetrBackboneImpl::channels() const {
  return resnet_.is_empty() ? TinyBackboneImpl::kChannels : ResNetImpl::kChannels;
}

torch::nn::Module& DetrBackboneImpl::body() {
  if (resnet_.is_empty()) return *tiny_;
  return *resnet_;
}

DetrImpl::DetrImpl(const DetrOptions& given) : options(given) {
  options.validate();
  require_count("model.num_classes", options.num_classes, 1, 1e6);
  const int64_t dim = options.hidden_dim;
  backbone = register_module("backbone", DetrBackbone(options));
  input_proj = register_module("input_proj",
                               torch::nn::Conv2d(torch::nn::Conv2dOptions(backbone->channels(), dim, 1)));
  const auto transformer =
      register_module("transformer", std::make_shared<torch::nn::Module>("DetrTransformer"));
  encoder = transformer->register_module(
      "encoder", TransformerEncoder(transformer_options(options), options.encoder_layers));
  decoder = transformer->register_module(
      "decoder", TransformerDecoder(transformer_options(options), options.decoder_layers));
  class_embed = register_module("class_embed", torch::nn::Linear(dim, options.num_classes + 1));
  bbox_embed = register_module("bbox_embed", Mlp(std::vector<int64_t>{dim, dim, dim, 4}));
  query_embed = register_module("query_embed", torch::nn::Embedding(options.num_queries, dim));
  if (options.reference_points) init_reference_points();
}

DetrOutput DetrImpl::forward(const torch::Tensor& pixels, const torch::Tensor& mask) {
  return predict(decode(encode(pixels, mask)));
}

DetrFeatures DetrImpl::encode(const torch::Tensor& pixels, torch::Tensor mask) {
  check_input(pixels, mask);
  // Attention without a mask is faster. Asking the values is free on the CPU only, and no branch of a trace
  // may ask.
  if (mask.defined() && mask.is_cpu() && !is_tracing() && mask.all().item<bool>()) mask.reset();

  DetrFeatures features;
  features.stages = backbone->stages(pixels);
  features.projected = input_proj(features.stages.back());                                // [B,D,h,w]
  torch::Tensor cells = torch::ones_like(features.projected.select(1, 0), torch::kBool);  // [B,h,w]
  if (mask.defined()) {
    cells = upsample_nearest_like(mask.unsqueeze(1).to(torch::kFloat), cells).squeeze(1).to(torch::kBool);
    features.valid = cells;
  }
  torch::Tensor x = features.projected.flatten(2).transpose(1, 2);  // [B,hw,D]
  // The sums along the layers stay in float32 where their parts are bfloat16.
  if (at::autocast::is_autocast_enabled(x.device().type())) x = x.to(torch::kFloat);
  features.position =
      backbone->position(cells.to(x.scalar_type())).flatten(1, 2).to(x.scalar_type());  // [B,hw,D]
  const torch::Tensor valid = features.valid.defined() ? features.valid.flatten(1) : features.valid;
  if (options.positions_in_values) x = x + features.position;
  features.memory = encoder(x, features.position, key_mask(valid));  // [B,hw,D]
  return features;
}

torch::Tensor DetrImpl::decode(const DetrFeatures& features) {
  const std::vector<ProjectedMemory> memory = decoder->project(features.memory, features.position);
  const torch::Tensor mask = key_mask(features.valid.defined() ? features.valid.flatten(1) : features.valid);
  const torch::Tensor query = query_embed->weight + zeros_per_image(features.memory);  // [B,Q,D]
  const torch::Tensor no_mask;
  // Zeros go in, so that without dropout the first self-attention gives one vector for all queries and
  // images.
  const bool uniform = !is_training();
  torch::Tensor state = torch::zeros_like(uniform ? query.slice(0, 0, 1).slice(1, 0, 1) : query);
  std::vector<torch::Tensor> states;
  for (size_t i = 0; i < decoder->layers.size(); ++i) {
    state = decoder->layers[i](state, query, memory[i], no_mask, mask, uniform && i == 0);  // [B,Q,D]
    const bool last = i + 1 == decoder->layers.size();
    if (last || (is_training() && options.aux_loss)) states.push_back(decoder->norm(state));
  }
  return torch::stack(states);  // [L,B,Q,D]
}

DetrOutput DetrImpl::predict(const torch::Tensor& states) {
  return heads(states, reference_points);
}

DetrOutput DetrImpl::predict_cells(const DetrFeatures& features) {
  torch::Tensor points;
  if (options.reference_points) {
    const torch::Tensor& valid = features.valid;
    const torch::Tensor real =
        (valid.defined() ? valid : torch::ones_like(features.projected.select(1, 0))).to(torch::kFloat);
    const auto centre = [&](int64_t axis) {  // of each cell along h or w, over the real size: [B,h,w]
      const torch::Tensor count = real.cumsum(axis);
      return ((count - 0.5) / count.slice(axis, -1).clamp_min(1)).clamp(kEdge, 1 - kEdge);
    };
    points = torch::stack({centre(2), centre(1)}, -1).flatten(1, 2).logit();  // [B,hw,2]
  }
  return heads(features.memory.unsqueeze(0), points);
}

DetrOutput DetrImpl::heads(const torch::Tensor& states, const torch::Tensor& points) {
  torch::Tensor box = bbox_embed(states).to(torch::kFloat);
  if (points.defined()) box = box + torch::constant_pad_nd(points, {0, 2});
  return {class_embed(states).to(torch::kFloat), box.sigmoid()};
}

void DetrImpl::init_reference_points() {
  constexpr double kKeyGain = 2, kSizeLogit = -1.5;  // σ(-1.5): a fifth of the picture
  const torch::NoGradGuard no_grad;
  const int64_t dim = options.hidden_dim;
  const torch::Tensor points = halton_points(options.num_queries).clamp(kEdge, 1 - kEdge);  // [Q,2]
  reference_points = register_parameter("reference_points", points.logit());
  query_embed->weight.copy_(sine_point_encoding(points, dim));
  for (TransformerDecoderLayer& layer : decoder->layers) {
    const torch::Tensor& projection = layer->multihead_attn->in_proj_weight;  // q, k, v: [3D,D]
    projection.slice(0, dim, 2 * dim).copy_(projection.slice(0, 0, dim) * kKeyGain);
  }
  torch::nn::Linear& last = bbox_embed->layers.back();
  last->weight.zero_();
  last->bias.zero_();
  last->bias.slice(0, 2).fill_(kSizeLogit);
}

}  // namespace zoo
