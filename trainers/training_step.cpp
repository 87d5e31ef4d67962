#include "trainers/training_step.h"

#include <ATen/ops/_foreach_copy.h>

#include <algorithm>
#include <cmath>
#include <set>

#include "core/error.h"
#include "core/text.h"
#include "models/layers/channels_last.h"
#include "models/precision.h"
#include "models/runtime/memory_pool.h"

namespace zoo {

namespace {

constexpr const char* kLossPrefix = "loss.";

std::vector<torch::Tensor> tensors_of(const NamedTensors& named) {
  std::vector<torch::Tensor> list;
  for (const auto& item : named) list.push_back(item.second);
  return list;
}

void require_matches(const std::string& pattern, const std::vector<std::string>& names) {
  const bool found = std::any_of(names.begin(), names.end(),
                                 [&](const std::string& name) { return matches_wildcard(name, pattern); });
  if (found) return;
  throw UsageError("trainer.freeze: '" + pattern + "' matches no parameter" + did_you_mean(pattern, names) +
                   " (a pattern is a whole name with * and ?, for example '" +
                   split(names.front(), '.').front() + "*')");
}

std::vector<torch::Tensor> gradients_of(const std::vector<torch::Tensor>& parameters) {
  std::vector<torch::Tensor> gradients;
  for (const torch::Tensor& parameter : parameters) {
    if (parameter.grad().defined()) gradients.push_back(parameter.grad());
  }
  return gradients;
}

void add_loss_tensors(LossModule& loss, std::set<std::string>& names, ModelTensors& tensors) {
  const std::vector<std::string> own = loss.own_weights(), state = loss.own_state();
  for (const auto& item : loss.named_parameters()) {
    const std::string name = kLossPrefix + item.key();
    if (names.insert(name).second) tensors.parameters.emplace_back(name, item.value());
  }
  for (const auto& item : loss.named_buffers()) {
    const std::string& key = item.key();
    const auto stated = std::find(state.begin(), state.end(), key);
    if (stated != state.end()) {
      tensors.own_state.emplace_back(kLossPrefix + own.at(static_cast<size_t>(stated - state.begin())),
                                     item.value());
    } else {
      const bool is_own = std::find(own.begin(), own.end(), key) != own.end();
      (is_own ? tensors.own_weights : tensors.buffers).emplace_back(kLossPrefix + key, item.value());
    }
  }
  tensors.shard = loss.shard();
  for (std::string& name : tensors.shard.names) name = kLossPrefix + name;
}

}  // namespace

std::vector<ParameterGroup> trainable_groups(Task& task, const OptimizerOptions& options,
                                             const std::vector<std::string>& freeze) {
  std::vector<std::string> names;
  for (const auto& item : task.module().named_parameters()) names.push_back(item.key());
  const auto frozen = [&](const std::string& name) {
    return std::any_of(freeze.begin(), freeze.end(),
                       [&](const std::string& pattern) { return matches_wildcard(name, pattern); });
  };
  std::vector<ParameterGroup> groups = task.parameter_groups(options);
  for (const ParameterGroup& group : groups) {
    for (const auto& item : group.parameters) names.push_back(item.first);
  }
  if (names.empty()) throw Error("the model has no parameters");
  for (const std::string& pattern : freeze) require_matches(pattern, names);
  for (auto& item : task.module().named_parameters()) {
    if (frozen(item.key())) item.value().set_requires_grad(false);
  }
  size_t left = 0;
  for (ParameterGroup& group : groups) {
    auto& parameters = group.parameters;
    for (auto& item : parameters) {
      if (frozen(item.first)) item.second.set_requires_grad(false);
    }
    parameters.erase(std::remove_if(parameters.begin(), parameters.end(),
                                    [&](const auto& item) { return frozen(item.first); }),
                     parameters.end());
    left += parameters.size();
  }
  if (left == 0) throw UsageError("trainer.freeze leaves no parameter to train");
  return groups;
}

ModelTensors model_tensors(Task& task, const std::vector<ParameterGroup>& groups) {
  ModelTensors tensors;
  std::set<std::string> names;
  for (const auto& item : task.module().named_parameters()) {
    names.insert(item.key());
    tensors.parameters.emplace_back(item.key(), item.value());
  }
  for (const ParameterGroup& group : groups) {
    for (const auto& item : group.parameters) {
      if (names.insert(item.first).second) tensors.parameters.push_back(item);
    }
  }
  for (const auto& item : task.module().named_buffers())
    tensors.buffers.emplace_back(item.key(), item.value());
  const std::shared_ptr<LossModule> loss = task.loss_module();
  if (loss != nullptr) add_loss_tensors(*loss, names, tensors);
  return tensors;
}

TrainingStep::TrainingStep(Task& task, const Json& config, torch::Device device,
                           const std::shared_ptr<ProcessGroup>& group)
    : task_(task),
      loss_(task.loss_module()),
      device_(device),
      options_(config.at("trainer").get<TrainerOptions>()),
      optimizer_options_(config.at("optimizer").get<OptimizerOptions>()),
      groups_(trainable_groups(task, optimizer_options_, options_.freeze)),
      tensors_(model_tensors(task, groups_)),
      optimizer_(optimizer_options_, groups_),
      group_(group) {
  if (loss_ != nullptr) loss_->to(device_);
  if (device_.is_cpu() || options_.precision == "bf16") use_channels_last(task.module());
  if (group_ != nullptr) share_gradients();
}

void TrainingStep::share_gradients() {
  const std::vector<std::string>& cut = tensors_.shard.names;
  for (const ParameterGroup& group : groups_) {
    for (const auto& [name, parameter] : group.parameters) {
      (std::find(cut.begin(), cut.end(), name) != cut.end() ? cut_ : copied_).push_back(parameter);
    }
  }
  if (!copied_.empty()) average_ = group_->average_gradients(copied_);
}

StepResult TrainingStep::run(const std::vector<std::unique_ptr<Batch>>& batches, double lr_factor) {
  const MemoryPoolScope pool;
  StepResult result;
  if (options_.nonfinite == "skip") keep_buffers();
  for (const auto& batch : batches) {
    result.terms.push_back(backward(*batch, batches.size(), batch == batches.back()));
    result.samples += batch->size() * (group_ == nullptr ? 1 : group_->count());
  }
  const torch::NoGradGuard no_grad;
  if (group_ != nullptr) {
    average(result.terms);
    average_own_gradients();
  }
  std::vector<torch::Tensor> scalars;
  for (const LossTerms& loss : result.terms) scalars.push_back(loss.total.to(torch::kDouble));
  scalars.push_back(norm().to(torch::kDouble));
  const torch::Tensor values = torch::stack(scalars).cpu();  // [batches + 1], the step's only transfer
  const auto* value = values.data_ptr<double>();
  result.losses.assign(value, value + batches.size());
  result.gradient_norm = value[batches.size()];
  result.finite =
      std::all_of(value, value + values.numel(), [](double number) { return std::isfinite(number); });
  if (result.finite) {
    update(lr_factor, clip_factor(result.gradient_norm, options_.clip_norm));
  } else if (options_.nonfinite == "skip") {
    restore_buffers();
  }
  release_gradients();
  return result;
}

std::vector<torch::Tensor> TrainingStep::gradients() const {
  std::vector<torch::Tensor> all = optimizer_.gradients();
  if (loss_ == nullptr) return all;
  for (torch::Tensor& gradient : loss_->own_gradients()) all.push_back(std::move(gradient));
  return all;
}

/// Whether the loss's own weights, if it has some, are the same in every process.
bool TrainingStep::own_weights_are_copies() const {
  return tensors_.shard.names.empty();
}

void TrainingStep::average_own_gradients() {
  if (loss_ == nullptr || !own_weights_are_copies()) return;
  for (torch::Tensor& gradient : loss_->own_gradients()) {
    group_->sum(gradient);
    gradient.div_(group_->count());
  }
}

/// Of all gradients; with a group of those of every process's rows too.
torch::Tensor TrainingStep::norm() const {
  if (group_ == nullptr) return gradient_norm(gradients());
  std::vector<torch::Tensor> cut = gradients_of(cut_), copied = gradients_of(copied_);
  if (loss_ != nullptr) {
    for (torch::Tensor& gradient : loss_->own_gradients())
      (own_weights_are_copies() ? copied : cut).push_back(std::move(gradient));
  }
  const torch::Tensor squares = gradient_norm(cut).to(torch::kDouble).square();
  group_->sum(squares);
  return (gradient_norm(copied).to(torch::kDouble).square() + squares).sqrt();
}

/// Losses and terms become their means over processes.
void TrainingStep::average(std::vector<LossTerms>& terms) const {
  std::vector<torch::Tensor> scalars;
  for (const LossTerms& loss : terms) {
    scalars.push_back(loss.total.to(torch::kDouble));
    for (const auto& item : loss.terms) scalars.push_back(item.second.to(torch::kDouble));
  }
  const torch::Tensor means = torch::stack(scalars);
  group_->sum(means);
  means.div_(group_->count());
  int64_t next = 0;
  for (LossTerms& loss : terms) {
    loss.total = means[next++];
    for (auto& item : loss.terms) item.second = means[next++];
  }
}

void TrainingStep::update(double lr_factor, double gradient_scale) {
  optimizer_.step(lr_factor, gradient_scale);
  if (loss_ == nullptr) return;
  loss_->step(optimizer_options_.lr * lr_factor, optimizer_options_.weight_decay, optimizer_options_.momentum,
              gradient_scale);
}

void TrainingStep::release_gradients() {
  optimizer_.zero_grad();
  if (loss_ != nullptr) loss_->release_gradients();
}

/// Processes exchange gradients in the `last` backward pass of a step.
LossTerms TrainingStep::backward(const Batch& batch, size_t batches, bool last) {
  LossTerms loss;
  {
    const AutocastGuard autocast(device_, precision_type(options_.precision));
    loss = task_.loss(batch, device_);
  }
  const torch::Tensor share = batches == 1 ? loss.total : loss.total / static_cast<double>(batches);
  last&& average_ != nullptr ? average_->backward(share) : share.backward();
  loss.total = loss.total.detach();
  return loss;
}

void TrainingStep::keep_buffers() {
  if (tensors_.buffers.empty()) return;
  const torch::NoGradGuard no_grad;
  if (kept_buffers_.empty()) {
    for (const auto& item : tensors_.buffers) kept_buffers_.push_back(item.second.clone());
  } else {
    at::_foreach_copy_(kept_buffers_, tensors_of(tensors_.buffers));
  }
}

void TrainingStep::restore_buffers() {
  if (!kept_buffers_.empty()) at::_foreach_copy_(tensors_of(tensors_.buffers), kept_buffers_);
}

}  // namespace zoo
