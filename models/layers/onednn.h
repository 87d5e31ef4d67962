#pragma once
#include <optional>
#include <string_view>
#include <vector>

#include <torch/types.h>

namespace zoo {

/// oneDNN's products with what follows them done while they write their result. On the CPU, float32 or bfloat16,
/// without gradients. `activation` is none | relu | swish | sigmoid | tanh.

/// A 2-D convolution's arguments, all but its input.
struct Convolution {
  torch::Tensor weight;  ///< [O,I/groups,kh,kw], packed or not
  std::optional<torch::Tensor> bias;
  std::vector<int64_t> stride, padding, dilation;
  int64_t groups = 1;
};

/// activation(conv(x)); x [B,I,H,W] in channels_last, as the result.
torch::Tensor onednn_convolution(const torch::Tensor& x, const Convolution& conv,
                                 std::string_view activation);
/// sum = activation(sum + conv(x)); both in channels_last.
void onednn_convolution_add_(torch::Tensor& sum, const torch::Tensor& x, const Convolution& conv,
                             std::string_view activation);
/// activation(x W^T + bias); x [..,I] dense, weight [O,I] packed or not.
torch::Tensor onednn_linear(const torch::Tensor& x, const torch::Tensor& weight,
                            const std::optional<torch::Tensor>& bias, std::string_view activation);
/// The weights as oneDNN reads them, for inputs of about that size.
torch::Tensor pack_convolution_weight(const Convolution& conv, const std::vector<int64_t>& input);
torch::Tensor pack_linear_weight(const torch::Tensor& weight);

}  // namespace zoo
