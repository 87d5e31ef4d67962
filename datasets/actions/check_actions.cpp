#include <algorithm>
#include <mutex>
#include <optional>
#include <set>

#include "core/error.h"
#include "core/text.h"
#include "datasets/actions/sources.h"
#include "datasets/check.h"
#include "datasets/parallel.h"

namespace zoo {
namespace {

struct CheckedStreams {
  std::string name;
  std::shared_ptr<ActionDataset> dataset;
};

std::vector<std::string> streams_to_check(const DataSpec& spec) {
  const std::string wanted = spec.option("split");
  if (spec.embedded())
    return wanted.empty() ? std::vector<std::string>{"train", "val"} : std::vector<std::string>{wanted};
  if (!wanted.empty()) return {choose_action_split(spec, wanted)};
  return action_splits(spec);
}

std::vector<CheckedStreams> open_checked(const DataSpec& spec, Findings& findings) {
  std::vector<CheckedStreams> splits;
  for (const std::string& name : streams_to_check(spec)) {
    try {
      splits.push_back({name.empty() ? "all" : name, spec.embedded()
                                                         ? open_made_streams(spec, name)
                                                         : open_feature_files(spec, name, findings)});
    } catch (const UsageError&) {
      throw;
    } catch (const Error& error) {  // nothing of this split can be read
      findings.add(finding_of(error, spec.path, name, "a readable split"));
    }
  }
  return splits;
}

/// Reads all features and labels of a video, up to the first fault.
std::optional<Finding> read_all(const ActionDataset& dataset, int64_t video) {
  try {
    std::vector<float> row(static_cast<size_t>(dataset.feature_size()));
    for (int64_t step = 0; step < dataset.steps(video); ++step) dataset.read({video, step, 1, 1}, row.data());
    if (dataset.labelled()) dataset.labels(video);
  } catch (const Error& error) {
    const std::string text = error.what(), file = text.substr(0, text.find(": "));
    return finding_of(error, file, dataset.name(video), "finite features and labels in range");
  }
  return std::nullopt;
}

/// Labels that cannot be read were reported already.
const LabelTable* readable_labels(const ActionDataset& dataset, int64_t video) {
  try {
    return dataset.labelled() ? &dataset.labels(video) : nullptr;
  } catch (const Error&) {
    return nullptr;
  }
}

void count_labels(const LabelTable& labels, ActionCounts& counts) {
  std::vector<int32_t> before;
  for (int64_t step = 0; step < labels.steps(); ++step) {
    const std::vector<int32_t> now = labels.classes_of(step);
    if (labels.ambiguous(step)) ++counts.ambiguous;
    if (now.size() > 1) ++counts.several;
    if (now.empty() && !labels.ambiguous(step)) ++counts.none;
    for (const int32_t c : now) {
      ActionCounts::Class& one = counts.classes[static_cast<size_t>(c)];
      ++one.steps;
      if (!std::binary_search(before.begin(), before.end(), c)) ++one.segments;
    }
    before = now;
  }
}

ActionCounts count_actions(const CheckedStreams& split) {
  const ActionDataset& dataset = *split.dataset;
  ActionCounts counts;
  counts.name = split.name;
  counts.videos = dataset.size();
  counts.feature_size = dataset.feature_size();
  counts.steps_per_second = dataset.steps_per_second();
  for (const std::string& name : dataset.class_names()) counts.classes.push_back({name, 0, 0});
  std::vector<int64_t> lengths;
  for (int64_t video = 0; video < dataset.size(); ++video) {
    lengths.push_back(dataset.steps(video));
    counts.steps += lengths.back();
    if (const LabelTable* labels = readable_labels(dataset, video)) count_labels(*labels, counts);
  }
  std::sort(lengths.begin(), lengths.end());
  if (!lengths.empty()) {
    counts.least = lengths.front();
    counts.median = lengths[lengths.size() / 2];
    counts.most = lengths.back();
  }
  return counts;
}

void review_classes(const ActionCounts& counts, const std::string& file, Findings& findings) {
  std::vector<std::string> absent;
  for (const ActionCounts::Class& one : counts.classes) {
    if (one.steps == 0) absent.push_back(one.name);
  }
  if (!absent.empty()) {
    const size_t number = absent.size();
    absent.resize(std::min<size_t>(number, 8));
    findings.note(file, counts.name, format("no step of %zu classes: ", number) + join(absent, ", "),
                  "steps of every class", "in training never learnt; in evaluation without a figure");
  }
  if (counts.none > 0) {
    findings.note(file, counts.name, with_thousands(counts.none) + " steps without any class",
                  "background at least", "negatives of every class");
  }
  if (counts.classes.empty())
    findings.note(file, counts.name, "no labels", "target_perframe/ or the like", "can only be predicted");
}

void review_splits(const std::vector<CheckedStreams>& splits, const std::string& file, Findings& findings) {
  std::set<std::string> seen;
  for (const CheckedStreams& split : splits) {
    const ActionDataset &first = *splits[0].dataset, &dataset = *split.dataset;
    for (int64_t video = 0; video < dataset.size(); ++video) {
      if (!seen.insert(dataset.name(video)).second)
        findings.note(file, dataset.name(video), "in two splits", "each video in one",
                      "validation sees a video of the training");
    }
    if (dataset.feature_size() != first.feature_size()) {
      findings.fatal(
          file, split.name,
          format("%lld features a step, split %s has %lld", static_cast<long long>(dataset.feature_size()),
                 splits[0].name.c_str(), static_cast<long long>(first.feature_size())),
          "the same features in all splits");
    }
  }
}

double share_of(int64_t part, int64_t whole) {
  return whole == 0 ? 0 : 100.0 * static_cast<double>(part) / static_cast<double>(whole);
}

}  // namespace

Json ActionCounts::to_json() const {
  Json list = Json::array();
  for (const Class& one : classes)
    list.push_back({{"name", one.name}, {"steps", one.steps}, {"segments", one.segments}});
  return {{"split", name},
          {"videos", videos},
          {"steps", steps},
          {"steps_per_video", {{"least", least}, {"median", median}, {"most", most}}},
          {"steps_per_second", steps_per_second},
          {"feature_size", feature_size},
          {"background_steps", classes.empty() ? 0 : classes[0].steps},
          {"ambiguous_steps", ambiguous},
          {"steps_with_several_classes", several},
          {"steps_without_class", none},
          {"classes", list}};
}

std::string action_tables(const std::vector<ActionCounts>& splits) {
  Table table({"split", "videos", "steps", "a second", "of one (least, median, most)", "features",
               "background", "ambiguous", "several classes"});
  std::vector<std::string> header = {"class"};
  for (const ActionCounts& split : splits) {
    table.add(
        {split.name, with_thousands(split.videos), with_thousands(split.steps),
         format("%g", split.steps_per_second),
         format("%lld, %lld, %lld", static_cast<long long>(split.least), static_cast<long long>(split.median),
                static_cast<long long>(split.most)),
         with_thousands(split.feature_size),
         split.classes.empty() ? "n/a" : format("%.1f %%", share_of(split.classes[0].steps, split.steps)),
         format("%.1f %%", share_of(split.ambiguous, split.steps)),
         format("%.1f %%", share_of(split.several, split.steps))});
    header.push_back("steps in " + split.name);
    header.emplace_back("segments");
  }
  Table classes(header);
  for (size_t c = 0; c < splits[0].classes.size(); ++c) {
    std::vector<std::string> row = {splits[0].classes[c].name};
    for (const ActionCounts& split : splits) {
      const bool there = c < split.classes.size();
      row.push_back(there ? with_thousands(split.classes[c].steps) : "");
      row.push_back(there ? with_thousands(split.classes[c].segments) : "");
    }
    classes.add(row);
  }
  return table.str() + (splits[0].classes.empty() ? "" : "\n" + classes.str());
}

CheckReport check_actions(const DataSpec& spec, const std::function<void(int64_t, int64_t)>& progress) {
  Findings findings(/*strict=*/false);
  const std::vector<CheckedStreams> splits = open_checked(spec, findings);
  CheckReport report;
  report.data = spec.text;
  const std::string file = spec.embedded() ? spec.kind : spec.path;
  int64_t total = 0, done = 0;
  for (const CheckedStreams& split : splits) total += split.dataset->size();
  std::mutex mutex;
  for (const CheckedStreams& split : splits) {
    std::vector<std::optional<Finding>> found(static_cast<size_t>(split.dataset->size()));
    on_all_cores(split.dataset->size(), [&](int64_t video) {
      found[static_cast<size_t>(video)] = read_all(*split.dataset, video);
      const std::lock_guard<std::mutex> lock(mutex);
      if (progress) progress(++done, total);
    });
    for (const std::optional<Finding>& one : found) {
      if (one) findings.add(*one);
    }
    report.actions.push_back(count_actions(split));
    review_classes(report.actions.back(), file, findings);
  }
  if (!splits.empty()) review_splits(splits, file, findings);
  report.take(findings);
  return report;
}

}  // namespace zoo
