#pragma once
#include <cstdint>
#include <string>
#include <utility>
#include <vector>

#include <torch/types.h>

#include "models/weights/state_dict.h"

namespace zoo {

using NamedTensors = std::vector<std::pair<std::string, torch::Tensor>>;

/// Exponential average of weights, a copy of its own beside the model:
///   average += (1 − d) (weight − average),   d = min(decay, (1 + n) / (10 + n)) in update n = 1, 2, …
/// The ramp (TensorFlow's ExponentialMovingAverage) keeps the random beginning out of short runs. Buffers and
/// integers are copied, not averaged.
class WeightAverage {
 public:
  /// `weights` are averaged, `buffers` copied; both are handles to the model's own tensors. Starts as a copy
  /// of them.
  WeightAverage(double decay, NamedTensors weights, NamedTensors buffers);

  void update();
  /// Exchanges the model's values and the average's, without copying; a second call exchanges them back.
  void swap();

  /// The average under the model's names.
  NamedTensors state() const;
  int64_t updates() const { return updates_; }
  /// Takes `PREFIX` + name of every tensor. Throws Error naming one that is missing or of another shape.
  void load_state(const StateDict& state, const std::string& prefix, int64_t updates);

 private:
  double decay_;
  int64_t updates_ = 0;
  NamedTensors weights_, buffers_;                       ///< of the model
  std::vector<torch::Tensor> averages_, buffer_copies_;  ///< in the same order
};

/// Averages in place of the model's weights while it lives; does nothing where `average` is null.
class AveragedWeights {
 public:
  explicit AveragedWeights(WeightAverage* average) : average_(average) {
    if (average_ != nullptr) average_->swap();
  }
  ~AveragedWeights() {
    if (average_ != nullptr) average_->swap();
  }
  AveragedWeights(const AveragedWeights&) = delete;
  AveragedWeights& operator=(const AveragedWeights&) = delete;

 private:
  WeightAverage* average_;
};

/// Copies the stored tensor `name` into `target`, dtype and layout of the target kept. Throws Error where it
/// is missing or of another shape.
void restore_tensor(const StateDict& state, const std::string& name, torch::Tensor target);

}  // namespace zoo
