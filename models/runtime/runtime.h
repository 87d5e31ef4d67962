#pragma once
#include <memory>
#include <string>
#include <vector>

#include "models/export/trace.h"
#include "models/runtime/program.h"

namespace zoo {

struct RuntimeOptions {
  std::string precision = "fp32";  ///< fp32 | bf16
  /// Small inputs whose outputs are compared with the live module's, once, in place of the first of each size: for
  /// models whose pass takes seconds or gigabytes. Empty: none.
  std::vector<torch::Tensor> probe;
};

/// Runs a model for inference on the CPU, as a fused program (see lower()) with its memory kept between runs.
/// The first inputs of each size are also given to the live module in fp32, a few sizes at most: where the
/// outputs differ by more than the precision explains, or the model cannot be traced, the next slower way is
/// taken from then on (bf16 fused, fp32 fused, the live module) and `fallback` says why.
class Runtime {
 public:
  /// Puts the module into eval mode. Its weights must stay as they are while the runtime lives.
  Runtime(TraceSpec spec, const RuntimeOptions& options);

  std::vector<torch::Tensor> run(const std::vector<torch::Tensor>& inputs);
  /// The steps of one run, in order; none where the live module runs.
  std::vector<StepTime> profile(const std::vector<torch::Tensor>& inputs);
  /// The precision that runs: "fp32" or "bf16".
  const std::string& precision() const { return precision_; }
  /// Why it is not what was asked for; empty where it is.
  const std::string& fallback() const { return fallback_; }

 private:
  std::vector<torch::Tensor> attempt(const std::vector<torch::Tensor>& inputs);
  /// Whether inputs like these were compared already, or will not be.
  bool trusts(const std::vector<torch::Tensor>& inputs) const;
  void fall_back(const std::string& reason);

  TraceSpec spec_;
  std::vector<torch::Tensor> probe_;
  std::string precision_, fallback_;
  bool fused_ = true;
  std::unique_ptr<Program> program_;
  std::vector<std::vector<int64_t>> checked_;  ///< sizes of the first input whose outputs were compared
};

}  // namespace zoo
