#pragma once
#include <string>
#include <vector>

#include <torch/types.h>
#include <opencv2/core.hpp>

#include "datasets/actions/actions.h"

namespace zoo {

/// What is true of a video's steps and what a model says of them.
struct ActionTimeline {
  std::string title;
  std::vector<std::string> class_names;  ///< of all columns, 0 background
  torch::Tensor scores;                  ///< [L,C] floating, 0…1
  torch::Tensor labels;                  ///< [L,C] u8; undefined: not known
  torch::Tensor ambiguous;               ///< [L] bool; undefined: none
  double steps_per_second = 4;
  std::string scores_name = "predicted";  ///< of the scores' band
};

/// Draws it (RGB): a band of the truth (several classes of a step lie one above the other), one of the class with the
/// highest score, paler where that is less sure, and the scores of the classes that are there most, over seconds.
/// Background is blank. Throws std::invalid_argument for a video without steps.
cv::Mat draw_action_timeline(const ActionTimeline& timeline);

/// The truth about some videos of a set, one below the other. Throws Error for a set without labels.
cv::Mat show_actions(const ActionDataset& videos, int64_t count = 6);

}  // namespace zoo
