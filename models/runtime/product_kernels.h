#pragma once
#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include <torch/types.h>

#include "models/layers/onednn.h"
#include "models/runtime/program.h"

namespace zoo {

// Steps of a program that multiply by weights, through oneDNN (`activation`: models/layers/onednn.h). Weights are packed
// for the inputs they will meet, where not said otherwise.

/// Itself where its channels are innermost already.
torch::Tensor as_channels_last(const torch::Tensor& x);

/// activation(conv(x))
Program::Kernel convolution_kernel(const Convolution& conv, const std::string& activation);
/// activation(conv(x) + addend) of x and addend, written over the addend where `in_place`.
Program::Kernel add_convolution_kernel(const Convolution& conv, const std::string& activation, bool in_place);

/// activation(linear(x))
Program::Kernel linear_kernel(const torch::Tensor& weight, const std::optional<torch::Tensor>& bias,
                              const std::string& activation);
/// The same as a convolution of 1x1, whose product in bfloat16 is the faster one where many inputs meet few
/// outputs. `weight` is not packed, `traced` the input's size.
Program::Kernel deep_linear_kernel(const torch::Tensor& weight, const std::optional<torch::Tensor>& bias,
                                   const std::string& activation, const std::vector<int64_t>& traced);

/// A linear layer over whole maps [B,C,H,W] reads them in channels_last: its weight [O,CHW] in that order, and its
/// kernel before which the map is laid out flat.
torch::Tensor over_map(const torch::Tensor& weight, const std::vector<int64_t>& map);
Program::Kernel over_map_kernel(const Program::Kernel& linear);

}  // namespace zoo
