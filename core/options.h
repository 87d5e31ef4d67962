#pragma once
#include <cstdint>
#include <limits>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

namespace zoo {

using Json = nlohmann::json;

/// Reads a JSON file (comments allowed). Throws Error naming the file, line and column where it is malformed.
Json read_json(const std::string& path);
/// The text of a document for people: two spaces, invalid UTF-8 (file names) replaced, NaN and infinities as
/// null.
std::string dump_json(const Json& document);

/// Lays `patch` over `document`, whose present values are the defaults and give keys and types. `source`
/// names the patch in messages ("--set", a file name). Throws UsageError naming the dotted key and the
/// nearest known one for an unknown key, and key, value and expected type for a wrong type: no silent
/// narrowing (2.9, true or 1e10 for an int, a string for a number).
void overlay(Json& document, const Json& patch, const std::string& source);

/// The same for one `KEY=VALUE` of the command line; the text is read by the type of the default: true/false,
/// a number, a string as it stands, a list as JSON or comma-separated.
void set_key(Json& document, const std::string& assignment);
/// As `set_key` with key and text apart; `source` names the flag in messages.
void set_key(Json& document, const std::string& key, const std::string& text, const std::string& source);

/// All dotted keys of a document, sorted.
std::vector<std::string> dotted_keys(const Json& document);

/// Throw UsageError `KEY: VALUE is out of range, expected …`; both ends are allowed values.
void require_range(const std::string& key, double value, double low,
                   double high = std::numeric_limits<double>::infinity());
void require_count(const std::string& key, int64_t value, double low,
                   double high = std::numeric_limits<double>::infinity());
void require_positive(const std::string& key, double value);
/// Throws UsageError naming the nearest choice and all of them.
void require_choice(const std::string& key, const std::string& value,
                    const std::vector<std::string>& choices);

}  // namespace zoo
