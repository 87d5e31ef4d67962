#pragma once
#include <cstdint>
#include <string>
#include <vector>

#include <torch/nn/module.h>
#include <torch/nn/modules/container/modulelist.h>
#include <torch/types.h>

#include "core/options.h"
#include "models/deepid/deepid.h"
#include "models/faces/face_model.h"

namespace zoo {

/// DeepID's ensemble (Sun et al. 2014, section 3.2): one net for every region, scale and colour of an aligned face,
/// their features side by side. Defaults are the paper's 10 regions, 3 scales and 2 colours: 60 nets. They are
/// trained together by one loss over all features, not each by its own as in the paper.
struct DeepIdEnsembleOptions {
  MapSize input_size = {112, 112};  ///< of the aligned face
  /// Five of the whole face (39x31) and five around landmarks (31x31), at the places of the 112x112 template.
  std::vector<std::string> regions = {"face",     "top",       "bottom", "left",       "right",
                                      "left_eye", "right_eye", "nose",   "left_mouth", "right_mouth"};
  std::vector<double> scales = {0.75, 1.0, 1.25};  ///< of a region's height and width
  std::vector<std::string> colours = {"rgb", "grey"};
  std::vector<int64_t> widths = {20, 40, 60, 80};  ///< of each net's convolutions
  int64_t features = 160;                          ///< of each net

  int64_t nets() const { return static_cast<int64_t>(regions.size() * scales.size() * colours.size()); }
  int64_t embedding_size() const { return nets() * features; }
  /// Throws UsageError naming the key, its value and the range.
  void validate() const;
};
NLOHMANN_DEFINE_TYPE_NON_INTRUSIVE(DeepIdEnsembleOptions, input_size, regions, scales, colours, widths,
                                   features)

/// Rows and columns [top, bottom), [left, right) of a patch.
struct FacePatch {
  int64_t top = 0, left = 0, bottom = 0, right = 0;
};
/// Where a region lies in a face of that size: moved inside where it would stand out, and cut where it is larger.
FacePatch face_patch(const std::string& region, double scale, const MapSize& size);

/// Registered as nets.0, nets.1, …: regions outermost, then scales, then colours.
class DeepIdEnsembleImpl : public torch::nn::Module {
 public:
  /// Throws UsageError as DeepIdEnsembleOptions::validate.
  explicit DeepIdEnsembleImpl(const DeepIdEnsembleOptions& options = {});

  /// images [B,3,H,W] of input_size -> embeddings [B, nets·features], not negative. Patches are brought to their
  /// net's size by the means of the pixels that each of its pixels covers.
  torch::Tensor forward(const torch::Tensor& images);

  DeepIdEnsembleOptions options;

 private:
  std::vector<FacePatch> patches_;
  std::vector<DeepId> nets_;
};
TORCH_MODULE(DeepIdEnsemble);

FaceModel make_deepid_ensemble(const DeepIdEnsembleOptions& options);

}  // namespace zoo
