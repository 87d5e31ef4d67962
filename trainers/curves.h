#pragma once
#include <string>

namespace zoo {

/// Draws the curves of a run from its metrics.jsonl as one PNG: loss and its terms (single values pale,
/// smoothed ones on top; a logarithmic axis where they span more than a factor of 20), validation metrics
/// with `main_metric` first and its best value marked, and step sizes, each over the step; a panel without
/// data is left out.
///
/// Lines are {"kind": "train", "step", "epoch", "loss", "terms": {…}, "lr": {…} or a number} and {"kind":
/// "validation", "step", "metrics": {…}}. Lines that are no such objects, and values that are no finite
/// numbers, are passed over. A leading '-' of `main_metric` says that less is better; empty: the first
/// metric. Written beside and renamed; throws Error where a file cannot be read or written.
void draw_curves(const std::string& metrics_jsonl, const std::string& png,
                 const std::string& main_metric = "");

}  // namespace zoo
