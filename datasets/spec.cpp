#include "datasets/spec.h"

#include <algorithm>
#include <cstdlib>

#include "core/error.h"
#include "core/options.h"
#include "core/text.h"

namespace zoo {
namespace {

const char kExpected[] = "expected NAME or KIND:PATH[,key=value]…";

std::vector<std::string> kind_names() {
  std::vector<std::string> names;
  for (const DataKind& kind : data_kinds()) {
    if (std::find(names.begin(), names.end(), kind.name) == names.end()) names.push_back(kind.name);
  }
  return names;
}

/// A name may be both an embedded set and, with a path, a kind of files.
const DataKind& find_kind(const std::string& name, bool has_path, const std::string& spec) {
  const DataKind* found = nullptr;
  for (const DataKind& kind : data_kinds()) {
    if (kind.name == name && (found == nullptr || kind.embedded != has_path)) found = &kind;
  }
  if (found != nullptr) return *found;
  std::string advice = did_you_mean(name, kind_names());
  if (advice.empty()) advice = ", expected one of " + join(kind_names(), ", ");
  throw UsageError("unknown kind of data '" + name + "' in '" + spec + "'" + advice,
                   "data on disk is named KIND:PATH, for example coco:" + (name.empty() ? "PATH" : name));
}

/// Splits at commas that no backslash precedes, and drops those backslashes.
std::vector<std::string> split_parts(const std::string& text) {
  std::vector<std::string> parts(1);
  for (size_t i = 0; i < text.size(); ++i) {
    if (text[i] == '\\' && i + 1 < text.size() && text[i + 1] == ',') {
      parts.back() += text[++i];
    } else if (text[i] == ',') {
      parts.emplace_back();
    } else {
      parts.back() += text[i];
    }
  }
  return parts;
}

/// `~/` as a shell would read it, had it not stood behind `KIND:`.
std::string expand_home(const std::string& path) {
  const char* home = std::getenv("HOME");
  return home != nullptr && (path == "~" || starts_with(path, "~/")) ? home + path.substr(1) : path;
}

void add_option(const DataKind& kind, const std::string& part, DataSpec& spec) {
  const size_t equals = part.find('=');
  const std::string key = part.substr(0, equals);
  const std::string where = " in '" + spec.text + "'";
  if (equals == std::string::npos || key.empty()) {
    throw UsageError("'" + part + "'" + where + " is no option, expected key=value",
                     "a comma that belongs to the path is written \\,");
  }
  std::vector<std::string> known = kind.options;
  known.insert(known.begin(), "split");
  if (std::find(known.begin(), known.end(), key) == known.end()) {
    std::string advice = did_you_mean(key, known);
    if (advice.empty()) advice = ", " + kind.name + " knows " + join(known, ", ");
    throw UsageError("unknown option '" + key + "'" + where + advice);
  }
  const std::string value = part.substr(equals + 1);
  if (value.empty())
    throw UsageError("option '" + key + "'" + where + " is empty, expected " + key + "=VALUE");
  if (!spec.options.emplace(key, value).second) {
    throw UsageError("option '" + key + "'" + where + " is given twice, expected once");
  }
}

}  // namespace

const std::vector<DataKind>& data_kinds() {
  static const std::vector<DataKind> kinds = {
      {"shapes",
       true,
       "detection",
       "drawn shapes on textured ground, made by code",
       {"size", "train", "val", "seed"}},
      {"coco",
       false,
       "detection",
       "COCO instances json and its pictures; PATH is the folder or the json",
       {"images"}},
      {"voc", false, "detection", "Pascal VOC: Annotations/*.xml, JPEGImages, ImageSets/Main", {"labels"}},
      {"yolo",
       false,
       "detection",
       "YOLO: images/SPLIT and labels/SPLIT; PATH is the folder or data.yaml",
       {"labels"}},
      {"faces",
       true,
       "verification",
       "drawn faces with pose, light, expression and occlusion, made by code",
       {"size", "identities", "val_identities", "pictures", "landmarks", "seed"}},
      {"faces",
       false,
       "verification",
       "a folder for each person, or a CSV path,identity[,10 landmark numbers]",
       {"val_identities", "seed", "pairs"}},
      {"lfw", false, "verification", "LFW: NAME/NAME_0001.jpg and pairs.txt (View 2)", {"pairs"}},
      {"recordio",
       false,
       "verification",
       "insightface RecordIO: train.rec, train.idx, property; PATH is the folder or the .rec",
       {"val_identities", "seed"}},
      {"bin", false, "verification", "insightface verification set: FILE.bin, a pickle of pictures", {}},
      {"ijb", false, "verification", "IJB-B/C: meta/*.txt and loose_crop/", {}},
      {"streams",
       true,
       "online-action",
       "streams of features with actions told by what came before, made by code",
       {"videos", "val_videos", "steps", "width", "classes", "noise", "ambiguous", "seed"}},
      {"features",
       false,
       "online-action",
       "features of videos, one row a step: STREAM/SESSION.npy, target_perframe/SESSION.npy, data_info.json",
       {"streams", "labels", "info", "dataset", "fps", "slack", "exclude"}},
      {"captions",
       true,
       "generation",
       "drawings with sentences that tell shape, colour and place, made by code",
       {"size", "train", "val", "held_out", "seed"}},
      {"captions",
       false,
       "generation",
       "captioned pictures: metadata.jsonl, pictures with .txt beside them, or webdataset .tar shards",
       {"ground"}},
      {"video",
       false,
       "online-action",
       "a video, a folder of them or camera:N, seen by a ResNet: for predict, and for data make",
       {"backbone", "steps_per_second", "size"}},
  };
  return kinds;
}

const DataKind& data_kind(const DataSpec& spec) {
  return find_kind(spec.kind, !spec.embedded(), spec.text);
}

std::string DataSpec::option(const std::string& key, const std::string& fallback) const {
  const auto found = options.find(key);
  return found == options.end() ? fallback : found->second;
}

int64_t DataSpec::integer(const std::string& key, int64_t fallback, int64_t low, int64_t high) const {
  const std::string given = option(key);
  int64_t value = fallback;
  if (!given.empty() && !parse_int(given, value)) {
    throw UsageError("'" + text + "': " + key + "=" + given + " is no integer");
  }
  require_count(key + " of '" + text + "'", value, static_cast<double>(low), static_cast<double>(high));
  return value;
}

DataSpec parse_data_spec(const std::string& text) {
  if (trim(text).empty()) throw UsageError(std::string("the data SPEC is empty, ") + kExpected);
  DataSpec spec;
  spec.text = text;
  std::vector<std::string> parts = split_parts(text);
  const size_t colon = parts[0].find(':');
  const bool has_path = colon != std::string::npos;
  spec.kind = parts[0].substr(0, colon);
  const DataKind& kind = find_kind(spec.kind, has_path, text);
  if (has_path) spec.path = expand_home(parts[0].substr(colon + 1));
  if (kind.embedded && has_path) {
    throw UsageError("'" + text + "': " + kind.name + " is embedded and has no path, expected " + kind.name);
  }
  if (!kind.embedded && spec.path.empty()) {
    throw UsageError("'" + text + "' has no path, expected " + kind.name + ":PATH");
  }
  for (size_t i = 1; i < parts.size(); ++i) add_option(kind, parts[i], spec);
  return spec;
}

}  // namespace zoo
