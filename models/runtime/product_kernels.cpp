#include "models/runtime/product_kernels.h"

#include <utility>

#include <torch/torch.h>

namespace zoo {

using Stack = Program::Stack;

torch::Tensor as_channels_last(const torch::Tensor& x) {
  return x.contiguous(torch::MemoryFormat::ChannelsLast);
}

Program::Kernel convolution_kernel(const Convolution& conv, const std::string& activation) {
  return [=](Stack& stack) {
    stack[0] = onednn_convolution(as_channels_last(stack[0].toTensor()), conv, activation);
  };
}

Program::Kernel add_convolution_kernel(const Convolution& conv, const std::string& activation,
                                       bool in_place) {
  return [=](Stack& stack) {
    torch::Tensor sum = as_channels_last(stack[1].toTensor());
    if (!in_place && sum.is_same(stack[1].toTensor())) sum = sum.clone();
    onednn_convolution_add_(sum, as_channels_last(stack[0].toTensor()), conv, activation);
    stack[0] = std::move(sum);
  };
}

Program::Kernel linear_kernel(const torch::Tensor& weight, const std::optional<torch::Tensor>& bias,
                              const std::string& activation) {
  return [=](Stack& stack) {
    stack[0] = onednn_linear(stack[0].toTensor().contiguous(), weight, bias, activation);
  };
}

Program::Kernel deep_linear_kernel(const torch::Tensor& weight, const std::optional<torch::Tensor>& bias,
                                   const std::string& activation, const std::vector<int64_t>& traced) {
  const int64_t in = weight.size(1), rows = c10::multiply_integers(traced) / in;
  Convolution conv{weight.contiguous().view({-1, in, 1, 1}), bias, {1, 1}, {0, 0}, {1, 1}, 1};
  conv.weight = pack_convolution_weight(conv, {1, in, rows, 1});
  return [in, conv, activation](Stack& stack) {
    std::vector<int64_t> sizes = stack[0].toTensor().sizes().vec();
    const torch::Tensor x =
        stack[0].toTensor().reshape({1, -1, 1, in}).permute({0, 3, 1, 2});  // [1,in,rows,1]
    sizes.back() = -1;
    stack[0] = onednn_convolution(x, conv, activation).permute({0, 2, 3, 1}).reshape(sizes);
  };
}

torch::Tensor over_map(const torch::Tensor& weight, const std::vector<int64_t>& map) {
  return weight.reshape({-1, map[1], map[2], map[3]}).permute({0, 2, 3, 1}).flatten(1);
}

Program::Kernel over_map_kernel(const Program::Kernel& linear) {
  return [linear](Stack& stack) {
    stack[0] = as_channels_last(stack[0].toTensor()).permute({0, 2, 3, 1}).flatten(1);
    linear(stack);
  };
}

}  // namespace zoo
