#pragma once
#include <cstdint>
#include <vector>

#include <torch/nn/module.h>
#include <torch/nn/modules/conv.h>
#include <torch/types.h>

#include "core/options.h"
#include "models/faces/face_model.h"
#include "models/layers/batch_norm.h"
#include "models/layers/chain.h"
#include "models/weights/state_dict.h"

namespace zoo {

/// MobileFaceNet (Chen et al. 2018, arXiv 1804.07573, table 1) with ReLU6 in place of PReLU, as in
/// github.com/foamliu/MobileFaceNet, whose trained weights have 128 values.
struct MobileFaceNetOptions {
  int64_t embedding_size = 128;
  MapSize input_size = {112, 112};

  /// Height and width of the last map, which the global depthwise convolution covers.
  MapSize map_size() const;
  /// Throws UsageError naming the key, its value and the range.
  void validate() const;
};
NLOHMANN_DEFINE_TYPE_NON_INTRUSIVE(MobileFaceNetOptions, embedding_size, input_size)

/// Names and shapes are that repository's: conv1, dw_conv, features.0 … features.14, conv2, gdconv, conv3, bn.
class MobileFaceNetImpl : public torch::nn::Module {
 public:
  /// Throws UsageError as MobileFaceNetOptions::validate.
  explicit MobileFaceNetImpl(const MobileFaceNetOptions& options = {});

  /// images [B,3,H,W] of input_size -> embeddings [B,D]. The last convolution and norm work in the weights' type
  /// whatever autocast says. Throws as require_faces.
  torch::Tensor forward(const torch::Tensor& images);

  MobileFaceNetOptions options;

 private:
  void add_inverted_residuals();

  Chain conv1_{nullptr};
  torch::nn::Conv2d depthwise_{nullptr}, pointwise_{nullptr};
  BatchNorm2d depthwise_norm_{nullptr}, pointwise_norm_{nullptr};
  Chain features_{nullptr}, conv2_{nullptr};
  torch::nn::Conv2d global_{nullptr};
  BatchNorm2d global_norm_{nullptr};
  torch::nn::Conv2d conv3_{nullptr};
  BatchNorm2d bn_{nullptr};
};
TORCH_MODULE(MobileFaceNet);

FaceModel make_mobilefacenet(const MobileFaceNetOptions& options);

/// `options` with what the tensors tell: embedding_size, and where the size of the map says otherwise than
/// `options`, input_size. Throws Error where the names are not this MobileFaceNet's.
MobileFaceNetOptions mobilefacenet_options_of(const StateDict& state, MobileFaceNetOptions options = {});

bool mobilefacenet_recognises(const StateDict& state);

}  // namespace zoo
