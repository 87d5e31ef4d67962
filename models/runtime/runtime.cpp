#include "models/runtime/runtime.h"

#include <torch/torch.h>

#include <algorithm>

#include "core/error.h"
#include "core/text.h"
#include "models/runtime/cpu_features.h"
#include "models/runtime/lowering.h"
#include "models/runtime/memory_pool.h"

namespace zoo {

namespace {

/// Shares of an output's largest value by which a run may differ from the live module: bf16 has 8 bits of
/// mantissa, through a deep network.
constexpr double kTolerance = 1e-3, kTolerance_bf16 = 0.1;
/// Sizes that are compared; data of many sizes would otherwise pay the live module's time over and over.
constexpr size_t kSizesChecked = 4;

double relative_difference(const torch::Tensor& a, const torch::Tensor& b) {
  const double scale = std::max(1e-6, b.abs().max().item().toDouble());
  return (a.to(torch::kFloat) - b.to(torch::kFloat)).abs().max().item().toDouble() / scale;
}

/// What is wrong with a run's outputs; empty where nothing is.
std::string complaint(const std::vector<torch::Tensor>& found, const std::vector<torch::Tensor>& expected,
                      const std::string& precision) {
  const double tolerance = precision == "bf16" ? kTolerance_bf16 : kTolerance;
  for (size_t i = 0; i < expected.size(); ++i) {
    if (found[i].sizes() != expected[i].sizes())
      return format("output %zu of the fused %s program has another shape", i, precision.c_str());
    const double difference = relative_difference(found[i], expected[i]);
    if (difference <= tolerance) continue;
    return format(
        "output %zu of the fused %s program differs by %.3g of its largest value, at most %.2g expected", i,
        precision.c_str(), difference, tolerance);
  }
  return "";
}

std::string first_line(const std::string& text) {
  return text.substr(0, text.find('\n'));
}

}  // namespace

Runtime::Runtime(TraceSpec spec, const RuntimeOptions& options)
    : spec_(std::move(spec)), probe_(options.probe), precision_(options.precision) {
  spec_.module->eval();
  if (precision_ == "bf16" && !cpu_has_bf16()) {
    precision_ = "fp32";
    fallback_ = "this processor has no bf16 arithmetic";
  }
}

void Runtime::fall_back(const std::string& reason) {
  fallback_ += (fallback_.empty() ? "" : "; ") + reason;
  program_.reset();
  checked_.clear();
  if (precision_ == "bf16") {
    precision_ = "fp32";
  } else {
    fused_ = false;
  }
}

std::vector<torch::Tensor> Runtime::attempt(const std::vector<torch::Tensor>& inputs) {
  try {
    if (!program_) program_ = std::make_unique<Program>(lower(spec_, inputs, precision_ == "bf16"));
    return program_->run(inputs);
  } catch (const Error& error) {
    fall_back(error.what());
  } catch (const c10::Error& error) {
    fall_back(first_line(error.what_without_backtrace()));
  } catch (const std::runtime_error& error) {  // of torch's operators
    fall_back(first_line(error.what()));
  }
  return {};
}

bool Runtime::trusts(const std::vector<torch::Tensor>& inputs) const {
  if (!probe_.empty()) return !checked_.empty();
  const std::vector<int64_t> size = inputs.front().sizes().vec();
  return checked_.size() >= kSizesChecked ||
         std::find(checked_.begin(), checked_.end(), size) != checked_.end();
}

std::vector<torch::Tensor> Runtime::run(const std::vector<torch::Tensor>& inputs) {
  const torch::NoGradGuard no_grad;
  const MemoryPoolScope pool;
  while (fused_) {
    std::vector<torch::Tensor> outputs = attempt(inputs);
    if (outputs.empty()) continue;
    if (trusts(inputs)) return outputs;
    const std::vector<torch::Tensor>& compared = probe_.empty() ? inputs : probe_;
    const std::vector<torch::Tensor> found = probe_.empty() ? outputs : attempt(probe_);
    if (found.empty()) continue;
    checked_.push_back(compared.front().sizes().vec());
    const std::string wrong = complaint(found, spec_.forward(compared), precision_);
    if (wrong.empty()) return outputs;
    fall_back(wrong);
  }
  return spec_.forward(inputs);
}

std::vector<StepTime> Runtime::profile(const std::vector<torch::Tensor>& inputs) {
  run(inputs);
  const torch::NoGradGuard no_grad;
  const MemoryPoolScope pool;
  return program_ ? program_->profile(inputs) : std::vector<StepTime>();
}

}  // namespace zoo
