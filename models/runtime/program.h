#pragma once
#include <functional>
#include <map>
#include <string>
#include <utility>
#include <vector>

#include <ATen/core/ivalue.h>
#include <torch/types.h>

namespace zoo {

using StepTime = std::pair<std::string, double>;  ///< what a step does, and the seconds it took

/// A forward pass as a straight list of steps over numbered values: no branches, no loops. A value lives from
/// the step that makes it to the last one that reads it. Steps that depend on nothing but the inputs' shapes
/// run once per shape; what the others read of them is kept. Not for several threads at a time.
class Program {
 public:
  using Stack = std::vector<c10::IValue>;
  /// Finds its inputs on the stack and leaves its outputs there instead.
  using Kernel = std::function<void(Stack&)>;

  int add_input();
  int add_constant(c10::IValue content);
  /// A step; gives the numbers of its outputs.
  std::vector<int> add_step(const std::string& name, Kernel kernel, std::vector<int> inputs, size_t outputs,
                            bool shape_only);
  /// To be called once, after the last step.
  void set_results(const std::vector<int>& results);

  bool is_constant(int number) const { return value(number).constant; }
  bool is_shape_only(int number) const { return value(number).shape_only; }
  const c10::IValue& content(int number) const { return value(number).content; }  ///< of a constant

  std::vector<torch::Tensor> run(const std::vector<torch::Tensor>& inputs);
  /// The same, with the seconds that each step took, for finding what is slow.
  std::vector<StepTime> profile(const std::vector<torch::Tensor>& inputs);

 private:
  struct Value {
    c10::IValue content;
    bool constant = false;
    bool shape_only = false;
    bool stays = false;  // not let go by a step: a constant, a result, or kept per shape
    int last_reader = -1;
  };
  struct Step {
    std::string name;
    Kernel kernel;
    std::vector<int> inputs, outputs;
    bool shape_only;
    std::vector<int> done;  // values that nobody reads after this step
  };
  using Shapes = std::vector<std::vector<int64_t>>;

  Value& value(int number) { return values_[static_cast<size_t>(number)]; }
  const Value& value(int number) const { return values_[static_cast<size_t>(number)]; }
  void execute(const Step& step);
  std::vector<torch::Tensor> run_timed(const std::vector<torch::Tensor>& inputs,
                                       std::vector<StepTime>* times);

  std::vector<Value> values_;
  std::vector<Step> steps_;
  std::vector<int> inputs_, results_, kept_;
  std::map<Shapes, Stack> by_shape_;  // contents of kept_
  Stack stack_;
};

}  // namespace zoo
