#include "trainers/optimizers.h"

#include <ATen/ops/_foreach_norm.h>
#include <ATen/ops/_fused_adamw.h>
#include <ATen/ops/_fused_sgd.h>
#include <torch/utils.h>

#include <algorithm>
#include <map>

#include "core/error.h"
#include "core/text.h"
#include "models/shape_text.h"

namespace zoo {

namespace {

/// Whether elements lie in the same order; strides of dimensions of one element say nothing.
bool same_layout(const torch::Tensor& a, const torch::Tensor& b) {
  for (int64_t dim = 0; dim < a.dim(); ++dim) {
    if (a.size(dim) != 1 && a.stride(dim) != b.stride(dim)) return false;
  }
  return a.scalar_type() == b.scalar_type();
}

/// The gradient in the memory layout of its parameter: the fused kernels walk over plain memory and would
/// pair the wrong elements of, say, a channels_last weight and a contiguous gradient.
torch::Tensor gradient_like(const torch::Tensor& parameter) {
  const torch::Tensor& gradient = parameter.grad();
  return same_layout(gradient, parameter) ? gradient : torch::empty_like(parameter).copy_(gradient);
}

}  // namespace

Optimizer::Optimizer(const OptimizerOptions& options, const std::vector<ParameterGroup>& groups)
    : options_(options), adamw_(options.name == "adamw") {
  for (const ParameterGroup& group : groups) {
    Group own{group.name, group.lr, group.weight_decay, {}};
    for (const auto& [name, parameter] : group.parameters) {
      if (!parameter.is_non_overlapping_and_dense())
        throw Error("parameter " + name + " has gaps in its memory");
      own.slots.push_back({name, parameter, {}, {}, 0});
    }
    groups_.push_back(std::move(own));
  }
}

void Optimizer::step(double lr_factor, double gradient_scale) {
  const torch::NoGradGuard no_grad;
  for (Group& group : groups_) {
    std::optional<torch::Tensor> scale;
    if (gradient_scale != 1.0 && !group.slots.empty()) {
      scale =
          torch::full({}, 1.0 / gradient_scale, group.slots.front().parameter.options().dtype(torch::kFloat));
    }
    adamw_ ? step_adamw(group, group.lr * lr_factor, scale) : step_sgd(group, group.lr * lr_factor, scale);
  }
}

void Optimizer::step_adamw(Group& group, double lr, const std::optional<torch::Tensor>& scale) {
  std::vector<torch::Tensor> parameters, gradients, first, second, steps;
  std::map<int64_t, torch::Tensor> counts;  // one scalar for all parameters of an age
  for (Slot& slot : group.slots) {
    if (!slot.parameter.grad().defined()) continue;
    if (!slot.first.defined()) {
      slot.first = torch::zeros_like(slot.parameter);
      slot.second = torch::zeros_like(slot.parameter);
    }
    torch::Tensor& count = counts[++slot.steps];
    if (!count.defined()) {
      count = torch::full({}, static_cast<double>(slot.steps), slot.parameter.options().dtype(torch::kFloat));
    }
    parameters.push_back(slot.parameter);
    gradients.push_back(gradient_like(slot.parameter));
    first.push_back(slot.first);
    second.push_back(slot.second);
    steps.push_back(count);
  }
  if (parameters.empty()) return;
  at::_fused_adamw_(parameters, gradients, first, second, {}, steps, lr, options_.beta1, options_.beta2,
                    group.weight_decay, options_.eps, /*amsgrad=*/false, /*maximize=*/false, scale);
}

void Optimizer::step_sgd(Group& group, double lr, const std::optional<torch::Tensor>& scale) {
  // The kernel fills the buffers of a first step: parameters that have had theirs go in a call of their own.
  for (const bool first_step : {true, false}) {
    std::vector<torch::Tensor> parameters, gradients, buffers;
    for (Slot& slot : group.slots) {
      if (!slot.parameter.grad().defined() || (slot.steps == 0) != first_step) continue;
      if (options_.momentum > 0 && !slot.first.defined()) slot.first = torch::zeros_like(slot.parameter);
      parameters.push_back(slot.parameter);
      gradients.push_back(gradient_like(slot.parameter));
      if (options_.momentum > 0) buffers.push_back(slot.first);
    }
    if (parameters.empty()) continue;
    at::_fused_sgd_(parameters, gradients, buffers, group.weight_decay, options_.momentum, lr,
                    /*dampening=*/0, options_.nesterov, /*maximize=*/false, first_step, scale);
  }
  for (Slot& slot : group.slots) slot.steps += slot.parameter.grad().defined() ? 1 : 0;
}

void Optimizer::zero_grad() {
  for (Group& group : groups_) {
    for (Slot& slot : group.slots) slot.parameter.mutable_grad() = torch::Tensor();
  }
}

std::vector<torch::Tensor> Optimizer::gradients() const {
  std::vector<torch::Tensor> gradients;
  for (const Group& group : groups_) {
    for (const Slot& slot : group.slots) {
      if (slot.parameter.grad().defined()) gradients.push_back(slot.parameter.grad());
    }
  }
  return gradients;
}

std::vector<std::pair<std::string, double>> Optimizer::learning_rates() const {
  std::vector<std::pair<std::string, double>> rates;
  for (const Group& group : groups_) {
    if (!group.slots.empty()) rates.emplace_back(group.name, group.lr);
  }
  return rates;
}

std::vector<std::pair<std::string, torch::Tensor>> Optimizer::state() const {
  std::vector<std::pair<std::string, torch::Tensor>> state;
  for (const Group& group : groups_) {
    for (const Slot& slot : group.slots) {
      if (slot.steps == 0) continue;
      state.emplace_back("step." + slot.name, torch::tensor(slot.steps));
      if (slot.first.defined())
        state.emplace_back((adamw_ ? "exp_avg." : "momentum_buffer.") + slot.name, slot.first);
      if (slot.second.defined()) state.emplace_back("exp_avg_sq." + slot.name, slot.second);
    }
  }
  return state;
}

int64_t Optimizer::load_state(const StateDict& state, const std::string& prefix) {
  const auto load = [&](const std::string& name, const torch::Tensor& parameter, torch::Tensor& target) {
    const torch::Tensor* stored = state.find(prefix + name);
    if (stored == nullptr) return false;
    if (stored->sizes() != parameter.sizes()) {
      throw Error(state.source + ": " + prefix + name + " " + shape_text(*stored) + ", expected " +
                  shape_text(parameter));
    }
    target = torch::empty_like(parameter, torch::TensorOptions().requires_grad(false)).copy_(*stored);
    return true;
  };
  const torch::NoGradGuard no_grad;
  int64_t fresh = 0;
  for (Group& group : groups_) {
    for (Slot& slot : group.slots) {
      const torch::Tensor* steps = state.find(prefix + "step." + slot.name);
      bool found = steps != nullptr &&
                   load((adamw_ ? "exp_avg." : "momentum_buffer.") + slot.name, slot.parameter, slot.first);
      if (adamw_) found = found && load("exp_avg_sq." + slot.name, slot.parameter, slot.second);
      if (!adamw_ && options_.momentum == 0) found = steps != nullptr;
      slot.steps = found ? steps->item<int64_t>() : 0;
      fresh += found ? 0 : 1;
    }
  }
  return fresh;
}

torch::Tensor gradient_norm(const std::vector<torch::Tensor>& gradients) {
  if (gradients.empty()) return torch::zeros({});
  return torch::stack(at::_foreach_norm(gradients)).norm();
}

double clip_factor(double norm, double clip_norm) {
  return clip_norm > 0 ? std::min(1.0, clip_norm / (norm + 1e-6)) : 1.0;
}

}  // namespace zoo
