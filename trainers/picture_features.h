#pragma once
#include <memory>
#include <string>

#include <torch/types.h>

#include "core/options.h"

namespace zoo {

/// Rows that tell pictures apart.
struct PictureRows {
  torch::Tensor features;  ///< [B,D]: FID and KID compare them
  torch::Tensor classes;   ///< [B,C], logits of the Inception score; undefined where the network has none
};

/// A network whose features stand for pictures where made ones are compared with real ones.
class PictureFeatures {
 public:
  virtual ~PictureFeatures() = default;
  /// Pictures [B,3,H,W] in −1…1 of any size, resized as the network needs them; computed on `device`, given on the CPU.
  virtual PictureRows rows(const torch::Tensor& pictures, torch::Device device) = 0;
  /// Figures hang on this: {"features": FILE, "network": NAME, "resize": HOW}.
  virtual Json details() const = 0;
};

/// What `eval.features` names: Inception's weights in pytorch-fid's layout, whose pictures are resized as `resize` says
/// (inception_resizes), or a run of captions-reader, whose pictures are resized to its own size. Throws Error naming
/// `path` where it is neither.
std::unique_ptr<PictureFeatures> open_picture_features(const std::string& path, const std::string& resize);

}  // namespace zoo
