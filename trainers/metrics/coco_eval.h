#pragma once
#include <array>
#include <cstdint>
#include <string>
#include <vector>

#include "core/options.h"

namespace zoo {

/// One ground-truth object, as the annotation file gives it.
struct CocoObject {
  int64_t image_id = 0, category_id = 0;
  std::array<double, 4> box{};  ///< x, y, w, h
  double area = 0;              ///< of the annotation
  bool crowd = false;
};

/// One detection.
struct CocoDetection {
  int64_t image_id = 0, category_id = 0;
  std::array<double, 4> box{};  ///< x, y, w, h
  double score = 0;
};

struct CocoGroundTruth {
  std::vector<int64_t> image_ids;
  std::vector<int64_t> category_ids;
  std::vector<std::string> category_names;  ///< beside category_ids
  std::vector<CocoObject> objects;
};

/// COCO's twelve numbers, NaN where a figure does not exist, and AP per category (beside category_ids).
struct CocoMetrics {
  double AP, AP50, AP75, APs, APm, APl, AR1, AR10, AR100, ARs, ARm, ARl;
  std::vector<double> per_class;
};

/// The bbox protocol of pycocotools 2.0 to the last bit of its arithmetic, with `threads` workers: IoU
/// thresholds 0.5…0.95, 101 recall points, areas split at 32² and 96² pixels, the best 100 detections of an
/// image and category. An object counts whatever the id of its annotation (pycocotools never matches one
/// whose id is 0) and also where another annotation has the same id. Objects of images or categories that the
/// ground truth does not list, and detections of such categories, are left out with a warning. Throws Error
/// for detections of an unknown image.
CocoMetrics evaluate_coco(const CocoGroundTruth& truth, const std::vector<CocoDetection>& detections,
                          int threads);

/// The `metrics` document of the contract: the twelve names and `per_class` (names; `name (id)` where two are
/// equal), null for NaN.
Json coco_metrics_json(const CocoMetrics& metrics, const CocoGroundTruth& truth);
/// The table for people, n/a for NaN.
std::string coco_metrics_table(const CocoMetrics& metrics);

/// Readers of an instances file and of a results file (a list of {image_id, category_id, bbox, score}), one
/// pass, no document tree, any order of keys, unknown keys skipped; a repeated key counts where it stands
/// last. Numbers are the doubles nearest to the text; ids are integers of 64 bits, 17.0 being one. In an
/// annotation `iscrowd` may be missing (0) and so may `area` (w times h); a category without a name takes its
/// id. Throw Error naming file, record (counted from 0), key and what would be right, or the byte where the
/// file is malformed JSON.
CocoGroundTruth read_coco_ground_truth(const std::string& annotations_json);
std::vector<CocoDetection> read_coco_results(const std::string& results_json);

}  // namespace zoo
