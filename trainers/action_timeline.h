#pragma once
#include <string>
#include <vector>

#include <torch/types.h>

namespace zoo {

/// What is true of a video's steps and what a model says of them.
struct ActionTimeline {
  std::string title;
  std::vector<std::string> class_names;  ///< of all columns, 0 background
  torch::Tensor scores;                  ///< [L,C] floating, 0…1
  torch::Tensor labels;                  ///< [L,C] u8; undefined: not known
  torch::Tensor ambiguous;               ///< [L] bool; undefined: none
  double steps_per_second = 4;
};

/// Writes it as a PNG: a band of the truth (several classes of a step lie one above the other), one of the class with the
/// highest score, paler where that is less sure, and the scores of the classes that are there most, over seconds.
/// Background is blank. Throws Error where the file cannot be written and std::invalid_argument for a video without
/// steps.
void draw_action_timeline(const std::string& png, const ActionTimeline& timeline);

}  // namespace zoo
