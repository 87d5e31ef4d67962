#include "datasets/yolo.h"

#include <algorithm>
#include <cmath>
#include <filesystem>
#include <map>
#include <set>
#include <sstream>
#include <utility>

#include "core/files.h"
#include "core/text.h"
#include "datasets/image.h"

namespace zoo {
namespace {

namespace fs = std::filesystem;

/// Fractions may pass 0 and 1 by this much before they are taken for pixels.
constexpr double kFractionTolerance = 0.01;

/// A value of the small part of YAML that data files use: a scalar, or the items of a list (no keys) or map.
struct YamlValue {
  std::string scalar;
  std::vector<std::pair<std::string, std::string>> items;
};
using Yaml = std::map<std::string, YamlValue>;

std::string unquoted(const std::string& text) {
  const std::string plain = trim(text);
  const bool quoted = plain.size() >= 2 && (plain[0] == '\'' || plain[0] == '"') && plain.back() == plain[0];
  if (!quoted) return plain;
  std::string inside = plain.substr(1, plain.size() - 2);
  if (plain[0] != '\'') return inside;
  for (size_t at = 0; (at = inside.find("''", at)) != std::string::npos; ++at) inside.erase(at, 1);
  return inside;
}

std::string without_comment(const std::string& line) {
  char quote = 0;
  for (size_t i = 0; i < line.size(); ++i) {
    if (quote != 0) {
      if (line[i] == quote) quote = 0;
    } else if ((line[i] == '\'' || line[i] == '"') &&
               (i == 0 || std::isalnum(static_cast<unsigned char>(line[i - 1])) == 0)) {
      quote = line[i];
    } else if (line[i] == '#' && (i == 0 || line[i - 1] == ' ' || line[i - 1] == '\t')) {
      return line.substr(0, i);
    }
  }
  return line;
}

/// `- text`, `key: text` or `text` as an item.
std::pair<std::string, std::string> yaml_item(const std::string& text) {
  if (text[0] == '-') return {"", unquoted(text.substr(1))};
  const size_t colon = text.find(": ");
  if (colon == std::string::npos) return {"", unquoted(text)};
  return {unquoted(text.substr(0, colon)), unquoted(text.substr(colon + 2))};
}

/// The items of `[a, b]` or `{0: a, 1: b}`, quotes respected.
std::vector<std::pair<std::string, std::string>> flow_items(const std::string& text) {
  std::vector<std::pair<std::string, std::string>> items;
  std::string part;
  char quote = 0;
  for (size_t i = 1; i < text.size(); ++i) {
    const char c = text[i];
    const bool last = quote == 0 && (c == ']' || c == '}');
    if (last || (quote == 0 && c == ',')) {
      if (!trim(part).empty()) items.push_back(yaml_item(trim(part)));
      part.clear();
      if (last) break;
      continue;
    }
    if (quote != 0 ? c == quote : (c == '\'' || c == '"') && trim(part).empty())
      quote = quote != 0 ? '\0' : c;
    part += c;
  }
  return items;
}

Yaml read_yaml(const std::string& path) {
  Yaml yaml;
  YamlValue* open = nullptr;  // the key whose block or flow goes on
  bool flow = false;
  for (const std::string& raw : split(read_file(path), '\n')) {
    const std::string line = without_comment(raw), text = trim(line);
    if (text.empty() || text == "---") continue;
    if (flow) {
      open->scalar += " " + text;
    } else if (open != nullptr && (line[0] == ' ' || line[0] == '\t' || line[0] == '-')) {
      open->items.push_back(yaml_item(text));
      continue;
    } else {
      const size_t colon = text.find(':');
      if (colon == std::string::npos)
        throw Error(path + ": '" + text + "' is no line of YAML, expected key: value");
      open = &yaml[unquoted(text.substr(0, colon))];
      open->scalar = trim(text.substr(colon + 1));
    }
    flow = !open->scalar.empty() && (open->scalar[0] == '[' || open->scalar[0] == '{');
    if (flow && open->scalar.find(open->scalar[0] == '[' ? ']' : '}') != std::string::npos) {
      open->items = flow_items(open->scalar);
      flow = false;
    }
  }
  return yaml;
}

/// Where the parts of a set are: its root, and of each split the folders and lists that name pictures.
struct Layout {
  std::string root, yaml_file;
  Yaml yaml;
  std::map<std::string, std::vector<std::string>> splits;
};

/// A path of data.yaml, which people move without mending it: below `path`, below the file, without leading
/// `../`.
std::string find_below(const std::vector<std::string>& bases, std::string name) {
  for (;;) {
    for (const std::string& base : bases) {
      if (file_exists(join_path(base, name))) return join_path(base, name);
    }
    if (!starts_with(name, "../")) return join_path(bases.front(), name);
    name = name.substr(3);
  }
}

Layout yaml_layout(const std::string& file) {
  Layout layout{parent_folder(file), file, read_yaml(file), {}};
  std::vector<std::string> bases;
  if (const auto path = layout.yaml.find("path"); path != layout.yaml.end() && !path->second.scalar.empty()) {
    const std::string base = join_path(layout.root, unquoted(path->second.scalar));
    if (is_directory(base)) bases.push_back(base);
  }
  bases.push_back(layout.root);
  for (const char* key : {"train", "val", "test"}) {
    const auto value = layout.yaml.find(key);
    if (value == layout.yaml.end()) continue;
    std::vector<std::string>& places = layout.splits[key];
    for (const auto& item : value->second.items) places.push_back(find_below(bases, item.second));
    const std::string scalar = unquoted(value->second.scalar);
    if (places.empty() && !scalar.empty()) places.push_back(find_below(bases, scalar));
    if (places.empty()) layout.splits.erase(key);
  }
  if (layout.splits.empty()) throw Error(file + ": names no pictures, expected keys train and val");
  layout.root = bases.front();
  return layout;
}

Layout folder_layout(const std::string& root) {
  Layout layout{root, "", {}, {}};
  bool loose = false;
  if (is_directory(root + "/images")) {
    for (const std::string& name : list_folder(root + "/images")) {
      if (is_directory(root + "/images/" + name)) layout.splits[name] = {root + "/images/" + name};
      loose = loose || has_image_ending(name);
    }
  }
  for (const std::string& name : list_folder(root)) {
    if (is_directory(root + "/" + name + "/images")) layout.splits[name] = {root + "/" + name + "/images"};
  }
  if (layout.splits.empty() && loose) layout.splits[""] = {root + "/images"};
  if (layout.splits.empty()) {
    throw Error(root + ": no YOLO data found, expected data.yaml, or images/SPLIT and labels/SPLIT");
  }
  return layout;
}

Layout find_layout(const DataSpec& spec) {
  if (!file_exists(spec.path)) throw Error("cannot read " + spec.path + ": no such file or folder");
  if (!is_directory(spec.path)) return yaml_layout(spec.path);
  for (const char* name : {"/data.yaml", "/data.yml", "/dataset.yaml"}) {
    if (file_exists(spec.path + name)) return yaml_layout(spec.path + name);
  }
  return folder_layout(spec.path);
}

std::vector<Category> yaml_categories(const Layout& layout) {
  std::vector<Category> categories;
  for (const auto& [key, name] : layout.yaml.at("names").items) {
    int64_t id = static_cast<int64_t>(categories.size());
    if (!key.empty() && !parse_int(key, id)) {
      throw Error(layout.yaml_file + ": names: '" + key + "' is no class number, expected 0: NAME");
    }
    categories.push_back({id, name});
  }
  return categories;
}

std::vector<Category> read_categories(const DataSpec& spec, const Layout& layout) {
  std::string file = spec.option("labels");
  if (file.empty() && layout.yaml.count("names") != 0) return yaml_categories(layout);
  const std::vector<std::string> names = {"classes.txt", "obj.names", "data/obj.names", "labels/classes.txt"};
  for (const std::string& name : names) {
    if (file.empty() && file_exists(layout.root + "/" + name)) file = layout.root + "/" + name;
  }
  if (file.empty()) {
    throw Error(layout.root + ": no class names found, expected `names` in data.yaml, or one of " +
                join(names, ", "));
  }
  std::vector<Category> categories;
  for (const std::string& name : read_names(file)) {
    categories.push_back({static_cast<int64_t>(categories.size()), name});
  }
  return categories;
}

/// The pictures that a folder holds, or that a list names, one a line.
void add_pictures(const std::string& place, const std::string& root, std::vector<std::string>& pictures) {
  if (is_directory(place)) {
    for (const auto& entry :
         fs::recursive_directory_iterator(place, fs::directory_options::follow_directory_symlink |
                                                     fs::directory_options::skip_permission_denied)) {
      if (has_image_ending(entry.path().string())) pictures.push_back(entry.path().string());
    }
    return;
  }
  for (const std::string& line : split(read_file(place), '\n')) {
    const std::string name = trim(line);
    if (!name.empty()) pictures.push_back(find_below({parent_folder(place), root}, name));
  }
}

std::string label_path(const std::string& picture) {
  const std::string path = parent_folder(picture) + "/" + file_stem(picture) + ".txt";
  const size_t at = path.rfind("/images/");
  return at == std::string::npos ? path : path.substr(0, at) + "/labels/" + path.substr(at + 8);
}

class LabelReader {
 public:
  LabelReader(const std::vector<Category>& categories, Findings& findings) : findings_(findings) {
    for (const Category& category : categories) ids_.insert(category.id);
    if (!ids_.empty())
      known_ = format("a class from %lld to %lld", static_cast<long long>(*ids_.begin()),
                      static_cast<long long>(*ids_.rbegin()));
  }

