#include "models/online_action/action_trace.h"

#include <algorithm>
#include <utility>

#include <torch/torch.h>

namespace zoo {

namespace {

int64_t streams_of(int variant) {
  return std::vector<int64_t>{1, 3, 2, 4}[static_cast<size_t>(variant) % 4];
}

/// The device and type of the model's parameters.
torch::TensorOptions options_of(const ActionModel& model) {
  const torch::Tensor parameter = model.module->parameters().front();
  return torch::dtype(parameter.dtype()).device(parameter.device());
}

std::vector<torch::Tensor> example_window(const ActionModel& model, int variant) {
  const int64_t streams = streams_of(variant);
  const auto options = options_of(model);
  std::vector<torch::Tensor> inputs = {torch::randn({streams, model.window, model.feature_size}, options)};
  if (model.memory == 0) return inputs;
  inputs.push_back(torch::randn({streams, model.memory, model.feature_size}, options));
  // Each stream has a sample fewer than the one before it.
  const torch::Tensor missing = torch::arange(streams).clamp_max(model.memory - 1).unsqueeze(1);
  inputs.push_back((torch::arange(model.memory) >= missing).to(options.device()));
  return inputs;
}

/// States of one stream at several steps, as those of several streams: variant 0 is one step old, the others have a new
/// stream and, with a long memory, some that have filled their window.
std::vector<torch::Tensor> example_step(const ActionModel& model, int variant) {
  const torch::NoGradGuard no_grad;
  const auto options = options_of(model);
  const int64_t stride = variant > 1 && model.memory > 0 ? model.window / 2 + model.memory_rate : 1;
  std::vector<ActionState> states;
  ActionState state = model.start(1, options.device());
  for (int64_t age = 0; static_cast<int64_t>(states.size()) < streams_of(variant); ++age) {
    if (age % stride == 0 && (age > 0 || variant > 0)) states.push_back(state);
    state = model.step(torch::randn({1, model.feature_size}, options), state).state;
  }
  std::vector<torch::Tensor> inputs = {torch::randn({streams_of(variant), model.feature_size}, options)};
  for (size_t i = 0; i < state.size(); ++i) {
    std::vector<torch::Tensor> rows;
    for (const ActionState& each : states) rows.push_back(each[i]);
    inputs.push_back(torch::cat(rows));
  }
  return inputs;
}

}  // namespace

TraceSpec action_forward_spec(const ActionModel& model) {
  TraceSpec spec;
  spec.module = model.module;
  spec.inputs = {"features"};
  if (model.memory > 0) spec.inputs.insert(spec.inputs.end(), {"memory", "memory_mask"});
  spec.outputs = {"current"};
  if (model.horizons > 0) spec.outputs.emplace_back("future");
  spec.forward = [model](const std::vector<torch::Tensor>& inputs) {
    ActionInput input{inputs[0], {}, {}};
    if (model.memory > 0) input.memory = inputs[1], input.memory_mask = inputs[2];
    ActionScores scores = model.forward(input);
    if (!model.scores_all) {
      scores.current = scores.current.squeeze(1);
      if (model.horizons > 0) scores.future = scores.future.squeeze(1);
    }
    std::vector<torch::Tensor> outputs = {scores.current};
    if (model.horizons > 0) outputs.push_back(scores.future);
    return outputs;
  };
  spec.example = [model](int variant) { return example_window(model, variant); };
  return spec;
}

TraceSpec action_step_spec(const ActionModel& model) {
  TraceSpec spec;
  spec.method = "step";
  spec.module = model.module;
  spec.inputs = {"features"};
  spec.outputs = {"current"};
  if (model.horizons > 0) spec.outputs.emplace_back("future");
  spec.inputs.insert(spec.inputs.end(), model.state_names.begin(), model.state_names.end());
  spec.outputs.insert(spec.outputs.end(), model.state_names.begin(), model.state_names.end());
  spec.forward = [model](const std::vector<torch::Tensor>& inputs) {
    ActionStep step = model.step(inputs[0], {inputs.begin() + 1, inputs.end()});
    std::vector<torch::Tensor> outputs = {step.current};
    if (model.horizons > 0) outputs.push_back(step.future);
    outputs.insert(outputs.end(), step.state.begin(), step.state.end());
    return outputs;
  };
  spec.example = [model](int variant) { return example_step(model, variant); };
  return spec;
}

}  // namespace zoo
