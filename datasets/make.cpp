#include "datasets/make.h"

#include <cerrno>
#include <cstdio>
#include <cstring>
#include <memory>
#include <mutex>
#include <set>
#include <utility>
#include <vector>

#include "core/error.h"
#include "core/files.h"
#include "core/options.h"
#include "core/text.h"
#include "datasets/detection.h"
#include "datasets/image.h"
#include "datasets/parallel.h"

namespace zoo {
namespace {

/// A split to write: its pictures' new names stand beside its records.
struct Split {
  std::string name;
  std::shared_ptr<DetectionDataset> dataset;
  std::vector<std::string> names;
};

std::vector<std::string> png_names(const DetectionDataset& dataset) {
  std::vector<std::string> names;
  std::set<std::string> taken;
  for (int64_t i = 0; i < dataset.size(); ++i) {
    const DetectionRecord& record = dataset.record(i);
    const auto id = static_cast<long long>(record.image_id);
    std::string stem = file_stem(record.file_name);
    if (stem.empty()) stem = format("%012lld", id);
    if (!taken.insert(stem).second) {
      stem += format("-%lld", id);
      taken.insert(stem);
    }
    names.push_back(stem + ".png");
  }
  return names;
}

std::string json_path(const std::string& folder, const std::string& split) {
  return folder + "/annotations/instances_" + split + ".json";
}

std::vector<Split> splits_to_write(const DataSpec& spec, const std::string& folder) {
  std::vector<Split> splits;
  const std::string only = spec.option("split");
  for (const std::string& name :
       only.empty() ? std::vector<std::string>{"train", "val"} : std::vector<std::string>{only}) {
    if (file_exists(json_path(folder, name))) {
      throw Error(folder + " already holds " + json_path("", name).substr(1) + ", expected a new folder");
    }
    Split split{name, open_detection_dataset(spec, name), {}};
    split.names = png_names(*split.dataset);
    splits.push_back(std::move(split));
  }
  return splits;
}

/// Streams a document of lists, one item a line; bytes that are no UTF-8 are replaced.
class JsonLists {
 public:
  explicit JsonLists(const std::string& path) : file_(path) {}
  void list(const std::string& key) {
    file_.write(std::string(any_list_ ? "],\n\"" : "{\"") + key + "\": [");
    any_list_ = true;
    any_item_ = false;
  }
  void item(const Json& value) {
    file_.write((any_item_ ? ",\n" : "\n") + value.dump(-1, ' ', false, Json::error_handler_t::replace));
    any_item_ = true;
  }
  void commit() {
    file_.write("]}\n");
    file_.commit();
  }

 private:
  AtomicFile file_;
  bool any_list_ = false, any_item_ = false;
};

void write_annotations(const std::string& path, const Split& split) {
  JsonLists lists(path);
  const DetectionDataset& data = *split.dataset;
  lists.list("categories");
  for (const Category& one : data.categories()) lists.item({{"id", one.id}, {"name", one.name}});
  lists.list("images");
  for (int64_t i = 0; i < data.size(); ++i) {
    const DetectionRecord& record = data.record(i);
    const std::string& name = split.names[static_cast<size_t>(i)];
    lists.item(
        {{"id", record.image_id}, {"file_name", name}, {"width", record.width}, {"height", record.height}});
  }
  lists.list("annotations");
  for (int64_t i = 0; i < data.size(); ++i) {
    const DetectionRecord& record = data.record(i);
    for (const ObjectAnnotation& one : record.objects) {
      lists.item({{"id", one.id},
                  {"image_id", record.image_id},
                  {"category_id", one.category_id},
                  {"bbox", one.box},
                  {"area", one.area},
                  {"iscrowd", one.crowd ? 1 : 0}});
    }
  }
  lists.commit();
}

}  // namespace

void write_picture(const std::string& path, const cv::Mat& image) {
  const std::string bytes = encode_png(image);
  std::FILE* file = std::fopen(path.c_str(), "wb");
  bool good = file != nullptr && std::fwrite(bytes.data(), 1, bytes.size(), file) == bytes.size();
  if (file != nullptr && std::fclose(file) != 0) good = false;
  if (!good) throw Error("cannot write " + path + ": " + std::strerror(errno));
}

std::string make_data(const DataSpec& spec, const std::string& target,
                      const std::function<void(int64_t, int64_t)>& progress) {
  if (data_kind(spec).task == "verification") return make_faces(spec, target, progress);
  if (data_kind(spec).task == "online-action") return make_actions(spec, target, progress);
  if (data_kind(spec).task == "generation") return make_captions(spec, target, progress);
  const std::string folder = starts_with(target, "coco:") ? target.substr(5) : target;
  make_detection(spec, folder, progress);
  return "coco:" + folder;
}

void make_detection(const DataSpec& spec, const std::string& folder,
                    const std::function<void(int64_t, int64_t)>& progress) {
  const std::vector<Split> splits = splits_to_write(spec, folder);
  int64_t total = 0, done = 0;
  for (const Split& split : splits) total += split.dataset->size();
  make_folders(folder + "/annotations");
  std::mutex mutex;
  for (const Split& split : splits) {
    make_folders(folder + "/" + split.name);
    on_all_cores(split.dataset->size(), [&](int64_t i) {
      write_picture(folder + "/" + split.name + "/" + split.names[static_cast<size_t>(i)],
                    split.dataset->image(i));
      const std::lock_guard<std::mutex> lock(mutex);
      ++done;
      if (progress) progress(done, total);
    });
    write_annotations(json_path(folder, split.name), split);
  }
}

}  // namespace zoo
