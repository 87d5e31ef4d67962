#include "datasets/coco.h"

#include <simdjson.h>
#include <unistd.h>

#include <algorithm>
#include <optional>
#include <unordered_map>
#include <utility>

#include "core/files.h"
#include "core/text.h"
#include "datasets/image.h"

namespace zoo {
namespace {

namespace json = simdjson::ondemand;

const char kPrefix[] = "instances_";
const char kRoboflow[] = "_annotations.coco.json";

/// The json files of a split, in the order of preference.
std::vector<std::string> annotation_paths(const std::string& folder, const std::string& split) {
  return {folder + "/annotations/" + kPrefix + split + ".json", folder + "/" + kPrefix + split + ".json",
          folder + "/" + split + "/" + kRoboflow};
}

void add_instance_files(const std::string& folder, std::vector<std::string>& splits) {
  if (!is_directory(folder)) return;
  for (const std::string& name : list_folder(folder)) {
    if (!starts_with(name, kPrefix) || !ends_with(name, ".json")) continue;
    const size_t begin = sizeof kPrefix - 1;
    splits.push_back(name.substr(begin, name.size() - begin - 5));
  }
}

std::string annotation_path(const DataSpec& spec, const std::string& split) {
  if (split.empty()) return spec.path;
  const std::vector<std::string> paths = annotation_paths(spec.path, split);
  for (const std::string& path : paths) {
    if (file_exists(path)) return path;
  }
  return paths.front();
}

/// The folder of the pictures: the first likely one that holds the first picture.
std::string image_folder(const DataSpec& spec, const std::string& split, const std::string& file,
                         const std::vector<DetectionRecord>& records) {
  std::vector<std::string> folders;
  const std::string beside = parent_folder(file);
  if (!spec.option("images").empty()) {
    folders = {spec.option("images")};
  } else if (!split.empty()) {
    folders = {spec.path + "/" + split, spec.path + "/images/" + split, spec.path + "/images", spec.path,
               beside};
  } else {
    std::string name = file_stem(file);
    if (starts_with(name, kPrefix)) name = name.substr(sizeof kPrefix - 1);
    const std::string above = beside + "/..";
    folders = {beside,
               beside + "/images",
               beside + "/" + name,
               above + "/" + name,
               above + "/images/" + name,
               above + "/images"};
  }
  for (const std::string& folder : folders) {
    if (!records.empty() && file_exists(join_path(folder, records.front().file_name))) return folder;
  }
  for (const std::string& folder : folders) {
    if (is_directory(folder)) return folder;
  }
  throw Error(file + ": no folder of pictures found, expected one of " + join(folders, ", "),
              "another place is named in the SPEC: coco:PATH,images=FOLDER");
}

/// A file's text with the room behind it that simdjson reads over.
class PaddedFile {
 public:
  explicit PaddedFile(const std::string& path) : file_(path) {
    std::string_view text = file_.text();
    if (starts_with(text, "\xEF\xBB\xBF")) text.remove_prefix(3);
    const auto page = static_cast<size_t>(::sysconf(_SC_PAGESIZE));
    const size_t used = file_.size() % page;
    if (used != 0 &&
        page - used >= simdjson::SIMDJSON_PADDING) {  // the rest of the last page is mapped and zero
      view_ = simdjson::padded_string_view(text, text.size() + simdjson::SIMDJSON_PADDING);
    } else {
      copy_ = simdjson::padded_string(text);
      view_ = copy_;
    }
  }
  simdjson::padded_string_view view() const { return view_; }

