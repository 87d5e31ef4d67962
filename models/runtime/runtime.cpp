#include "models/runtime/runtime.h"

#include "models/runtime/cpu_features.h"

#include <utility>

namespace zoo {

Runtime::Runtime(TraceSpec spec, RuntimeOptions options) : spec_(std::move(spec)), precision_(options.precision) {}
std::vector<torch::Tensor> Runtime::run(const std::vector<torch::Tensor>& inputs) { return spec_.forward(inputs); }
std::string cpu_features() { return "?"; }

}  // namespace zoo
