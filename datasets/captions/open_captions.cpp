#include <algorithm>
#include <cmath>
#include <numeric>
#include <opencv2/imgcodecs.hpp>
#include <opencv2/imgproc.hpp>

#include "core/error.h"
#include "core/log.h"
#include "core/text.h"
#include "datasets/captions/sources.h"
#include "datasets/image.h"
#include "datasets/splits.h"

namespace zoo {
namespace {

using Captions = std::shared_ptr<CaptionDataset>;

constexpr const char* kListNames[] = {"metadata.jsonl", "captions.jsonl"};
constexpr const char* kSplitNames[] = {"train",     "val",     "valid",     "test",
                                       "train2017", "val2017", "train2014", "val2014"};

/// What is transparent shows it.
cv::Vec3b ground_color(const DataSpec& spec) {
  const std::string name = spec.option("ground", "white");
  if (name == "white") return {255, 255, 255};
  if (name == "black") return {0, 0, 0};
  if (name == "grey") return {128, 128, 128};
  throw UsageError("'" + spec.text + "': ground=" + name + ", expected white, grey or black");
}

class CaptionFiles : public CaptionDataset {
 public:
  CaptionFiles(std::string description, const cv::Vec3b& ground, std::vector<MappedFile> shards,
               std::vector<CaptionRecord> records)
      : description_(std::move(description)),
        ground_(ground),
        shards_(std::move(shards)),
        records_(std::move(records)) {}

  int64_t size() const override { return static_cast<int64_t>(records_.size()); }
  std::string name(int64_t record) const override { return at(record).name; }
  cv::Mat picture(int64_t record) const override {
    const CaptionRecord& one = at(record);
    if (!one.file.empty()) {
      const MappedFile file(one.file);
      return decode_on_ground(file.data(), file.size(), ground_, one.file);
    }
    const MappedFile& shard = shards_[one.shard];
    return decode_on_ground(shard.data() + one.offset, one.size, ground_,
                            parent_folder(shard.path()) + "/" + one.name);
  }
  std::vector<std::string> captions(int64_t record) const override { return at(record).captions; }
  const std::vector<CaptionTrait>& trait_list() const override {
    static const std::vector<CaptionTrait> none;
    return none;
  }
  std::vector<int64_t> traits(int64_t) const override { return {}; }
  std::string description() const override {
    return format("%s (%zu pictures)", description_.c_str(), records_.size());
  }

 private:
  const CaptionRecord& at(int64_t record) const { return records_.at(static_cast<size_t>(record)); }

  std::string description_;
  cv::Vec3b ground_;
  std::vector<MappedFile> shards_;
  std::vector<CaptionRecord> records_;
};

class CaptionSubset : public CaptionDataset {
 public:
  CaptionSubset(Captions whole, std::vector<int64_t> records)
      : whole_(std::move(whole)), records_(std::move(records)) {}

  int64_t size() const override { return static_cast<int64_t>(records_.size()); }
  std::string name(int64_t record) const override { return whole_->name(at(record)); }
  cv::Mat picture(int64_t record) const override { return whole_->picture(at(record)); }
  std::vector<std::string> captions(int64_t record) const override { return whole_->captions(at(record)); }
  const std::vector<CaptionTrait>& trait_list() const override { return whole_->trait_list(); }
  std::vector<int64_t> traits(int64_t record) const override { return whole_->traits(at(record)); }
  std::string description() const override {
    return format("%zu pictures of ", records_.size()) + whole_->description();
  }

 private:
  int64_t at(int64_t record) const { return records_.at(static_cast<size_t>(record)); }

