#pragma once
#include <memory>
#include <string>
#include <vector>

#include "datasets/detection.h"
#include "datasets/findings.h"
#include "datasets/splits.h"

namespace zoo {

/// A split of a detection set on disk, as an adapter read it: nothing clipped, dropped or reordered.
struct DetectionSource {
  std::string file;    ///< annotation file or folder, for messages
  std::string folder;  ///< where the records' file names begin
  std::vector<DetectionRecord> records;
  std::vector<Category> categories;

  std::string image_path(const DetectionRecord& record) const;
};

/// A kind of detection data on disk.
struct DetectionFormat {
  const char* kind;
  /// The splits found at spec.path, sorted. Throws Error where nothing of that kind is there.
  std::vector<std::string> (*splits)(const DataSpec& spec);
  /// Reads one of them.
  DetectionSource (*read)(const DataSpec& spec, const std::string& split, Findings& findings);
};
/// The format of a kind; null for an embedded set or another task's data.
const DetectionFormat* find_detection_format(const std::string& kind);

/// `image 7 (b.jpg)`: a record in messages.
std::string record_name(const DetectionRecord& record);

/// What every kind of detection data must satisfy, whatever file it came from: ids, categories, sizes, boxes.
void review_source(const DetectionSource& source, Findings& findings);

/// Reads the record's picture. Throws Error where it is missing, unreadable or not of the record's size.
cv::Mat read_record_image(const DetectionSource& source, const DetectionRecord& record);

/// The lines of a file of category names, blank ends left out. Throws Error where a line between them is
/// blank.
std::vector<std::string> read_names(const std::string& path);
/// `[1, 2.5, 3, 4]`
std::string box_text(const std::array<double, 4>& box);

}  // namespace zoo
