#include "models/layers/local_conv.h"

#include <ATen/autocast_mode.h>
#include <gtest/gtest.h>
#include <torch/torch.h>

#include "models/precision.h"

namespace zoo {
namespace {

using Tensors = std::vector<torch::Tensor>;

double largest_difference(const torch::Tensor& found, const torch::Tensor& expected) {
  EXPECT_EQ(found.sizes(), expected.sizes());
  return (found - expected).abs().max().item<double>();
}

/// The definition, one position at a time.
torch::Tensor naive_local(const torch::Tensor& x, const LocalConv2dImpl& layer) {
  const int64_t k = layer.options.kernel, stride = layer.options.stride;
  const auto [rows, columns] = layer.options.output_size();
  Tensors positions;
  for (int64_t i = 0; i < rows; ++i) {
    for (int64_t j = 0; j < columns; ++j) {
      const torch::Tensor window =
          x.slice(2, i * stride, i * stride + k).slice(3, j * stride, j * stride + k);
      const int64_t l = i * columns + j;
      positions.push_back(window.permute({0, 2, 3, 1}).flatten(1).matmul(layer.weight[l].t()) +
                          layer.bias[l]);
    }
  }
  return torch::stack(positions, 2).view({x.size(0), layer.options.out_channels, rows, columns});
}

/// The definition, one block at a time.
torch::Tensor naive_blocks(const torch::Tensor& x, const BlockConv2dImpl& layer) {
  const int64_t block = layer.options.block, out = layer.options.out_channels;
  const int64_t reach = block + layer.options.kernel - 1;
  const auto [rows, columns] = layer.options.output_size();
  torch::Tensor y = torch::zeros({x.size(0), out, rows, columns}, x.options());
  int64_t first = 0;
  for (int64_t i = 0; i < rows; i += block) {
    for (int64_t j = 0; j < columns; j += block, first += out) {
      const torch::Tensor window = x.slice(2, i, i + reach).slice(3, j, j + reach);
      y.slice(2, i, i + block).slice(3, j, j + block) =
          torch::conv2d(window, layer.weight.narrow(0, first, out), layer.bias.narrow(0, first, out));
    }
  }
  return y;
}

LocalConvOptions options_of(int64_t in, int64_t out, int64_t kernel, int64_t stride,
                            std::array<int64_t, 2> size) {
  LocalConvOptions options;
  options.in_channels = in;
  options.out_channels = out;
  options.kernel = kernel;
  options.stride = stride;
  options.input_size = size;
  return options;
}

/// Output and gradients of a function of x, the layer's weight and bias.
Tensors output_and_gradients(const std::function<torch::Tensor(const torch::Tensor&)>& forward,
                             torch::nn::Module& layer, const torch::Tensor& x) {
  torch::Tensor input = x.clone().set_requires_grad(true);
  layer.zero_grad();
  const torch::Tensor y = forward(input);
  (y * torch::linspace(-1, 2, y.numel(), y.options()).view_as(y)).sum().backward();
  Tensors result = {y.detach(), input.grad()};
  for (const torch::Tensor& parameter : layer.parameters()) result.push_back(parameter.grad().clone());
  return result;
}

void expect_equal(const Tensors& found, const Tensors& expected) {
  const char* names[] = {"output", "x", "weight", "bias"};
  for (size_t i = 0; i < expected.size(); ++i) {
    EXPECT_LE(largest_difference(found[i], expected[i]), 1e-12 * expected[i].abs().max().item<double>())
        << names[i];
    EXPECT_GT(expected[i].abs().max().item<double>(), 0.1) << names[i];
  }
}

TEST(LocalConv, EqualsTheDefinitionWithItsGradients) {
  torch::manual_seed(1);
  struct Case {
    LocalConvOptions options;
    int64_t batch;
  };
  for (const Case& c : {Case{options_of(3, 4, 3, 2, {9, 8}), 5}, Case{options_of(2, 1, 1, 1, {3, 4}), 1},
                        Case{options_of(2, 3, 4, 3, {4, 11}), 2},
                        // A row of windows is 5.3 MB: two bands, the second shorter.
                        Case{options_of(16, 2, 5, 1, {6, 17}), 128}}) {
    LocalConv2d layer(c.options);
    layer->to(torch::kDouble);
    const auto [height, width] = c.options.input_size;
    const torch::Tensor x = torch::randn({c.batch, c.options.in_channels, height, width}, torch::kDouble);
    const Tensors expected =
        output_and_gradients([&](const torch::Tensor& v) { return naive_local(v, *layer); }, *layer, x);
    expect_equal(output_and_gradients([&](const torch::Tensor& v) { return layer(v); }, *layer, x), expected);
    const torch::NoGradGuard no_grad;
    EXPECT_LE(largest_difference(layer(x), expected[0]), 1e-12);
  }
}

TEST(LocalConv, OnlyWhatIsAskedForGetsAGradient) {
  LocalConv2d layer(options_of(2, 3, 2, 1, {4, 5}));
  const torch::Tensor x = torch::randn({2, 2, 4, 5});
  layer(x).sum().backward();
  const torch::Tensor expected = layer->weight.grad().clone();
  EXPECT_GT(expected.abs().max().item<double>(), 0.1);
  layer->zero_grad();
  layer->weight.set_requires_grad(false);
  torch::Tensor input = x.clone().set_requires_grad(true);
  layer(input).sum().backward();
  EXPECT_FALSE(layer->weight.grad().defined() && layer->weight.grad().any().item<bool>());
  EXPECT_GT(input.grad().abs().max().item<double>(), 0.1);
}

TEST(LocalConv, AutocastRoundsNothing) {
  LocalConv2d layer(options_of(2, 3, 2, 1, {4, 5}));
  const torch::Tensor x = torch::randn({2, 2, 4, 5}).to(torch::kBFloat16);
  const torch::Tensor expected = layer(x.to(torch::kFloat));
  const AutocastGuard autocast(torch::kCPU, torch::kBFloat16);
  const torch::Tensor found = layer(x);
  EXPECT_EQ(found.scalar_type(), torch::kFloat);
  EXPECT_EQ(largest_difference(found, expected), 0);
}

TEST(LocalConv, StartsAsConvolutionsDo) {
  LocalConv2d layer(options_of(8, 16, 4, 1, {12, 12}));
  const double bound = 1 / std::sqrt(8 * 16);
  for (const torch::Tensor& parameter : layer->parameters()) {
    EXPECT_LE(parameter.abs().max().item<double>(), bound);
    EXPECT_NEAR(parameter.std().item<double>(), bound / std::sqrt(3), 0.02 * bound);
  }
}

TEST(LocalConv, BlocksShareWeightsInsideOnly) {
  torch::manual_seed(2);
  LocalConvOptions options = options_of(3, 4, 3, 1, {8, 6});
  LocalConvOptions wide = options_of(2, 5, 2, 1, {7, 10});
  wide.block = 3;
  for (const LocalConvOptions& o : {options, wide}) {
    BlockConv2d layer(o);
    layer->to(torch::kDouble);
    const torch::Tensor x =
        torch::randn({3, o.in_channels, o.input_size[0], o.input_size[1]}, torch::kDouble);
    const Tensors expected =
        output_and_gradients([&](const torch::Tensor& v) { return naive_blocks(v, *layer); }, *layer, x);
    expect_equal(output_and_gradients([&](const torch::Tensor& v) { return layer(v); }, *layer, x), expected);
  }
}

}  // namespace
}  // namespace zoo
