#pragma once
#include <string>
#include <vector>

#include "models/export/trace.h"

namespace zoo {

struct RuntimeOptions {
  std::string precision = "fp32";  ///< fp32 | bf16
};

/// Runs a model for inference: the live module, its convolution weights in channels_last, with bf16 under autocast.
/// A bf16 run is compared with fp32 once per input size; where the outputs differ by more than bf16 explains, fp32 is
/// used from then on and `fallback` says why.
class Runtime {
 public:
  /// Puts the module into eval mode and its 4-D weights into channels_last.
  Runtime(TraceSpec spec, const RuntimeOptions& options);

  std::vector<torch::Tensor> run(const std::vector<torch::Tensor>& inputs);
  /// The precision that runs: "fp32" or "bf16".
  const std::string& precision() const { return precision_; }
  /// Why it is not the one asked for; empty where it is.
  const std::string& fallback() const { return fallback_; }

 private:
  std::vector<torch::Tensor> run_bf16(const std::vector<torch::Tensor>& inputs);

  TraceSpec spec_;
  std::string precision_, fallback_;
  std::vector<std::vector<int64_t>> checked_;  ///< input sizes whose outputs were compared
};

}  // namespace zoo
