#include "datasets/voc.h"

#include <algorithm>
#include <map>
#include <pugixml.hpp>
#include <set>
#include <utility>

#include "core/files.h"
#include "core/text.h"
#include "datasets/image.h"

namespace zoo {
namespace {

const char kSets[] = "/ImageSets/Main/";

std::vector<std::string> all_stems(const std::string& folder) {
  std::vector<std::string> stems;
  for (const std::string& name : list_folder(folder + "/Annotations")) {
    if (ends_with(lower(name), ".xml")) stems.push_back(file_stem(name));
  }
  return stems;
}

/// The first words of a split's lines.
std::vector<std::string> split_stems(const std::string& folder, const std::string& split) {
  if (split == "all") return all_stems(folder);
  std::vector<std::string> stems;
  for (const std::string& line : zoo::split(read_file(folder + kSets + split + ".txt"), '\n')) {
    const std::string text = trim(line);
    if (!text.empty()) stems.push_back(text.substr(0, text.find_first_of(" \t")));
  }
  return stems;
}

/// Sorted names of all xml files; damaged files are left to whoever reads their split.
std::vector<std::string> names_in_use(const std::string& folder) {
  std::set<std::string> names;
  for (const std::string& stem : all_stems(folder)) {
    pugi::xml_document document;
    if (!document.load_file((folder + "/Annotations/" + stem + ".xml").c_str())) continue;
    for (const pugi::xml_node object : document.child("annotation").children("object")) {
      const std::string name = trim(object.child_value("name"));
      if (!name.empty()) names.insert(name);
    }
  }
  return {names.begin(), names.end()};
}

std::string labels_file(const DataSpec& spec) {
  const std::string beside = spec.path + "/labels.txt";
  return spec.option("labels", file_exists(beside) ? beside : "");
}

/// The picture of an annotation below JPEGImages, "STEM.jpg" where none is there.
std::string picture_name(const std::string& folder, const std::string& stem, const std::string& named) {
  for (const char* ending : {".jpg", ".jpeg", ".png", ".JPG", ".JPEG", ".PNG", ".bmp"}) {
    if (file_exists(folder + "/" + stem + ending)) return stem + ending;
  }
  return !named.empty() && file_exists(join_path(folder, named)) ? named : stem + ".jpg";
}

class VocReader {
 public:
  VocReader(const DataSpec& spec, DetectionSource& source, Findings& findings)
      : folder_(spec.path), labels_(labels_file(spec)), source_(source), findings_(findings) {
    const std::vector<std::string> names = labels_.empty() ? names_in_use(folder_) : read_names(labels_);
    for (const std::string& name : names) {
      const auto id = static_cast<int64_t>(source_.categories.size()) + 1;
      source_.categories.push_back({id, name});
      ids_.emplace(name, id);
    }
  }

  void read(const std::string& stem) {
    file_ = folder_ + "/Annotations/" + stem + ".xml";
    if (!file_exists(file_)) {
      findings_.fatal(file_, "", "is missing", "an annotation for each name of the split");
      return;
    }
    pugi::xml_document document;
    const pugi::xml_parse_result result = document.load_file(file_.c_str());
    const pugi::xml_node root = document.child("annotation");
    if (!result || !root) {
      findings_.fatal(file_, "",
                      result ? "has no <annotation>"
                             : format("malformed XML at byte %td: %s", result.offset, result.description()),
                      "a VOC annotation");
      return;
    }
    DetectionRecord record;
    record.image_id = static_cast<int64_t>(source_.records.size()) + 1;
    record.file_name = picture_name(source_.folder, stem, trim(root.child_value("filename")));
    read_size(root.child("size"), record);
    size_t index = 0;
    for (const pugi::xml_node object : root.children("object")) read_object(object, index++, record);
    source_.records.push_back(std::move(record));
  }

