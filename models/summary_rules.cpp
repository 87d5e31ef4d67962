#include "models/summary_rules.h"

#include <algorithm>
#include <unordered_map>

#include <torch/torch.h>

namespace zoo {

namespace {

using torch::IValue;
using torch::Tensor;

ReceptiveField whole_input(const ReceptiveField& field) {
  ReceptiveField result = field;
  result.whole = field.whole || field.is_map();
  return result;
}

/// One entry per spatial dimension, as torch reads lists of one.
std::vector<int64_t> per_dimension(const IValue& list, size_t dimensions) {
  std::vector<int64_t> values = list.toIntVector();
  if (values.size() == 1) values.resize(dimensions, values[0]);
  return values;
}

std::vector<int64_t> spatial_sizes(const Tensor& x, size_t dimensions) {
  return x.sizes().slice(x.dim() - dimensions).vec();
}

/// convolution(x, weight, bias, stride, padding, dilation, transposed, ..)
OperationEffect convolution(const OperationCall& call) {
  const Tensor& weight = call.tensor(1);  // [out,in/groups,kernel..], transposed [in,out/groups,kernel..]
  const auto dimensions = static_cast<size_t>(weight.dim() - 2);
  const Window window = {spatial_sizes(weight, dimensions), per_dimension(call.arguments[3], dimensions),
                         per_dimension(call.arguments[4], dimensions),
                         per_dimension(call.arguments[5], dimensions)};
  const bool transposed = call.arguments[6].toBool();
  OperationEffect effect;
  const Tensor& slid = transposed ? call.tensor(0) : call.output;
  effect.macs = static_cast<double>(slid.numel()) * static_cast<double>(weight[0].numel());
  effect.field = (transposed ? slide_transposed : slide)(call.input.field, window);
  effect.new_map = effect.is_layer = true;
  return effect;
}

/// max_poolNd(x, kernel, stride, padding, dilation, ..) and, without dilation, avg_poolNd.
OperationEffect pooling(const OperationCall& call, bool dilated) {
  std::vector<int64_t> kernel = call.arguments[1].toIntVector();
  const size_t dimensions = kernel.size() > 1 ? kernel.size() : static_cast<size_t>(call.output.dim() - 2);
  kernel.resize(dimensions, kernel[0]);
  const bool has_stride = !call.arguments[2].toIntVector().empty();
  const Window window = {
      kernel, has_stride ? per_dimension(call.arguments[2], dimensions) : kernel,
      per_dimension(call.arguments[3], dimensions),
      dilated ? per_dimension(call.arguments[4], dimensions) : std::vector<int64_t>(dimensions, 1)};
  OperationEffect effect;
  effect.field = slide(call.input.field, window);
  effect.new_map = effect.is_layer = true;
  return effect;
}

OperationEffect max_pooling(const OperationCall& call) {
  return pooling(call, /*dilated=*/true);
}

OperationEffect average_pooling(const OperationCall& call) {
  return pooling(call, /*dilated=*/false);
}

/// Adaptive poolings: equal windows where the sizes divide, the whole input for a single cell.
OperationEffect adaptive_pooling(const OperationCall& call) {
  const auto dimensions = call.arguments[1].toIntVector().size();
  const std::vector<int64_t> from = spatial_sizes(call.tensor(0), dimensions);
  const std::vector<int64_t> to = spatial_sizes(call.output, dimensions);
  Window window = {{}, {}, std::vector<int64_t>(dimensions, 0), std::vector<int64_t>(dimensions, 1)};
  for (size_t i = 0; i < dimensions; ++i) {
    window.kernel.push_back((from[i] + to[i] - 1) / to[i]);
    window.stride.push_back(std::max<int64_t>(from[i] / to[i], 1));
  }
  const bool single = std::all_of(to.begin(), to.end(), [](int64_t size) { return size == 1; });
  OperationEffect effect;
  effect.field = slide(call.input.field, window);
  if (single) effect.field = whole_input(*effect.field);
  effect.new_map = effect.is_layer = true;
  return effect;
}

OperationEffect resizing(const OperationCall& call, int64_t reach) {
  const auto dimensions = static_cast<size_t>(call.output.dim() - 2);
  OperationEffect effect;
  effect.field = resize(call.input.field, spatial_sizes(call.tensor(0), dimensions),
                        spatial_sizes(call.output, dimensions), reach);
  effect.new_map = effect.is_layer = true;
  return effect;
}

OperationEffect nearest(const OperationCall& call) {
  return resizing(call, 1);
}

OperationEffect linear_resizing(const OperationCall& call) {
  return resizing(call, 2);
}

OperationEffect cubic_resizing(const OperationCall& call) {
  return resizing(call, 4);
}

/// A product of rows with weights works cell by cell where there is a row for every cell; with fewer, cells
/// were flattened into the rows. A product of activations mixes cells.
std::optional<ReceptiveField> product_field(const OperationCall& call, int64_t rows) {
  if (call.has_weights && rows >= call.input.cells) return std::nullopt;
  return whole_input(call.input.field);
}

/// unfold(x, dimension, size, step): the windows of a locally connected layer, whose map is [H,W,C,B], along H or
/// W. Along other dimensions it cuts pieces in which a convolution slides later.
OperationEffect unfolding(const OperationCall& call) {
  const size_t dimensions = call.input.field.size.size();
  OperationEffect effect;
  const auto dimension = static_cast<size_t>(call.arguments[1].toInt());
  if (dimension >= dimensions || call.input.field.whole) return effect;
  const std::vector<int64_t> ones(dimensions, 1), zeros(dimensions, 0);
  Window window = {ones, ones, zeros, ones};
  window.kernel[dimension] = call.arguments[2].toInt();
  window.stride[dimension] = call.arguments[3].toInt();
  effect.field = slide(call.input.field, window);
  return effect;
}

/// x·W: linear, mm, mv, matmul
OperationEffect product(const OperationCall& call) {
  const int64_t depth = call.tensor(0).size(-1);
  OperationEffect effect;
  effect.macs = static_cast<double>(call.output.numel()) * static_cast<double>(depth);
  effect.field = product_field(call, depth == 0 ? 0 : call.tensor(0).numel() / depth);
  effect.is_layer = true;
  return effect;
}

/// A matrix of weights for each of many products, as in locally connected layers: cells stay apart.
OperationEffect batched_product(const OperationCall& call) {
  OperationEffect effect = product(call);
  if (call.has_weights) effect.field = std::nullopt;
  return effect;
}

/// b + x·W: addmm, baddbmm
OperationEffect added_product(const OperationCall& call) {
  OperationCall inner = call;
  inner.arguments.erase(inner.arguments.begin());
  return product(inner);
}

/// scaled_dot_product_attention(query [..,T,E], key [..,S,E], value [..,S,V], ..)
OperationEffect attention(const OperationCall& call) {
  const Tensor &query = call.tensor(0), &key = call.tensor(1);
  OperationEffect effect;
  const double scores = static_cast<double>(call.output.numel()) / static_cast<double>(call.output.size(-1)) *
                        static_cast<double>(key.size(-2));
  effect.macs = scores * static_cast<double>(query.size(-1) + call.output.size(-1));
  effect.field = whole_input(call.input.field);
  effect.is_layer = true;
  return effect;
}

/// lstm, gru, rnn_*(x [..,D], state, weights, ..), packed (x, batch sizes, state, weights, ..): every matrix
/// once a step.
OperationEffect recurrence(const OperationCall& call) {
  double weights = 0;
  const IValue& list = call.arguments[call.arguments[3].isTensorList() ? 3 : 2];
  for (const Tensor& weight : list.toTensorVector()) {
    if (weight.dim() == 2) weights += static_cast<double>(weight.numel());
  }
  OperationEffect effect;
  effect.macs = weights * static_cast<double>(call.tensor(0).numel() / call.tensor(0).size(-1));
  effect.field = whole_input(call.input.field);
  effect.is_layer = true;
  return effect;
}

/// mean, sum, amax: over the channels of a map, whose cells stay apart, or over cells.
OperationEffect reduction(const OperationCall& call) {
  OperationEffect effect;
  if (call.input.cells == 0 || call.output.numel() == 0) return effect;
  const int64_t reduced = call.tensor(0).numel() / call.output.numel();
  if (reduced != call.tensor(0).numel() / call.input.cells) effect.field = whole_input(call.input.field);
  return effect;
}

}  // namespace

OperationRule find_rule(const std::string& operation) {
  static const std::unordered_map<std::string, OperationRule> rules = {
      {"aten::convolution", convolution},
      {"aten::max_pool1d", max_pooling},
      {"aten::max_pool2d", max_pooling},
      {"aten::max_pool3d", max_pooling},
      {"aten::avg_pool1d", average_pooling},
      {"aten::avg_pool2d", average_pooling},
      {"aten::avg_pool3d", average_pooling},
      {"aten::adaptive_avg_pool1d", adaptive_pooling},
      {"aten::adaptive_avg_pool2d", adaptive_pooling},
      {"aten::adaptive_avg_pool3d", adaptive_pooling},
      {"aten::adaptive_max_pool1d", adaptive_pooling},
      {"aten::adaptive_max_pool2d", adaptive_pooling},
      {"aten::adaptive_max_pool3d", adaptive_pooling},
      {"aten::upsample_nearest1d", nearest},
      {"aten::upsample_nearest2d", nearest},
      {"aten::upsample_nearest3d", nearest},
      {"aten::upsample_linear1d", linear_resizing},
      {"aten::upsample_bilinear2d", linear_resizing},
      {"aten::upsample_trilinear3d", linear_resizing},
      {"aten::upsample_bicubic2d", cubic_resizing},
      {"aten::unfold", unfolding},
      {"aten::linear", product},
      {"aten::mm", product},
      {"aten::bmm", batched_product},
      {"aten::mv", product},
      {"aten::matmul", product},
      {"aten::addmm", added_product},
      {"aten::baddbmm", added_product},
      {"aten::scaled_dot_product_attention", attention},
      {"aten::lstm", recurrence},
      {"aten::gru", recurrence},
      {"aten::rnn_tanh", recurrence},
      {"aten::rnn_relu", recurrence},
      {"aten::mean", reduction},
      {"aten::sum", reduction},
      {"aten::amax", reduction},
  };
  const auto found = rules.find(operation);
  return found == rules.end() ? nullptr : found->second;
}

}  // namespace zoo
