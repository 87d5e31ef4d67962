#include "models/layers/local_conv.h"

#include <algorithm>
#include <cmath>
#include <vector>

#include <torch/torch.h>

#include "models/layers/full_precision.h"

namespace zoo {

namespace {

using torch::Tensor;
using torch::autograd::AutogradContext;
using torch::autograd::tensor_list;

constexpr int64_t kBandBytes = int64_t{4} << 20;

/// As torch's own convolutions start: U(-1/√n, 1/√n) for n values in a window.
void initialise(const LocalConvOptions& options, const Tensor& weight, const Tensor& bias) {
  const double bound =
      1 / std::sqrt(static_cast<double>(options.in_channels * options.kernel * options.kernel));
  torch::nn::init::uniform_(weight, -bound, bound);
  torch::nn::init::uniform_(bias, -bound, bound);
}

/// Positions of one output row, `begin` <= column < `end`; `first` is the number of the first of them.
struct Band {
  int64_t row, begin, end, first;
  int64_t count() const { return end - begin; }
};

/// Bands whose windows of `batch` images take no more than kBandBytes, one position at least.
std::vector<Band> bands_of(const LocalConvOptions& options, const Tensor& map) {
  const auto [rows, columns] = options.output_size();
  const int64_t window = options.kernel * options.kernel * map.size(2) * map.size(3) * map.element_size();
  const int64_t most = std::clamp<int64_t>(kBandBytes / std::max<int64_t>(window, 1), 1, columns);
  const int64_t pieces = (columns + most - 1) / most, width = (columns + pieces - 1) / pieces;
  std::vector<Band> bands;
  for (int64_t row = 0; row < rows; ++row) {
    for (int64_t begin = 0; begin < columns; begin += width) {
      bands.push_back({row, begin, std::min(begin + width, columns), row * columns + begin});
    }
  }
  return bands;
}

/// [H,W,C,B], in which a window's values lie in runs.
Tensor batch_innermost(const Tensor& x) {
  return x.permute({2, 3, 1, 0}).contiguous();
}

/// A view of all windows of a map [H,W,C,B]: [OH,OW,C,B,k,k].
Tensor windows_of(const LocalConvOptions& options, const Tensor& map) {
  return map.unfold(0, options.kernel, options.stride).unfold(1, options.kernel, options.stride);
}

/// The windows of a band, gathered: [n,k·k·C,B].
Tensor gather(const Tensor& windows, const Band& band) {
  return windows.select(0, band.row)
      .slice(0, band.begin, band.end)
      .permute({0, 3, 4, 1, 2})
      .contiguous()
      .flatten(1, 3);
}

/// [OH·OW,Cout,B] of a map [H,W,C,B]
Tensor products(const LocalConvOptions& options, const Tensor& map, const Tensor& weight) {
  const Tensor windows = windows_of(options, map);
  std::vector<Tensor> parts;
  for (const Band& band : bands_of(options, map)) {
    parts.push_back(torch::bmm(weight.narrow(0, band.first, band.count()), gather(windows, band)));
  }
  return torch::cat(parts);
}

/// Adds the gradients of a band's windows [n,k·k·C,B] to that of the map [H,W,C,B].
void scatter_add(const LocalConvOptions& options, const Band& band, const Tensor& windows,
                 const Tensor& map) {
  const int64_t k = options.kernel, stride = options.stride, top = band.row * stride;
  const Tensor values = windows.view({band.count(), k, k, map.size(2), map.size(3)});
  for (int64_t column = 0; column < k; ++column) {
    const int64_t left = band.begin * stride + column, right = left + (band.count() - 1) * stride + 1;
    map.slice(0, top, top + k)
        .slice(1, left, right, stride)
        .add_(values.select(2, column).transpose(0, 1));  // [k,n,C,B]
  }
}

/// `products` with a backward pass that gathers the windows again: autograd would keep them, and make a gradient
/// of the whole weight's size for every band.
class LocalProducts : public torch::autograd::Function<LocalProducts> {
 public:
  static Tensor forward(AutogradContext* context, const Tensor& map, const Tensor& weight,
                        const LocalConvOptions& options) {
    context->save_for_backward({map, weight});
    context->saved_data["geometry"] = std::vector<int64_t>{options.kernel, options.stride};
    return products(options, map, weight);
  }

