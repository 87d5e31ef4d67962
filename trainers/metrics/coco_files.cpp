#include <simdjson.h>

#include <algorithm>
#include <cmath>
#include <cstring>
#include <optional>

#include "core/error.h"
#include "core/files.h"
#include "core/text.h"
#include "trainers/metrics/coco_eval.h"

namespace zoo {

namespace {

namespace json = simdjson::ondemand;

constexpr const char* kResults = "a list of results {image_id, category_id, bbox, score}";
constexpr const char* kInstances = "a COCO instances file: an object with images, annotations and categories";

/// A value as it stands in the file, cut where long.
std::string shown(std::string_view raw_token) {
  const std::string token = trim(raw_token);
  if (token.empty() || token[0] == '[') return "a list";
  if (token[0] == '{') return "an object";
  return token.size() > 40 ? token.substr(0, 40) + "…" : token;
}

std::string shown(json::value& value) {
  return shown(value.raw_json_token());
}

/// One JSON file while it is read from front to back. All failures throw Error with the file and the record.
class JsonFile {
 public:
  JsonFile(const std::string& path, const char* expected) : path_(path), expected_(expected) {
    const MappedFile file(path);
    std::string_view text = file.text();
    if (starts_with(text, "\xEF\xBB\xBF")) text.remove_prefix(3);
    if (text.empty()) throw Error(path + ": the file is empty, expected " + expected);
    text_ = simdjson::padded_string(text);
    const simdjson::error_code code = parser_.iterate(text_).get(document_);
    if (code != simdjson::SUCCESS) throw Error(path + ": malformed JSON: " + simdjson::error_message(code));
  }

  size_t size() const { return text_.size(); }

  /// The whole document as an object or list; `get` is get_object or get_array of the document.
  template <class Root>
  Root root(simdjson::simdjson_result<Root> (json::document::*get)() &) {
    Root result;
    const simdjson::error_code code = (document_.*get)().get(result);
    std::string_view token;
    if (code == simdjson::INCORRECT_TYPE && document_.raw_json_token().get(token) == simdjson::SUCCESS) {
      throw Error(path_ + ": is " + shown(token) + ", expected " + expected_);
    }
    if (code != simdjson::SUCCESS) malformed();
    return result;
  }

  /// Nothing may follow the document.
  void require_end() {
    if (document_.current_location().error() != simdjson::OUT_OF_BOUNDS) malformed();
  }

  /// Calls use(key, value) for each field of an object.
  template <class Use>
  void each_field(json::object& object, const Use& use) {
    for (auto item : object) {
      json::field field;
      if (std::move(item).get(field) != simdjson::SUCCESS) malformed();
      use(key_of(field), field.value());
    }
  }

  /// Calls use(object) for each element of a list, which must be objects.
  template <class Use>
  void each_record(json::array list, const std::string& name, const Use& use) {
    list_ = name;
    record_ = 0;
    for (auto item : list) {
      json::value value;
      json::object object;
      if (std::move(item).get(value) != simdjson::SUCCESS) malformed();
      if (value.get_object().get(object) != simdjson::SUCCESS) fail("is " + shown(value), "an object");
      use(object);
      ++record_;
    }
  }

  double number(json::value& value, const char* key) {
    double result = 0;
    if (value.get_double().get(result) != simdjson::SUCCESS) wrong(key, value, "a number");
    return result;
  }

  /// 17, and also 17.0 as some programs write ids.
  int64_t integer(json::value& value, const char* key) {
    int64_t result = 0;
    if (value.get_int64().get(result) == simdjson::SUCCESS) return result;
    double real = 0;
    if (value.get_double().get(real) != simdjson::SUCCESS || real != std::floor(real) ||
        std::abs(real) > 9e15) {
      wrong(key, value, "an integer");
    }
    return static_cast<int64_t>(real);
  }

  /// 0, 1, false or true.
  bool flag(json::value& value, const char* key) {
    bool result = false;
    if (value.get_bool().get(result) == simdjson::SUCCESS) return result;
    int64_t number = 0;
    if (value.get_int64().get(number) != simdjson::SUCCESS || (number != 0 && number != 1)) {
      wrong(key, value, "0 or 1");
    }
    return number == 1;
  }

  std::array<double, 4> box(json::value& value) {
    constexpr const char* kExpected = "four numbers [x, y, width, height]";
    json::array list;
    if (value.get_array().get(list) != simdjson::SUCCESS) wrong("bbox", value, kExpected);
    std::array<double, 4> result{};
    size_t count = 0;
    for (auto item : list) {
      json::value element;
      double number = 0;
      if (std::move(item).get(element) != simdjson::SUCCESS) malformed();
      if (element.get_double().get(number) != simdjson::SUCCESS)
        fail("bbox holds " + shown(element), kExpected);
      if (count < 4) result[count] = number;
      ++count;
    }
    if (count != 4) fail(format("bbox has %zu numbers", count), kExpected);
    return result;
  }

  /// Throws the Error for a record without `key`.
  void require(bool present, const char* key, const char* expected) {
    if (!present) fail(std::string(key) + " is missing", expected);
  }

  /// FILE: annotations[17]: bbox is 5, expected …
  [[noreturn]] void fail(const std::string& what, const char* expected) const {
    throw Error(format("%s: %s[%lld]: ", path_.c_str(), list_.c_str(), static_cast<long long>(record_)) +
                what + ", expected " + expected);
  }

  [[noreturn]] void malformed() {
    const char* at = nullptr;
    std::string where = ": it ends too early";
    if (document_.current_location().get(at) == simdjson::SUCCESS) {
      const auto offset = static_cast<size_t>(at - text_.data());
      const auto line = 1 + std::count(text_.data(), text_.data() + offset, '\n');
      where = format(" near byte %zu (line %td)", offset, line);
    }
    throw Error(path_ + ": malformed JSON" + where + ", expected " + expected_);
  }

