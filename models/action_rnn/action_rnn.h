#pragma once
#include <cstdint>
#include <string>

#include <torch/nn/module.h>
#include <torch/nn/modules/linear.h>
#include <torch/nn/modules/normalization.h>
#include <torch/nn/modules/rnn.h>
#include <torch/types.h>

#include "core/options.h"
#include "models/online_action/action_model.h"
#include "models/weights/state_dict.h"

namespace zoo {

/// The recurrent baseline of online action detection in the form of MiniROAD, An et al. 2023 (jbistanbul/MiniROAD).
/// Defaults are its own for THUMOS'14.
struct ActionRnnOptions {
  int64_t feature_size = 3072;
  int64_t num_classes = 22;
  int64_t projection = 2048;  ///< of the features before the cell
  int64_t hidden_dim = 1024;
  std::string cell = "gru";  ///< gru | lstm | rnn (tanh)
  int64_t horizons = 0;      ///< K; 0: no anticipation
  int64_t window = 128;      ///< steps in training
  double dropout = 0.2;      ///< of the projected features

  /// Throws UsageError naming the key, its value and the range.
  void validate() const;
};
NLOHMANN_DEFINE_TYPE_NON_INTRUSIVE(ActionRnnOptions, feature_size, num_classes, projection, hidden_dim, cell,
                                   horizons, window, dropout)

/// classifier(relu(cell(drop(relu(LN(W·x)))))), and for step k of the future classifier(relu(W_k·relu(h))).
///
/// Names and shapes are MiniROAD's: layer1.{0,1}, gru (for the other cells lstm or rnn), f_classification.0,
/// anticipation_layer.0.
class ActionRnnImpl : public torch::nn::Module {
 public:
  /// Throws UsageError as ActionRnnOptions::validate.
  explicit ActionRnnImpl(const ActionRnnOptions& options);

  /// Features from a stream's first step on -> logits of all steps.
  ActionScores forward(const ActionInput& input);

  /// State: `hidden` [B,H], with lstm also `cell` [B,H].
  ActionState start(int64_t batch, torch::Device device) const;
  ActionStep step(const torch::Tensor& features, const ActionState& state);

  ActionRnnOptions options;

 private:
  torch::Tensor run_cell(const torch::Tensor& x, ActionState& state);
  ActionScores advance(const torch::Tensor& features, ActionState& state);

  torch::nn::Linear linear_{nullptr};
  torch::nn::LayerNorm norm_{nullptr};
  torch::nn::GRU gru_{nullptr};
  torch::nn::LSTM lstm_{nullptr};
  torch::nn::RNN rnn_{nullptr};
  torch::nn::Linear classifier_{nullptr}, anticipation_{nullptr};
};
TORCH_MODULE(ActionRnn);

ActionModel make_action_rnn(const ActionRnnOptions& options);

/// Whether the tensors are of such a network with the cell of `options`.
bool action_rnn_recognises(const StateDict& state, const ActionRnnOptions& options = {});
/// `options` with what names and shapes of the tensors tell: all but window and dropout. Throws Error where the names
/// are none of MiniROAD's.
ActionRnnOptions action_rnn_options_of(const StateDict& state, ActionRnnOptions options = {});

}  // namespace zoo
