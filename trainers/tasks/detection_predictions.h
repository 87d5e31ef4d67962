#pragma once
#include <string>
#include <vector>

#include "datasets/detection.h"
#include "datasets/spec.h"
#include "trainers/metrics/coco_eval.h"

namespace zoo {

/// Ground truth for the evaluator: a COCO annotation file as it stands (no image is opened, none need exist);
/// for other kinds of data what their adapter gives.
CocoGroundTruth read_ground_truth(const DataSpec& spec);
CocoGroundTruth ground_truth(const DetectionDataset& dataset);

/// Writes detections in the form of COCO's results (AtomicFile).
void write_coco_results(const std::string& path, const std::vector<CocoDetection>& detections);

}  // namespace zoo
