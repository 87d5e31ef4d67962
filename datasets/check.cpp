#include "datasets/check.h"

#include <algorithm>
#include <cmath>
#include <map>
#include <mutex>
#include <optional>
#include <set>
#include <string_view>
#include <unordered_map>
#include <utility>

#include "core/files.h"
#include "core/text.h"
#include "datasets/detection_source.h"
#include "datasets/image.h"
#include "datasets/parallel.h"

namespace zoo {
namespace {

/// A split being checked. An embedded set has no files: its pictures come from `dataset`.
struct Split {
  std::string name;
  DetectionSource source;
  std::shared_ptr<DetectionDataset> dataset;
};

/// What became of a picture: its finding, and the hash of its file.
struct Decoded {
  std::optional<Finding> finding;
  size_t hash = 0;
};

Decoded decode(const Split& split, size_t index) {
  const DetectionRecord& record = split.source.records[index];
  const std::string path = split.source.image_path(record), name = record_name(record);
  if (!file_exists(path))
    return {Finding{path, name, "the picture is missing", "a picture", true, kSkipped}, 0};
  Decoded result;
  try {
    const MappedFile file(path);
    result.hash = std::hash<std::string_view>()(file.text());
    const cv::Mat image = decode_image(file.data(), file.size(), path);
    if (image.cols != record.width || image.rows != record.height) {
      const bool turned = image.rows == record.width && image.cols == record.height;
      result.finding =
          Finding{path,
                  name,
                  format("the picture is %dx%d, the annotations say %lldx%lld", image.cols, image.rows,
                         static_cast<long long>(record.width), static_cast<long long>(record.height)),
                  turned ? "equal sizes (annotated after an EXIF rotation?)" : "equal sizes",
                  true,
                  kSkipped};
    }
  } catch (const Error& error) {
    result.finding = finding_of(error, path, name, "a whole picture");
    result.finding->effect = kSkipped;
  }
  return result;
}

/// A picture of an embedded set: nothing to find but an exception.
Decoded draw(const Split& split, size_t index) {
  split.dataset->image(static_cast<int64_t>(index));
  return {};
}

/// Decodes all pictures; results stand in the order of the records.
std::vector<Decoded> decode_all(const Split& split, const std::function<void(int64_t)>& progress) {
  std::vector<Decoded> results(split.source.records.size());
  std::mutex mutex;
  int64_t done = 0;
  on_all_cores(static_cast<int64_t>(results.size()), [&](int64_t i) {
    const auto index = static_cast<size_t>(i);
    results[index] = split.dataset != nullptr ? draw(split, index) : decode(split, index);
    const std::lock_guard<std::mutex> lock(mutex);
    progress(++done);
  });
  return results;
}

/// Files of the same bytes, within a split and between splits.
class Duplicates {
 public:
  void add(const Split& split, const DetectionRecord& record, size_t hash, Findings& findings) {
    const std::string path = split.source.image_path(record);
    const auto [first, fresh] = seen_.emplace(hash, std::make_pair(split.name, path));
    if (fresh || first->second.second == path) return;
    const bool leak = first->second.first != split.name;
    findings.note(path, record_name(record), "the same picture as " + first->second.second,
                  "each picture once",
                  leak ? "validation sees a picture of the training"
                       : "used twice in training, counted twice in evaluation");
  }

