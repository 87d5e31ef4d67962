#include <algorithm>
#include <map>
#include <mutex>
#include <optional>
#include <set>
#include <string_view>
#include <unordered_map>

#include "core/text.h"
#include "datasets/check.h"
#include "datasets/faces/sources.h"
#include "datasets/parallel.h"

namespace zoo {
namespace {

struct Split {
  std::string name;
  FacePlan plan;
  std::shared_ptr<FaceDataset> dataset;

  const std::string& identity_name(int64_t identity) const {
    return dataset->identities()[static_cast<size_t>(identity)];
  }
};

/// What became of a picture: its finding, or the hash of its pixels.
struct Decoded {
  std::optional<Finding> finding;
  size_t hash = 0;
};

std::optional<Finding> review_landmarks(const FaceRecord& record, const cv::Mat& image,
                                        const std::string& file) {
  if (!record.landmarks) return std::nullopt;
  const FaceLandmarks& points = *record.landmarks;
  const bool one_point = std::equal(points.begin() + 2, points.end(), points.begin());
  if (one_point) {
    return Finding{file, record.name, "its five landmarks are one point", "eyes, nose and mouth corners",
                   true, kSkipped};
  }
  for (size_t i = 0; i < 10; i += 2) {
    if (points[i] >= 0 && points[i + 1] >= 0 && points[i] <= static_cast<float>(image.cols) &&
        points[i + 1] <= static_cast<float>(image.rows)) {
      continue;
    }
    return Finding{
        file,
        record.name,
        format("landmark %zu (%g, %g) lies outside the picture of %dx%d", i / 2 + 1,
               static_cast<double>(points[i]), static_cast<double>(points[i + 1]), image.cols, image.rows),
        "five points inside",
        false,
        "the face is aligned with a part that is black"};
  }
  return std::nullopt;
}

Decoded decode(const Split& split, int64_t index, const std::string& file) {
  const FaceRecord record = split.dataset->record(index);
  try {
    const cv::Mat image = split.dataset->image(index);
    const std::string_view pixels(reinterpret_cast<const char*>(image.data),
                                  image.total() * image.elemSize());
    return {review_landmarks(record, image, file), std::hash<std::string_view>()(pixels)};
  } catch (const Error& error) {
    Finding finding = finding_of(error, file, record.name, "a whole picture");
    if (const std::string head = record.name + ": "; starts_with(finding.what, head)) {
      finding.what = finding.what.substr(head.size());
    }
    finding.effect = kSkipped;
    return {std::move(finding), 0};
  }
}

std::vector<Decoded> decode_all(const Split& split, const std::string& file,
                                const std::function<void(int64_t)>& progress) {
  std::vector<Decoded> results(static_cast<size_t>(split.dataset->size()));
  std::mutex mutex;
  int64_t done = 0;
  on_all_cores(split.dataset->size(), [&](int64_t i) {
    results[static_cast<size_t>(i)] = decode(split, i, file);
    const std::lock_guard<std::mutex> lock(mutex);
    progress(++done);
  });
  return results;
}

/// Pictures of the same pixels, within a split and between splits. A verification set lists a picture in several
/// pairs, so that only what has identities is looked at.
class Duplicates {
 public:
  void add(size_t s, const Split& split, int64_t index, size_t hash, const std::string& file,
           Findings& findings) {
    const FaceRecord record = split.dataset->record(index);
    if (record.identity < 0) return;
    const std::string& identity = split.identity_name(record.identity);
    const auto [first, fresh] = seen_.emplace(hash, Seen{s, record.name, identity});
    if (fresh) return;
    const Seen& other = first->second;
    findings.note(file, record.name, "the same picture as " + other.name, "each picture once",
                  other.split != s             ? "verification sees a picture of the training"
                  : other.identity != identity ? "one picture of two people: wrong labels"
                                               : "used twice in training");
  }

