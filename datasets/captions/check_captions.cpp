#include <algorithm>
#include <map>
#include <mutex>
#include <optional>
#include <set>
#include <string_view>
#include <unordered_map>

#include "core/text.h"
#include "datasets/captions/sources.h"
#include "datasets/check.h"
#include "datasets/parallel.h"

namespace zoo {
namespace {

/// What became of a picture: its finding, or its size and the hash of its pixels.
struct ReadPicture {
  std::optional<Finding> finding;
  size_t hash = 0;
  int64_t side = 0;  ///< the shorter one
};

struct CheckedCaptions {
  std::string name;
  std::shared_ptr<CaptionDataset> dataset;
};

ReadPicture read_picture(const CaptionDataset& dataset, int64_t record, const std::string& file) {
  ReadPicture result;
  try {
    const cv::Mat picture = dataset.picture(record);
    const std::string_view pixels(reinterpret_cast<const char*>(picture.data),
                                  picture.total() * picture.elemSize());
    result.hash = std::hash<std::string_view>()(pixels);
    result.side = std::min(picture.rows, picture.cols);
  } catch (const Error& error) {
    result.finding = finding_of(error, file, dataset.name(record), "a whole picture");
    result.finding->effect = kSkipped;
  }
  return result;
}

std::vector<CheckedCaptions> open_checked_captions(const DataSpec& spec, Findings& findings) {
  std::vector<std::string> names = caption_splits(spec);
  if (!spec.option("split").empty()) names = {spec.option("split")};
  std::vector<CheckedCaptions> splits;
  for (const std::string& name : names) {
    if (spec.embedded()) {
      splits.push_back({name, open_drawn_captions(spec, name)});
    } else {
      splits.push_back({name, read_captions(spec, plan_captions(spec, name), findings)});
    }
  }
  return splits;
}

CaptionCounts count_captions(const CheckedCaptions& split, const std::vector<ReadPicture>& pictures) {
  CaptionCounts counts;
  counts.name = split.name.empty() ? "all" : split.name;
  std::set<std::string> different, words;
  std::vector<int64_t> lengths;
  for (int64_t i = 0; i < split.dataset->size(); ++i) {
    for (const std::string& caption : split.dataset->captions(i)) {
      ++counts.captions;
      different.insert(caption);
      int64_t length = 0;
      for (const std::string& word : zoo::split(caption, ' ')) {
        if (word.empty()) continue;
        words.insert(lower(word));
        ++length;
      }
      lengths.push_back(length);
    }
  }
  std::sort(lengths.begin(), lengths.end());
  counts.different = static_cast<int64_t>(different.size());
  counts.words = static_cast<int64_t>(words.size());
  if (!lengths.empty()) counts.median_words = lengths[lengths.size() / 2];
  for (const ReadPicture& picture : pictures) {
    if (picture.finding) continue;
    ++counts.pictures;
    counts.smallest = counts.smallest == 0 ? picture.side : std::min(counts.smallest, picture.side);
    counts.largest = std::max(counts.largest, picture.side);
  }
  return counts;
}

/// Pictures that come twice, in one split or in both.
class PictureDuplicates {
 public:
  void add(const CheckedCaptions& split, int64_t record, size_t hash, const std::string& file,
           Findings& findings) {
    const std::string name = split.dataset->name(record);
    const auto [found, fresh] = seen_.emplace(hash, std::make_pair(split.name, name));
    if (fresh) return;
    const bool both = found->second.first != split.name;
    findings.note(file, name, "shows the pixels of " + found->second.second, "another picture",
                  both ? "validation sees a training picture" : "used twice");
  }

 private:
  std::unordered_map<size_t, std::pair<std::string, std::string>> seen_;
};

}  // namespace

Json CaptionCounts::to_json() const {
  return {{"split", name},
          {"images", pictures},
          {"captions", captions},
          {"different_captions", different},
          {"different_words", words},
          {"median_words", median_words},
          {"shorter_side", {{"least", smallest}, {"most", largest}}}};
}

std::string caption_table(const std::vector<CaptionCounts>& splits) {
  Table table({"split", "pictures", "shorter side", "sentences", "different", "words", "of one (median)"});
  for (const CaptionCounts& split : splits) {
    table.add({split.name, with_thousands(split.pictures),
               format("%lld to %lld", static_cast<long long>(split.smallest),
                      static_cast<long long>(split.largest)),
               with_thousands(split.captions), with_thousands(split.different), with_thousands(split.words),
               std::to_string(split.median_words)});
  }
  return table.str();
}

CheckReport check_captions(const DataSpec& spec, const std::function<void(int64_t, int64_t)>& progress) {
  Findings findings(/*strict=*/false);
  const std::vector<CheckedCaptions> splits = open_checked_captions(spec, findings);
  const std::string file = spec.embedded() ? spec.kind : spec.path;
  CheckReport report;
  report.data = spec.text;
  int64_t total = 0, done = 0;
  for (const CheckedCaptions& split : splits) total += split.dataset->size();
  std::mutex mutex;
  PictureDuplicates duplicates;
  for (const CheckedCaptions& split : splits) {
    std::vector<ReadPicture> pictures(static_cast<size_t>(split.dataset->size()));
    on_all_cores(split.dataset->size(), [&](int64_t record) {
      pictures[static_cast<size_t>(record)] = read_picture(*split.dataset, record, file);
      const std::lock_guard<std::mutex> lock(mutex);
      if (progress) progress(++done, total);
    });
    for (size_t i = 0; i < pictures.size(); ++i) {
      if (pictures[i].finding) {
        findings.add(*pictures[i].finding);
      } else {
        duplicates.add(split, static_cast<int64_t>(i), pictures[i].hash, file, findings);
      }
    }
    report.captions.push_back(count_captions(split, pictures));
  }
  report.take(findings);
  return report;
}

}  // namespace zoo
