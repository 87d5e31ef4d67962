#pragma once
#include <string>
#include <vector>

#include "datasets/detection_source.h"

namespace zoo {

// Pascal VOC folders: `voc:PATH[,split=NAME][,labels=FILE]`.
//
// PATH holds Annotations/*.xml, JPEGImages/ and ImageSets/Main/SPLIT.txt (the first word of a line names a
// picture); `split=all` takes every xml, also where there is no ImageSets. VOC counts pixels from 1 and
// includes both ends, so (xmin, ymin, xmax, ymax) is the box x = xmin - 1, y = ymin - 1, width = xmax - xmin
// + 1, height = ymax - ymin + 1. `difficult` objects become crowds: left out of training, neither demanded
// nor punished in evaluation (a little milder than VOC's own rule, since a crowd may be matched by several
// detections, by the detection's own area). Category ids are 1, 2, … in the order of `labels=FILE` or
// PATH/labels.txt (one name a line), else of the sorted names of all xml files, so that splits agree. Image
// ids are 1, 2, … in the order of the split.

std::vector<std::string> voc_splits(const DataSpec& spec);
DetectionSource read_voc(const DataSpec& spec, const std::string& split, Findings& findings);

}  // namespace zoo
