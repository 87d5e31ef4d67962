#pragma once
#include <string>
#include <vector>

#include <torch/types.h>

#include "models/clip_vision/clip.h"

namespace zoo {

/// How well pictures show what sentences say, by a CLIP of the user's (Hessel et al. 2021, arXiv 2104.08718, as
/// torchmetrics defines it): 100·max(cos, 0) of a picture's and its sentence's features.
class ClipScorer {
 public:
  /// Throws Error as `load_clip`.
  explicit ClipScorer(const std::string& path);

  /// Pictures [B,3,H,W] in −1…1 and a sentence each -> [B] float64 on the CPU. Sentences are cut to the text tower's
  /// length.
  torch::Tensor scores(const torch::Tensor& pictures, const std::vector<std::string>& texts,
                       torch::Device device);
  const std::string& source() const { return source_; }

 private:
  LoadedClip clip_;
  std::string source_;
};

}  // namespace zoo
