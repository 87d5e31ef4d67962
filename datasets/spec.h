#pragma once
#include <cstdint>
#include <map>
#include <string>
#include <vector>

namespace zoo {

/// A parsed data SPEC: `NAME` of an embedded set, or `KIND:PATH[,key=value]…`. The kind stands before the
/// first colon; `\,` is a comma in PATH.
struct DataSpec {
  std::string kind;  ///< "shapes", "coco", …
  std::string path;  ///< empty for an embedded set
  std::map<std::string, std::string> options;
  std::string text;  ///< as given

  bool embedded() const { return path.empty(); }
  /// The value of an option, or `fallback`.
  std::string option(const std::string& key, const std::string& fallback = "") const;
  /// The same as a number. Throws UsageError naming SPEC and range where it is none or out of range.
  int64_t integer(const std::string& key, int64_t fallback, int64_t low, int64_t high) const;
};

/// A kind of data that zoo reads, for `zoo data list` and for messages.
struct DataKind {
  std::string name;
  bool embedded = false;
  std::string task;                  ///< "detection", …
  std::string description;           ///< one line
  std::vector<std::string> options;  ///< keys it knows beside `split`
};
const std::vector<DataKind>& data_kinds();
/// The row of a parsed SPEC.
const DataKind& data_kind(const DataSpec& spec);

/// Throws UsageError for an unknown kind (with the nearest), an unknown option, or a text that is no SPEC.
DataSpec parse_data_spec(const std::string& text);

}  // namespace zoo
