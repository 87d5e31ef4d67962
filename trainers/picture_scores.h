#pragma once
#include <string>
#include <vector>

#include <torch/types.h>

#include "core/options.h"
#include "trainers/clip_scorer.h"
#include "trainers/metrics/generation.h"
#include "trainers/picture_features.h"

namespace zoo {

/// How made pictures compare with real ones and with the sentences they were made of, as far as there are networks for
/// it.
class PictureScores {
 public:
  /// Either may be null. They are used on `device`.
  PictureScores(PictureFeatures* features, ClipScorer* clip, torch::Device device)
      : features_(features), clip_(clip), device_(device) {}

  void add_real(const torch::Tensor& pictures);  ///< [B,3,H,W] in −1…1
  /// The same of made ones, and a sentence each; none: not known.
  void add_made(const torch::Tensor& pictures, const std::vector<std::string>& texts);

  /// FID, KID and IS where there are features and CLIP where there are sentences, else null; IS also where there are
  /// fewer pictures than splits. Throws Error naming `source` for less than two pictures.
  void write(const GenerationOptions& options, const std::string& source, Json& metrics) const;
  /// Which networks, and how pictures were resized for them.
  Json details() const;

 private:
  PictureFeatures* features_;
  ClipScorer* clip_;
  torch::Device device_;
  std::vector<torch::Tensor> real_, made_, classes_;  // [B,D], [B,D], [B,C] each
  std::vector<torch::Tensor> clip_scores_;            // [B] each
};

/// Pictures in −1…1 as they are once saved: rounded to bytes.
torch::Tensor as_saved(const torch::Tensor& pictures);

/// What to pass for figures that are null without; empty where nothing is missing.
std::string missing_networks(const std::string& features, const std::string& clip);

}  // namespace zoo