 private:
  std::unordered_map<size_t, std::pair<std::string, std::string>> seen_;
};

size_t size_bin(const ObjectAnnotation& object) {
  const double size = std::sqrt(std::max(0.0, object.box[2] * object.box[3]));
  size_t bin = 0;
  while (bin + 1 < kBoxSizes.size() && size >= static_cast<double>(kBoxSizes[bin + 1])) ++bin;
  return bin;
}

SplitCounts count(const Split& split) {
  SplitCounts counts;
  counts.name = split.name;
  std::map<int64_t, size_t> places;
  for (const Category& category : split.source.categories) {
    if (places.emplace(category.id, counts.classes.size()).second) {
      counts.classes.push_back({category.id, category.name, 0, 0});
    }
  }
  for (const DetectionRecord& record : split.source.records) {
    ++counts.images;
    if (record.objects.empty()) ++counts.empty_images;
    std::set<int64_t> present;
    for (const ObjectAnnotation& object : record.objects) {
      ++counts.objects;
      if (object.crowd) ++counts.crowds;
      ++counts.box_sizes[size_bin(object)];
      const auto place = places.find(object.category_id);
      if (place == places.end()) continue;
      ++counts.classes[place->second].objects;
      if (present.insert(object.category_id).second) ++counts.classes[place->second].images;
    }
  }
  return counts;
}

void review_absent_classes(const Split& split, const SplitCounts& counts, Findings& findings) {
  std::vector<std::string> names;
  for (const ClassCount& one : counts.classes) {
    if (one.objects == 0) names.push_back(one.name);
  }
  if (names.empty()) return;
  const size_t number = names.size();
  if (number > 8) {
    names.resize(8);
    names.emplace_back("…");
  }
  findings.note(split.source.file, split.name,
                format("no object of %zu categories: ", number) + join(names, ", "),
                "objects of every category", "in training never learnt; in evaluation without a figure");
}

/// Categories of two splits must be the same.
void review_agreement(const Split& train, const Split& val, Findings& findings) {
  std::map<int64_t, std::string> names;
  for (const Category& category : train.source.categories) names.emplace(category.id, category.name);
  for (const Category& category : val.source.categories) {
    const auto found = names.find(category.id);
    const std::string record =
        format("category %lld (%s)", static_cast<long long>(category.id), category.name.c_str());
    if (found == names.end()) {
      findings.fatal(val.source.file, record, "split " + train.name + " has no category of that id",
                     "the same categories in all splits");
    } else if (found->second != category.name) {
      findings.fatal(val.source.file, record, "split " + train.name + " calls it '" + found->second + "'",
                     "the same categories in all splits", "spoils the run: names and classes disagree");
    }
  }
}

std::vector<Split> embedded_splits(const DataSpec& spec) {
  std::vector<Split> splits;
  for (const std::string& name : {std::string("train"), std::string("val")}) {
    if (spec.option("split", name) != name) continue;
    Split split{name, {}, open_detection_dataset(spec, name)};
    split.source.file = spec.kind + " " + name;
    split.source.categories = split.dataset->categories();
    for (int64_t i = 0; i < split.dataset->size(); ++i)
      split.source.records.push_back(split.dataset->record(i));
    splits.push_back(std::move(split));
  }
  if (splits.empty()) open_detection_dataset(spec, "");  // throws for the unknown split
  return splits;
}

/// Names of the splits to check: the SPEC's own, or train and val.
std::vector<std::string> wanted_splits(const DataSpec& spec, const DetectionFormat& format) {
  const std::vector<std::string> found = format.splits(spec);
  std::vector<std::string> names;
  if (spec.option("split").empty()) {
    for (const char* name : {"train", "val"}) {
      const std::string split = find_split(name, true, found);
      if (!split.empty()) names.push_back(split);
    }
  }
  if (names.empty()) names.push_back(choose_split(spec, "train", found));
  return names;
}

std::vector<Split> file_splits(const DataSpec& spec, const DetectionFormat& format, Findings& findings) {
  std::vector<Split> splits;
  for (const std::string& name : wanted_splits(spec, format)) {
    try {
      Split split{name.empty() ? "all" : name, format.read(spec, name, findings), nullptr};
      review_source(split.source, findings);
      splits.push_back(std::move(split));
    } catch (const UsageError&) {
      throw;
    } catch (const Error& error) {  // nothing of this split can be read
      const std::string text = error.what(), file = text.substr(0, text.find(": "));
      findings.add(finding_of(error, file_exists(file) ? file : spec.path, name, "a readable split"));
    }
  }
  return splits;
}

std::string bar(int64_t value, int64_t most) {
  std::string text;
  const int64_t cells = most == 0 ? 0 : (value * 30 + most - 1) / most;
  for (int64_t i = 0; i < cells; ++i) text += "█";
  return text;
}

std::vector<std::string> columns(const std::vector<SplitCounts>& splits, std::vector<std::string> first) {
  for (const SplitCounts& split : splits) first.push_back(split.name);
  first.emplace_back("");
  return first;
}

/// Rows of a label and one number per split, with a bar for the sum.
std::string count_table(std::vector<std::string> header, const std::vector<std::vector<std::string>>& labels,
                        const std::vector<std::vector<int64_t>>& numbers) {
  Table table(std::move(header));
  std::vector<int64_t> sums;
  for (const std::vector<int64_t>& row : numbers) {
    sums.push_back(0);
    for (const int64_t number : row) sums.back() += number;
  }
  const int64_t most = sums.empty() ? 0 : *std::max_element(sums.begin(), sums.end());
  for (size_t i = 0; i < labels.size(); ++i) {
    std::vector<std::string> cells = labels[i];
    for (const int64_t number : numbers[i]) cells.push_back(with_thousands(number));
    cells.push_back(bar(sums[i], most));
    table.add(std::move(cells));
  }
  return table.str();
}

std::string class_table(const std::vector<SplitCounts>& splits) {
  std::map<int64_t, size_t> places;
  std::vector<std::vector<std::string>> labels;
  std::vector<std::vector<int64_t>> numbers;
  for (size_t s = 0; s < splits.size(); ++s) {
    for (const ClassCount& one : splits[s].classes) {
      const auto [place, fresh] = places.emplace(one.id, labels.size());
      if (fresh) {
        labels.push_back({one.name, std::to_string(one.id)});
        numbers.emplace_back(splits.size(), 0);
      }
      numbers[place->second][s] = one.objects;
    }
  }
  return count_table(columns(splits, {"objects of class", "id"}), labels, numbers);
}

std::string size_label(size_t bin) {
  const auto low = static_cast<long long>(kBoxSizes[bin]);
  if (bin + 1 == kBoxSizes.size()) return format("from %lld", low);
  return format("%lld to %lld", low, static_cast<long long>(kBoxSizes[bin + 1]));
}

std::string size_table(const std::vector<SplitCounts>& splits) {
  std::vector<std::vector<std::string>> labels;
  std::vector<std::vector<int64_t>> numbers;
  for (size_t bin = 0; bin < kBoxSizes.size(); ++bin) {
    labels.push_back({size_label(bin), kBoxSizes[bin] < 32   ? "small"
                                       : kBoxSizes[bin] < 96 ? "medium"
                                                             : "large"});
    numbers.emplace_back();
    for (const SplitCounts& split : splits) numbers.back().push_back(split.box_sizes[bin]);
  }
  return count_table(columns(splits, {"box size (pixels)", "COCO"}), labels, numbers);
}

std::string face_table(const std::vector<FaceCounts>& splits) {
  Table table({"split", "pictures", "identities", "with one picture", "pictures of one (least, median, most)",
               "with landmarks", "pairs", "genuine"});
  for (const FaceCounts& split : splits) {
    table.add({split.name, with_thousands(split.pictures), with_thousands(split.identities),
               with_thousands(split.single),
               format("%lld, %lld, %lld", static_cast<long long>(split.least),
                      static_cast<long long>(split.median), static_cast<long long>(split.most)),
               with_thousands(split.with_landmarks), with_thousands(split.pairs),
               with_thousands(split.genuine_pairs)});
  }
  return table.str();
}

}  // namespace

Json FaceCounts::to_json() const {
  return {{"split", name},
          {"images", pictures},
          {"identities", identities},
          {"identities_with_one_picture", single},
          {"pictures_per_identity", {{"least", least}, {"median", median}, {"most", most}}},
          {"images_with_landmarks", with_landmarks},
          {"pairs", pairs},
          {"genuine_pairs", genuine_pairs}};
}

int64_t CheckReport::fatal_count() const {
  return std::count_if(findings.begin(), findings.end(),
                       [](const Finding& finding) { return finding.fatal; });
}

void CheckReport::take(const Findings& found) {
  findings = found.list();
  std::stable_partition(findings.begin(), findings.end(), [](const Finding& f) { return f.fatal; });
}

Json CheckReport::to_json() const {
  Json document = {
      {"command", "data check"}, {"data", data}, {"findings", Json::array()}, {"splits", Json::array()}};
  for (const Finding& finding : findings) {
    document["findings"].push_back({{"file", finding.file},
                                    {"record", finding.record},
                                    {"what", finding.what},
                                    {"expected", finding.expected},
                                    {"fatal", finding.fatal},
                                    {"effect", finding.effect}});
  }
  for (const FaceCounts& split : faces) document["splits"].push_back(split.to_json());
  for (const ActionCounts& split : actions) document["splits"].push_back(split.to_json());
  for (const CaptionCounts& split : captions) document["splits"].push_back(split.to_json());
  for (const SplitCounts& split : splits) {
    Json classes = Json::array(), sizes = Json::array();
    for (const ClassCount& one : split.classes) {
      classes.push_back(
          {{"id", one.id}, {"name", one.name}, {"objects", one.objects}, {"images", one.images}});
    }
    for (size_t bin = 0; bin < kBoxSizes.size(); ++bin) {
      const bool open = bin + 1 == kBoxSizes.size();
      sizes.push_back({{"from", kBoxSizes[bin]},
                       {"to", open ? Json() : Json(kBoxSizes[bin + 1])},
                       {"boxes", split.box_sizes[bin]}});
    }
    document["splits"].push_back({{"split", split.name},
                                  {"images", split.images},
                                  {"images_without_objects", split.empty_images},
                                  {"objects", split.objects},
                                  {"crowds", split.crowds},
                                  {"classes", classes},
                                  {"box_sizes", sizes}});
  }
  return document;
}

std::string CheckReport::str() const {
  std::string text;
  if (findings.empty()) {
    text = "no findings\n";
  } else {
    Table table({"file", "record", "what", "expected", "in a run"});
    for (const Finding& finding : findings) {
      table.add({finding.file, finding.record, finding.what, finding.expected, finding.effect});
    }
    text = table.str() + format("\n%zu findings, of which %lld would stop or spoil a run\n", findings.size(),
                                static_cast<long long>(fatal_count()));
  }
  for (const SplitCounts& split : splits) {
    text += format("\n%s: %s images (%s without objects), %s objects (%s crowds)", split.name.c_str(),
                   with_thousands(split.images).c_str(), with_thousands(split.empty_images).c_str(),
                   with_thousands(split.objects).c_str(), with_thousands(split.crowds).c_str());
  }
  if (!faces.empty()) text += "\n" + face_table(faces);
  if (!actions.empty()) text += "\n" + action_tables(actions);
  if (!captions.empty()) text += "\n" + caption_table(captions);
  if (!splits.empty()) text += "\n\n" + class_table(splits) + "\n" + size_table(splits);
  return text;
}

CheckReport check_data(const DataSpec& spec, const std::function<void(int64_t, int64_t)>& progress) {
  if (data_kind(spec).task == "verification") return check_faces(spec, progress);
  if (data_kind(spec).task == "online-action") return check_actions(spec, progress);
  if (data_kind(spec).task == "generation") return check_captions(spec, progress);
  return check_detection(spec, progress);
}

CheckReport check_detection(const DataSpec& spec, const std::function<void(int64_t, int64_t)>& progress) {
  Findings findings(/*strict=*/false);
  const DetectionFormat* format = find_detection_format(spec.kind);
  const std::vector<Split> splits =
      format != nullptr ? file_splits(spec, *format, findings) : embedded_splits(spec);
  CheckReport report;
  report.data = spec.text;
  int64_t total = 0, before = 0;
  for (const Split& split : splits) total += static_cast<int64_t>(split.source.records.size());
  Duplicates duplicates;
  for (const Split& split : splits) {
    const std::vector<Decoded> decoded = decode_all(split, [&](int64_t done) {
      if (progress) progress(before + done, total);
    });
    before += static_cast<int64_t>(decoded.size());
    for (size_t i = 0; i < decoded.size(); ++i) {
      if (decoded[i].finding) findings.add(*decoded[i].finding);
      if (decoded[i].hash != 0) duplicates.add(split, split.source.records[i], decoded[i].hash, findings);
    }
    report.splits.push_back(count(split));
    review_absent_classes(split, report.splits.back(), findings);
  }
  if (splits.size() == 2) review_agreement(splits[0], splits[1], findings);
  report.take(findings);
  return report;
}

}  // namespace zoo
