#pragma once
#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include <torch/nn/module.h>
#include <torch/types.h>

#include "models/weights/state_dict.h"

namespace zoo {

// Letters of online action detection: B streams, T steps of a window, D numbers of a step's features, C classes of which
// one is background, K future steps that a model predicts, N older steps that it remembers, S steps that a pass scores.

/// Logits of the last S steps of a window.
struct ActionScores {
  torch::Tensor current;  ///< [B,S,C]
  torch::Tensor
      future;  ///< [B,R,K,C] of the last R steps, R either 1 or S; undefined where the model predicts none
};

/// What a stream has left behind, batch first in every tensor, so that streams at different steps share a batch. All
/// zeros before a stream's first step.
using ActionState = std::vector<torch::Tensor>;

/// Logits of a stream's next step.
struct ActionStep {
  torch::Tensor current;  ///< [B,C]
  torch::Tensor future;   ///< [B,K,C]; undefined where the model predicts none
  ActionState state;
};

/// What a model sees of a batch of streams at once.
struct ActionInput {
  torch::Tensor features;     ///< [B,T,D], the current step last
  torch::Tensor memory;       ///< [B,N,D] older steps, oldest first; undefined where the model keeps none
  torch::Tensor memory_mask;  ///< [B,N] bool, true on real steps, of which each row has one at least
};

/// What a task needs of an action network; made by the recipe.
struct ActionModel {
  std::shared_ptr<torch::nn::Module> module;
  std::function<ActionScores(const ActionInput&)> forward;
  std::function<ActionState(int64_t batch, torch::Device device)> start;  ///< before the first step
  /// One step, [B,D], at a cost that does not grow with the steps before it. Its logits are those of `forward` on
  /// what the stream has had so far.
  std::function<ActionStep(const torch::Tensor& features, const ActionState& state)> step;
  std::vector<std::string> state_names;
  int64_t feature_size = 0;             ///< D
  int64_t num_classes = 0;              ///< C
  int64_t background = 0;               ///< its column
  int64_t horizons = 0;                 ///< K; 0: none
  int64_t first_horizon = 1;            ///< steps from the current one to the first predicted
  int64_t window = 1;                   ///< T
  int64_t memory = 0, memory_rate = 1;  ///< N samples of every memory_rate-th step before the window; 0: none
  bool scores_all = false;              ///< S is T, not 1
};

/// The model of a module holder with `forward`, `start` and `step`, for the caller to complete.
template <class Net>
ActionModel action_model(Net net, int64_t feature_size, int64_t num_classes,
                         std::vector<std::string> state_names) {
  ActionModel model;
  model.module = net.ptr();
  model.forward = [net](const ActionInput& input) mutable { return net->forward(input); };
  model.start = [net](int64_t batch, torch::Device device) { return net->start(batch, device); };
  model.step = [net](const torch::Tensor& features, const ActionState& state) mutable {
    return net->step(features, state);
  };
  model.state_names = std::move(state_names);
  model.feature_size = feature_size;
  model.num_classes = num_classes;
  return model;
}

/// How many numbers in a row, from 0, follow `prefix` in the names of the tensors.
int64_t count_numbered(const StateDict& state, const std::string& prefix);

/// Throws UsageError unless `heads` divides `dim`, that of model.hidden_dim.
void require_heads(const std::string& key, int64_t heads, int64_t dim);

/// Throws Error unless `features` have `dims` dimensions and D last.
void require_features(const torch::Tensor& features, int64_t dims, int64_t feature_size);

/// `ring` [B,T,..] without its oldest step and with x [B,..] as its newest.
torch::Tensor push_step(const torch::Tensor& ring, const torch::Tensor& x);

/// `all` [B,..] where `chosen` [B] bool, otherwise `others`.
torch::Tensor where_stream(const torch::Tensor& chosen, const torch::Tensor& all,
                           const torch::Tensor& others);

}  // namespace zoo