 private:
  MappedFile file_;
  simdjson::padded_string copy_;
  simdjson::padded_string_view view_;
};

/// A field's value as it stands in the file, cut where long. `text` is the file.
std::string shown(json::value& value, std::string_view text) {
  const std::string_view token = value.raw_json_token();
  const bool list = !token.empty() && (token[0] == '[' || token[0] == '{');
  if (!list) return token.size() > 40 ? std::string(token.substr(0, 40)) + "…" : trim(token);
  const auto at = static_cast<size_t>(token.data() - text.data());
  const std::string_view rest = text.substr(at, 60);
  const size_t end = rest.find(token[0] == '[' ? ']' : '}');
  return end == std::string_view::npos ? std::string(rest.substr(0, 40)) + "…"
                                       : std::string(rest.substr(0, end + 1));
}

/// An integer, also one written with a decimal point (1.0).
bool get_integer(json::value& value, int64_t& result) {
  if (value.get_int64().get(result) == simdjson::SUCCESS) return true;
  double number = 0;
  if (value.get_double().get(number) != simdjson::SUCCESS) return false;
  if (number != std::floor(number) || std::abs(number) > 9e15) return false;
  result = static_cast<int64_t>(number);
  return true;
}

/// 0, 1, false or true.
bool get_flag(json::value& value, bool& result) {
  if (value.get_bool().get(result) == simdjson::SUCCESS) return true;
  int64_t number = 0;
  if (!get_integer(value, number) || (number != 0 && number != 1)) return false;
  result = number == 1;
  return true;
}

bool get_box(json::value& value, std::array<double, 4>& box) {
  json::array array;
  if (value.get_array().get(array) != simdjson::SUCCESS) return false;
  size_t count = 0;
  bool numbers = true;
  for (auto element : array) {
    double number = 0;
    if (element.get_double().get(number) != simdjson::SUCCESS) numbers = false;
    if (count < 4) box[count] = number;
    ++count;
  }
  return numbers && count == 4;
}

/// One pass over an instances file.
class CocoReader {
 public:
  CocoReader(const std::string& path, Findings& findings) : path_(path), file_(path), findings_(findings) {}

  void read() {
    json::document document;
    const simdjson::error_code code = parser_.iterate(file_.view()).get(document);
    if (code != simdjson::SUCCESS) throw Error(path_ + ": malformed JSON: " + simdjson::error_message(code));
    json::object root;
    if (document.get_object().get(root) != simdjson::SUCCESS) malformed(document);
    bool has[3] = {};
    for (auto field : root) {
      json::raw_json_string key;
      json::value value;
      require(field.key().get(key), document);
      require(field.value().get(value), document);
      if (key == "images") {
        has[0] =
            read_array(document, value, "images", [&](json::object& object) { read_image_record(object); });
      } else if (key == "annotations") {
        has[1] = read_array(document, value, "annotations",
                            [&](json::object& object) { read_annotation(object); });
      } else if (key == "categories") {
        has[2] =
            read_array(document, value, "categories", [&](json::object& object) { read_category(object); });
      }
    }
    if (document.current_location().error() != simdjson::OUT_OF_BOUNDS) malformed(document);
    const char* keys[3] = {"images", "annotations", "categories"};
    for (int i = 0; i < 3; ++i) {
      if (!has[i])
        findings_.fatal(path_, "", std::string("key '") + keys[i] + "' is missing", "a COCO instances file");
    }
  }

  std::vector<DetectionRecord> records;
  std::vector<Category> categories;
  /// An object and the image it belongs to, in file order.
  std::vector<std::pair<int64_t, ObjectAnnotation>> annotations;

 private:
  [[noreturn]] void malformed(json::document& document) {
    const char* at = nullptr;
    std::string where;
    if (document.current_location().get(at) == simdjson::SUCCESS) {
      where = format(" near byte %td", at - file_.view().data());
    }
    throw Error(path_ + ": malformed JSON" + where + ", expected a COCO instances file");
  }
  void require(simdjson::error_code code, json::document& document) {
    if (code != simdjson::SUCCESS) malformed(document);
  }

  /// Calls `read` for each object of an array. False where there is no array.
  template <class Read>
  bool read_array(json::document& document, json::value& value, const char* name, const Read& read) {
    json::array array;
    if (value.get_array().get(array) != simdjson::SUCCESS) {
      findings_.fatal(path_, name, "is " + shown(value, file_.view()), "a list of objects");
      return true;
    }
    index_ = 0;
    for (auto element : array) {
      list_ = name;
      id_.reset();
      json::value item;
      require(element.get(item), document);
      json::object object;
      if (item.get_object().get(object) == simdjson::SUCCESS) {
        read(object);
        if (broken_) malformed(document);
      } else {
        findings_.fatal(path_, record(), "is " + shown(item, file_.view()), "an object");
      }
      ++index_;
    }
    return true;
  }

