#pragma once
#include <memory>
#include <vector>

#include <torch/nn/module.h>
#include <torch/types.h>

#include "core/options.h"
#include "models/runtime/runtime.h"
#include "trainers/recipes.h"

namespace zoo {

/// How a task computes outside its training steps: through the fused runtime while an evaluation is long enough to
/// pay for it, else by the live module in the layout that is fastest. In a training the weights move, so that all
/// of it stays off and the precision is fp32.
class FusedEvaluation {
 public:
  FusedEvaluation(const Json& config, Purpose purpose);

  /// For an evaluation of so many batches; `stop` afterwards says where it ran slower than asked for.
  void start(const TraceSpec& spec, int64_t batches, torch::Device device);
  void stop();

  bool running() const { return runtime_ != nullptr; }
  std::vector<torch::Tensor> run(const std::vector<torch::Tensor>& inputs) { return runtime_->run(inputs); }

  /// Before the live module is used.
  void lay_out(torch::nn::Module& module, torch::Device device);
  torch::ScalarType precision() const { return precision_; }

 private:
  bool frozen_;
  bool laid_out_ = false;
  torch::ScalarType precision_ = torch::kFloat;
  std::unique_ptr<Runtime> runtime_;
};

}  // namespace zoo