  void read(const std::string& file, DetectionRecord& record) {
    file_ = file;
    int64_t number = 0;
    for (const std::string& line : split(read_file(file), '\n')) {
      line_ = format("line %lld", static_cast<long long>(++number));
      std::vector<double> values;
      if (read_numbers(line, values)) add_object(values, record);
    }
  }

 private:
  /// False for a blank line and for a wrong one, which is reported.
  bool read_numbers(const std::string& line, std::vector<double>& values) {
    std::istringstream words(line);
    for (std::string word; words >> word;) {
      values.emplace_back();
      if (parse_double(word, values.back())) continue;
      findings_.fatal(file_, line_, "'" + word + "' is no number", "class cx cy width height");
      return false;
    }
    if (values.empty()) return false;
    if (values.size() != 5 && (values.size() < 7 || values.size() % 2 == 0)) {
      findings_.fatal(file_, line_, format("%zu numbers", values.size()),
                      "5 (class cx cy width height) or a class and 3 or more points");
      return false;
    }
    const auto id = static_cast<int64_t>(values[0]);
    if (static_cast<double>(id) != values[0] || ids_.count(id) == 0) {
      findings_.fatal(file_, line_, format("class %g does not exist", values[0]), known_);
      return false;
    }
    return in_fractions(values);
  }

