#include <mutex>

#include "core/error.h"
#include "core/text.h"
#include "datasets/captions/sources.h"
#include "datasets/make.h"
#include "datasets/parallel.h"

namespace zoo {
namespace {

constexpr char kListName[] = "metadata.jsonl";

struct CaptionSplit {
  std::string name;
  std::shared_ptr<CaptionDataset> dataset;
  std::string folder;
};

std::string picture_name(int64_t record) {
  return format("%06lld.png", static_cast<long long>(record));
}

std::vector<CaptionSplit> caption_splits_to_write(const DataSpec& spec, const std::string& folder) {
  const std::string only = spec.option("split");
  std::vector<std::string> names = caption_splits(spec);
  if (!only.empty()) names = {only};
  if (names == std::vector<std::string>{""}) names = {"train"};
  std::vector<CaptionSplit> splits;
  for (const std::string& name : names) {
    CaptionSplit split{name, open_caption_dataset(spec, name), join_path(folder, name)};
    if (file_exists(join_path(split.folder, kListName)))
      throw Error(folder + " already holds " + name + "/" + kListName + ", expected a new folder");
    splits.push_back(std::move(split));
  }
  return splits;
}

/// Written last: a split that was interrupted is never read as a whole one.
void write_caption_list(const CaptionSplit& split) {
  AtomicFile file(join_path(split.folder, kListName));
  for (int64_t i = 0; i < split.dataset->size(); ++i) {
    const std::vector<std::string> captions = split.dataset->captions(i);
    Json line = {{"file_name", picture_name(i)}};
    line["text"] = captions.size() == 1 ? Json(captions[0]) : Json(captions);
    file.write(line.dump(-1, ' ', false, Json::error_handler_t::replace) + "\n");
  }
  file.commit();
}

}  // namespace

std::string make_captions(const DataSpec& spec, const std::string& target,
                          const std::function<void(int64_t, int64_t)>& progress) {
  const std::string folder = starts_with(target, "captions:") ? target.substr(9) : target;
  if (folder.empty()) throw UsageError("data make: '" + target + "' names no folder, expected DIR");
  const std::vector<CaptionSplit> splits = caption_splits_to_write(spec, folder);
  int64_t total = 0, done = 0;
  for (const CaptionSplit& split : splits) total += split.dataset->size();
  std::mutex mutex;
  for (const CaptionSplit& split : splits) {
    make_folders(split.folder);
    on_all_cores(split.dataset->size(), [&](int64_t i) {
      write_picture(join_path(split.folder, picture_name(i)), split.dataset->picture(i));
      const std::lock_guard<std::mutex> lock(mutex);
      if (progress) progress(++done, total);
    });
    write_caption_list(split);
  }
  return "captions:" + folder;
}

}  // namespace zoo
