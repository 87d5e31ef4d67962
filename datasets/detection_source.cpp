#include "datasets/detection_source.h"

#include <algorithm>
#include <cmath>
#include <unordered_map>
#include <unordered_set>

#include "core/files.h"
#include "core/text.h"
#include "datasets/coco.h"
#include "datasets/image.h"
#include "datasets/voc.h"
#include "datasets/yolo.h"

namespace zoo {
namespace {

/// Boxes may pass the edge by this much (pixels): rounding of decimals in files.
constexpr double kEdgeTolerance = 0.1;

/// "12, 26, 29, …"
std::string some_numbers(const std::vector<int64_t>& numbers) {
  std::vector<std::string> parts;
  for (size_t i = 0; i < numbers.size() && i < 10; ++i) parts.push_back(std::to_string(numbers[i]));
  if (numbers.size() > 10) parts.emplace_back("…");
  return join(parts, ", ");
}

void review_gaps(const DetectionSource& source, const std::unordered_set<int64_t>& ids, Findings& findings) {
  const auto [low, high] = std::minmax_element(ids.begin(), ids.end());
  if (*high - *low + 1 == static_cast<int64_t>(ids.size())) return;
  std::vector<int64_t> missing;
  for (int64_t id = *low; id < *high && missing.size() <= 10; ++id) {
    if (ids.count(id) == 0) missing.push_back(id);
  }
  findings.note(
      source.file, "categories",
      format("the %zu ids between %lld and %lld leave gaps: %s", ids.size(), static_cast<long long>(*low),
             static_cast<long long>(*high), some_numbers(missing).c_str()),
      "ids one after another", "none: classes are numbered without gaps, results carry the ids of the file");
}

std::unordered_set<int64_t> review_categories(const DetectionSource& source, Findings& findings) {
  std::unordered_set<int64_t> ids;
  std::unordered_set<std::string> names;
  if (source.categories.empty()) findings.fatal(source.file, "categories", "there are none", "at least one");
  for (const Category& category : source.categories) {
    const std::string record =
        format("category %lld (%s)", static_cast<long long>(category.id), category.name.c_str());
    if (!ids.insert(category.id).second) {
      findings.fatal(source.file, record, "the id is given twice", "an id of its own for each category");
    }
    if (category.id < 0) findings.fatal(source.file, record, "the id is negative", "an id of 0 or more");
    if (!names.insert(category.name).second) {
      findings.note(source.file, record, "the name is given twice", "a name of its own for each category",
                    "counted as two classes");
    }
  }
  if (!ids.empty()) review_gaps(source, ids, findings);
  return ids;
}

void review_images(const DetectionSource& source, Findings& findings) {
  std::unordered_map<int64_t, const DetectionRecord*> ids;
  std::unordered_map<std::string, int64_t> names;
  ids.reserve(source.records.size());
  names.reserve(source.records.size());
  if (source.records.empty()) findings.fatal(source.file, "images", "there are none", "at least one");
  for (const DetectionRecord& record : source.records) {
    const auto [other, fresh] = ids.emplace(record.image_id, &record);
    if (!fresh) {
      findings.fatal(source.file, record_name(record),
                     "the id is that of " + other->second->file_name + " too",
                     "an id of its own for each image");
    }
    const auto [same, new_name] = names.emplace(record.file_name, record.image_id);
    if (!new_name) {
      findings.note(
          source.file, record_name(record),
          format("the picture is listed before, as image %lld", static_cast<long long>(same->second)),
          "each picture once", "used twice in training, counted twice in evaluation");
    }
  }
}

/// What is wrong with the place of a box; `visible` is its part inside the picture.
void review_box(const DetectionSource& source, const DetectionRecord& record, const ObjectAnnotation& object,
                Findings& findings) {
  const auto& [x, y, width, height] = object.box;
  const auto name = [&] {
    return format("annotation %lld, %s", static_cast<long long>(object.id), record_name(record).c_str());
  };
  const auto text = [&] { return "box " + box_text(object.box); };
  if (!std::isfinite(x) || !std::isfinite(y) || !std::isfinite(width) || !std::isfinite(height)) {
    findings.fatal(source.file, name(), text() + " is not finite", "four finite numbers");
  } else if (width < 0 || height < 0) {
    findings.fatal(source.file, name(), text() + " has a negative size",
                   "[x, y, width, height] with a size above 0");
  } else if (width == 0 || height == 0) {
    findings.note(source.file, name(), text() + " has no area", "width and height above 0",
                  "left out of training; in evaluation an object that nothing can find");
  } else if (record.width > 0 && record.height > 0) {
    const auto w = static_cast<double>(record.width), h = static_cast<double>(record.height);
    const auto size = [&] { return format("%gx%g", w, h); };
    if (x >= w || y >= h || x + width <= 0 || y + height <= 0) {
      findings.fatal(source.file, name(), text() + " lies outside the picture of " + size(),
                     "a box inside the picture");
    } else if (x < -kEdgeTolerance || y < -kEdgeTolerance || x + width > w + kEdgeTolerance ||
               y + height > h + kEdgeTolerance) {
      findings.note(source.file, name(), text() + " passes the edge of the picture of " + size(),
                    "a box inside the picture", "clipped in training, kept in evaluation");
    }
  }
}

/// Whether any annotation id comes twice; most files hold them in order.
bool repeats_an_id(const DetectionSource& source) {
  std::vector<int64_t> ids;
  for (const DetectionRecord& record : source.records) {
    for (const ObjectAnnotation& object : record.objects) ids.push_back(object.id);
  }
  std::sort(ids.begin(), ids.end());
  return std::adjacent_find(ids.begin(), ids.end()) != ids.end();
}

void review_objects(const DetectionSource& source, const std::unordered_set<int64_t>& categories,
                    Findings& findings) {
  const bool repeats = repeats_an_id(source);
  std::unordered_set<int64_t> ids;
  for (const DetectionRecord& record : source.records) {
    for (const ObjectAnnotation& object : record.objects) {
      const auto name = [&] {
        return format("annotation %lld, %s", static_cast<long long>(object.id), record_name(record).c_str());
      };
      if (repeats && !ids.insert(object.id).second) {
        findings.fatal(source.file, name(), "the id is given twice", "an id of its own for each annotation");
      }
      if (categories.count(object.category_id) == 0) {
        findings.fatal(source.file, name(),
                       format("category %lld does not exist", static_cast<long long>(object.category_id)),
                       "the id of a category of the file");
      }
      review_box(source, record, object, findings);
    }
  }
}

}  // namespace

std::string record_name(const DetectionRecord& record) {
  return format("image %lld (%s)", static_cast<long long>(record.image_id), record.file_name.c_str());
}

std::string DetectionSource::image_path(const DetectionRecord& record) const {
  return join_path(folder, record.file_name);
}

const DetectionFormat* find_detection_format(const std::string& kind) {
  static const DetectionFormat formats[] = {
      {"coco", coco_splits, read_coco},
      {"voc", voc_splits, read_voc},
      {"yolo", yolo_splits, read_yolo},
  };
  for (const DetectionFormat& format : formats) {
    if (kind == format.kind) return &format;
  }
  return nullptr;
}

void review_source(const DetectionSource& source, Findings& findings) {
  const std::unordered_set<int64_t> categories = review_categories(source, findings);
  review_images(source, findings);
  review_objects(source, categories, findings);
}

cv::Mat read_record_image(const DetectionSource& source, const DetectionRecord& record) {
  const std::string path = source.image_path(record);
  cv::Mat image = read_image(path);
  if (image.cols == record.width && image.rows == record.height) return image;
  const bool turned = image.rows == record.width && image.cols == record.height;
  throw Error(format("%s: the picture is %dx%d, expected %lldx%lld as the annotations say%s", path.c_str(),
                     image.cols, image.rows, static_cast<long long>(record.width),
                     static_cast<long long>(record.height),
                     turned ? " (annotated after an EXIF rotation?)" : ""));
}

std::vector<std::string> read_names(const std::string& path) {
  std::vector<std::string> names = split(trim(read_file(path)), '\n');
  for (std::string& name : names) {
    name = trim(name);
    if (name.empty()) throw Error(path + ": blank line among the names, expected one category name a line");
  }
  return names;
}

std::string box_text(const std::array<double, 4>& box) {
  return format("[%.10g, %.10g, %.10g, %.10g]", box[0], box[1], box[2], box[3]);
}

}  // namespace zoo
