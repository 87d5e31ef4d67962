#pragma once
#include <cstdint>
#include <vector>

#include <torch/nn/module.h>
#include <torch/nn/modules/activation.h>
#include <torch/nn/modules/conv.h>
#include <torch/nn/modules/linear.h>
#include <torch/types.h>

#include "core/options.h"
#include "models/faces/face_model.h"
#include "models/layers/batch_norm.h"
#include "models/layers/chain.h"
#include "models/weights/state_dict.h"

namespace zoo {

/// The improved residual network of ArcFace (Deng et al. 2019, arXiv 1801.07698, section 3.1), as insightface's
/// arcface_torch has it. Defaults are those of its r50.
struct IResNetOptions {
  std::vector<int64_t> blocks = {3, 4, 14, 3};        ///< of the stages layer1, layer2, …
  std::vector<int64_t> widths = {64, 128, 256, 512};  ///< channels of the stages; the stem has the first's
  int64_t stem_stride = 1;                            ///< 2 for large pictures at a quarter of the work
  int64_t embedding_size = 512;
  MapSize input_size = {112, 112};
  double dropout = 0;  ///< before the embedding; 0.4 in the MXNet originals

  /// Height and width of the last stage's map.
  MapSize map_size() const;
  /// Throws UsageError naming the key, its value and the range.
  void validate() const;
};
NLOHMANN_DEFINE_TYPE_NON_INTRUSIVE(IResNetOptions, blocks, widths, stem_stride, embedding_size, input_size,
                                   dropout)

/// The published depths.
IResNetOptions iresnet18();
IResNetOptions iresnet34();
IResNetOptions iresnet50();
IResNetOptions iresnet100();
IResNetOptions iresnet200();

/// Names and shapes are insightface's, whose files open here and the other way round: conv1, bn1, prelu,
/// layer1.0.bn1, …, layer1.0.downsample.{0,1}, …, bn2, fc, features. The weight of `features`, a batch norm of the
/// embeddings, stays 1.
class IResNetImpl : public torch::nn::Module {
 public:
  /// Throws UsageError as IResNetOptions::validate.
  explicit IResNetImpl(const IResNetOptions& options);

  /// images [B,3,H,W] of input_size -> embeddings [B,D]. The layers from `fc` on work in the weights' type whatever
  /// autocast says. Throws as require_faces.
  torch::Tensor forward(const torch::Tensor& images);

  IResNetOptions options;

 private:
  void initialise();

  torch::nn::Conv2d conv1_{nullptr};
  BatchNorm2d bn1_{nullptr};
  torch::nn::PReLU prelu_{nullptr};
  std::vector<Chain> layers_;
  BatchNorm2d bn2_{nullptr};
  torch::nn::Linear fc_{nullptr};
  BatchNorm2d features_{nullptr};
};
TORCH_MODULE(IResNet);

FaceModel make_iresnet(const IResNetOptions& options);

/// `options` with what names and shapes of the tensors tell: blocks, widths, embedding_size, and where the size of
/// the map says otherwise than `options`, a square input_size. Throws Error where the names are not an IResNet's.
IResNetOptions iresnet_options_of(const StateDict& state, IResNetOptions options = {});

/// Whether the tensors are of an IResNet with the blocks of `options`, whatever its widths.
bool iresnet_recognises(const StateDict& state, const IResNetOptions& options);

}  // namespace zoo
