#include "models/action_rnn/frame_linear.h"

#include <torch/torch.h>

namespace zoo {

void FrameLinearOptions::validate() const {
  require_count("model.feature_size", feature_size, 1, 1 << 20);
  require_count("model.num_classes", num_classes, 2, 1 << 20);
  require_count("model.horizons", horizons, 0, 1024);
  require_count("model.window", window, 1, 4096);
}

FrameLinearImpl::FrameLinearImpl(const FrameLinearOptions& given) : options(given) {
  options.validate();
  classifier_ = register_module("classifier", torch::nn::Linear(options.feature_size, options.num_classes));
  if (options.horizons == 0) return;
  future_classifier_ = register_module(
      "future_classifier", torch::nn::Linear(options.feature_size, options.horizons * options.num_classes));
}

/// [..,D] -> [..,C] and [..,K,C]
ActionScores FrameLinearImpl::score(const torch::Tensor& features) {
  ActionScores scores{classifier_(features), {}};
  if (options.horizons == 0) return scores;
  scores.future = future_classifier_(features).unflatten(-1, {options.horizons, options.num_classes});
  return scores;
}

ActionScores FrameLinearImpl::forward(const ActionInput& input) {
  require_features(input.features, 3, options.feature_size);
  return score(input.features);
}

ActionState FrameLinearImpl::start(int64_t, torch::Device) const {
  return {};
}

ActionStep FrameLinearImpl::step(const torch::Tensor& features, const ActionState&) {
  require_features(features, 2, options.feature_size);
  const ActionScores scores = score(features);
  return {scores.current, scores.future, {}};
}

ActionModel make_frame_linear(const FrameLinearOptions& options) {
  ActionModel model = action_model(FrameLinear(options), options.feature_size, options.num_classes, {});
  model.horizons = options.horizons;
  model.window = options.window;
  model.scores_all = true;
  return model;
}

}  // namespace zoo
