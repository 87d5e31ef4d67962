#include <algorithm>
#include <cmath>
#include <mutex>
#include <set>

#include "core/error.h"
#include "core/log.h"
#include "core/text.h"
#include "datasets/actions/label_files.h"
#include "datasets/splits.h"

namespace zoo {
namespace {

constexpr int64_t kSlack = 2;
const char kLayouts[] =
    "expected STREAM/SESSION.npy, SESSION_rgb.npy and SESSION_flow.npy, or SESSION.npy (docs/formats.md)";

bool is_npy(const std::string& name) {
  return ends_with(lower(name), ".npy");
}

/// Names of a folder's .npy files without the ending, sorted.
std::vector<std::string> npy_stems(const std::string& folder) {
  std::vector<std::string> stems;
  for (const std::string& name : list_folder(folder)) {
    if (is_npy(name)) stems.push_back(name.substr(0, name.size() - 4));
  }
  return stems;
}

bool is_label_folder(const std::string& name) {
  return name == "target" || starts_with(name, "target_");
}

/// Subfolders that hold features.
std::vector<std::string> stream_folders(const std::string& folder) {
  std::vector<std::string> names;
  for (const std::string& name : list_folder(folder)) {
    const std::string path = join_path(folder, name);
    if (is_directory(path) && !is_label_folder(name) && !npy_stems(path).empty()) names.push_back(name);
  }
  return names;
}

/// Where the features of a session lie.
struct FeatureLayout {
  enum class Form { folders, endings, flat, file };
  Form form = Form::flat;
  std::string folder;
  std::vector<std::string> streams;  ///< in the order in which they are joined

  std::string path(const std::string& session, const std::string& stream) const {
    switch (form) {
      case Form::folders:
        return join_path(join_path(folder, stream), session + ".npy");
      case Form::endings:
        return join_path(folder, session + "_" + stream + ".npy");
      case Form::flat:
        return join_path(folder, session + ".npy");
      default:
        return folder;
    }
  }
  /// Those of the first stream.
  std::vector<std::string> sessions() const {
    if (form == Form::file) return {file_stem(folder)};
    if (form == Form::folders) return npy_stems(join_path(folder, streams[0]));
    std::vector<std::string> names = npy_stems(folder);
    if (form == Form::flat) return names;
    const std::string ending = "_" + streams[0];
    names.erase(std::remove_if(names.begin(), names.end(),
                               [&](const std::string& name) { return !ends_with(name, ending); }),
                names.end());
    for (std::string& name : names) name.resize(name.size() - ending.size());
    return names;
  }
};

/// rgb, then flow, then the others by name. Several of a sort are never meant to be joined.
std::vector<std::string> ordered_streams(std::vector<std::string> found, const std::string& folder) {
  const auto rank = [](const std::string& name) {
    return starts_with(lower(name), "rgb") ? 0 : starts_with(lower(name), "flow") ? 1 : 2;
  };
  std::stable_sort(found.begin(), found.end(),
                   [&](const auto& a, const auto& b) { return rank(a) < rank(b); });
  for (size_t i = 1; i < found.size(); ++i) {
    if (rank(found[i]) < 2 && rank(found[i]) == rank(found[i - 1])) {
      throw Error(folder + ": holds several streams of a kind: " + join(found, ", "),
                  "streams=" + found[i - 1] + "+… in the SPEC chooses and orders them");
    }
  }
  return found;
}

FeatureLayout find_layout(const DataSpec& spec, const std::string& split) {
  FeatureLayout layout;
  layout.folder = spec.path;
  if (!is_directory(spec.path)) {
    if (!is_npy(spec.path)) throw Error(spec.path + ": is no folder and no .npy file, expected features");
    layout.form = FeatureLayout::Form::file;
    layout.streams = {""};
    return layout;
  }
  if (!split.empty() && is_directory(join_path(spec.path, split)))
    layout.folder = join_path(spec.path, split);
  const std::vector<std::string> stems = npy_stems(layout.folder);
  const std::string given = spec.option("streams");
  std::vector<std::string> wanted;
  if (!given.empty()) wanted = zoo::split(given, '+');
  std::set<std::string> endings;
  for (const std::string& stem : stems) {
    for (const std::string& ending : wanted.empty() ? std::vector<std::string>{"rgb", "flow"} : wanted) {
      if (ends_with(stem, "_" + ending)) endings.insert(ending);
    }
  }
  if (!endings.empty()) {
    layout.form = FeatureLayout::Form::endings;
    layout.streams =
        wanted.empty() ? ordered_streams({endings.begin(), endings.end()}, layout.folder) : wanted;
  } else if (!stems.empty()) {
    layout.streams = {""};
  } else {
    layout.form = FeatureLayout::Form::folders;
    const std::vector<std::string> found = stream_folders(layout.folder);
    if (found.empty()) throw Error(layout.folder + ": holds no features, " + kLayouts);
    layout.streams = wanted.empty() ? ordered_streams(found, layout.folder) : wanted;
    for (const std::string& stream : layout.streams) {
      if (std::find(found.begin(), found.end(), stream) == found.end()) {
        throw Error(layout.folder + ": has no stream '" + stream + "', expected one of " + join(found, ", "));
      }
    }
  }
  return layout;
}

std::string info_path(const DataSpec& spec) {
  const std::string given = spec.option("info");
  if (!given.empty()) return given;
  if (!is_directory(spec.path)) return "";
  return first_of(spec.path, {"data_info.json", "data_info_new.json"});
}

ActionInfo find_info(const DataSpec& spec) {
  const std::string path = info_path(spec);
  return path.empty() ? ActionInfo() : read_action_info(path, spec.option("dataset"));
}

std::vector<std::string> lines_of(const std::string& path) {
  std::vector<std::string> lines;
  for (const std::string& line : split(read_file(path), '\n')) {
    if (!trim(line).empty()) lines.push_back(trim(line));
  }
  return lines;
}

std::string split_file(const DataSpec& spec, const std::string& split) {
  if (!is_directory(spec.path)) return "";
  return first_of(spec.path, {split + ".txt", "splits/" + split + ".txt"});
}

std::vector<std::string> sessions_of(const DataSpec& spec, const std::string& split, const ActionInfo& info,
                                     const FeatureLayout& layout) {
  for (const auto& [name, sessions] : info.splits) {
    if (name == split) return sessions;
  }
  const std::string file = split.empty() ? "" : split_file(spec, split);
  return file.empty() ? layout.sessions() : lines_of(file);
}

/// A video with its files open.
struct FeatureVideo {
  std::string name;
  std::vector<std::unique_ptr<NpyRows>> streams;
  int64_t steps = 0;
  std::function<LabelTable(int64_t)> read_labels;
  std::once_flag labels_read;
  LabelTable labels;
};

/// Of the files of a video.
struct Lengths {
  int64_t shortest = INT64_MAX, longest = 0;
  std::string short_name, long_name;

