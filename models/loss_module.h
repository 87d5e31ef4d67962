#pragma once
#include <cstdint>
#include <string>
#include <vector>

#include <torch/nn/module.h>
#include <torch/types.h>

namespace zoo {

/// Tensors of which every process has some rows [start, start + count) of `rows`; processes' rows follow each
/// other by rank.
struct RowShard {
  std::vector<std::string> names;  ///< registered ones; none: every process has all of every tensor
  int64_t rows = 0, start = 0, count = 0;
};

/// A loss that has weights or statistics of its own: its parameters are trained beside the model's, all its
/// tensors are saved with them under `loss.`, and none is part of the model.
///
/// Such a loss may step some weights itself, because a step touches few of their rows: they are buffers,
/// named by `own_weights`, so that no optimiser walks over all of them. The trainer puts their gradients
/// into the gradient norm, calls `step` after a step whose loss and norm are finite, and then
/// `release_gradients` in any case.
class LossModule : public torch::nn::Module {
 public:
  /// Registered names of the buffers that `step` alone moves: weights, saved with the model's; no average
  /// follows them.
  virtual std::vector<std::string> own_weights() const { return {}; }
  /// Those that hold the optimiser's state for them, in the order of own_weights: saved in checkpoints alone.
  virtual std::vector<std::string> own_state() const { return {}; }

  /// Gradients of own weights that the backward passes since the last step left. Of weights that every process has
  /// whole the trainer makes them their means, in place.
  virtual std::vector<torch::Tensor> own_gradients() { return {}; }
  /// One step of SGD with these values, gradients times `gradient_scale`.
  virtual void step(double lr, double weight_decay, double momentum, double gradient_scale) {
    static_cast<void>(lr), static_cast<void>(weight_decay);
    static_cast<void>(momentum), static_cast<void>(gradient_scale);
  }
  virtual void release_gradients() {}

  /// What several processes have in parts; state of own_weights follows them under the names of those.
  virtual RowShard shard() const { return {}; }
};

}  // namespace zoo