  Captions whole_;
  std::vector<int64_t> records_;
};

/// Files of a folder whose names fit, as paths.
std::vector<std::string> fitting(const std::string& folder, const std::string& pattern) {
  std::vector<std::string> paths;
  for (const std::string& name : list_folder(folder)) {
    if (matches_wildcard(name, pattern)) paths.push_back(join_path(folder, name));
  }
  return paths;
}

/// What one folder holds itself: a list, or shards, or pairs.
bool plan_folder(const std::string& folder, CaptionPlan& plan) {
  for (const char* name : kListNames) {
    if (file_exists(join_path(folder, name))) plan.lists.push_back(join_path(folder, name));
    if (!plan.lists.empty()) return true;
  }
  plan.shards = fitting(folder, "*.tar");
  if (!plan.shards.empty()) return true;
  const std::vector<std::string> names = list_folder(folder);
  if (std::none_of(names.begin(), names.end(), has_image_ending)) return false;
  plan.folders.push_back(folder);
  return true;
}

/// The files of a split beside each other in the set's folder: train/, train.jsonl, train*.tar.
bool plan_split(const std::string& root, const std::string& split, CaptionPlan& plan) {
  const std::string folder = join_path(root, split), list = folder + ".jsonl";
  if (is_directory(folder)) return plan_folder(folder, plan);
  if (file_exists(list)) plan.lists.push_back(list);
  if (plan.lists.empty()) plan.shards = fitting(root, split + "-*.tar");
  return !plan.lists.empty() || !plan.shards.empty();
}

Captions open_first_captions(const std::string& spec, const std::string& default_split, int64_t most) {
  Captions dataset = open_caption_dataset(parse_data_spec(spec), default_split);
  if (most == 0 || dataset->size() <= most) return dataset;
  std::vector<int64_t> first(static_cast<size_t>(most));
  std::iota(first.begin(), first.end(), 0);
  return subset(dataset, std::move(first));
}

/// The records of `options.train` that data.val_fraction holds out, or the others; both keep their order.
Captions part_of_captions(const DataOptions& options, bool held_out, uint64_t seed) {
  const Captions whole = open_first_captions(options.train, "train", options.max_images);
  const int64_t all = whole->size();
  if (all < 2) throw Error(whole->description() + ": data.val_fraction needs at least two pictures to split");
  const int64_t count =
      std::clamp<int64_t>(std::llround(options.val_fraction * static_cast<double>(all)), 1, all - 1);
  const std::vector<int64_t> order =
      RandomStream{seed, 0x76616C}.permutation(all);  // "val": unlike any epoch's order
  std::vector<int64_t> part(held_out ? order.begin() : order.begin() + count,
                            held_out ? order.begin() + count : order.end());
  std::sort(part.begin(), part.end());
  return subset(whole, std::move(part));
}

/// PNG and WebP alone hold transparency.
bool may_be_transparent(const uint8_t* data, size_t size) {
  const std::string_view bytes(reinterpret_cast<const char*>(data), std::min<size_t>(size, 12));
  return starts_with(bytes, "\x89PNG") || ends_with(bytes, "WEBP");
}

}  // namespace

cv::Mat decode_on_ground(const uint8_t* data, size_t size, const cv::Vec3b& ground, const std::string& name) {
  cv::Mat rgb = decode_image(data, size, name);
  if (!may_be_transparent(data, size)) return rgb;
  const cv::Mat bytes(1, static_cast<int>(size), CV_8UC1, const_cast<uint8_t*>(data));
  cv::Mat whole = cv::imdecode(bytes, cv::IMREAD_UNCHANGED);
  if (whole.channels() != 4 || whole.size() != rgb.size()) return rgb;
  if (whole.depth() == CV_16U) whole.convertTo(whole, CV_8U, 1.0 / 257);
  for (int y = 0; y < rgb.rows; ++y) {
    const auto* from = whole.ptr<cv::Vec4b>(y);
    auto* to = rgb.ptr<cv::Vec3b>(y);
    for (int x = 0; x < rgb.cols; ++x) {
      const int alpha = from[x][3];
      for (int c = 0; c < 3; ++c)
        to[x][c] = static_cast<uint8_t>((from[x][2 - c] * alpha + ground[c] * (255 - alpha) + 127) / 255);
    }
  }
  return rgb;
}

std::vector<std::string> caption_splits(const DataSpec& spec) {
  if (spec.embedded()) return {"train", "val"};
  std::vector<std::string> found;
  if (is_directory(spec.path)) {
    for (const char* split : kSplitNames) {
      CaptionPlan plan;
      if (plan_split(spec.path, split, plan)) found.emplace_back(split);
    }
  }
  return found.empty() ? std::vector<std::string>{""} : found;
}

CaptionPlan plan_captions(const DataSpec& spec, const std::string& default_split) {
  CaptionPlan plan;
  plan.path = spec.path;
  plan.split = choose_split(spec, default_split, caption_splits(spec));
  if (!plan.split.empty()) {
    plan_split(spec.path, plan.split, plan);
  } else if (is_directory(spec.path)) {
    plan_folder(spec.path, plan);
  } else if (ends_with(spec.path, ".tar")) {
    plan.shards = fitting(parent_folder(spec.path), file_name(spec.path));
  } else if (file_exists(spec.path)) {
    plan.lists.push_back(spec.path);
  }
  if (!plan.lists.empty() || !plan.folders.empty() || !plan.shards.empty()) return plan;
  const bool there = file_exists(spec.path) || spec.path.find('*') != std::string::npos;
  throw Error(spec.path + (there ? ": no captioned pictures" : ": is not there") +
              ", expected a folder with metadata.jsonl or captions.jsonl, with pictures and .txt beside "
              "them, or with "
              ".tar shards; or such a file");
}

Captions read_captions(const DataSpec& spec, const CaptionPlan& plan, Findings& findings) {
  std::vector<CaptionRecord> records;
  std::vector<MappedFile> shards;
  for (const std::string& list : plan.lists) read_caption_list(list, findings, records);
  for (const std::string& folder : plan.folders) read_caption_pairs(folder, findings, records);
  for (const std::string& path : plan.shards) {
    shards.emplace_back(path);
    read_caption_shard(shards.back(), shards.size() - 1, findings, records);
  }
  if (records.empty() && findings.strict()) throw Error(plan.path + ": no picture with a sentence in it");
  const std::string description = plan.split.empty() ? plan.path : plan.path + " " + plan.split;
  return std::make_shared<CaptionFiles>(description, ground_color(spec), std::move(shards),
                                        std::move(records));
}

Captions open_caption_dataset(const DataSpec& spec, const std::string& default_split) {
  if (data_kind(spec).task != "generation") {
    throw UsageError("'" + spec.text + "' is data for " + data_kind(spec).task +
                     ", expected captions or captions:PATH");
  }
  if (spec.embedded()) return open_drawn_captions(spec, spec.option("split", default_split));
  Findings findings(/*strict=*/true);
  return read_captions(spec, plan_captions(spec, default_split), findings);
}

Captions subset(Captions dataset, std::vector<int64_t> records) {
  for (const int64_t record : records) {
    if (record < 0 || record >= dataset->size())
      throw std::out_of_range("subset: no record " + std::to_string(record));
  }
  return std::make_shared<CaptionSubset>(std::move(dataset), std::move(records));
}

Captions open_caption_training(const DataOptions& options, uint64_t seed) {
  if (options.val_fraction > 0) return part_of_captions(options, false, seed);
  return open_first_captions(options.train, "train", options.max_images);
}

Captions open_caption_validation(const DataOptions& options, uint64_t seed) {
  if (!options.val.empty() && options.val_fraction > 0) {
    throw UsageError(
        "data.val and data.val_fraction exclude each other: expected a set to validate on, or a share of the "
        "training set");
  }
  if (options.val_fraction > 0) return part_of_captions(options, true, seed);
  if (!options.val.empty()) return open_first_captions(options.val, "val", options.max_images);
  const DataSpec spec = parse_data_spec(options.train);
  if (!spec.option("split").empty() || caption_splits(spec) == std::vector<std::string>{""}) {
    log_warning("validation uses the training set " + options.train +
                " (--val-data takes another, data.val_fraction holds a share back)");
  }
  return open_first_captions(options.train, "val", options.max_images);
}

}  // namespace zoo