  void add(int64_t steps, const std::string& name) {
    if (steps < shortest) shortest = steps, short_name = name;
    if (steps > longest) longest = steps, long_name = name;
  }
  std::string difference() const {
    return format("%lld steps, but %lld in ", static_cast<long long>(longest),
                  static_cast<long long>(shortest)) +
           short_name;
  }
};

class FeatureFiles : public ActionDataset {
 public:
  FeatureFiles(const DataSpec& spec, const std::string& split, Findings& findings)
      : spec_(spec),
        layout_(find_layout(spec, split)),
        info_(find_info(spec)),
        labels_(spec, layout_.folder, info_) {
    fps_ = info_.steps_per_second > 0 ? info_.steps_per_second : kActionStepsPerSecond;
    const std::string fps = spec.option("fps");
    if (!fps.empty() && (!parse_double(fps, fps_) || !(fps_ > 0) || !std::isfinite(fps_)))
      throw UsageError("'" + spec.text + "': fps=" + fps + ", expected steps per second above 0");
    slack_ = spec.integer("slack", kSlack, 0, INT64_MAX);
    read_sessions(split, findings);
    int64_t all = 0;
    for (const auto& video : videos_) all += video->steps;
    description_ =
        format("features %s%s%s (%zu videos, %s steps)", spec.path.c_str(), split.empty() ? "" : " ",
               split.c_str(), videos_.size(), with_thousands(all).c_str());
  }

  int64_t size() const override { return static_cast<int64_t>(videos_.size()); }
  std::string name(int64_t video) const override { return at(video).name; }
  int64_t steps(int64_t video) const override { return at(video).steps; }
  int64_t feature_size() const override { return feature_size_; }
  double steps_per_second() const override { return fps_; }
  const std::vector<std::string>& class_names() const override {
    static const std::vector<std::string> kNone;
    return labels_.exist() ? labels_.classes().names : kNone;
  }
  int64_t ambiguous_class() const override { return labels_.classes().ambiguous; }
  std::string description() const override { return description_; }

  void read(const FeatureRows& rows, float* to) const override {
    for (int64_t i = 0; i < rows.count; ++i) {
      for (const auto& stream : at(rows.video).streams) {
        stream->read(rows.first + i * rows.every, to);
        to += stream->columns();
      }
    }
  }
  const LabelTable& labels(int64_t index) const override {
    FeatureVideo& video = *videos_[static_cast<size_t>(index)];
    if (!video.read_labels)
      throw Error(description_ + ": has no labels, expected target_perframe/ or the like");
    std::call_once(video.labels_read, [&] { video.labels = video.read_labels(video.steps); });
    return video.labels;
  }

