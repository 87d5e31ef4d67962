#include "trainers/averaging.h"

#include <ATen/ops/_foreach_copy.h>
#include <ATen/ops/_foreach_lerp.h>

#include <algorithm>
#include <unordered_set>

#include "core/error.h"

namespace zoo {

namespace {

/// Tensors that share one place in the model (tied weights) once, under their first name.
NamedTensors distinct(NamedTensors tensors, std::unordered_set<const void*>& seen) {
  tensors.erase(std::remove_if(
                    tensors.begin(), tensors.end(),
                    [&](const auto& item) { return !seen.insert(item.second.unsafeGetTensorImpl()).second; }),
                tensors.end());
  return tensors;
}

std::vector<torch::Tensor> values(const NamedTensors& tensors) {
  std::vector<torch::Tensor> list;
  for (const auto& item : tensors) list.push_back(item.second);
  return list;
}

std::vector<torch::Tensor> copies(const NamedTensors& tensors) {
  std::vector<torch::Tensor> list;
  for (const auto& item : tensors) list.push_back(item.second.detach().clone());
  return list;
}

void swap_values(const NamedTensors& tensors, std::vector<torch::Tensor>& others) {
  for (size_t i = 0; i < tensors.size(); ++i) {
    torch::Tensor mine = tensors[i].second;
    const torch::Tensor data = mine.detach();
    mine.set_data(others[i]);
    others[i] = data;
  }
}

}  // namespace

WeightAverage::WeightAverage(double decay, NamedTensors weights, NamedTensors buffers) : decay_(decay) {
  std::unordered_set<const void*> seen;
  weights_ = distinct(std::move(weights), seen);
  buffers_ = distinct(std::move(buffers), seen);
  averages_ = copies(weights_);
  buffer_copies_ = copies(buffers_);
}

void WeightAverage::update() {
  const torch::NoGradGuard no_grad;
  ++updates_;
  const auto n = static_cast<double>(updates_);
  at::_foreach_lerp_(averages_, values(weights_), 1 - std::min(decay_, (1 + n) / (10 + n)));
  if (!buffers_.empty()) at::_foreach_copy_(buffer_copies_, values(buffers_));
}

void WeightAverage::swap() {
  swap_values(weights_, averages_);
  swap_values(buffers_, buffer_copies_);
}

NamedTensors WeightAverage::state() const {
  NamedTensors state;
  for (size_t i = 0; i < weights_.size(); ++i) state.emplace_back(weights_[i].first, averages_[i]);
  for (size_t i = 0; i < buffers_.size(); ++i) state.emplace_back(buffers_[i].first, buffer_copies_[i]);
  return state;
}

void WeightAverage::load_state(const StateDict& state, const std::string& prefix, int64_t updates) {
  for (auto& [name, tensor] : this->state()) restore_tensor(state, prefix + name, tensor);
  updates_ = updates;
}

void restore_tensor(const StateDict& state, const std::string& name, torch::Tensor target) {
  const torch::NoGradGuard no_grad;
  const torch::Tensor* stored = state.find(name);
  if (stored == nullptr) throw Error(state.source + ": tensor " + name + " is missing");
  if (stored->sizes() != target.sizes()) {
    throw Error(state.source + ": tensor " + name + " has shape " + c10::str(stored->sizes()) +
                ", expected " + c10::str(target.sizes()));
  }
  target.copy_(*stored);
}

}  // namespace zoo