 private:
  struct Seen {
    size_t split;
    std::string name, identity;
  };
  std::unordered_map<size_t, Seen> seen_;
};

FaceCounts count(const Split& split) {
  FaceCounts counts;
  counts.name = split.name.empty() ? "all" : split.name;
  counts.pictures = split.dataset->size();
  std::map<int64_t, int64_t> pictures;
  for (int64_t i = 0; i < counts.pictures; ++i) {
    const FaceRecord record = split.dataset->record(i);
    if (record.landmarks) ++counts.with_landmarks;
    if (record.identity >= 0) ++pictures[record.identity];
  }
  std::vector<int64_t> numbers;
  for (const auto& [identity, number] : pictures) numbers.push_back(number);
  std::sort(numbers.begin(), numbers.end());
  counts.identities = static_cast<int64_t>(numbers.size());
  counts.single = std::count(numbers.begin(), numbers.end(), 1);
  if (!numbers.empty()) {
    counts.least = numbers.front();
    counts.median = numbers[numbers.size() / 2];
    counts.most = numbers.back();
  }
  return counts;
}

void review_identities(const Split& split, const FaceCounts& counts, const std::string& file,
                       Findings& findings) {
  if (counts.single > 0) {
    findings.note(file, counts.name,
                  format("%lld identities have one picture", static_cast<long long>(counts.single)),
                  "two or more of each", "no genuine pair; little to learn from");
  }
  const auto empty = static_cast<int64_t>(split.dataset->identities().size()) - counts.identities;
  if (empty > 0) {
    findings.note(file, counts.name, format("%lld identities have no picture", static_cast<long long>(empty)),
                  "pictures of each", "in training never learnt");
  }
}

void review_overlap(const Split& train, const Split& val, const std::string& file, Findings& findings) {
  const std::set<std::string> names(train.dataset->identities().begin(), train.dataset->identities().end());
  std::vector<std::string> both;
  for (const std::string& name : val.dataset->identities()) {
    if (names.count(name) > 0) both.push_back(name);
  }
  if (both.empty()) return;
  const size_t number = both.size();
  both.resize(std::min<size_t>(number, 5));
  findings.note(file, val.name,
                format("%zu identities are in split %s too: ", number, train.name.c_str()) + join(both, ", "),
                "other people in each split", "verification is not of unseen people");
}

/// Counts the pairs that a set lists, and finds their pictures.
void review_pairs(const DataSpec& spec, const Split& split, Findings& findings, FaceCounts& counts) {
  std::vector<FacePair> pairs;
  if (spec.kind == "bin") {
    pairs = open_pair_bin(spec.path).pairs;
  } else if (const std::string list = pair_list_path(spec, split.plan); !list.empty()) {
    try {
      pairs = resolve_pairs(*split.dataset, read_pair_list(list), list, findings);
    } catch (const Error& error) {
      findings.add(finding_of(error, list, "", "a list of pairs"));
    }
  }
  counts.pairs = static_cast<int64_t>(pairs.size());
  counts.genuine_pairs =
      std::count_if(pairs.begin(), pairs.end(), [](const FacePair& pair) { return pair.same; });
}

std::vector<Split> open_splits(const DataSpec& spec, Findings& findings) {
  std::vector<Split> splits;
  for (const std::string& name : splits_to_check(spec)) {
    const FacePlan plan = plan_faces(spec, name);
    try {
      splits.push_back({name, plan, read_faces(spec, plan, findings)});
    } catch (const UsageError&) {
      throw;
    } catch (const Error& error) {  // nothing of this split can be read
      findings.add(finding_of(error, plan.path, name, "a readable split"));
    }
  }
  return splits;
}

}  // namespace

CheckReport check_faces(const DataSpec& spec, const std::function<void(int64_t, int64_t)>& progress) {
  Findings findings(/*strict=*/false);
  const std::vector<Split> splits = open_splits(spec, findings);
  CheckReport report;
  report.data = spec.text;
  int64_t total = 0, before = 0;
  for (const Split& split : splits) total += split.dataset->size();
  Duplicates duplicates;
  for (size_t s = 0; s < splits.size(); ++s) {
    const Split& split = splits[s];
    const std::string file = spec.embedded() ? spec.kind : split.plan.path;
    const std::vector<Decoded> decoded = decode_all(split, file, [&](int64_t done) {
      if (progress) progress(before + done, total);
    });
    before += split.dataset->size();
    for (size_t i = 0; i < decoded.size(); ++i) {
      if (decoded[i].finding) findings.add(*decoded[i].finding);
      if (decoded[i].hash != 0)
        duplicates.add(s, split, static_cast<int64_t>(i), decoded[i].hash, file, findings);
    }
    report.faces.push_back(count(split));
    review_identities(split, report.faces.back(), file, findings);
    review_pairs(spec, split, findings, report.faces.back());
  }
  if (splits.size() == 2) review_overlap(splits[0], splits[1], spec.path, findings);
  report.take(findings);
  return report;
}

}  // namespace zoo