 private:
  const FeatureVideo& at(int64_t video) const { return *videos_.at(static_cast<size_t>(video)); }

  void read_sessions(const std::string& split, Findings& findings) {
    std::set<std::string> excluded;
    const std::string list = spec_.option("exclude");
    if (!list.empty()) {
      for (const std::string& line : lines_of(list)) excluded.insert(line);
    }
    int64_t cut = 0;
    for (const std::string& session : sessions_of(spec_, split, info_, layout_)) {
      if (excluded.count(session) > 0) continue;
      const std::string file = layout_.path(session, layout_.streams[0]);
      try {
        cut += open_video(session, findings) ? 1 : 0;
      } catch (const Error& error) {
        if (findings.strict()) throw;
        findings.add(finding_of(error, file, "", "a row of features for each step"));
      }
    }
    if (cut > 0 && findings.strict()) {
      log_warning(
          format("%s: of %lld videos, features and labels differ by up to %lld steps: cut to the shortest",
                 spec_.path.c_str(), static_cast<long long>(cut), static_cast<long long>(slack_)));
    }
    if (videos_.empty()) throw Error(spec_.path + ": no video of split '" + split + "' can be read");
  }

  /// Whether its files differ in length.
  bool open_video(const std::string& session, Findings& findings) {
    auto video = std::make_unique<FeatureVideo>();
    video->name = session;
    int64_t columns = 0;
    Lengths lengths;
    for (const std::string& stream : layout_.streams) {
      video->streams.push_back(std::make_unique<NpyRows>(layout_.path(session, stream)));
      const NpyRows& rows = *video->streams.back();
      if (rows.is_list()) throw Error(rows.path() + ": one number a step, expected a row of features");
      columns += rows.columns();
      lengths.add(rows.rows(), rows.path());
    }
    if (labels_.exist()) {
      const auto [read, steps] = labels_.open(session, fps_);
      video->read_labels = read;
      if (steps >= 0) lengths.add(steps, "the labels of " + session);
    }
    const bool differ = lengths.longest != lengths.shortest;
    if (lengths.longest - lengths.shortest > slack_) {
      throw Error(lengths.long_name + ": " + lengths.difference() +
                      format(", expected a difference of at most %lld", static_cast<long long>(slack_)),
                  "slack=N in the SPEC allows more");
    }
    if (differ)
      findings.note(lengths.long_name, "", lengths.difference(), "equal lengths", "cut to the shortest");
    if (feature_size_ == 0) feature_size_ = columns;
    if (columns != feature_size_) {
      throw Error(format("%s: %lld features a step, expected %lld as in the others",
                         video->streams[0]->path().c_str(), static_cast<long long>(columns),
                         static_cast<long long>(feature_size_)));
    }
    video->steps = lengths.shortest;
    videos_.push_back(std::move(video));
    return differ;
  }

  const DataSpec spec_;
  const FeatureLayout layout_;
  const ActionInfo info_;
  LabelFiles labels_;
  double fps_ = 0;
  int64_t slack_ = 0, feature_size_ = 0;
  std::vector<std::unique_ptr<FeatureVideo>> videos_;
  std::string description_;
};

}  // namespace

std::vector<std::string> action_splits(const DataSpec& spec) {
  if (spec.kind == "video") {
    throw UsageError("'" + spec.text + "' has no features yet, expected features:PATH",
                     "zoo data make " + spec.text + " DIR writes them");
  }
  if (spec.embedded()) return {"train", "val"};
  std::vector<std::string> splits;
  for (const auto& [name, sessions] : find_info(spec).splits) splits.push_back(name);
  const std::string names[] = {"train", "val", "valid", "test"};
  if (!splits.empty() || !is_directory(spec.path))
    return splits.empty() ? std::vector<std::string>{""} : splits;
  for (const std::string& name : names) {
    const std::string folder = join_path(spec.path, name);
    if (is_directory(folder) && (!npy_stems(folder).empty() || !stream_folders(folder).empty()))
      splits.push_back(name);
  }
  for (const std::string& name : names) {
    if (splits.empty() || !is_directory(join_path(spec.path, splits[0]))) {
      if (!split_file(spec, name).empty()) splits.push_back(name);
    }
  }
  return splits.empty() ? std::vector<std::string>{""} : splits;
}

std::shared_ptr<ActionDataset> open_feature_files(const DataSpec& spec, const std::string& split,
                                                  Findings& findings) {
  return std::make_shared<FeatureFiles>(spec, split, findings);
}

}  // namespace zoo
