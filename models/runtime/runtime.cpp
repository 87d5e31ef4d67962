#include "models/runtime/runtime.h"

#include <torch/torch.h>

#include <algorithm>

#include "core/text.h"
#include "models/precision.h"
#include "models/runtime/cpu_features.h"

namespace zoo {

namespace {

/// Share of an output's largest value by which bf16 (8 bits of mantissa) may differ over a deep network.
constexpr double kTolerance = 0.1;

double relative_difference(const torch::Tensor& a, const torch::Tensor& b) {
  const double scale = std::max(1e-6, b.abs().max().item().toDouble());
  return (a.to(torch::kFloat) - b.to(torch::kFloat)).abs().max().item().toDouble() / scale;
}

}  // namespace

Runtime::Runtime(TraceSpec spec, const RuntimeOptions& options) : spec_(std::move(spec)), precision_(options.precision) {
  const torch::NoGradGuard no_grad;
  spec_.module->eval();
  for (torch::Tensor& parameter : spec_.module->parameters()) {
    if (parameter.dim() == 4) parameter.set_data(parameter.contiguous(torch::MemoryFormat::ChannelsLast));
  }
  if (precision_ == "bf16" && !cpu_has_bf16()) {
    precision_ = "fp32";
    fallback_ = "this processor has no bf16 arithmetic";
  }
}

std::vector<torch::Tensor> Runtime::run_bf16(const std::vector<torch::Tensor>& inputs) {
  const AutocastGuard autocast(torch::kCPU, torch::kBFloat16);
  return spec_.forward(inputs);
}

std::vector<torch::Tensor> Runtime::run(const std::vector<torch::Tensor>& given) {
  const torch::NoGradGuard no_grad;
  std::vector<torch::Tensor> inputs;
  for (const torch::Tensor& input : given) {
    inputs.push_back(input.dim() == 4 ? input.contiguous(torch::MemoryFormat::ChannelsLast) : input);
  }
  if (precision_ != "bf16") return spec_.forward(inputs);
  std::vector<torch::Tensor> outputs = run_bf16(inputs);
  const std::vector<int64_t> size = inputs.front().sizes().vec();
  if (std::find(checked_.begin(), checked_.end(), size) != checked_.end()) return outputs;
  checked_.push_back(size);
  const std::vector<torch::Tensor> expected = spec_.forward(inputs);
  for (size_t i = 0; i < outputs.size(); ++i) {
    const double difference = relative_difference(outputs[i], expected[i]);
    if (difference <= kTolerance) continue;
    precision_ = "fp32";
    fallback_ = format("output %zu in bf16 differs by %.3g of its largest value, at most %.2g expected", i, difference,
                       kTolerance);
    return expected;
  }
  return outputs;
}

}  // namespace zoo
