#include <algorithm>

#include "core/error.h"
#include "core/text.h"
#include "datasets/actions/sources.h"

namespace zoo {
namespace {

std::vector<std::string> texts_of(const Json& list, const std::string& where) {
  std::vector<std::string> texts;
  if (!list.is_array()) throw Error(where + " is no list, expected a list of texts");
  for (const Json& item : list) {
    if (!item.is_string()) throw Error(where + " holds " + item.dump() + ", expected texts");
    texts.push_back(item.get<std::string>());
  }
  return texts;
}

/// Whether an entry describes a set rather than naming several.
bool describes_a_set(const Json& entry) {
  return entry.is_object() && (entry.contains("class_names") || entry.contains("class_index") ||
                               entry.contains("train_session_set") || entry.contains("test_session_set"));
}

const Json& chosen_set(const Json& document, const std::string& path, const std::string& name) {
  if (!document.is_object()) throw Error(path + ": is no object, expected {NAME: {class_index, …}}");
  if (describes_a_set(document)) return document;
  std::vector<std::string> names;
  for (const auto& item : document.items()) {
    if (!describes_a_set(item.value())) continue;
    if (lower(item.key()) == lower(name)) return item.value();
    names.push_back(item.key());
  }
  if (names.empty()) throw Error(path + ": describes no set, expected class_index and train_session_set");
  if (!name.empty()) throw Error(path + ": has no set '" + name + "', expected one of " + join(names, ", "));
  if (names.size() > 1) {
    throw Error(path + ": describes several sets: " + join(names, ", "), "dataset=NAME in the SPEC chooses");
  }
  return document[names[0]];
}

/// The column that marks ambiguous steps: a class of that name, or THUMOS' ignore_index. (EK100's is the background.)
int64_t ambiguous_column(const Json& set, const std::vector<std::string>& names) {
  const auto columns = static_cast<int64_t>(names.size());
  if (set.contains("ignore_index") && set["ignore_index"].is_number_integer()) {
    const auto index = set["ignore_index"].get<int64_t>();
    if (index > 0 && index < columns) return index;
  }
  for (int64_t i = 1; i < columns; ++i) {
    if (lower(names[static_cast<size_t>(i)]) == "ambiguous") return i;
  }
  return -1;
}

}  // namespace

std::string first_of(const std::string& folder, const std::vector<std::string>& names) {
  for (const std::string& name : names) {
    const std::string path = join_path(folder, name);
    if (file_exists(path) || is_directory(path)) return path;
  }
  return "";
}

ActionInfo read_action_info(const std::string& path, const std::string& name) {
  const Json document = read_json(path);
  const Json& set = chosen_set(document, path, name);
  ActionInfo info;
  for (const char* key : {"class_index", "class_names"}) {
    if (set.contains(key)) info.class_names = texts_of(set[key], path + ": " + key);
  }
  if (info.class_names.size() == 1) throw Error(path + ": one class, expected background and others");
  info.ambiguous = ambiguous_column(set, info.class_names);
  if (set.contains("fps")) {
    if (!set["fps"].is_number() || set["fps"].get<double>() <= 0) {
      throw Error(path + ": fps is " + set["fps"].dump() + ", expected steps per second above 0");
    }
    info.steps_per_second = set["fps"].get<double>();
  }
  for (const char* split : {"train", "val", "test"}) {
    const std::string key = std::string(split) + "_session_set";
    if (set.contains(key)) info.splits.emplace_back(split, texts_of(set[key], path + ": " + key));
  }
  return info;
}

}  // namespace zoo
