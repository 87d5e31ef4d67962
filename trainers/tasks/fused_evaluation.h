#pragma once
#include <functional>
#include <memory>
#include <vector>

#include <torch/nn/module.h>
#include <torch/types.h>

#include "core/options.h"
#include "models/runtime/runtime.h"
#include "trainers/recipes.h"

namespace zoo {

/// How a task computes outside its training steps: through the fused runtime while an evaluation is long enough to
/// pay for it, or once a row of predictions has become so, else by the live module in the layout that is fastest. In a
/// training the weights move, so that all of it stays off and the precision is fp32. Warns where the runtime falls
/// back.
class FusedEvaluation {
 public:
  FusedEvaluation(const Json& config, Purpose purpose);

  /// For an evaluation of so many batches, until `stop`.
  void start(const TraceSpec& spec, int64_t batches, torch::Device device);
  void stop() { runtime_.reset(); }
  /// Before each pass of predictions, whose number nobody knows beforehand: starts the runtime, for good, when so
  /// many have gone by that making it costs less than they did. Does nothing for other purposes.
  void count_pass(const std::function<TraceSpec()>& spec, torch::Device device);

  bool running() const { return runtime_ != nullptr; }
  std::vector<torch::Tensor> run(const std::vector<torch::Tensor>& inputs);

  /// Before the live module is used.
  void lay_out(torch::nn::Module& module, torch::Device device);
  torch::ScalarType precision() const { return precision_; }

 private:
  Purpose purpose_;
  bool laid_out_ = false, told_ = false;
  int64_t passes_ = 0;
  torch::ScalarType precision_ = torch::kFloat;
  std::unique_ptr<Runtime> runtime_;
};

}  // namespace zoo
