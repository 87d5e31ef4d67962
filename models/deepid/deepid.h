#pragma once
#include <cstdint>
#include <vector>

#include <torch/nn/module.h>
#include <torch/nn/modules/conv.h>
#include <torch/nn/modules/linear.h>
#include <torch/types.h>

#include "core/options.h"
#include "models/faces/face_model.h"
#include "models/layers/local_conv.h"
#include "models/weights/state_dict.h"

namespace zoo {

/// One net of DeepID (Sun et al. 2014, "Deep Learning Face Representation from Predicting 10,000 Classes", CVPR,
/// section 3.1 and figure 2), for one patch of a face.
struct DeepIdOptions {
  MapSize input_size = {39, 31};                   ///< of rectangular patches; 31x31 for square ones
  int64_t channels = 3;                            ///< 3 colour, 1 grey
  std::vector<int64_t> widths = {20, 40, 60, 80};  ///< of the four convolutions
  int64_t embedding_size = 160;

  /// Heights and widths of the maps: the input's, then those after each convolution and pooling in turn, the last
  /// that of conv4.
  std::vector<MapSize> map_sizes() const;
  /// Throws UsageError naming the key, its value and the range.
  void validate() const;
};
NLOHMANN_DEFINE_TYPE_NON_INTRUSIVE(DeepIdOptions, input_size, channels, widths, embedding_size)

DeepIdOptions deepid_rectangle();
DeepIdOptions deepid_square();

/// Registered names are conv1, conv2, conv3 (weights shared in blocks of 2x2 outputs), conv4 (nothing shared) and
/// deepid, fed by the third pooling and by conv4: max(0, W1·pool3 + W2·conv4 + b), its weight being [W1 W2].
class DeepIdImpl : public torch::nn::Module {
 public:
  /// Throws UsageError as DeepIdOptions::validate.
  explicit DeepIdImpl(const DeepIdOptions& options = {});

  /// images [B,3,H,W] of input_size -> embeddings [B,D], not negative. A grey net takes [B,1,H,W] too, and of three
  /// channels the mean. conv4 and deepid work in the weights' type whatever autocast says. Throws as
  /// require_faces.
  torch::Tensor forward(const torch::Tensor& images);

  DeepIdOptions options;
  torch::nn::Conv2d conv1{nullptr}, conv2{nullptr};
  BlockConv2d conv3{nullptr};
  LocalConv2d conv4{nullptr};
  torch::nn::Linear deepid{nullptr};
};
TORCH_MODULE(DeepId);

FaceModel make_deepid(const DeepIdOptions& options);

/// Whether the tensors have the names of one DeepID net.
bool deepid_recognises(const StateDict& state);

}  // namespace zoo
