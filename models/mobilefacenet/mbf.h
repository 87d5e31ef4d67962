#pragma once
#include <array>
#include <cstdint>
#include <vector>

#include <torch/nn/module.h>
#include <torch/types.h>

#include "core/options.h"
#include "models/faces/face_model.h"
#include "models/layers/chain.h"
#include "models/weights/state_dict.h"

namespace zoo {

/// insightface's MobileFaceNet "mbf" (arcface_torch), after Chen et al. 2018, arXiv 1804.07573: twice as wide, with
/// PReLU and 512 values.
struct MbfOptions {
  /// Blocks with a shortcut at strides 2, 4, 8 and 16; the first as 1 means a single grouped convolution.
  std::array<int64_t, 4> blocks = {1, 4, 6, 2};
  int64_t scale = 2;  ///< of the channels outside the depthwise convolutions: 64·scale, later 128·scale
  int64_t embedding_size = 512;
  MapSize input_size = {112, 112};

  /// Height and width of the last map, which the global depthwise convolution covers.
  MapSize map_size() const;
  /// Throws UsageError naming the key, its value and the range.
  void validate() const;
};
NLOHMANN_DEFINE_TYPE_NON_INTRUSIVE(MbfOptions, blocks, scale, embedding_size, input_size)

/// The published sizes.
MbfOptions mbf();
MbfOptions mbf_large();

/// Names and shapes are insightface's: layers.0 … layers.7, conv_sep, features.
class MbfImpl : public torch::nn::Module {
 public:
  /// Throws UsageError as MbfOptions::validate.
  explicit MbfImpl(const MbfOptions& options = {});

  /// images [B,3,H,W] of input_size -> embeddings [B,D]. The layers from `conv_sep` on work in the weights' type
  /// whatever autocast says. Throws as require_faces.
  torch::Tensor forward(const torch::Tensor& images);

  MbfOptions options;

 private:
  Chain layers_{nullptr}, conv_sep_{nullptr}, features_{nullptr};
};
TORCH_MODULE(Mbf);

FaceModel make_mbf(const MbfOptions& options);

/// `options` with what the tensors tell: blocks, scale, embedding_size, and where the size of the map says
/// otherwise than `options`, input_size. Throws Error where the names are not mbf's.
MbfOptions mbf_options_of(const StateDict& state, MbfOptions options = {});

/// Whether the tensors are of an mbf with the blocks and scale of `options`.
bool mbf_recognises(const StateDict& state, const MbfOptions& options = {});

}  // namespace zoo