  bool in_fractions(const std::vector<double>& values) {
    for (size_t i = 1; i < values.size(); ++i) {
      if (values[i] >= -kFractionTolerance && values[i] <= 1 + kFractionTolerance) continue;
      findings_.fatal(file_, line_, format("%g is no fraction of the picture's size", values[i]),
                      "numbers from 0 to 1 (pixels divided by width and height)");
      return false;
    }
    return true;
  }

  void add_object(const std::vector<double>& values, DetectionRecord& record) {
    if (record.width == 0) return;  // of an unreadable picture, which is named when it is used
    const auto w = static_cast<double>(record.width), h = static_cast<double>(record.height);
    ObjectAnnotation object;
    object.id = ++objects_;
    object.category_id = static_cast<int64_t>(values[0]);
    if (values.size() == 5) {
      object.box = {(values[1] - values[3] / 2) * w, (values[2] - values[4] / 2) * h, values[3] * w,
                    values[4] * h};
      object.area = object.box[2] * object.box[3];
    } else {
      set_polygon(values, w, h, object);
    }
    record.objects.push_back(object);
  }

  /// The bounding box and (by the shoelace formula) the area of a polygon.
  static void set_polygon(const std::vector<double>& values, double w, double h, ObjectAnnotation& object) {
    const size_t points = values.size() / 2;
    double low[2] = {1e9, 1e9}, high[2] = {-1e9, -1e9}, twice_area = 0;
    for (size_t i = 0; i < points; ++i) {
      const size_t next = (i + 1) % points;
      const double x = values[1 + 2 * i] * w, y = values[2 + 2 * i] * h;
      twice_area += x * values[2 + 2 * next] * h - y * values[1 + 2 * next] * w;
      low[0] = std::min(low[0], x), low[1] = std::min(low[1], y);
      high[0] = std::max(high[0], x), high[1] = std::max(high[1], y);
    }
    object.box = {low[0], low[1], high[0] - low[0], high[1] - low[1]};
    object.area = std::abs(twice_area) / 2;
  }

  std::set<int64_t> ids_;
  std::string known_ = "a class that has a name", file_, line_;
  int64_t objects_ = 0;
  Findings& findings_;
};

std::string relative_name(const std::string& path, const std::string& root) {
  return starts_with(path, root + "/") ? path.substr(root.size() + 1) : path;
}

}  // namespace

std::vector<std::string> yolo_splits(const DataSpec& spec) {
  std::vector<std::string> names;
  for (const auto& split : find_layout(spec).splits) names.push_back(split.first);
  return names;
}

DetectionSource read_yolo(const DataSpec& spec, const std::string& split, Findings& findings) {
  const Layout layout = find_layout(spec);
  DetectionSource source;
  source.file = layout.yaml_file.empty() ? layout.root : layout.yaml_file;
  source.folder = layout.root;
  source.categories = read_categories(spec, layout);
  std::vector<std::string> pictures;
  for (const std::string& place : layout.splits.at(split)) add_pictures(place, layout.root, pictures);
  std::sort(pictures.begin(), pictures.end());

  LabelReader labels(source.categories, findings);
  bool labelled = false;
  for (const std::string& picture : pictures) {
    DetectionRecord record;
    record.image_id = static_cast<int64_t>(source.records.size()) + 1;
    record.file_name = relative_name(picture, layout.root);
    try {
      const ImageSize size = image_size(picture);
      record.width = size.width;
      record.height = size.height;
    } catch (const Error&) {  // named when the picture is used
    }
    const std::string file = label_path(picture);
    if (file_exists(file)) {
      labels.read(file, record);
      labelled = true;
    }
    source.records.push_back(std::move(record));
  }
  if (!labelled && !pictures.empty()) {
    findings.fatal(source.file, "labels", "no picture has a label file",
                   "for " + pictures.front() + " the file " + label_path(pictures.front()));
  }
  return source;
}

}  // namespace zoo
