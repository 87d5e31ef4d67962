#include "models/oadtr/oadtr.h"

#include <string>

#include <torch/torch.h>

#include "core/error.h"
#include "models/layers/dropout.h"
#include "models/layers/tracing.h"
#include "models/shape_text.h"

namespace zoo {

namespace {

OadTrSizes encoder_sizes(const OadTrOptions& options) {
  return {options.hidden_dim, options.encoder_heads, options.feedforward, options.encoder_layers,
          options.dropout};
}

OadTrSizes decoder_sizes(const OadTrOptions& options) {
  return {options.hidden_dim, options.decoder_heads, options.feedforward, options.decoder_layers,
          options.dropout};
}

}  // namespace

void OadTrOptions::validate() const {
  require_count("model.feature_size", feature_size, 1, 1 << 20);
  require_count("model.num_classes", num_classes, 2, 1 << 20);
  require_count("model.window", window, 1, 4096);
  require_count("model.hidden_dim", hidden_dim, 1, 65536);
  require_count("model.encoder_layers", encoder_layers, 1, 100);
  require_count("model.decoder_layers", decoder_layers, 1, 100);
  require_heads("model.encoder_heads", encoder_heads, hidden_dim);
  require_heads("model.decoder_heads", decoder_heads, hidden_dim);
  require_count("model.feedforward", feedforward, 1, 65536);
  require_count("model.horizons", horizons, 1, 1024);
  require_range("model.dropout", dropout, 0, 0.99);
}

OadTrImpl::OadTrImpl(const OadTrOptions& given) : options(given) {
  options.validate();
  const int64_t dim = options.hidden_dim;
  if (options.task_token) cls_token_ = register_parameter("cls_token", torch::zeros({1, 1, dim}));
  linear_encoding_ = register_module("linear_encoding", torch::nn::Linear(options.feature_size, dim));
  position_encoding_ = register_module("position_encoding",
                                       OadTrPositions(options.window + (options.task_token ? 1 : 0), dim));
  encoder_ = register_module("encoder", OadTrEncoder(encoder_sizes(options)));
  pre_head_ln_ = register_module("pre_head_ln", torch::nn::LayerNorm(torch::nn::LayerNormOptions({dim})));
  decoder_cls_token_ = register_parameter("decoder_cls_token", torch::zeros({1, options.horizons, dim}));
  decoder_ = register_module("decoder", OadTrDecoder(decoder_sizes(options)));
  decoder_position_encoding_ =
      register_module("decoder_position_encoding", OadTrPositions(options.horizons, dim));
  for (torch::Tensor& unused : decoder_position_encoding_->parameters()) unused.set_requires_grad(false);
  classifier_ = register_module("classifier", torch::nn::Linear(dim, options.num_classes));
  mlp_head_ = register_module("mlp_head", torch::nn::Linear(2 * dim, options.num_classes));
}

ActionScores OadTrImpl::forward(const ActionInput& input) {
  return score(encode(input.features));
}

OadTrEncoding OadTrImpl::encode(const torch::Tensor& features) {
  require_features(features, 3, options.feature_size);
  if (features.size(1) != options.window) {
    throw Error("features have shape " + shape_text(features) + ", expected " +
                std::to_string(options.window) + " steps (model.window)");
  }
  return encode_projected(linear_encoding_(features));
}

/// x [B,T,d]
OadTrEncoding OadTrImpl::encode_projected(const torch::Tensor& x) {
  const torch::Tensor tokens = options.task_token ? torch::cat({x, zeros_per_image(x) + cls_token_}, 1) : x;
  const torch::Tensor placed = hashed_dropout(position_encoding_(tokens), options.dropout, is_training());
  const torch::Tensor outputs = pre_head_ln_(encoder_(placed));  // [B,T+1,d]
  return {outputs, outputs.select(1, -1), options.task_token ? outputs.slice(1, 0, -1) : outputs};
}

ActionScores OadTrImpl::score(const OadTrEncoding& encoding) {
  const torch::Tensor future = hashed_dropout(decoder_(decoder_cls_token_, encoding.outputs), options.dropout,
                                              is_training());                   // [B,K,d]
  const torch::Tensor joined = torch::cat({encoding.task, future.mean(1)}, 1);  // [B,2d]
  return {mlp_head_(joined).unsqueeze(1), classifier_(future).unsqueeze(1)};
}

ActionState OadTrImpl::start(int64_t batch, torch::Device device) const {
  return {torch::zeros({batch, options.window, options.hidden_dim},
                       torch::dtype(linear_encoding_->weight.dtype()).device(device)),
          torch::zeros({batch}, torch::dtype(torch::kLong).device(device))};
}

ActionStep OadTrImpl::step(const torch::Tensor& features, const ActionState& state) {
  require_features(features, 2, options.feature_size);
  const torch::Tensor x = linear_encoding_(features);  // [B,d]
  const torch::Tensor &window = state[0], &count = state[1];
  const torch::Tensor first = x.unsqueeze(1) + torch::zeros_like(window);
  const torch::Tensor next = where_stream(count == 0, first, push_step(window, x));
  const ActionScores scores = score(encode_projected(next));
  return {scores.current.squeeze(1), scores.future.squeeze(1), {next, count + 1}};
}

ActionModel make_oadtr(const OadTrOptions& options) {
  OadTr net(options);
  ActionModel model = action_model(net, options.feature_size, options.num_classes, {"window", "count"});
  model.horizons = options.horizons;
  model.window = options.window;
  return model;
}

bool oadtr_recognises(const StateDict& state) {
  for (const char* name :
       {"linear_encoding.weight", "position_encoding.pe.weight", "encoder.net.0.fn.fn.qkv.weight",
        "encoder.net.1.fn.fn.net.0.weight", "decoder_cls_token", "decoder.layers.0.conv1.weight",
        "mlp_head.weight", "classifier.weight"}) {
    if (state.find(name) == nullptr) return false;
  }
  return true;
}

OadTrOptions oadtr_options_of(const StateDict& state, OadTrOptions options) {
  if (!oadtr_recognises(state)) {
    throw Error(
        state.source +
        ": the names of its tensors are not an OadTR's, expected the published ones (linear_encoding, "
        "encoder.net.0.fn.fn.qkv, …, mlp_head)");
  }
  const auto size = [&](const std::string& name, int64_t dim) { return state.find(name)->size(dim); };
  options.feature_size = size("linear_encoding.weight", 1);
  options.hidden_dim = size("linear_encoding.weight", 0);
  options.num_classes = size("classifier.weight", 0);
  options.task_token = state.find("cls_token") != nullptr;
  options.window = size("position_encoding.pe.weight", 0) - (options.task_token ? 1 : 0);
  options.horizons = size("decoder_cls_token", 1);
  options.feedforward = size("encoder.net.1.fn.fn.net.0.weight", 0);
  options.encoder_layers = count_numbered(state, "encoder.net.") / 2;
  options.decoder_layers = count_numbered(state, "decoder.layers.");
  return options;
}

}  // namespace zoo
