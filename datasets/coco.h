#pragma once
#include <string>
#include <vector>

#include "datasets/detection_source.h"

namespace zoo {

// COCO instances files: `coco:PATH[,split=NAME][,images=FOLDER]`.
//
// PATH is a folder with `annotations/instances_SPLIT.json`, `instances_SPLIT.json` or
// `SPLIT/_annotations.coco.json` (as Roboflow writes), or one such json. Pictures are looked for in
// `images=FOLDER`, else in SPLIT/, images/SPLIT/, images/, the folder itself and beside the json: the first
// where the first picture is. Records, objects, ids, areas and crowds stand in the order and with the values
// of the file, as pycocotools sees them; segmentations are not read. Missing `iscrowd` is 0, a missing `area`
// is width times height, missing sizes of a picture are read from it.

std::vector<std::string> coco_splits(const DataSpec& spec);
DetectionSource read_coco(const DataSpec& spec, const std::string& split, Findings& findings);

/// The json that a `coco:` SPEC means, for readers of their own. Throws Error as opening does.
std::string coco_annotation_file(const DataSpec& spec, const std::string& default_split);

}  // namespace zoo
