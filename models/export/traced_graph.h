#pragma once
#include <memory>
#include <vector>

#include <torch/csrc/jit/ir/ir.h>
#include <torch/types.h>

#include "models/export/trace.h"

namespace zoo {

/// The spec's forward as recorded on `inputs`, the module's parameters and buffers as constants that share
/// their memory, operators that change their argument as those that give a new one. The module must be in
/// eval mode, gradients off.
///
/// Private to models/export/ and models/runtime/: torch deprecates TorchScript, so nothing else may know of
/// it.
std::shared_ptr<torch::jit::Graph> trace_graph(const TraceSpec& spec,
                                               const std::vector<torch::Tensor>& inputs);

}  // namespace zoo
