#include <cmath>

#include "core/error.h"
#include "core/formats/byte_reader.h"
#include "core/text.h"
#include "datasets/actions/sources.h"

namespace zoo {
namespace {

void add_segment(SegmentsOf& segments, const std::string& session, ActionSegment segment) {
  if (!std::isfinite(segment.start) || !std::isfinite(segment.end) || segment.start < 0 ||
      segment.end <= segment.start) {
    throw Error(format("%s: from %g s to %g s, expected 0 <= start < end", segment.where.c_str(),
                       segment.start, segment.end));
  }
  if (segment.action.empty()) throw Error(segment.where + ": has no class");
  segments[session].push_back(std::move(segment));
}

SegmentsOf read_tsv(const std::string& path) {
  SegmentsOf segments;
  const std::string text = read_file(path);
  int64_t number = 0;
  for (const std::string& line : split(text, '\n')) {
    ++number;
    if (trim(line).empty()) continue;
    const std::vector<std::string> fields = split(line, '\t');
    ActionSegment segment;
    segment.where = format("%s: line %lld", path.c_str(), static_cast<long long>(number));
    const bool starts = fields.size() == 4 && parse_double(trim(fields[1]), segment.start);
    const bool ends = fields.size() == 4 && parse_double(trim(fields[2]), segment.end);
    if (number == 1 && fields.size() == 4 && !starts && !ends) continue;  // a heading
    if (!starts || !ends) {
      throw Error(segment.where + ": '" + shown_name(trim(line)) +
                  "', expected session, start, end and class between tabs, times in seconds");
    }
    segment.action = trim(fields[3]);
    add_segment(segments, trim(fields[0]), std::move(segment));
  }
  return segments;
}

std::string class_text(const Json& value) {
  return value.is_string() ? value.get<std::string>() : value.is_number_integer() ? value.dump() : "";
}

/// [{"session", "start", "end", "class"}, …]
SegmentsOf read_list(const Json& document, const std::string& path) {
  SegmentsOf segments;
  for (size_t i = 0; i < document.size(); ++i) {
    const Json& entry = document[i];
    const std::string where = format("%s: entry %zu", path.c_str(), i);
    const bool good = entry.is_object() && entry.contains("session") && entry["session"].is_string() &&
                      entry.contains("start") && entry["start"].is_number() && entry.contains("end") &&
                      entry["end"].is_number() && entry.contains("class");
    if (!good) throw Error(where + ": expected session, start, end and class, times in seconds");
    add_segment(
        segments, entry["session"],
        {entry["start"].get<double>(), entry["end"].get<double>(), class_text(entry["class"]), where});
  }
  return segments;
}

/// ActivityNet: {"database": {SESSION: {"annotations": [{"segment": [start, end], "label"}]}}}
SegmentsOf read_database(const Json& database, const std::string& path) {
  SegmentsOf segments;
  for (const auto& video : database.items()) {
    const std::string where = path + ": database." + video.key();
    if (!video.value().is_object() || !video.value().contains("annotations")) {
      throw Error(where + ": has no list 'annotations'");
    }
    segments[video.key()];
    for (const Json& one : video.value()["annotations"]) {
      const bool good = one.is_object() && one.contains("segment") && one["segment"].is_array() &&
                        one["segment"].size() == 2 && one["segment"][0].is_number() &&
                        one["segment"][1].is_number() && one.contains("label");
      if (!good) throw Error(where + ": expected annotations of segment [start, end] and label");
      add_segment(segments, video.key(),
                  {one["segment"][0].get<double>(), one["segment"][1].get<double>(), class_text(one["label"]),
                   where});
    }
  }
  return segments;
}

}  // namespace

SegmentsOf read_segments(const std::string& path) {
  if (!ends_with(lower(path), ".json")) return read_tsv(path);
  const Json document = read_json(path);
  if (document.is_array()) return read_list(document, path);
  if (document.is_object() && document.contains("database") && document["database"].is_object()) {
    return read_database(document["database"], path);
  }
  throw Error(path + ": is neither a list of segments nor has it a 'database', expected one of them");
}

}  // namespace zoo
