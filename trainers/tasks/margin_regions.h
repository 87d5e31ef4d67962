#pragma once
#include <string>
#include <utility>
#include <vector>

#include <torch/types.h>
#include <opencv2/core.hpp>

#include "models/face_losses/options.h"

namespace zoo {

/// What a loss of two classes makes of samples at angles to their rows, θ1 and θ2 [N] in radians, by the logits that
/// it trains with: [N] uint8, 1 where a sample of class 1 has the larger logit for its own, 2 where one of class 2
/// has, 0 where neither (the margin), 3 where both. Embeddings are taken as of norm 1, rows too, without bias. Throws
/// UsageError for a loss that is no softmax over class rows.
torch::Tensor margin_regions(const FaceLossOptions& options, const torch::Tensor& angle1,
                             const torch::Tensor& angle2);

/// Those regions for θ1 and θ2 from 0 to 90 degrees, a panel for each loss under its title, three in a row.
cv::Mat draw_margin_regions(const std::vector<std::pair<std::string, FaceLossOptions>>& losses);

}  // namespace zoo