  /// Calls `take(key, value)` for the fields of an object; `take` returns what it expected where the value is
  /// wrong.
  template <class Take>
  bool read_fields(json::object& object, const Take& take) {
    bool good = true;
    for (auto field : object) {
      json::raw_json_string key;
      json::value value;
      broken_ = field.key().get(key) != simdjson::SUCCESS || field.value().get(value) != simdjson::SUCCESS;
      if (broken_) return false;
      const char* expected = take(key, value);
      if (expected != nullptr) {
        good = false;
        std::string_view name(key.raw());
        wrong_.push_back({std::string(name.substr(0, name.find('"'))), shown(value, file_.view()), expected});
      }
    }
    for (const Wrong& wrong : wrong_) {
      findings_.fatal(path_, record(), wrong.key + " is " + wrong.value, wrong.expected);
    }
    wrong_.clear();
    return good;
  }

  bool has_key(bool present, const char* key, const char* expected) {
    if (!present) findings_.fatal(path_, record(), std::string(key) + " is missing", expected);
    return present;
  }

  /// `annotations[17], id 42`
  std::string record() const {
    std::string text = format("%s[%lld]", list_, static_cast<long long>(index_));
    return id_ ? text + format(", id %lld", static_cast<long long>(*id_)) : text;
  }

  const char* take_id(json::value& value) {
    int64_t id = 0;
    if (!get_integer(value, id)) return "an integer";
    id_ = id;
    return nullptr;
  }

  void read_image_record(json::object& object) {
    DetectionRecord image;
    bool named = false;
    const bool good = read_fields(object, [&](json::raw_json_string key, json::value& value) -> const char* {
      if (key == "id") return take_id(value);
      if (key == "width") return get_integer(value, image.width) ? nullptr : "pixels as an integer";
      if (key == "height") return get_integer(value, image.height) ? nullptr : "pixels as an integer";
      if (key != "file_name") return nullptr;
      std::string_view name;
      named = value.get_string().get(name) == simdjson::SUCCESS;
      image.file_name = std::string(name);
      return named ? nullptr : "a text";
    });
    if (!good || !has_key(id_.has_value(), "id", "an integer") || !has_key(named, "file_name", "a text"))
      return;
    image.image_id = *id_;
    records.push_back(std::move(image));
  }

  void read_category(json::object& object) {
    Category category;
    const bool good = read_fields(object, [&](json::raw_json_string key, json::value& value) -> const char* {
      if (key == "id") return take_id(value);
      if (key != "name") return nullptr;
      std::string_view name;
      if (value.get_string().get(name) != simdjson::SUCCESS) return "a text";
      category.name = std::string(name);
      return nullptr;
    });
    if (!good || !has_key(id_.has_value(), "id", "an integer")) return;
    if (!has_key(!category.name.empty(), "name", "a text")) return;
    category.id = *id_;
    categories.push_back(std::move(category));
  }

  void read_annotation(json::object& object) {
    ObjectAnnotation annotation;
    std::optional<int64_t> image, category;
    bool box = false, area = false;
    const bool good = read_fields(object, [&](json::raw_json_string key, json::value& value) -> const char* {
      if (key == "id") return take_id(value);
      if (key == "image_id") return get_integer(value, image.emplace()) ? nullptr : "an integer";
      if (key == "category_id") return get_integer(value, category.emplace()) ? nullptr : "an integer";
      if (key == "iscrowd") return get_flag(value, annotation.crowd) ? nullptr : "0 or 1";
      if (key == "area") {
        area = value.get_double().get(annotation.area) == simdjson::SUCCESS;
        return area ? nullptr : "a number";
      }
      if (key != "bbox") return nullptr;
      box = get_box(value, annotation.box);
      return box ? nullptr : "four numbers: [x, y, width, height]";
    });
    if (!good || !has_key(id_.has_value(), "id", "an integer")) return;
    if (!has_key(image.has_value(), "image_id", "the id of an image")) return;
    if (!has_key(category.has_value(), "category_id", "the id of a category")) return;
    if (!has_key(box, "bbox", "[x, y, width, height]")) return;
    if (!area) {
      annotation.area = annotation.box[2] * annotation.box[3];
      findings_.note(path_, record(), "area is missing", "the area of the object",
                     "width times height is taken");
    }
    annotation.id = *id_;
    annotation.category_id = *category;
    annotations.emplace_back(*image, annotation);
  }

