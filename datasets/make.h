#pragma once
#include <functional>
#include <string>

#include "datasets/spec.h"

namespace zoo {

/// Writes the splits train and val of a detection set (with `split=NAME` in the SPEC that one alone) in
/// COCO's layout: FOLDER/annotations/instances_SPLIT.json and FOLDER/SPLIT/*.png, without loss; ids, boxes,
/// areas and crowds are kept, so that `coco:FOLDER` reads back the same. The json of a split is written last
/// and at once: a split that was interrupted is never read as a whole one. `progress(done, total)` is called
/// for each picture. Throws Error where FOLDER already holds such a set or cannot be written, and for
/// unreadable data.
void make_detection(const DataSpec& spec, const std::string& folder,
                    const std::function<void(int64_t, int64_t)>& progress = {});

}  // namespace zoo
