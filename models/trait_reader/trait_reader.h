#pragma once
#include <cstdint>
#include <vector>

#include <torch/nn/module.h>
#include <torch/nn/modules/container/modulelist.h>
#include <torch/nn/modules/conv.h>
#include <torch/nn/modules/linear.h>
#include <torch/nn/modules/normalization.h>
#include <torch/types.h>

#include "core/options.h"

namespace zoo {

/// A small convolutional network that reads what a drawing shows: which of several values each of its traits has (its
/// shape, its colour). It judges pictures that a model made from sentences, and its features stand in for Inception's
/// where drawings are compared.
struct TraitReaderOptions {
  std::vector<int64_t> widths = {32, 64,
                                 128};    ///< channels of the levels; each begins by halving the picture
  int64_t groups = 8;                     ///< of the group norms
  int64_t feature_size = 128;             ///< D
  std::vector<int64_t> trait_sizes = {};  ///< values of each trait; empty: told by the data

  void validate() const;
};
NLOHMANN_DEFINE_TYPE_NON_INTRUSIVE(TraitReaderOptions, widths, groups, feature_size, trait_sizes)

/// Per level a 4x4 convolution of stride 2 and a 3x3 one, each with GroupNorm and SiLU; mean and maximum over
/// places; a linear layer with SiLU, whose outputs are the features; a linear layer per trait.
class TraitReaderImpl : public torch::nn::Module {
 public:
  explicit TraitReaderImpl(const TraitReaderOptions& options);

  torch::Tensor features(const torch::Tensor& images);  ///< [B,3,H,W] in −1…1 -> [B,D]
  /// Logits [B,values] of each trait.
  std::vector<torch::Tensor> forward(const torch::Tensor& images);

  TraitReaderOptions options;
  torch::nn::ModuleList convolutions, norms, heads;
  torch::nn::Linear projection{nullptr};
};
TORCH_MODULE(TraitReader);

}  // namespace zoo
