#include "models/layers/onednn.h"

#include <ATen/core/dispatch/Dispatcher.h>
#include <torch/torch.h>

namespace zoo {

namespace {

using Bias = std::optional<torch::Tensor>;
using Name = std::optional<std::string_view>;
using Scalars = c10::List<std::optional<c10::Scalar>>;

template <class Signature>
c10::TypedOperatorHandle<Signature> find_operator(const char* name, const char* overload) {
  return c10::Dispatcher::singleton().findSchemaOrThrow(name, overload).typed<Signature>();
}

}  // namespace

torch::Tensor onednn_convolution(const torch::Tensor& x, const Convolution& conv,
                                 std::string_view activation) {
  using Signature = torch::Tensor(const torch::Tensor&, const torch::Tensor&, const Bias&, at::IntArrayRef,
                                  at::IntArrayRef, at::IntArrayRef, int64_t, std::string_view, Scalars, Name);
  static const auto convolution = find_operator<Signature>("mkldnn::_convolution_pointwise", "");
  return convolution.call(x, conv.weight, conv.bias, conv.padding, conv.stride, conv.dilation, conv.groups,
                          activation, Scalars(), std::nullopt);
}

void onednn_convolution_add_(torch::Tensor& sum, const torch::Tensor& x, const Convolution& conv,
                             std::string_view activation) {
  using Signature = torch::Tensor&(torch::Tensor&, const torch::Tensor&, const torch::Tensor&, const Bias&,
                                   at::IntArrayRef, at::IntArrayRef, at::IntArrayRef, int64_t,
                                   std::string_view, std::optional<c10::Scalar>, Name, Scalars, Name);
  static const auto convolution = find_operator<Signature>("mkldnn::_convolution_pointwise_", "binary");
  convolution.call(sum, x, conv.weight, conv.bias, conv.padding, conv.stride, conv.dilation, conv.groups,
                   "add", 1.0, activation == "none" ? Name() : Name(activation), Scalars(), std::nullopt);
}

torch::Tensor onednn_linear(const torch::Tensor& x, const torch::Tensor& weight, const Bias& bias,
                            std::string_view activation) {
  using Signature =
      torch::Tensor(const torch::Tensor&, const torch::Tensor&, const Bias&, std::string_view, Scalars, Name);
  static const auto linear = find_operator<Signature>("mkldnn::_linear_pointwise", "");
  return linear.call(x, weight, bias, activation, Scalars(), std::nullopt);
}

torch::Tensor pack_convolution_weight(const Convolution& conv, const std::vector<int64_t>& input) {
  using Signature = torch::Tensor(const torch::Tensor&, at::IntArrayRef, at::IntArrayRef, at::IntArrayRef,
                                  int64_t, at::OptionalIntArrayRef);
  return find_operator<Signature>("mkldnn::_reorder_convolution_weight", "")
      .call(conv.weight, conv.padding, conv.stride, conv.dilation, conv.groups, input);
}

torch::Tensor pack_linear_weight(const torch::Tensor& weight) {
  using Signature = torch::Tensor(const torch::Tensor&, std::optional<int64_t>);
  return find_operator<Signature>("mkldnn::_reorder_linear_weight", "").call(weight, std::nullopt);
}

}  // namespace zoo
