#pragma once
#include <string>
#include <vector>

#include "models/export/trace.h"
#include "models/runtime/program.h"

namespace zoo {

/// The spec's forward as a program for this CPU, for inputs of every size. Batch norms are folded into
/// convolutions; convolutions and linear layers have their weights laid out for oneDNN and do the sums and
/// activations that follow them. With `bf16`, products take bfloat16 and whatever needs accuracy (norms,
/// exponentials, sums along a transformer) float32; results keep the types of the live model. The module must
/// be in float32 on the CPU, in eval mode, gradients off. Throws c10::Error or Error where the model cannot
/// be traced.
Program lower(const TraceSpec& spec, const std::vector<torch::Tensor>& inputs, bool bf16);

}  // namespace zoo
