#include <algorithm>
#include <mutex>
#include <numeric>
#include <optional>
#include <set>

#include "core/error.h"
#include "core/files.h"
#include "core/formats/record_io.h"
#include "core/text.h"
#include "datasets/faces/sources.h"
#include "datasets/image.h"
#include "datasets/make.h"
#include "datasets/parallel.h"

namespace zoo {
namespace {

using Progress = std::function<void()>;

/// A split to write, its records ordered by identity.
struct Split {
  std::string name;
  FacePlan plan;
  std::shared_ptr<FaceDataset> dataset;
  std::vector<std::string> identities;  ///< as names of folders
  std::vector<int64_t> order;           ///< records
  std::vector<int64_t> numbers;         ///< of each record within its identity, from 1
  std::vector<FacePair> pairs;          ///< of another split than train

  std::string picture_name(int64_t record) const {
    const std::string& identity = identities[static_cast<size_t>(dataset->identity(record))];
    return format("%s/%s_%04lld.png", identity.c_str(), identity.c_str(),
                  static_cast<long long>(numbers[static_cast<size_t>(record)]));
  }
};

/// Without what would end a word of pairs.txt, a field of a CSV or a folder.
std::string folder_name(std::string name) {
  std::replace_if(
      name.begin(), name.end(), [](char c) { return c == '/' || c == ',' || c == '"' || c <= ' '; }, '_');
  return name;
}

Split open_split(const DataSpec& spec, const std::string& name) {
  Findings findings(/*strict=*/true);
  Split split{name, plan_faces(spec, name), nullptr, {}, {}, {}};
  split.dataset = read_faces(spec, split.plan, findings);
  if (split.dataset->identities().empty()) {
    throw Error("'" + spec.text + "' tells no identities, expected a set that does");
  }
  std::set<std::string> taken;
  for (const std::string& identity : split.dataset->identities()) {
    split.identities.push_back(folder_name(identity));
    if (!taken.insert(split.identities.back()).second) {
      throw Error(split.dataset->description() + ": identity '" + identity +
                  "' makes the folder of another one");
    }
  }
  const auto records = static_cast<size_t>(split.dataset->size());
  std::vector<int64_t> counts(split.identities.size());
  split.numbers.resize(records);
  for (size_t i = 0; i < records; ++i) {
    split.numbers[i] = ++counts[static_cast<size_t>(split.dataset->identity(static_cast<int64_t>(i)))];
  }
  split.order.resize(records);
  std::iota(split.order.begin(), split.order.end(), 0);
  std::stable_sort(split.order.begin(), split.order.end(), [&](int64_t a, int64_t b) {
    return split.dataset->identity(a) < split.dataset->identity(b);
  });
  return split;
}

void refuse_existing(const std::string& folder, const std::string& name) {
  if (file_exists(join_path(folder, name)))
    throw Error(folder + " already holds " + name + ", expected a new folder");
}

std::string list_line(const Split& split, int64_t record) {
  std::string line = split.name + "/" + split.picture_name(record) + "," +
                     split.identities[static_cast<size_t>(split.dataset->identity(record))];
  const std::optional<FaceLandmarks> landmarks = split.dataset->record(record).landmarks;
  if (landmarks) {
    for (const float value : *landmarks) line += format(",%.9g", static_cast<double>(value));
  }
  return line + "\n";
}

/// A list where there are landmarks, which folders cannot hold.
void write_list(const Split& split, const std::string& folder) {
  const auto has_landmarks = [&](int64_t i) { return split.dataset->record(i).landmarks.has_value(); };
  if (std::none_of(split.order.begin(), split.order.end(), has_landmarks)) return;
  AtomicFile file(join_path(folder, split.name + ".csv"));
  file.write(
      "path,identity,left_eye_x,left_eye_y,right_eye_x,right_eye_y,nose_x,nose_y,left_mouth_x,left_mouth_y,"
      "right_mouth_x,right_mouth_y\n");
  for (const int64_t record : split.order) file.write(list_line(split, record));
  file.commit();
}

void write_folders(const Split& split, const std::string& folder, const Progress& progress) {
  const std::string root = join_path(folder, split.name);
  for (const std::string& identity : split.identities) make_folders(join_path(root, identity));
  on_all_cores(split.dataset->size(), [&](int64_t i) {
    write_picture(join_path(root, split.picture_name(i)), split.dataset->image(i));
    progress();
  });
  write_list(split, folder);
}

/// LFW's form: `name i j`, `name i name j`.
void write_pairs(const Split& split, const std::string& path) {
  const int64_t folds = split.pairs.back().fold + 1, half = static_cast<int64_t>(split.pairs.size()) / 2;
  const auto name_of = [&](int64_t record) {
    return split.identities[static_cast<size_t>(split.dataset->identity(record))];
  };
  const auto number_of = [&](int64_t record) {
    return std::to_string(split.numbers[static_cast<size_t>(record)]);
  };
  std::string text =
      folds > 0 ? std::to_string(folds) + "\t" + std::to_string(half / folds) : std::to_string(half);
  for (const FacePair& pair : split.pairs) {
    text += "\n" + name_of(pair.a) + "\t" + number_of(pair.a) + "\t";
    if (!pair.same) text += name_of(pair.b) + "\t";
    text += number_of(pair.b);
  }
  write_file(path, text + "\n");
}

/// Aligned where landmarks tell how, since the format holds none.
cv::Mat record_picture(const Split& split, int64_t record) {
  const cv::Mat image = split.dataset->image(record);
  const std::optional<FaceLandmarks> landmarks = split.dataset->record(record).landmarks;
  return landmarks ? aligned_face(image, landmarks, FaceTransformOptions()) : image;
}

void write_records(const Split& split, const std::string& folder, const Progress& progress) {
  RecordWriter writer(join_path(folder, split.name));
  const auto images = static_cast<int64_t>(split.order.size());
  const auto identities = static_cast<int64_t>(split.identities.size());
  const auto number = [](int64_t value) { return static_cast<float>(value); };
  writer.add(0, image_record({number(images + 1), number(images + 1 + identities)}, 0, ""));
  cv::Size size;
  std::vector<std::pair<int64_t, int64_t>> ranges(split.identities.size(), {1, 1});
  for (int64_t key = 1; key <= images; ++key) {
    const int64_t record = split.order[static_cast<size_t>(key - 1)],
                  identity = split.dataset->identity(record);
    const cv::Mat picture = record_picture(split, record);
    size = picture.size();
    writer.add(key, image_record({number(identity)}, static_cast<uint64_t>(key), encode_png(picture)));
    auto& [first, last] = ranges[static_cast<size_t>(identity)];
    if (last == 1) first = key;
    last = key + 1;
    progress();
  }
  for (int64_t i = 0; i < identities; ++i) {
    const auto& [first, last] = ranges[static_cast<size_t>(i)];
    const int64_t key = images + 1 + i;
    writer.add(key, image_record({number(first), number(last)}, static_cast<uint64_t>(key), ""));
  }
  writer.commit();
  if (split.name != "train") return;
  write_file(join_path(folder, "property"),
             format("%lld,%d,%d\n", static_cast<long long>(identities), size.height, size.width));
}

}  // namespace

std::string make_faces(const DataSpec& spec, const std::string& target,
                       const std::function<void(int64_t, int64_t)>& progress) {
  const bool records = starts_with(target, "recordio:");
  const std::string folder = records                         ? target.substr(9)
                             : starts_with(target, "faces:") ? target.substr(6)
                                                             : target;
  if (folder.empty())
    throw UsageError("data make: '" + target + "' names no folder, expected DIR or recordio:DIR");
  const std::string only = spec.option("split");
  const bool whole = spec.kind == "lfw";
  std::vector<Split> splits;
  for (const std::string& name : whole          ? std::vector<std::string>{"val"}
                                 : only.empty() ? std::vector<std::string>{"train", "val"}
                                                : std::vector<std::string>{only}) {
    for (const std::string& file : {name + (records ? ".rec" : ""), name + ".csv"})
      refuse_existing(folder, file);
    splits.push_back(open_split(spec, name));
    Split& split = splits.back();
    if (!records && name != "train") split.pairs = pairs_of(spec, split.plan, *split.dataset, 0);
  }
  if (!records) refuse_existing(folder, "pairs.txt");
  int64_t total = 0, done = 0;
  for (const Split& split : splits) total += split.dataset->size();
  std::mutex mutex;
  const Progress step = [&] {
    const std::lock_guard<std::mutex> lock(mutex);
    ++done;
    if (progress) progress(done, total);
  };
  make_folders(folder);
  for (const Split& split : splits) {
    records ? write_records(split, folder, step) : write_folders(split, folder, step);
    if (!split.pairs.empty()) write_pairs(split, join_path(folder, "pairs.txt"));
  }
  return (records ? "recordio:" : "faces:") + folder;
}

}  // namespace zoo
