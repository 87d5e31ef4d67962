#include "models/deepface/deepface.h"

#include <torch/torch.h>

#include "core/text.h"
#include "models/layers/dropout.h"
#include "models/layers/full_precision.h"

namespace zoo {

namespace {

/// Figure 2: kernels and strides of C1, M2, C3, L4, L5, L6.
struct Window {
  int64_t kernel, stride;
};
constexpr Window kC1 = {11, 1}, kM2 = {3, 2}, kC3 = {9, 1}, kL4 = {9, 1}, kL5 = {7, 2}, kL6 = {5, 1};
constexpr int64_t kFirst = 32, kChannels = 16;  // of C1 and M2, of all maps after them
constexpr int64_t kLeastSide = 72;              // of a picture that leaves L6 one position

torch::nn::Conv2d conv(int64_t in, int64_t out, const Window& window) {
  return torch::nn::Conv2d(torch::nn::Conv2dOptions(in, out, window.kernel));
}

LocalConv2d local(const MapSize& input, const Window& window) {
  LocalConvOptions options;
  options.in_channels = options.out_channels = kChannels;
  options.kernel = window.kernel;
  options.stride = window.stride;
  options.input_size = input;
  return LocalConv2d(options);
}

}  // namespace

std::vector<MapSize> DeepFaceOptions::map_sizes() const {
  std::vector<MapSize> sizes = {input_size};
  for (const Window& window : {kC1, kM2, kC3, kL4, kL5, kL6}) {
    MapSize size = sizes.back();
    const int64_t up = sizes.size() == 2 ? window.stride - 1 : 0;  // M2 rounds up
    for (int64_t& side : size) side = (side - window.kernel + up) / window.stride + 1;
    sizes.push_back(size);
  }
  return sizes;
}

void DeepFaceOptions::validate() const {
  require_count("model.embedding_size", embedding_size, 1, 65536);
  require_count("model.num_classes", num_classes, 0, 1e7);
  for (const int64_t side : input_size) require_count("model.input_size", side, kLeastSide, 1024);
  require_range("model.dropout", dropout, 0, 0.99);
}

DeepFaceImpl::DeepFaceImpl(const DeepFaceOptions& given) : options(given) {
  options.validate();
  const std::vector<MapSize> sizes = options.map_sizes();
  c1 = register_module("C1", conv(3, kFirst, kC1));
  c3 = register_module("C3", conv(kFirst, kChannels, kC3));
  l4 = register_module("L4", local(sizes[3], kL4));
  l5 = register_module("L5", local(sizes[4], kL5));
  l6 = register_module("L6", local(sizes[5], kL6));
  const auto [height, width] = sizes[6];
  f7 = register_module("F7", torch::nn::Linear(kChannels * height * width, options.embedding_size));
  if (options.num_classes > 0) {
    f8 = register_module("F8", torch::nn::Linear(options.embedding_size, options.num_classes));
  }
  for (auto& parameter : named_parameters()) {
    if (ends_with(parameter.key(), ".bias")) {
      torch::nn::init::constant_(parameter.value(), 0.5);
    } else {
      torch::nn::init::normal_(parameter.value(), 0, 0.01);
    }
  }
}

torch::Tensor DeepFaceImpl::forward(const torch::Tensor& images) {
  require_faces(images, 3, options.input_size, /*training=*/false);
  torch::Tensor x = c1(images).relu();                                         // [B,32,142,142]
  x = torch::max_pool2d(x, kM2.kernel, kM2.stride, 0, 1, /*ceil_mode=*/true);  // [B,32,71,71]
  x = c3(x).relu();                                                            // [B,16,63,63]
  x = l4(x).relu();                                                            // [B,16,55,55]
  x = l5(x).relu();                                                            // [B,16,25,25]
  x = l6(x).relu();                                                            // [B,16,21,21]
  const WithoutAutocast full;
  x = f7(x.flatten(1)).relu();  // [B,4096]
  return hashed_dropout(x, options.dropout, is_training());
}

torch::Tensor DeepFaceImpl::classify(const torch::Tensor& embeddings) {
  return f8(embeddings);
}

FaceModel make_deepface(const DeepFaceOptions& options) {
  return face_model(DeepFace(options), options.embedding_size);
}

bool deepface_recognises(const StateDict& state) {
  for (const char* name : {"C1.weight", "C3.weight", "L4.weight", "L5.weight", "L6.weight", "F7.weight"}) {
    if (state.find(name) == nullptr) return false;
  }
  return true;
}

}  // namespace zoo
