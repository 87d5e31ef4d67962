#pragma once
#include <string>

#include <torch/nn/module.h>
#include <torch/nn/modules/linear.h>
#include <torch/types.h>

#include "core/clip_tokenizer.h"
#include "core/options.h"
#include "models/clip_text/clip_text.h"
#include "models/clip_vision/clip_vision.h"

namespace zoo {

/// CLIP, Radford et al. 2021 (arXiv 2103.00020): keys as in transformers' config.json of a CLIPModel.
struct ClipOptions {
  ClipTextOptions text_config;
  ClipVisionOptions vision_config;
  int64_t projection_dim = 512;  ///< P, of the space that sentences and pictures share

  /// Throws UsageError naming the key, its value and the range.
  void validate() const;
};
NLOHMANN_DEFINE_TYPE_NON_INTRUSIVE(ClipOptions, text_config, vision_config, projection_dim)

/// Both towers, under transformers' names.
class ClipImpl : public torch::nn::Module {
 public:
  explicit ClipImpl(const ClipOptions& options);

  /// ids [B,L] -> [B,P]: the state of the first `end_token` of each row, projected.
  torch::Tensor text_features(const torch::Tensor& ids, int64_t end_token);
  /// Pixels [B,3,S,S] of `clip_pixels` -> [B,P].
  torch::Tensor picture_features(const torch::Tensor& pixels);

  ClipOptions options;
  ClipText text_model{nullptr};
  ClipVision vision_model{nullptr};
  torch::nn::Linear visual_projection{nullptr}, text_projection{nullptr};
  torch::Tensor logit_scale;  ///< [], unused here
};
TORCH_MODULE(Clip);

/// Pictures [B,3,H,W] uint8 as CLIP's own processor prepares them: the shorter side to `side`, bicubic and antialiased,
/// cut in the middle, less the means and over the deviations that all its sizes share -> [B,3,side,side] float.
torch::Tensor clip_pixels(const torch::Tensor& rgb, int64_t side);

/// One that is ready for use.
struct LoadedClip {
  Clip model{nullptr};  ///< in eval mode
  ClipTokenizer tokenizer;
};
/// From a folder that transformers wrote for a CLIPModel and its processor (config.json, weights, vocab.json and
/// merges.txt or tokenizer.json), or from the weight file in one. Throws Error naming what is missing or does not fit.
LoadedClip load_clip(const std::string& path);

}  // namespace zoo
