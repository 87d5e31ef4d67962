#pragma once
#include <string>
#include <vector>

#include "cli/command.h"
#include "cli/results.h"
#include "trainers/roc_curves.h"
#include "trainers/tasks/denoiser.h"

namespace zoo {

struct EvalFlags {
  std::string model, weights, predictions, task, references, save_predictions, output;
  std::vector<std::string> data;
  bool json = false;
};

/// Prints the document or table, and with --output writes metrics.json and, where there are any, the ROC curves
/// there.
void report_results(const EvalFlags& flags, const Json& model, const std::vector<NamedMetrics>& results,
                    const std::vector<NamedRoc>& curves);

/// Scores what any program predicted; no model, no image.
int evaluate_predictions(const EvalFlags& flags, const ConfigFlags& configuration);

/// A folder of made pictures against real ones, by the networks that `options` names, on `device`.
int score_picture_folder(const EvalFlags& flags, const DenoiserEvalOptions& options, torch::Device device);

}  // namespace zoo
