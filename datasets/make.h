#pragma once
#include <functional>
#include <string>

#include <opencv2/core.hpp>

#include "datasets/spec.h"

namespace zoo {

/// Writes a set in a layout that zoo reads, by the task of the SPEC's kind: make_detection, make_faces,
/// make_actions or make_captions. Returns the SPEC that reads it back.
std::string make_data(const DataSpec& spec, const std::string& target,
                      const std::function<void(int64_t, int64_t)>& progress = {});

/// Writes the splits train and val of a detection set (with `split=NAME` in the SPEC that one alone) in
/// COCO's layout: FOLDER/annotations/instances_SPLIT.json and FOLDER/SPLIT/*.png, without loss; ids, boxes,
/// areas and crowds are kept, so that `coco:FOLDER` reads back the same. The json of a split is written last
/// and at once: a split that was interrupted is never read as a whole one. `progress(done, total)` is called
/// for each picture. Throws Error where FOLDER already holds such a set or cannot be written, and for
/// unreadable data.
void make_detection(const DataSpec& spec, const std::string& folder,
                    const std::function<void(int64_t, int64_t)>& progress = {});

/// Writes the splits of a set of faces (with `split=NAME` in the SPEC that one alone). `target` FOLDER or
/// faces:FOLDER: FOLDER/SPLIT/IDENTITY/IDENTITY_0001.png, without loss, FOLDER/SPLIT.csv where there are landmarks,
/// and the validation pairs as FOLDER/pairs.txt in LFW's form. recordio:FOLDER: insightface's SPLIT.rec, SPLIT.idx and
/// property, pictures as PNG, aligned to 112x112 where there are landmarks. Returns the SPEC that reads it back.
/// Throws Error where FOLDER already holds such a set, for unreadable data, and for a set without identities.
std::string make_faces(const DataSpec& spec, const std::string& target,
                       const std::function<void(int64_t, int64_t)>& progress = {});

/// Writes the splits of a set of feature streams (with `split=NAME` in the SPEC that one alone): FOLDER/features/NAME.npy
/// (float32), FOLDER/target_perframe/NAME.npy (uint8, a column for each class, with an ambiguous one as the last) and,
/// last, FOLDER/data_info.json. `target` FOLDER or features:FOLDER. Returns the SPEC that reads it back. Throws Error
/// where FOLDER already holds such a set, for unreadable data, a set without labels, and a name in two splits.
std::string make_actions(const DataSpec& spec, const std::string& target,
                         const std::function<void(int64_t, int64_t)>& progress = {});

/// Writes the splits of a captioned set (with `split=NAME` in the SPEC that one alone; one without splits as train):
/// FOLDER/SPLIT/000000.png, without loss, and, last, FOLDER/SPLIT/metadata.jsonl. `target` FOLDER or captions:FOLDER.
/// Returns the SPEC that reads it back. Throws Error where FOLDER already holds such a set and for unreadable data.
std::string make_captions(const DataSpec& spec, const std::string& target,
                          const std::function<void(int64_t, int64_t)>& progress = {});

/// Writes a PNG without the syncing that a single file deserves: what makes a set of the pictures comes last.
void write_picture(const std::string& path, const cv::Mat& image);

}  // namespace zoo