 private:
  [[noreturn]] void wrong(const char* key, json::value& value, const char* expected) {
    fail(std::string(key) + " is " + shown(value), expected);
  }

  /// The key without its quotes; only one with escapes is copied.
  std::string_view key_of(json::field& field) {
    const char* begin = field.key().raw();
    std::string_view key(begin, std::strcspn(begin, "\"\\"));
    if (key.end()[0] == '\\' && field.unescaped_key().get(key) != simdjson::SUCCESS) malformed();
    return key;
  }

  std::string path_;
  const char* expected_;
  simdjson::padded_string text_;
  json::parser parser_;
  json::document document_;
  std::string list_;
  int64_t record_ = 0;
};

void read_image(JsonFile& file, json::object& object, CocoGroundTruth& truth) {
  std::optional<int64_t> id;
  file.each_field(object, [&](std::string_view key, json::value value) {
    if (key == "id") id = file.integer(value, "id");
  });
  file.require(id.has_value(), "id", "an integer");
  truth.image_ids.push_back(*id);
}

void read_category(JsonFile& file, json::object& object, CocoGroundTruth& truth) {
  std::optional<int64_t> id;
  std::string name;
  file.each_field(object, [&](std::string_view key, json::value value) {
    if (key == "id") id = file.integer(value, "id");
    if (key != "name") return;
    std::string_view text;
    if (value.get_string().get(text) != simdjson::SUCCESS) file.fail("name is " + shown(value), "a text");
    name = std::string(text);
  });
  file.require(id.has_value(), "id", "an integer");
  truth.category_ids.push_back(*id);
  truth.category_names.push_back(name.empty() ? std::to_string(*id) : name);
}

/// What annotations and results have in common.
struct RecordKeys {
  std::optional<int64_t> image, category;
  std::optional<std::array<double, 4>> box;
  bool segmentation = false;

  void take(JsonFile& file, std::string_view key, json::value& value) {
    if (key == "image_id") image = file.integer(value, "image_id");
    if (key == "category_id") category = file.integer(value, "category_id");
    if (key == "bbox") box = file.box(value);
    if (key == "segmentation") segmentation = true;
  }
  void require(JsonFile& file) const {
    file.require(image.has_value(), "image_id", "the id of an image");
    file.require(category.has_value(), "category_id", "the id of a category");
    if (!box && segmentation)
      file.fail("has a segmentation but no bbox", "bbox [x, y, width, height], for boxes are scored");
    file.require(box.has_value(), "bbox", "four numbers [x, y, width, height]");
  }
};

void read_annotation(JsonFile& file, json::object& object, CocoGroundTruth& truth) {
  RecordKeys keys;
  std::optional<double> area;
  bool crowd = false;
  file.each_field(object, [&](std::string_view key, json::value value) {
    keys.take(file, key, value);
    if (key == "area") area = file.number(value, "area");
    if (key == "iscrowd") crowd = file.flag(value, "iscrowd");
  });
  keys.require(file);
  const std::array<double, 4>& box = *keys.box;
  truth.objects.push_back({*keys.image, *keys.category, box, area.value_or(box[2] * box[3]), crowd});
}

void read_result(JsonFile& file, json::object& object, std::vector<CocoDetection>& detections) {
  RecordKeys keys;
  std::optional<double> score;
  file.each_field(object, [&](std::string_view key, json::value value) {
    keys.take(file, key, value);
    if (key == "score") score = file.number(value, "score");
  });
  keys.require(file);
  file.require(score.has_value(), "score", "a number");
  detections.push_back({*keys.image, *keys.category, *keys.box, *score});
}

}  // namespace

CocoGroundTruth read_coco_ground_truth(const std::string& annotations_json) {
  JsonFile file(annotations_json, kInstances);
  CocoGroundTruth truth;
  bool images = false, categories = false, annotations = false;
  const auto read_list = [&](json::value value, const char* name, const auto& read) {
    json::array list;
    if (value.get_array().get(list) != simdjson::SUCCESS) {
      throw Error(annotations_json + ": " + name + " is " + shown(value) + ", expected a list");
    }
    file.each_record(list, name, [&](json::object& object) { read(file, object, truth); });
    return true;
  };
  json::object root = file.root(&json::document::get_object);
  file.each_field(root, [&](std::string_view key, json::value value) {
    if (key == "images") {
      truth.image_ids.clear();
      images = read_list(value, "images", read_image);
    } else if (key == "categories") {
      truth.category_ids.clear();
      truth.category_names.clear();
      categories = read_list(value, "categories", read_category);
    } else if (key == "annotations") {
      truth.objects.clear();
      annotations = read_list(value, "annotations", read_annotation);
    }
  });
  file.require_end();
  for (const auto& [found, name] :
       {std::pair(images, "images"), {annotations, "annotations"}, {categories, "categories"}}) {
    if (!found) throw Error(annotations_json + ": key '" + name + "' is missing, expected " + kInstances);
  }
  return truth;
}

std::vector<CocoDetection> read_coco_results(const std::string& results_json) {
  constexpr size_t kUsualBytes = 110;  // of a result
  JsonFile file(results_json, kResults);
  std::vector<CocoDetection> detections;
  detections.reserve(file.size() / kUsualBytes);
  file.each_record(file.root(&json::document::get_array), "",
                   [&](json::object& object) { read_result(file, object, detections); });
  file.require_end();
  return detections;
}

}  // namespace zoo
