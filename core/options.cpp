#include "core/options.h"

#include <algorithm>
#include <cmath>

#include "core/error.h"
#include "core/files.h"
#include "core/text.h"

namespace zoo {

namespace {

std::string type_name(const Json& value) {
  switch (value.type()) {
    case Json::value_t::boolean:
      return "true or false";
    case Json::value_t::number_integer:
    case Json::value_t::number_unsigned:
      return "an integer";
    case Json::value_t::number_float:
      return "a number";
    case Json::value_t::string:
      return "a text";
    case Json::value_t::array:
      return "a list";
    case Json::value_t::object:
      return "a section";
    default:
      return "null";
  }
}

std::string shown(const Json& value) {
  return value.dump(-1, ' ', false, Json::error_handler_t::replace);
}

bool type_fits(const Json& expected, const Json& value) {
  if (expected.is_number_float()) return value.is_number();
  if (expected.is_number_integer()) {
    if (value.is_number_unsigned()) return value.get<uint64_t>() <= static_cast<uint64_t>(INT64_MAX);
    return value.is_number_integer();
  }
  if (expected.is_array() && value.is_array() && !expected.empty()) {
    return std::all_of(value.begin(), value.end(),
                       [&](const Json& item) { return type_fits(expected[0], item); });
  }
  return expected.is_null() || expected.type() == value.type();
}

[[noreturn]] void fail_type(const std::string& source, const std::string& key, const std::string& value,
                            const Json& expected) {
  throw UsageError(source + ": " + key + ": " + value + " is not " + type_name(expected));
}

[[noreturn]] void fail_unknown(const std::string& source, const std::string& key, const Json& section,
                               const std::string& prefix) {
  std::vector<std::string> names;
  for (const auto& item : section.items()) names.push_back(item.key());
  const std::string name = nearest(key, names);
  const std::string help =
      name.empty() ? ", known are " + join(names, ", ") : ", did you mean '" + prefix + name + "'?";
  throw UsageError(source + ": unknown key '" + prefix + key + "'" + help);
}

void overlay_section(Json& document, const Json& patch, const std::string& source,
                     const std::string& prefix) {
  if (!patch.is_object()) {
    throw UsageError(source + ": " + (prefix.empty() ? "the document" : prefix.substr(0, prefix.size() - 1)) +
                     " is not a section {…}");
  }
  for (const auto& item : patch.items()) {
    const auto found = document.find(item.key());
    if (found == document.end()) fail_unknown(source, item.key(), document, prefix);
    const std::string key = prefix + item.key();
    if (found->is_object()) {
      overlay_section(*found, item.value(), source, key + ".");
    } else {
      if (!type_fits(*found, item.value())) fail_type(source, key, shown(item.value()), *found);
      // A number keeps the default's kind, so that 1 given for 1.0 is written back as a number with a point.
      *found = found->is_number_float() ? Json(item.value().get<double>()) : item.value();
    }
  }
}

/// The list elements of "1,2" or "[1,2]".
Json parse_list(const std::string& text, const Json& expected) {
  if (!text.empty() && text[0] == '[') return Json::parse(text, nullptr, false);
  Json list = Json::array();
  if (text.empty()) return list;
  const bool numbers = !expected.empty() && expected[0].is_number();
  for (const std::string& part : split(text, ',')) {
    list.push_back(numbers ? Json::parse(trim(part), nullptr, false) : Json(trim(part)));
  }
  return list;
}

Json parse_value(const std::string& text, const Json& expected) {
  int64_t integer = 0;
  double number = 0;
  if (expected.is_boolean() && (text == "true" || text == "false")) return text == "true";
  if (expected.is_number_integer() && parse_int(text, integer)) return integer;
  if (expected.is_number_float() && parse_double(text, number)) return number;
  if (expected.is_array()) return parse_list(text, expected);
  if (expected.is_null()) {
    Json parsed = Json::parse(text, nullptr, false);
    return parsed.is_discarded() ? Json(text) : parsed;
  }
  return text;
}

void collect_keys(const Json& section, const std::string& prefix, std::vector<std::string>& keys) {
  for (const auto& item : section.items()) {
    if (item.value().is_object()) {
      collect_keys(item.value(), prefix + item.key() + ".", keys);
    } else {
      keys.push_back(prefix + item.key());
    }
  }
}

/// What was probably meant by a dotted key that is not there: the same key in another section, or a near
/// spelling.
std::string suggest_key(const Json& document, const std::string& key) {
  const std::vector<std::string> keys = dotted_keys(document);
  const std::string last = split(key, '.').back();
  for (const std::string& candidate : keys) {
    if (split(candidate, '.').back() == last) return ", did you mean '" + candidate + "'?";
  }
  return did_you_mean(key, keys);
}

}  // namespace

Json read_json(const std::string& path) {
  const MappedFile file(path);
  try {
    return Json::parse(file.text().begin(), file.text().end(), nullptr, true, true);
  } catch (const Json::parse_error& error) {
    const std::string_view before = file.text().substr(0, std::min(error.byte, file.size()));
    const auto line = 1 + std::count(before.begin(), before.end(), '\n');
    throw Error(format("%s: line %lld: not JSON, expected a document {…}", path.c_str(),
                       static_cast<long long>(line)));
  }
}

std::string dump_json(const Json& document) {
  return document.dump(2, ' ', false, Json::error_handler_t::replace);
}

void overlay(Json& document, const Json& patch, const std::string& source) {
  overlay_section(document, patch, source, "");
}

void set_key(Json& document, const std::string& assignment) {
  const size_t equals = assignment.find('=');
  if (equals == std::string::npos || equals == 0) {
    throw UsageError("--set " + assignment + ": expected KEY=VALUE, for example trainer.clip_norm=0.1");
  }
  set_key(document, assignment.substr(0, equals), assignment.substr(equals + 1), "--set");
}

void set_key(Json& document, const std::string& key, const std::string& text, const std::string& source) {
  Json* value = &document;
  for (const std::string& part : split(key, '.')) {
    const auto found = value->is_object() ? value->find(part) : value->end();
    if (!value->is_object() || found == value->end()) {
      throw UsageError(source + ": unknown key '" + key + "'" + suggest_key(document, key));
    }
    value = &*found;
  }
  if (value->is_object()) {
    throw UsageError(source + ": '" + key + "' is a section, expected one of its keys, for example " + key +
                     "." + (value->empty() ? "KEY" : value->begin().key()));
  }
  Json parsed = parse_value(text, *value);
  if (parsed.is_discarded() || !type_fits(*value, parsed)) fail_type(source, key, "'" + text + "'", *value);
  *value = std::move(parsed);
}

std::vector<std::string> dotted_keys(const Json& document) {
  std::vector<std::string> keys;
  collect_keys(document, "", keys);
  return keys;
}

void require_range(const std::string& key, double value, double low, double high) {
  if (value >= low && value <= high) return;
  const std::string range = std::isinf(high) ? format("at least %g", low) : format("%g to %g", low, high);
  throw UsageError(format("%s: %g is out of range, expected ", key.c_str(), value) + range);
}

void require_count(const std::string& key, int64_t value, double low, double high) {
  require_range(key, static_cast<double>(value), low, high);
}

void require_positive(const std::string& key, double value) {
  if (value > 0 && std::isfinite(value)) return;
  throw UsageError(format("%s: %g is out of range, expected more than 0", key.c_str(), value));
}

void require_choice(const std::string& key, const std::string& value,
                    const std::vector<std::string>& choices) {
  if (std::find(choices.begin(), choices.end(), value) != choices.end()) return;
  throw UsageError(key + ": unknown value '" + value + "'" + did_you_mean(value, choices) +
                   " (known: " + join(choices, ", ") + ")");
}

}  // namespace zoo