  struct Wrong {
    std::string key, value, expected;
  };

  std::string path_;
  PaddedFile file_;
  Findings& findings_;
  json::parser parser_;
  std::vector<Wrong> wrong_;
  const char* list_ = "";
  int64_t index_ = 0;
  std::optional<int64_t> id_;
  bool broken_ = false;
};

/// Puts each object into the record of its image, in file order.
void hand_out(const std::string& file, std::vector<std::pair<int64_t, ObjectAnnotation>>& annotations,
              std::vector<DetectionRecord>& records, Findings& findings) {
  std::unordered_map<int64_t, size_t> places;
  places.reserve(records.size());
  for (size_t i = 0; i < records.size(); ++i) places.emplace(records[i].image_id, i);
  for (auto& [image_id, annotation] : annotations) {
    const auto place = places.find(image_id);
    if (place == places.end()) {
      findings.fatal(file, format("annotation %lld", static_cast<long long>(annotation.id)),
                     format("image_id %lld does not exist", static_cast<long long>(image_id)),
                     "the id of an image of the file");
    } else {
      records[place->second].objects.push_back(annotation);
    }
  }
}

/// Reads sizes that the json leaves out from the pictures; an unreadable one keeps 0 and is named when it is
/// used.
void fill_sizes(DetectionSource& source, Findings& findings) {
  for (DetectionRecord& record : source.records) {
    if (record.width > 0 && record.height > 0) continue;
    findings.note(
        source.file,
        format("image %lld (%s)", static_cast<long long>(record.image_id), record.file_name.c_str()),
        "width or height is missing or 0", "the size of the picture", "read from the picture");
    try {
      const ImageSize size = image_size(source.image_path(record));
      record.width = size.width;
      record.height = size.height;
    } catch (const Error&) {
      record.width = record.height = 0;
    }
  }
}

/// Ids that other programs of this format stumble over.
void note_zero_ids(const DetectionSource& source, Findings& findings) {
  const auto note = [&](const std::string& record, const char* effect) {
    findings.note(source.file, record, "the id is 0", "ids from 1", effect);
  };
  for (const Category& category : source.categories) {
    if (category.id == 0)
      note("category 0 (" + category.name + ")", "none here; others take 0 for background");
  }
  for (const DetectionRecord& record : source.records) {
    if (record.image_id == 0)
      note("image 0 (" + record.file_name + ")", "none here; others take 0 for no image");
    for (const ObjectAnnotation& object : record.objects) {
      if (object.id != 0) continue;
      note(format("annotation 0, image %lld (%s)", static_cast<long long>(record.image_id),
                  record.file_name.c_str()),
           "none here; pycocotools never counts this object as found");
    }
  }
}

}  // namespace

std::vector<std::string> coco_splits(const DataSpec& spec) {
  if (!file_exists(spec.path)) throw Error("cannot read " + spec.path + ": no such file or folder");
  if (!is_directory(spec.path)) return {""};
  std::vector<std::string> splits;
  add_instance_files(spec.path + "/annotations", splits);
  add_instance_files(spec.path, splits);
  for (const std::string& name : list_folder(spec.path)) {
    if (file_exists(spec.path + "/" + name + "/" + kRoboflow)) splits.push_back(name);
  }
  std::sort(splits.begin(), splits.end());
  splits.erase(std::unique(splits.begin(), splits.end()), splits.end());
  if (splits.empty()) {
    throw Error(spec.path + ": no COCO annotations found, expected annotations/instances_SPLIT.json");
  }
  return splits;
}

DetectionSource read_coco(const DataSpec& spec, const std::string& split, Findings& findings) {
  DetectionSource source;
  source.file = annotation_path(spec, split);
  CocoReader reader(source.file, findings);
  reader.read();
  source.records = std::move(reader.records);
  source.categories = std::move(reader.categories);
  hand_out(source.file, reader.annotations, source.records, findings);
  source.folder = image_folder(spec, split, source.file, source.records);
  fill_sizes(source, findings);
  if (!findings.strict()) note_zero_ids(source, findings);
  return source;
}

std::string coco_annotation_file(const DataSpec& spec, const std::string& default_split) {
  return annotation_path(spec, choose_split(spec, default_split, coco_splits(spec)));
}

}  // namespace zoo
