#pragma once
#include <array>
#include <cstdint>
#include <functional>
#include <memory>

#include <torch/nn/module.h>
#include <torch/types.h>

namespace zoo {

/// What a task needs of a face network; made by the recipe.
struct FaceModel {
  std::shared_ptr<torch::nn::Module> module;
  /// [B,3,H,W] normalised -> [B,D] float32, not normalised; in the mode, training or not, that `module` is in.
  std::function<torch::Tensor(const torch::Tensor& images)> embed;
  int64_t embedding_size = 0;  ///< D
};

/// The model of a module holder whose `forward` gives the embeddings.
template <class Net>
FaceModel face_model(Net net, int64_t embedding_size) {
  return {net.ptr(), [net](const torch::Tensor& images) mutable { return net->forward(images); },
          embedding_size};
}

using MapSize = std::array<int64_t, 2>;  ///< height, width

/// Throws Error unless `images` are [B,channels,H,W] of this size, and in training at least two: one alone has no
/// variance for a batch norm of embeddings.
void require_faces(const torch::Tensor& images, int64_t channels, const MapSize& size, bool training);

}  // namespace zoo
