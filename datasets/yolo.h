#pragma once
#include <string>
#include <vector>

#include "datasets/detection_source.h"

namespace zoo {

// YOLO folders: `yolo:PATH[,split=NAME][,labels=FILE]`.
//
// PATH is a data.yaml (keys path, train, val, test, names) or a folder that holds one, or a folder with
// images/SPLIT/ (or SPLIT/images/) and the class names in `labels=FILE`, classes.txt, obj.names or
// data/obj.names, one a line. The label file of a picture is its path with the last `images` folder replaced
// by `labels` and the ending .txt; a picture without one has no objects. A line is `class cx cy width height`
// in fractions of the picture, or a polygon `class x1 y1 x2 y2 x3 y3 …`, whose bounding box is taken and
// whose own area is kept. Category ids are the class numbers, from 0. Image ids are 1, 2, … in the sorted
// order of the paths.

std::vector<std::string> yolo_splits(const DataSpec& spec);
DetectionSource read_yolo(const DataSpec& spec, const std::string& split, Findings& findings);

}  // namespace zoo
