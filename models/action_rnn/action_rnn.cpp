#include "models/action_rnn/action_rnn.h"

#include <vector>

#include <torch/torch.h>

#include "core/error.h"
#include "models/layers/dropout.h"

namespace zoo {

namespace {

const std::vector<std::string>& action_cells() {
  static const std::vector<std::string> cells = {"gru", "lstm", "rnn"};
  return cells;
}

/// [B,H] as a layer's state and back.
torch::Tensor as_layer(const torch::Tensor& x) {
  return x.unsqueeze(0);
}
torch::Tensor of_layer(const torch::Tensor& x) {
  return x.squeeze(0);
}

/// A module whose one child has index 0 and is followed by layers without weights.
template <class Layer>
Layer register_first(torch::nn::Module& owner, const char* name, Layer layer) {
  return owner.register_module(name, std::make_shared<torch::nn::Module>())->register_module("0", layer);
}

}  // namespace

void ActionRnnOptions::validate() const {
  require_count("model.feature_size", feature_size, 1, 1 << 20);
  require_count("model.num_classes", num_classes, 2, 1 << 20);
  require_count("model.projection", projection, 1, 65536);
  require_count("model.hidden_dim", hidden_dim, 1, 65536);
  require_choice("model.cell", cell, action_cells());
  require_count("model.horizons", horizons, 0, 1024);
  require_count("model.window", window, 1, 4096);
  require_range("model.dropout", dropout, 0, 0.99);
}

ActionRnnImpl::ActionRnnImpl(const ActionRnnOptions& given) : options(given) {
  options.validate();
  const int64_t projection = options.projection, hidden = options.hidden_dim;
  const auto layer1 = register_module("layer1", std::make_shared<torch::nn::Module>());
  linear_ = layer1->register_module("0", torch::nn::Linear(options.feature_size, projection));
  norm_ = layer1->register_module("1", torch::nn::LayerNorm(torch::nn::LayerNormOptions({projection})));
  if (options.cell == "gru") {
    gru_ =
        register_module("gru", torch::nn::GRU(torch::nn::GRUOptions(projection, hidden).batch_first(true)));
  } else if (options.cell == "lstm") {
    lstm_ = register_module("lstm",
                            torch::nn::LSTM(torch::nn::LSTMOptions(projection, hidden).batch_first(true)));
  } else {
    rnn_ =
        register_module("rnn", torch::nn::RNN(torch::nn::RNNOptions(projection, hidden).batch_first(true)));
  }
  classifier_ = register_first(*this, "f_classification", torch::nn::Linear(hidden, options.num_classes));
  if (options.horizons == 0) return;
  anticipation_ =
      register_first(*this, "anticipation_layer", torch::nn::Linear(hidden, options.horizons * hidden));
}

/// x [B,T,P] -> [B,T,H]
torch::Tensor ActionRnnImpl::run_cell(const torch::Tensor& x, ActionState& state) {
  if (!lstm_.is_empty()) {
    const auto [hidden, last] = lstm_(x, std::make_tuple(as_layer(state[0]), as_layer(state[1])));
    state = {of_layer(std::get<0>(last)), of_layer(std::get<1>(last))};
    return hidden;
  }
  const auto [hidden, last] = gru_.is_empty() ? rnn_(x, as_layer(state[0])) : gru_(x, as_layer(state[0]));
  state = {of_layer(last)};
  return hidden;
}

ActionScores ActionRnnImpl::advance(const torch::Tensor& features, ActionState& state) {
  const torch::Tensor x = hashed_dropout(norm_(linear_(features)).relu(), options.dropout, is_training());
  const torch::Tensor hidden = run_cell(x, state).relu();  // [B,T,H]
  ActionScores scores{classifier_(hidden), {}};
  if (options.horizons == 0) return scores;
  const torch::Tensor ahead = anticipation_(hidden).unflatten(-1, {options.horizons, options.hidden_dim});
  scores.future = classifier_(ahead.relu());  // [B,T,K,C]
  return scores;
}

ActionScores ActionRnnImpl::forward(const ActionInput& input) {
  const torch::Tensor& features = input.features;
  require_features(features, 3, options.feature_size);
  const torch::Tensor row =
      torch::zeros_like(features.select(1, 0).slice(1, 0, 1));  // [B,1], also in a trace
  const torch::Tensor zeros = row + torch::zeros({options.hidden_dim}, row.options());
  ActionState state = {zeros, zeros};
  return advance(features, state);
}

ActionState ActionRnnImpl::start(int64_t batch, torch::Device device) const {
  const torch::Tensor zeros =
      torch::zeros({batch, options.hidden_dim}, torch::dtype(linear_->weight.dtype()).device(device));
  return lstm_.is_empty() ? ActionState{zeros} : ActionState{zeros, zeros};
}

ActionStep ActionRnnImpl::step(const torch::Tensor& features, const ActionState& given) {
  require_features(features, 2, options.feature_size);
  ActionState state = given;
  const ActionScores scores = advance(features.unsqueeze(1), state);
  return {scores.current.squeeze(1), scores.future.defined() ? scores.future.squeeze(1) : torch::Tensor(),
          state};
}

ActionModel make_action_rnn(const ActionRnnOptions& options) {
  std::vector<std::string> names = {"hidden"};
  if (options.cell == "lstm") names.emplace_back("cell");
  ActionModel model =
      action_model(ActionRnn(options), options.feature_size, options.num_classes, std::move(names));
  model.horizons = options.horizons;
  model.window = options.window;
  model.scores_all = true;
  return model;
}

bool action_rnn_recognises(const StateDict& state, const ActionRnnOptions& options) {
  for (const std::string& name : {std::string("layer1.0.weight"), std::string("layer1.1.weight"),
                                  options.cell + ".weight_hh_l0", std::string("f_classification.0.weight")}) {
    if (state.find(name) == nullptr) return false;
  }
  return true;
}

ActionRnnOptions action_rnn_options_of(const StateDict& state, ActionRnnOptions options) {
  for (const std::string& cell : action_cells()) {
    options.cell = cell;
    if (action_rnn_recognises(state, options)) break;
  }
  if (!action_rnn_recognises(state, options)) {
    throw Error(state.source +
                ": the names of its tensors are not a recurrent action network's, expected MiniROAD's "
                "(layer1.0, layer1.1, gru, f_classification.0)");
  }
  options.feature_size = state.find("layer1.0.weight")->size(1);
  options.projection = state.find("layer1.0.weight")->size(0);
  options.num_classes = state.find("f_classification.0.weight")->size(0);
  options.hidden_dim = state.find("f_classification.0.weight")->size(1);
  const torch::Tensor* anticipation = state.find("anticipation_layer.0.weight");
  options.horizons = anticipation == nullptr ? 0 : anticipation->size(0) / options.hidden_dim;
  return options;
}

}  // namespace zoo
