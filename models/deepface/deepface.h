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

/// DeepFace (Taigman et al. 2014, CVPR, section 3 and figure 2).
struct DeepFaceOptions {
  int64_t embedding_size = 4096;  ///< of F7
  int64_t num_classes = 0;        ///< of F8; 0: no F8, where the loss has the classifier. 4030 in the paper
  MapSize input_size = {152, 152};
  double dropout = 0.5;  ///< of F7

  /// Heights and widths of the maps: the input's, then those after C1, M2, C3, L4, L5, L6.
  std::vector<MapSize> map_sizes() const;
  /// Throws UsageError naming the key, its value and the range.
  void validate() const;
};
NLOHMANN_DEFINE_TYPE_NON_INTRUSIVE(DeepFaceOptions, embedding_size, num_classes, input_size, dropout)

/// Registered names are the paper's, which the published Keras weights have too: C1, C3, L4, L5, L6, F7, F8; M2, a
/// pooling, has no weights. Weights start from N(0, 0.01), biases at 0.5.
class DeepFaceImpl : public torch::nn::Module {
 public:
  /// Throws UsageError as DeepFaceOptions::validate.
  explicit DeepFaceImpl(const DeepFaceOptions& options = {});

  /// images [B,3,H,W] of input_size -> embeddings [B,D], F7 after its ReLU (and dropout in training), about three
  /// quarters of it zero. The layers from L4 on work in the weights' type whatever autocast says. Throws as
  /// require_faces.
  torch::Tensor forward(const torch::Tensor& images);
  /// embeddings [B,D] -> logits [B,num_classes] of F8. Only with num_classes > 0.
  torch::Tensor classify(const torch::Tensor& embeddings);

  DeepFaceOptions options;
  torch::nn::Conv2d c1{nullptr}, c3{nullptr};
  LocalConv2d l4{nullptr}, l5{nullptr}, l6{nullptr};
  torch::nn::Linear f7{nullptr}, f8{nullptr};
};
TORCH_MODULE(DeepFace);

FaceModel make_deepface(const DeepFaceOptions& options);

/// Whether the tensors have DeepFace's names.
bool deepface_recognises(const StateDict& state);

}  // namespace zoo
