#include "models/deepid/deepid.h"

#include <torch/torch.h>

#include <cmath>

#include "core/error.h"
#include "core/text.h"
#include "models/layers/full_precision.h"

namespace zoo {

namespace {

/// Figure 2: kernels of the convolutions; 2x2 maxima after the first three.
constexpr int64_t kKernels[] = {4, 3, 3, 2};
constexpr int64_t kBlock = 2;  // outputs of conv3 that share weights, each way

LocalConvOptions local_options(int64_t in, int64_t out, int64_t kernel, const MapSize& input) {
  LocalConvOptions options;
  options.in_channels = in;
  options.out_channels = out;
  options.kernel = kernel;
  options.input_size = input;
  options.block = kBlock;
  return options;
}

torch::nn::Conv2d conv(int64_t in, int64_t out, int64_t kernel) {
  return torch::nn::Conv2d(torch::nn::Conv2dOptions(in, out, kernel));
}

torch::Tensor relu_pool(const torch::Tensor& x) {
  return torch::max_pool2d(x.relu(), 2, 2);
}

/// Variance 2/n for n values in a window (He et al. 2015, eq. 10), so that pictures still differ after five rectified
/// layers; torch's own start leaves a sixth of the variance a layer, and nothing was learned from it.
void initialise(DeepIdImpl& net) {
  for (auto& parameter : net.named_parameters()) {
    torch::Tensor weight = parameter.value();
    if (ends_with(parameter.key(), ".bias")) {
      torch::nn::init::zeros_(weight);
    } else {
      const int64_t window = weight.dim() == 3 ? weight.size(2) : weight[0].numel();  // conv4: one a position
      torch::nn::init::normal_(weight, 0, std::sqrt(2.0 / static_cast<double>(window)));
    }
  }
}

}  // namespace

DeepIdOptions deepid_rectangle() {
  return {};
}

DeepIdOptions deepid_square() {
  DeepIdOptions options;
  options.input_size = {31, 31};
  return options;
}

std::vector<MapSize> DeepIdOptions::map_sizes() const {
  std::vector<MapSize> sizes = {input_size};
  for (size_t i = 0; i < 4; ++i) {
    MapSize size = sizes.back();
    for (int64_t& side : size) side -= kKernels[i] - 1;
    sizes.push_back(size);
    if (i == 3) break;
    for (int64_t& side : size) side /= 2;
    sizes.push_back(size);
  }
  return sizes;
}

void DeepIdOptions::validate() const {
  for (const int64_t side : input_size) require_count("model.input_size", side, 31, 512);
  const MapSize shared = map_sizes()[5];
  if (shared[0] % kBlock != 0 || shared[1] % kBlock != 0) {
    throw UsageError(
        format("model.input_size: %dx%d gives conv3 %dx%d outputs, expected even numbers as of 39x31, "
               "31x31 or 55x47",
               static_cast<int>(input_size[0]), static_cast<int>(input_size[1]), static_cast<int>(shared[0]),
               static_cast<int>(shared[1])));
  }
  if (channels != 1 && channels != 3) {
    throw UsageError("model.channels: " + std::to_string(channels) + ", expected 1 (grey) or 3 (colour)");
  }
  if (widths.size() != 4) throw UsageError(format("model.widths: %zu values, expected 4", widths.size()));
  for (const int64_t width : widths) require_count("model.widths", width, 1, 65536);
  require_count("model.embedding_size", embedding_size, 1, 65536);
}

DeepIdImpl::DeepIdImpl(const DeepIdOptions& given) : options(given) {
  options.validate();
  const std::vector<int64_t>& widths = options.widths;
  const std::vector<MapSize> sizes = options.map_sizes();
  const auto [rows, columns] = sizes[6];
  const auto [last_rows, last_columns] = sizes[7];
  conv1 = register_module("conv1", conv(options.channels, widths[0], kKernels[0]));
  conv2 = register_module("conv2", conv(widths[0], widths[1], kKernels[1]));
  conv3 = register_module("conv3", BlockConv2d(local_options(widths[1], widths[2], kKernels[2], sizes[4])));
  conv4 = register_module("conv4", LocalConv2d(local_options(widths[2], widths[3], kKernels[3], sizes[6])));
  const int64_t features = widths[2] * rows * columns + widths[3] * last_rows * last_columns;
  deepid = register_module("deepid", torch::nn::Linear(features, options.embedding_size));
  initialise(*this);
}

torch::Tensor DeepIdImpl::forward(const torch::Tensor& images) {
  const bool to_grey = options.channels == 1 && images.dim() == 4 && images.size(1) == 3;
  require_faces(images, to_grey ? 3 : options.channels, options.input_size, /*training=*/false);
  torch::Tensor x = to_grey ? images.mean(1, /*keepdim=*/true) : images;
  x = relu_pool(conv1(x));                             // [B,20,18,14]
  x = relu_pool(conv2(x));                             // [B,40,8,6]
  x = relu_pool(conv3(x));                             // [B,60,3,2]
  const torch::Tensor last = conv4(x).relu();          // [B,80,2,1]
  x = torch::cat({x.flatten(1), last.flatten(1)}, 1);  // [B,520]
  const WithoutAutocast full;
  return deepid(as_type_of(deepid->weight, x)).relu();  // [B,160]
}

FaceModel make_deepid(const DeepIdOptions& options) {
  return face_model(DeepId(options), options.embedding_size);
}

bool deepid_recognises(const StateDict& state) {
  for (const char* name : {"conv1.weight", "conv2.weight", "conv3.weight", "conv4.weight", "deepid.weight"}) {
    if (state.find(name) == nullptr) return false;
  }
  return true;
}

}  // namespace zoo