 private:
  void read_size(const pugi::xml_node& size, DetectionRecord& record) {
    const bool good = parse_int(trim(size.child_value("width")), record.width) &&
                      parse_int(trim(size.child_value("height")), record.height) && record.width > 0 &&
                      record.height > 0;
    if (good) return;
    findings_.note(file_, "size", "width or height is missing, 0 or no number",
                   "the size of the picture in pixels", "read from the picture");
    record.width = record.height = 0;
    try {
      const ImageSize found = image_size(source_.image_path(record));
      record.width = found.width;
      record.height = found.height;
    } catch (const Error&) {  // named when the picture is used
    }
  }

  void read_object(const pugi::xml_node& object, size_t index, DetectionRecord& record) {
    const std::string name = trim(object.child_value("name"));
    const std::string where = format("object %zu", index + 1) + (name.empty() ? "" : " (" + name + ")");
    if (name.empty()) {
      findings_.fatal(file_, where, "has no <name>", "the name of a category");
      return;
    }
    const auto id = ids_.find(name);
    if (id == ids_.end()) {
      findings_.fatal(file_, where, "the category does not exist", "a name of " + labels_);
      return;
    }
    double ends[4] = {};  // xmin, ymin, xmax, ymax
    if (!read_ends(object.child("bndbox"), where, ends)) return;
    const double width = ends[2] - ends[0] + 1, height = ends[3] - ends[1] + 1;
    ObjectAnnotation annotation;
    annotation.id = ++objects_;
    annotation.category_id = id->second;
    annotation.box = {ends[0] - 1, ends[1] - 1, width, height};
    annotation.area = width * height;
    annotation.crowd = trim(object.child_value("difficult")) == "1";
    record.objects.push_back(annotation);
  }

  bool read_ends(const pugi::xml_node& box, const std::string& where, double (&ends)[4]) {
    const char* keys[4] = {"xmin", "ymin", "xmax", "ymax"};
    for (int i = 0; i < 4; ++i) {
      const std::string text = trim(box.child_value(keys[i]));
      if (parse_double(text, ends[i])) continue;
      findings_.fatal(file_, where,
                      std::string(keys[i]) + (text.empty() ? " is missing" : " is '" + text + "'"),
                      "a number of pixels");
      return false;
    }
    const std::string text = "box " + box_text({ends[0], ends[1], ends[2], ends[3]});
    if (ends[2] < ends[0] || ends[3] < ends[1]) {
      findings_.fatal(file_, where, text + " ends before it begins", "xmin <= xmax and ymin <= ymax");
      return false;
    }
    if (ends[2] == ends[0] || ends[3] == ends[1]) {
      findings_.note(file_, where, text + " is one pixel thin", "xmin < xmax and ymin < ymax",
                     "used as it stands (VOC includes both ends)");
    }
    return true;
  }

  std::string folder_, labels_, file_;
  std::map<std::string, int64_t> ids_;
  int64_t objects_ = 0;
  DetectionSource& source_;
  Findings& findings_;
};

}  // namespace

std::vector<std::string> voc_splits(const DataSpec& spec) {
  if (!is_directory(spec.path + "/Annotations")) {
    throw Error(spec.path + ": no VOC data found, expected a folder with Annotations/*.xml and JPEGImages");
  }
  std::vector<std::string> splits = {"all"};
  if (is_directory(spec.path + kSets)) {
    for (const std::string& name : list_folder(spec.path + kSets)) {
      // CLASS_SPLIT.txt lists the same pictures again, with a mark for each
      if (ends_with(name, ".txt") && name.find('_') == std::string::npos) splits.push_back(file_stem(name));
    }
  }
  std::sort(splits.begin(), splits.end());
  return splits;
}

DetectionSource read_voc(const DataSpec& spec, const std::string& split, Findings& findings) {
  DetectionSource source;
  source.file = spec.path + "/Annotations";
  source.folder = spec.path + "/JPEGImages";
  if (!is_directory(source.folder))
    throw Error(spec.path + ": no pictures found, expected the folder JPEGImages");
  VocReader reader(spec, source, findings);
  for (const std::string& stem : split_stems(spec.path, split)) reader.read(stem);
  return source;
}

}  // namespace zoo
