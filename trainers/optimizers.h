#pragma once
#include <cstdint>
#include <string>
#include <vector>

#include <torch/types.h>

#include "models/weights/state_dict.h"
#include "trainers/task.h"

namespace zoo {

/// AdamW (Loshchilov and Hutter 2019) and SGD with momentum (Sutskever et al. 2013) by torch's fused kernels:
/// one call a group, equal to torch.optim. State is kept by the name of its parameter, so that it survives a
/// change of order, of groups or of what is frozen.
class Optimizer {
 public:
  /// Groups as the task gives them. A parameter without gradient in a step is left alone, its state too.
  Optimizer(const OptimizerOptions& options, const std::vector<ParameterGroup>& groups);

  /// One step with every group's step size times `lr_factor` and gradients times `gradient_scale` (of
  /// clipping); gradients themselves are undefined afterwards. Gradients are not released.
  void step(double lr_factor, double gradient_scale = 1.0);
  /// Releases all gradients; the next backward pass brings its own.
  void zero_grad();

  /// Gradients that are there, in the order of the parameters.
  std::vector<torch::Tensor> gradients() const;
  /// Names and step sizes (before the schedule's factor) of the groups that have parameters.
  std::vector<std::pair<std::string, double>> learning_rates() const;

  /// `exp_avg.NAME`, `exp_avg_sq.NAME`, `step.NAME` or `momentum_buffer.NAME`, torch.optim's own words; only
  /// of parameters that have been stepped.
  std::vector<std::pair<std::string, torch::Tensor>> state() const;
  /// Takes `PREFIX` + the names above out of `state`. A parameter that has none there starts afresh; returns
  /// how many do. Throws Error for a state of another shape.
  int64_t load_state(const StateDict& state, const std::string& prefix);

 private:
  struct Slot {
    std::string name;
    torch::Tensor parameter;
    torch::Tensor first;   ///< exp_avg or momentum_buffer; undefined before the first step
    torch::Tensor second;  ///< exp_avg_sq
    int64_t steps = 0;
  };
  struct Group {
    std::string name;
    double lr = 0, weight_decay = 0;
    std::vector<Slot> slots;
  };

  void step_adamw(Group& group, double lr, const std::optional<torch::Tensor>& scale);
  void step_sgd(Group& group, double lr, const std::optional<torch::Tensor>& scale);

  OptimizerOptions options_;
  bool adamw_;
  std::vector<Group> groups_;
};

/// Global 2-norm of gradients [] on their device: torch.nn.utils.get_total_norm. Not finite where any element
/// is not.
torch::Tensor gradient_norm(const std::vector<torch::Tensor>& gradients);
/// What brings a gradient of that norm to at most `clip_norm` (0: no clipping):
/// torch.nn.utils.clip_grad_norm_.
double clip_factor(double norm, double clip_norm);

}  // namespace zoo
