#include "models/runtime/program.h"

#include <chrono>

namespace zoo {

namespace {

/// Sizes of input whose shape-only values are kept; one more makes room by forgetting all.
constexpr size_t kShapesKept = 64;

using Clock = std::chrono::steady_clock;

}  // namespace

int Program::add_input() {
  values_.emplace_back();
  inputs_.push_back(static_cast<int>(values_.size()) - 1);
  return inputs_.back();
}

int Program::add_constant(c10::IValue content) {
  values_.emplace_back();
  Value& constant = values_.back();
  constant.content = std::move(content);
  constant.constant = constant.shape_only = constant.stays = true;
  return static_cast<int>(values_.size()) - 1;
}

std::vector<int> Program::add_step(const std::string& name, Kernel kernel, std::vector<int> inputs,
                                   size_t outputs, bool shape_only) {
  const int index = static_cast<int>(steps_.size());
  for (const int input : inputs) {
    Value& read = value(input);
    read.last_reader = index;
    read.stays |= read.shape_only && !shape_only;
  }
  Step step{name, std::move(kernel), std::move(inputs), {}, shape_only, {}};
  for (size_t i = 0; i < outputs; ++i) {
    step.outputs.push_back(static_cast<int>(values_.size()));
    values_.emplace_back();
    values_.back().shape_only = shape_only;
    values_.back().last_reader = index;
  }
  steps_.push_back(std::move(step));
  return steps_.back().outputs;
}

void Program::set_results(const std::vector<int>& results) {
  results_ = results;
  for (const int result : results) value(result).stays = true;
  for (int number = 0; number < static_cast<int>(values_.size()); ++number) {
    const Value& made = value(number);
    if (made.stays && made.shape_only && !made.constant) kept_.push_back(number);
    if (!made.stays && made.last_reader >= 0) {
      steps_[static_cast<size_t>(made.last_reader)].done.push_back(number);
    }
  }
}

void Program::execute(const Step& step) {
  stack_.clear();
  for (const int input : step.inputs) stack_.push_back(value(input).content);
  step.kernel(stack_);
  for (size_t i = 0; i < step.outputs.size(); ++i) value(step.outputs[i]).content = std::move(stack_[i]);
  stack_.clear();
}

std::vector<torch::Tensor> Program::run_timed(const std::vector<torch::Tensor>& inputs,
                                              std::vector<StepTime>* times) {
  Shapes shapes;
  for (size_t i = 0; i < inputs_.size(); ++i) {
    shapes.push_back(inputs[i].sizes().vec());
    value(inputs_[i]).content = inputs[i];
  }
  const auto known = by_shape_.find(shapes);
  const bool cached = known != by_shape_.end();
  for (size_t i = 0; cached && i < kept_.size(); ++i) value(kept_[i]).content = known->second[i];

  for (const Step& step : steps_) {
    const auto start = Clock::now();
    if (!cached || !step.shape_only) execute(step);
    for (const int number : step.done) value(number).content = c10::IValue();
    if (times != nullptr) {
      times->emplace_back(step.name, std::chrono::duration<double>(Clock::now() - start).count());
    }
  }

  std::vector<torch::Tensor> results;
  for (const int result : results_) results.push_back(value(result).content.toTensor());
  if (!cached) {
    if (by_shape_.size() >= kShapesKept) by_shape_.clear();
    Stack& kept = by_shape_[shapes];
    for (const int number : kept_) kept.push_back(value(number).content);
  }
  for (const int number : inputs_) value(number).content = c10::IValue();
  for (const int number : kept_) value(number).content = c10::IValue();
  for (const int number : results_) {
    if (!value(number).constant) value(number).content = c10::IValue();
  }
  return results;
}

std::vector<torch::Tensor> Program::run(const std::vector<torch::Tensor>& inputs) {
  return run_timed(inputs, nullptr);
}

std::vector<StepTime> Program::profile(const std::vector<torch::Tensor>& inputs) {
  std::vector<StepTime> times;
  run_timed(inputs, &times);
  return times;
}

}  // namespace zoo
