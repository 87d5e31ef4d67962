#include <algorithm>
#include <unordered_map>

#include "core/error.h"
#include "core/options.h"
#include "core/text.h"
#include "datasets/captions/sources.h"
#include "datasets/image.h"

namespace zoo {
namespace {

constexpr char kLine[] = "{\"file_name\": PATH, \"text\": SENTENCE}";

/// A sentence or a list of them; false where it is neither or one is empty.
bool read_sentences(const Json& value, std::vector<std::string>& captions) {
  const Json list = value.is_array() ? value : Json::array({value});
  for (const Json& one : list) {
    if (!one.is_string()) return false;
    captions.push_back(trim(one.get<std::string>()));
    if (captions.back().empty()) return false;
  }
  return !captions.empty();
}

/// "text" or "caption" of an object.
const Json* sentences_of(const Json& object) {
  for (const char* key : {"text", "caption"}) {
    if (object.contains(key)) return &object.at(key);
  }
  return nullptr;
}

/// False where the line is at fault.
bool parse_caption_line(const std::string& line, const std::string& path, size_t number, Findings& findings,
                        CaptionRecord& record) {
  const std::string where = format("line %zu", number);
  const Json object = Json::parse(line, nullptr, /*allow_exceptions=*/false);
  if (!object.is_object()) {
    findings.fatal(path, where, "is no JSON object", kLine);
    return false;
  }
  if (!object.contains("file_name") || !object.at("file_name").is_string() ||
      object.at("file_name").get<std::string>().empty()) {
    findings.fatal(path, where, "\"file_name\" is missing or no text", kLine);
    return false;
  }
  record.name = object.at("file_name").get<std::string>();
  const Json* text = sentences_of(object);
  if (text == nullptr) {
    findings.fatal(path, where, record.name + " has no \"text\"", kLine);
    return false;
  }
  if (read_sentences(*text, record.captions)) return true;
  findings.fatal(path, where, "\"text\" of " + record.name + " is empty or no text",
                 "a sentence or a list of them");
  return false;
}

/// The lines of a text that are not blank.
std::vector<std::string> sentence_lines(std::string_view text) {
  std::vector<std::string> lines;
  for (const std::string& line : split(text, '\n')) {
    const std::string kept = trim(starts_with(line, "\xEF\xBB\xBF") ? line.substr(3) : line);
    if (!kept.empty()) lines.push_back(kept);
  }
  return lines;
}

/// The parts of a sample of a shard: "a/000017" and "seg.png" of a/000017.seg.png; empty for what webdataset passes over,
/// names without a dot and those of two underscores.
std::pair<std::string, std::string> sample_name(const std::string& member) {
  const size_t slash = member.rfind('/'), begin = slash == std::string::npos ? 0 : slash + 1;
  const size_t dot = member.find('.', begin);
  if (dot == std::string::npos || dot == begin || starts_with(member.substr(begin), "__")) return {};
  return {member.substr(0, dot), lower(member.substr(dot + 1))};
}

/// False where a member that should hold sentences does not.
bool read_member_sentences(const std::string& ending, std::string_view contents,
                           std::vector<std::string>& captions) {
  if (ending != "json") {
    captions = sentence_lines(contents);
    return !captions.empty();
  }
  const Json object = Json::parse(contents, nullptr, /*allow_exceptions=*/false);
  const Json* text = object.is_object() ? sentences_of(object) : nullptr;
  return text != nullptr && read_sentences(*text, captions);
}

/// A sample of a shard while its members are met.
struct ShardSample {
  CaptionRecord record;
  const TarEntry* words = nullptr;
  std::string words_ending;
  bool twice = false;
};

/// Text beats JSON, which often holds other things beside.
void add_member(const TarEntry& entry, const std::string& ending, ShardSample& sample) {
  if (has_image_ending("x." + ending)) {
    sample.twice = sample.twice || sample.record.size > 0;
    sample.record.offset = entry.offset;
    sample.record.size = entry.size;
  } else if (ending == "txt" || ending == "caption" || (ending == "json" && sample.words == nullptr)) {
    sample.twice = sample.twice || (sample.words != nullptr && sample.words_ending == ending);
    sample.words = &entry;
    sample.words_ending = ending;
  }
}

bool finish_sample(const MappedFile& shard, const std::string& key, Findings& findings, ShardSample& sample) {
  const char expected[] = "one picture and one .txt, .caption or .json (\"caption\" or \"text\")";
  const auto fault = [&](const char* what) {
    findings.fatal(shard.path(), key, what, expected);
    return false;
  };
  if (sample.twice) return fault("has two members of one kind");
  if (sample.record.size == 0) return fault("has no picture");
  if (sample.words == nullptr) return fault("has no sentence");
  const std::string_view contents = shard.text().substr(sample.words->offset, sample.words->size);
  if (!read_member_sentences(sample.words_ending, contents, sample.record.captions))
    return fault("its sentence is empty or no text");
  return true;
}

}  // namespace

void read_caption_list(const std::string& path, Findings& findings, std::vector<CaptionRecord>& records) {
  const std::string folder = parent_folder(path);
  const MappedFile file(path);
  std::string_view text = file.text();
  if (starts_with(text, "\xEF\xBB\xBF")) text.remove_prefix(3);
  for (size_t number = 1; !text.empty(); ++number) {
    const size_t end = std::min(text.find('\n'), text.size());
    const std::string line = trim(text.substr(0, end));
    text.remove_prefix(std::min(end + 1, text.size()));
    CaptionRecord record;
    if (line.empty() || !parse_caption_line(line, path, number, findings, record)) continue;
    record.file = join_path(folder, record.name);
    records.push_back(std::move(record));
  }
}

void read_caption_pairs(const std::string& folder, Findings& findings, std::vector<CaptionRecord>& records) {
  for (const std::string& name : list_folder(folder)) {
    if (!has_image_ending(name)) continue;
    const std::string words = join_path(folder, file_stem(name) + ".txt");
    CaptionRecord record;
    record.name = name;
    record.file = join_path(folder, name);
    if (!file_exists(words)) {
      findings.fatal(record.file, "", "has no sentence", file_stem(name) + ".txt beside it");
      continue;
    }
    record.captions = sentence_lines(read_file(words));
    if (record.captions.empty()) {
      findings.fatal(words, "", "holds no sentence", "one a line");
      continue;
    }
    records.push_back(std::move(record));
  }
}

void read_caption_shard(const MappedFile& shard, size_t number, Findings& findings,
                        std::vector<CaptionRecord>& records) {
  std::vector<TarEntry> entries;
  try {
    entries = read_tar_index(shard.data(), shard.size(), shard.path());
  } catch (const Error& error) {
    findings.add(finding_of(error, shard.path(), "", "a whole tar archive"));
    return;
  }
  std::vector<std::pair<std::string, ShardSample>> samples;
  std::unordered_map<std::string, size_t> places;
  for (const TarEntry& entry : entries) {
    const auto [key, ending] = sample_name(entry.name);
    if (key.empty()) continue;
    const auto [found, fresh] = places.emplace(key, samples.size());
    if (fresh) samples.emplace_back(key, ShardSample());
    add_member(entry, ending, samples[found->second].second);
  }
  for (auto& [key, sample] : samples) {
    const bool other_things = sample.record.size == 0 && sample.words == nullptr;
    if (other_things || !finish_sample(shard, key, findings, sample)) continue;
    sample.record.name = file_name(shard.path()) + ": " + key;
    sample.record.shard = number;
    records.push_back(std::move(sample.record));
  }
}

}  // namespace zoo
