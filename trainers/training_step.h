#pragma once
#include <memory>
#include <string>
#include <vector>

#include "datasets/batch.h"
#include "trainers/averaging.h"
#include "trainers/optimizers.h"
#include "trainers/process_group.h"
#include "trainers/task.h"

namespace zoo {

/// The task's groups without the parameters whose names match a pattern of `freeze`; those get no gradient
/// any more. Buffers (running statistics) of frozen layers still move. Throws UsageError for a pattern that
/// matches nothing, and where nothing is left to train.
std::vector<ParameterGroup> trainable_groups(Task& task, const OptimizerOptions& options,
                                             const std::vector<std::string>& freeze);

/// All tensors of a run's model: the module's, parameters that a task trains beside it, and those of its loss
/// under `loss.`.
struct ModelTensors {
  NamedTensors parameters, buffers;
  NamedTensors own_weights;  ///< of the loss, stepped by itself: saved with the model, not averaged
  NamedTensors own_state;    ///< momentum of those, under their names
  RowShard shard;            ///< those that several processes have in parts, under the names here
};
ModelTensors model_tensors(Task& task, const std::vector<ParameterGroup>& groups);

/// What an optimiser step came to.
struct StepResult {
  bool finite = true;            ///< false: weights and buffers are as before the step
  std::vector<double> losses;    ///< one a batch
  double gradient_norm = 0;      ///< before clipping
  std::vector<LossTerms> terms;  ///< one a batch, detached
  int64_t samples = 0;           ///< of all processes
};

/// One optimiser step over `trainer.accumulate` batches: mean of their losses, autocast around the forward
/// pass alone, gradients clipped by their global norm. In bf16 the module's 4-d weights go into
/// channels_last.
///
/// With a group, which the task has joined, it is one step of all processes: gradients, losses and terms are
/// means over them, so that each does the same to its copy of the weights, and leaves out the same steps.
class TrainingStep {
 public:
  TrainingStep(Task& task, const Json& config, torch::Device device,
               const std::shared_ptr<ProcessGroup>& group = nullptr);

  StepResult run(const std::vector<std::unique_ptr<Batch>>& batches, double lr_factor);

  Optimizer& optimizer() { return optimizer_; }
  const Optimizer& optimizer() const { return optimizer_; }
  const ModelTensors& tensors() const { return tensors_; }

 private:
  void share_gradients();
  LossTerms backward(const Batch& batch, size_t batches, bool last);
  void average(std::vector<LossTerms>& terms) const;
  bool own_weights_are_copies() const;
  void average_own_gradients();
  std::vector<torch::Tensor> gradients() const;
  torch::Tensor norm() const;
  void update(double lr_factor, double gradient_scale);
  void release_gradients();
  void keep_buffers();
  void restore_buffers();

  Task& task_;
  std::shared_ptr<LossModule> loss_;  ///< null: none
  torch::Device device_;
  TrainerOptions options_;
  OptimizerOptions optimizer_options_;
  std::vector<ParameterGroup> groups_;
  ModelTensors tensors_;
  Optimizer optimizer_;
  std::shared_ptr<ProcessGroup> group_;       ///< null: the only process
  std::unique_ptr<GradientAverage> average_;  ///< of the parameters that every process has; null: none
  std::vector<torch::Tensor> copied_, cut_;   ///< with a group: trained parameters, whole and by rows
  std::vector<torch::Tensor> kept_buffers_;   ///< before the step, where steps may be left out
};

}  // namespace zoo
