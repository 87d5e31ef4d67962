#include <mutex>
#include <set>

#include "core/error.h"
#include "core/text.h"
#include "datasets/actions/sources.h"
#include "datasets/make.h"
#include "datasets/parallel.h"

namespace zoo {
namespace {

constexpr char kInfoFile[] = "data_info.json";
constexpr char kStreamFolder[] = "features", kTargetFolder[] = "target_perframe";

/// A matrix as numpy.save writes it; `descr` "<f4" or "|u1".
void write_npy(const std::string& path, const char* descr, int64_t rows, int64_t columns,
               std::string_view data) {
  std::string header = format("{'descr': '%s', 'fortran_order': False, 'shape': (%lld, %lld), }", descr,
                              static_cast<long long>(rows), static_cast<long long>(columns));
  constexpr size_t kBefore = 10;  // magic, version, length
  while ((kBefore + header.size() + 1) % 64 != 0) header += ' ';
  header += '\n';
  const auto length = static_cast<uint16_t>(header.size());
  AtomicFile file(path);
  file.write(std::string_view("\x93NUMPY\x01\x00", 8));
  file.write(&length, sizeof length);
  file.write(header);
  file.write(data);
  file.commit();
}

/// The labels with the ambiguous class as their last column, where the set has one.
std::string target_bytes(const LabelTable& labels, int64_t columns) {
  std::string bytes(static_cast<size_t>(labels.steps() * columns), '\0');
  for (int64_t step = 0; step < labels.steps(); ++step) {
    const auto row = static_cast<size_t>(step * columns);
    for (const int32_t c : labels.classes_of(step)) bytes[row + static_cast<size_t>(c)] = 1;
    if (labels.ambiguous(step)) bytes[row + static_cast<size_t>(columns - 1)] = 1;
  }
  return bytes;
}

void write_video(const ActionDataset& dataset, int64_t video, const std::string& folder) {
  const std::string name = dataset.name(video) + ".npy";
  const int64_t steps = dataset.steps(video), width = dataset.feature_size();
  std::vector<float> features(static_cast<size_t>(steps * width));
  dataset.read({video, 0, steps, 1}, features.data());
  write_npy(join_path(folder, join_path(kStreamFolder, name)), "<f4", steps, width,
            {reinterpret_cast<const char*>(features.data()), features.size() * sizeof(float)});
  const auto columns =
      static_cast<int64_t>(dataset.class_names().size()) + (dataset.ambiguous_class() >= 0 ? 1 : 0);
  write_npy(join_path(folder, join_path(kTargetFolder, name)), "|u1", steps, columns,
            target_bytes(dataset.labels(video), columns));
}

/// What LSTR's data_info.json has of a set, as far as it is known.
Json info_of(const ActionDataset& dataset) {
  std::vector<std::string> names = dataset.class_names();
  if (dataset.ambiguous_class() >= 0) names.emplace_back("Ambiguous");
  const auto columns = static_cast<int64_t>(names.size());
  return {{"class_names", names},
          {"num_classes", columns},
          {"ignore_index", dataset.ambiguous_class() >= 0 ? columns - 1 : -100},
          {"fps", dataset.steps_per_second()}};
}

}  // namespace

void write_features(const std::string& path, const torch::Tensor& rows) {
  const torch::Tensor values = rows.to(torch::kCPU, torch::kFloat).contiguous();
  write_npy(path, "<f4", values.size(0), values.size(1),
            {reinterpret_cast<const char*>(values.const_data_ptr<float>()), values.nbytes()});
}

std::string make_actions(const DataSpec& spec, const std::string& target,
                         const std::function<void(int64_t, int64_t)>& progress) {
  const std::string folder = starts_with(target, "features:") ? target.substr(9) : target;
  if (folder.empty()) throw UsageError("data make: '" + target + "' names no folder, expected DIR");
  for (const char* name : {kInfoFile, kStreamFolder, kTargetFolder}) {
    if (file_exists(join_path(folder, name)) || is_directory(join_path(folder, name)))
      throw Error(folder + " already holds " + name + ", expected a new folder");
  }
  const std::string only = spec.option("split");
  Json info;
  std::vector<std::shared_ptr<ActionDataset>> splits;
  std::set<std::string> taken;
  int64_t total = 0, done = 0;
  for (const std::string& split :
       only.empty() ? std::vector<std::string>{"train", "val"} : std::vector<std::string>{only}) {
    const std::shared_ptr<ActionDataset> dataset = open_action_dataset(spec, split);
    if (!dataset->labelled())
      throw Error(dataset->description() + ": has no labels, expected a set that does");
    if (splits.empty()) info = info_of(*dataset);
    Json& sessions = info[split == "train" ? "train_session_set" : "val_session_set"] = Json::array();
    for (int64_t video = 0; video < dataset->size(); ++video) {
      sessions.push_back(dataset->name(video));
      if (!taken.insert(dataset->name(video)).second)
        throw Error(dataset->description() + ": " + dataset->name(video) +
                    " is in two splits, expected it in one");
    }
    total += dataset->size();
    splits.push_back(dataset);
  }
  make_folders(join_path(folder, kStreamFolder));
  make_folders(join_path(folder, kTargetFolder));
  std::mutex mutex;
  for (const auto& dataset : splits) {
    on_all_cores(dataset->size(), [&](int64_t video) {
      write_video(*dataset, video, folder);
      const std::lock_guard<std::mutex> lock(mutex);
      if (progress) progress(++done, total);
    });
  }
  write_file(join_path(folder, kInfoFile),
             dump_json({{spec.embedded() ? spec.kind : file_stem(spec.path), info}}) + "\n");
  return "features:" + folder;
}

}  // namespace zoo
