#pragma once
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include <torch/nn/module.h>
#include <torch/types.h>

namespace zoo {

/// What the exporter and the runtime need to know of a model.
struct TraceSpec {
  std::shared_ptr<torch::nn::Module> module;  ///< owner of the parameters; in eval mode while tracing
  /// The exported signature. Called with module in eval mode and gradients off.
  std::function<std::vector<torch::Tensor>(const std::vector<torch::Tensor>&)> forward;
  /// Inputs of a given variant: 0 is traced; 1, 2, … differ from it in size, batch and padding and are
  /// checked.
  std::function<std::vector<torch::Tensor>(int variant)> example;
  int variants = 4;
  std::vector<std::string> inputs, outputs;  ///< names of the signature, for documentation in zoo.json
  std::string method = "forward";            ///< what it is called in a file
};

}  // namespace zoo