  static tensor_list backward(AutogradContext* context, const tensor_list& gradients) {
    const WithoutAutocast full;
    const tensor_list saved = context->get_saved_variables();
    const Tensor &map = saved[0], &weight = saved[1];
    const LocalConvOptions options = options_of(context->saved_data["geometry"].toIntVector(), map);
    const Tensor gradient = gradients[0].contiguous();  // [OH·OW,Cout,B]
    const Tensor windows = windows_of(options, map);
    const Tensor of_map = context->needs_input_grad(0) ? torch::zeros_like(map) : Tensor();
    const Tensor of_weight = context->needs_input_grad(1) ? torch::empty_like(weight) : Tensor();
    for (const Band& band : bands_of(options, map)) {
      const Tensor outputs = gradient.narrow(0, band.first, band.count());
      if (of_weight.defined()) {
        Tensor rows = of_weight.narrow(0, band.first, band.count());
        torch::bmm_out(rows, outputs, gather(windows, band).transpose(1, 2));
      }
      if (of_map.defined()) {
        const Tensor rows = weight.narrow(0, band.first, band.count());
        scatter_add(options, band, torch::bmm(rows.transpose(1, 2), outputs), of_map);
      }
    }
    return {of_map, of_weight, Tensor()};
  }

 private:
  static LocalConvOptions options_of(const std::vector<int64_t>& geometry, const Tensor& map) {
    LocalConvOptions options;
    options.kernel = geometry[0];
    options.stride = geometry[1];
    options.input_size = {map.size(0), map.size(1)};
    return options;
  }
};

}  // namespace

std::array<int64_t, 2> LocalConvOptions::output_size() const {
  return {(input_size[0] - kernel) / stride + 1, (input_size[1] - kernel) / stride + 1};
}

LocalConv2dImpl::LocalConv2dImpl(const LocalConvOptions& given) : options(given) {
  const auto [rows, columns] = options.output_size();
  const int64_t window = options.kernel * options.kernel * options.in_channels;
  weight = register_parameter("weight", torch::empty({rows * columns, options.out_channels, window}));
  bias = register_parameter("bias", torch::empty({rows * columns, options.out_channels}));
  initialise(options, weight, bias);
}

Tensor LocalConv2dImpl::forward(const Tensor& x) {
  const WithoutAutocast full;
  const auto [rows, columns] = options.output_size();
  const Tensor map = batch_innermost(as_type_of(weight, x));
  const bool learns = torch::GradMode::is_enabled() && (map.requires_grad() || weight.requires_grad());
  const Tensor sums = learns ? LocalProducts::apply(map, weight, options) : products(options, map, weight);
  const Tensor shift = bias.t().unflatten(1, {rows, columns});           // [Cout,OH,OW]
  return sums.permute({2, 1, 0}).unflatten(2, {rows, columns}) + shift;  // [B,Cout,OH,OW]
}

BlockConv2dImpl::BlockConv2dImpl(const LocalConvOptions& given) : options(given) {
  const auto [rows, columns] = options.output_size();
  const int64_t outputs = rows / options.block * (columns / options.block) * options.out_channels;
  weight = register_parameter("weight",
                              torch::empty({outputs, options.in_channels, options.kernel, options.kernel}));
  bias = register_parameter("bias", torch::empty({outputs}));
  initialise(options, weight, bias);
}

Tensor BlockConv2dImpl::forward(const Tensor& x) {
  const int64_t block = options.block, window = block + options.kernel - 1;
  const int64_t rows = options.output_size()[0] / block, columns = options.output_size()[1] / block;
  // The window of every block as a group of channels: one grouped convolution does them all.
  const Tensor windows = x.unfold(2, window, block)
                             .unfold(3, window, block)     // [B,C,rows,columns,w,w]
                             .permute({0, 2, 3, 1, 4, 5})  // [B,rows,columns,C,w,w]
                             .flatten(1, 3);               // [B,N·C,w,w]
  const Tensor outputs = torch::conv2d(windows, weight, bias, /*stride=*/{1, 1},
                                       /*padding=*/at::IntArrayRef({0, 0}), /*dilation=*/{1, 1},
                                       /*groups=*/rows * columns);  // [B,N·Cout,block,block]
  return outputs.unflatten(1, {rows, columns, options.out_channels})
      .permute({0, 3, 1, 4, 2, 5})  // [B,Cout,rows,block,columns,block]
      .flatten(4, 5)
      .flatten(2, 3);
}

}  // namespace zoo
