#include <algorithm>
#include <cmath>
#include <numeric>
#include <unordered_set>

#include "core/error.h"
#include "core/files.h"
#include "core/log.h"
#include "core/random.h"
#include "core/text.h"
#include "datasets/faces/sources.h"
#include "datasets/splits.h"

namespace zoo {
namespace {

using Dataset = std::shared_ptr<FaceDataset>;

constexpr int64_t kPairs = 6000;
constexpr int64_t kMostHeldOut = 500;

class FaceSubset : public FaceDataset {
 public:
  FaceSubset(Dataset whole, std::vector<int64_t> indices)
      : whole_(std::move(whole)), indices_(std::move(indices)) {}

  int64_t size() const override { return static_cast<int64_t>(indices_.size()); }
  int64_t identity(int64_t index) const override { return whole_->identity(inner(index)); }
  FaceRecord record(int64_t index) const override { return whole_->record(inner(index)); }
  cv::Mat image(int64_t index) const override { return whole_->image(inner(index)); }
  const std::vector<std::string>& identities() const override { return whole_->identities(); }
  std::string description() const override {
    return format("%lld of %s", static_cast<long long>(size()), whole_->description().c_str());
  }

 protected:
  int64_t inner(int64_t index) const { return indices_.at(static_cast<size_t>(index)); }
  Dataset whole_;
  std::vector<int64_t> indices_;
};

class IdentitySubset : public FaceSubset {
 public:
  IdentitySubset(const Dataset& whole, std::vector<int64_t> indices, const std::vector<int64_t>& identities,
                 std::string name)
      : FaceSubset(whole, std::move(indices)),
        numbers_(whole->identities().size(), -1),
        name_(std::move(name)) {
    for (const int64_t identity : identities) {
      numbers_[static_cast<size_t>(identity)] = static_cast<int64_t>(names_.size());
      names_.push_back(whole->identities()[static_cast<size_t>(identity)]);
    }
  }

  int64_t identity(int64_t index) const override {
    return numbers_[static_cast<size_t>(FaceSubset::identity(index))];
  }
  FaceRecord record(int64_t index) const override {
    FaceRecord record = FaceSubset::record(index);
    record.identity = numbers_[static_cast<size_t>(record.identity)];
    return record;
  }
  const std::vector<std::string>& identities() const override { return names_; }
  std::string description() const override {
    return format("%s (%lld pictures of %zu identities)", name_.c_str(), static_cast<long long>(size()),
                  names_.size());
  }

 private:
  std::vector<int64_t> numbers_;  // of the whole set's identities
  std::vector<std::string> names_;
  std::string name_;
};

bool holds_folders(const std::string& path) {
  if (!is_directory(path)) return false;
  const std::vector<std::string> names = list_folder(path);
  return std::any_of(names.begin(), names.end(),
                     [&](const std::string& name) { return is_directory(join_path(path, name)); });
}

/// Folders of folders, and lists, by the names that splits have: `train`, `val`, …
std::vector<std::string> folder_splits(const std::string& path) {
  std::vector<std::string> splits;
  for (const std::string& name : list_folder(path)) {
    if (ends_with(name, ".csv")) {
      splits.push_back(file_stem(name));
    } else if (holds_folders(join_path(path, name))) {
      splits.push_back(name);
    }
  }
  std::sort(splits.begin(), splits.end());
  splits.erase(std::unique(splits.begin(), splits.end()), splits.end());
  return splits;
}

std::vector<std::string> record_splits(const std::string& path) {
  std::vector<std::string> splits;
  for (const std::string& name : list_folder(path)) {
    if (ends_with(name, ".rec")) splits.push_back(file_stem(name));
  }
  if (splits.empty()) throw Error(path + ": holds no .rec, expected train.rec with train.idx");
  return splits;
}

/// Splits that have files of their own; none where identities must be divided.
std::vector<std::string> stored_splits(const DataSpec& spec) {
  if (!is_directory(spec.path)) {
    if (!file_exists(spec.path))
      throw Error(spec.text + ": " + spec.path + " is missing, expected a folder or file");
    return {};
  }
  if (spec.kind == "faces") return folder_splits(spec.path);
  const std::vector<std::string> splits = record_splits(spec.path);
  return splits.size() > 1 ? splits : std::vector<std::string>();
}

/// The file or folder of a split, or of the whole set where `split` is empty.
std::string source_path(const DataSpec& spec, const std::string& split) {
  if (!is_directory(spec.path)) return spec.path;
  if (spec.kind == "recordio") {
    return join_path(spec.path, (split.empty() ? record_splits(spec.path)[0] : split) + ".rec");
  }
  if (split.empty()) return spec.path;
  const std::string list = join_path(spec.path, split + ".csv");
  return file_exists(list) ? list : join_path(spec.path, split);
}

/// Where the pictures of LFW's form are: as `zoo data make` writes it, those that pairs.txt names are the split val.
std::string lfw_pictures(const std::string& path) {
  const std::string list = join_path(path, "val.csv"), folder = join_path(path, "val");
  if (file_exists(list)) return list;
  return holds_folders(folder) ? folder : path;
}

bool divided(const DataSpec& spec) {
  return spec.kind == "faces" || spec.kind == "recordio";
}

/// `val_identities`: a number of them, or a share.
int64_t held_out_count(const DataSpec& spec, int64_t identities) {
  const std::string text = spec.option("val_identities");
  double value = 0;
  if (text.empty())
    return std::clamp<int64_t>(identities / 4, std::min<int64_t>(2, identities - 1), kMostHeldOut);
  if (!parse_double(text, value) || !(value > 0) || (value >= 1 && value != std::floor(value))) {
    throw UsageError("'" + spec.text + "': val_identities=" + text +
                     ", expected a number of identities or a share below 1");
  }
  const double count = value < 1 ? std::round(value * static_cast<double>(identities)) : value;
  if (count < 1 || count > static_cast<double>(identities - 1)) {
    throw Error(format("%s: val_identities=%s, expected 1 to %lld of the %lld identities", spec.text.c_str(),
                       text.c_str(), static_cast<long long>(identities - 1),
                       static_cast<long long>(identities)));
  }
  return static_cast<int64_t>(count);
}

Dataset part_of(const Dataset& whole, const DataSpec& spec, const std::string& split) {
  const auto identities = static_cast<int64_t>(whole->identities().size());
  if (identities < 2) {
    throw Error(whole->description() +
                ": too few identities to be split, expected two or more, or split=all");
  }
  const auto seed = static_cast<uint64_t>(spec.integer("seed", 0, 0, INT64_MAX));
  const auto [val, train] = hold_out(identities, held_out_count(spec, identities), seed);
  return keep_identities(whole, split == "val" ? val : train, spec.text + " " + split);
}

[[noreturn]] void refuse(const DataSpec& spec) {
  std::vector<std::string> names;
  for (const DataKind& kind : data_kinds()) {
    if (kind.task == "verification") names.push_back(kind.embedded ? kind.name : kind.name + ":");
  }
  throw UsageError("'" + spec.text + "' is no data of faces, expected one of " + join(names, ", "));
}

std::string property_path(const DataSpec& spec, const FacePlan& plan) {
  if (file_stem(plan.path) != "train" && stored_splits(spec).size() > 1) return "";
  return join_path(parent_folder(plan.path), "property");
}

Dataset read_whole(const DataSpec& spec, const FacePlan& plan, Findings& findings) {
  if (spec.kind == "recordio") return open_record_faces(plan.path, property_path(spec, plan), findings);
  const std::string name = plan.split.empty() || plan.by_identity ? spec.text : spec.text + " " + plan.split;
  return face_files(is_directory(plan.path) ? read_identity_folders(plan.path, findings)
                                            : read_face_list(plan.path, findings),
                    name);
}

Dataset open_limited(const std::string& text, const std::string& split, int64_t max_images) {
  Dataset dataset = open_face_dataset(parse_data_spec(text), split);
  if (max_images == 0 || dataset->size() <= max_images) return dataset;
  std::vector<int64_t> first(static_cast<size_t>(max_images));
  std::iota(first.begin(), first.end(), 0);
  return subset(dataset, std::move(first));
}

/// The identities of the training set that data.val_fraction holds out, or the others.
Dataset fraction_of(const DataOptions& options, bool held_out, uint64_t seed) {
  const Dataset whole = open_limited(options.train, "train", options.max_images);
  const auto identities = static_cast<int64_t>(whole->identities().size());
  if (identities < 2) throw Error(whole->description() + ": data.val_fraction needs at least two identities");
  const auto share =
      static_cast<int64_t>(std::llround(options.val_fraction * static_cast<double>(identities)));
  const auto [val, train] = hold_out(identities, std::clamp<int64_t>(share, 1, identities - 1), seed);
  return keep_identities(whole, held_out ? val : train, options.train + (held_out ? ", held out" : ""));
}

/// Without the pictures that no pair uses.
FaceVerificationSet pair_set(const Dataset& dataset, std::vector<FacePair> pairs) {
  std::vector<int64_t> places(static_cast<size_t>(dataset->size()), -1), used;
  for (FacePair& pair : pairs) {
    for (int64_t* index : {&pair.a, &pair.b}) {
      int64_t& place = places[static_cast<size_t>(*index)];
      if (place < 0) {
        place = static_cast<int64_t>(used.size());
        used.push_back(*index);
      }
      *index = place;
    }
  }
  const std::string description = format("%s, %zu pairs", dataset->description().c_str(), pairs.size());
  return {subset(dataset, std::move(used)), std::move(pairs), description};
}

}  // namespace

std::pair<std::vector<int64_t>, std::vector<int64_t>> hold_out(int64_t identities, int64_t count,
                                                               uint64_t seed) {
  std::vector<int64_t> order = RandomStream{seed, 0x66616365}.permutation(identities);  // "face"
  std::sort(order.begin(), order.begin() + count);
  std::sort(order.begin() + count, order.end());
  return {{order.begin(), order.begin() + count}, {order.begin() + count, order.end()}};
}

Dataset keep_identities(Dataset dataset, const std::vector<int64_t>& identities,
                        const std::string& description) {
  std::vector<bool> kept(dataset->identities().size());
  for (const int64_t identity : identities) kept[static_cast<size_t>(identity)] = true;
  std::vector<int64_t> indices;
  for (int64_t i = 0; i < dataset->size(); ++i) {
    const int64_t identity = dataset->identity(i);
    if (identity >= 0 && kept[static_cast<size_t>(identity)]) indices.push_back(i);
  }
  return std::make_shared<IdentitySubset>(dataset, std::move(indices), identities, description);
}

Dataset subset(Dataset dataset, std::vector<int64_t> indices) {
  for (const int64_t index : indices) {
    if (index < 0 || index >= dataset->size())
      throw std::out_of_range("subset: no record " + std::to_string(index));
  }
  return std::make_shared<FaceSubset>(std::move(dataset), std::move(indices));
}

FacePlan plan_faces(const DataSpec& spec, const std::string& default_split) {
  if (spec.embedded()) return {"", spec.option("split", default_split), false};
  if (!divided(spec)) {
    const std::string split = choose_split(spec, default_split, {""});
    return {spec.kind == "lfw" ? lfw_pictures(spec.path) : spec.path, split, false};
  }
  std::vector<std::string> splits = stored_splits(spec);
  const bool by_identity = splits.empty();
  if (by_identity) splits = {"all", "train", "val"};
  const std::string split = choose_split(spec, default_split, splits);
  return {source_path(spec, by_identity ? "" : split), split, by_identity};
}

std::vector<std::string> splits_to_check(const DataSpec& spec) {
  const std::string wanted = spec.option("split");
  if (!wanted.empty()) return {wanted};
  if (spec.embedded()) return {"train", "val"};
  if (!divided(spec)) return {""};
  const std::vector<std::string> found = stored_splits(spec);
  if (found.empty()) return {"all"};
  std::vector<std::string> names;
  for (const char* name : {"train", "val"}) {
    const std::string split = find_split(name, true, found);
    if (!split.empty()) names.push_back(split);
  }
  return names.empty() ? found : names;
}

Dataset read_faces(const DataSpec& spec, const FacePlan& plan, Findings& findings) {
  if (spec.kind == "bin") return open_pair_bin(spec.path).images;
  if (spec.kind == "ijb") return open_face_templates(spec).images;
  if (spec.kind == "faces" && spec.embedded()) return open_drawn_faces(spec, plan.split);
  if (spec.kind != "lfw" && !divided(spec)) refuse(spec);
  const Dataset whole = read_whole(spec, plan, findings);
  return plan.by_identity && plan.split != "all" ? part_of(whole, spec, plan.split) : whole;
}

std::string pair_list_path(const DataSpec& spec, const FacePlan& plan) {
  const std::string given = spec.option("pairs");
  if (!given.empty()) return given;
  if (spec.kind != "lfw" && (spec.kind != "faces" || spec.embedded())) return "";
  const std::string beside =
      join_path(is_directory(spec.path) ? spec.path : parent_folder(spec.path), "pairs.txt");
  if (spec.kind == "lfw") return beside;
  // Of a set that is split by identity it may join identities of both sides.
  const bool meant = plan.by_identity ? plan.split == "all" : plan.split != "train";
  return meant && file_exists(beside) ? beside : "";
}

std::vector<FacePair> pairs_of(const DataSpec& spec, const FacePlan& plan, const FaceDataset& dataset,
                               uint64_t seed) {
  const std::string list = pair_list_path(spec, plan);
  if (list.empty()) return draw_face_pairs(dataset, kPairs, seed);
  Findings findings(/*strict=*/true);
  return resolve_pairs(dataset, read_pair_list(list), list, findings);
}

Dataset open_face_dataset(const DataSpec& spec, const std::string& default_split) {
  Findings findings(/*strict=*/true);
  return read_faces(spec, plan_faces(spec, default_split), findings);
}

FaceVerificationSet open_face_pairs(const DataSpec& spec, const std::string& default_split, uint64_t seed) {
  if (spec.kind == "bin") {
    plan_faces(spec, default_split);  // refuses a split
    return open_pair_bin(spec.path);
  }
  if (spec.kind == "ijb") {
    throw UsageError("'" + spec.text + "' compares templates of several pictures, expected a set of pairs");
  }
  Findings findings(/*strict=*/true);
  const FacePlan plan = plan_faces(spec, default_split);
  const Dataset dataset = read_faces(spec, plan, findings);
  return pair_set(dataset, pairs_of(spec, plan, *dataset, seed));
}

Dataset open_face_training(const DataOptions& options, uint64_t seed) {
  if (options.val_fraction > 0) return fraction_of(options, false, seed);
  return open_limited(options.train, "train", options.max_images);
}

FaceVerificationSet open_face_validation(const DataOptions& options, uint64_t seed) {
  if (!options.val.empty() && options.val_fraction > 0) {
    throw UsageError(
        "data.val and data.val_fraction exclude each other: expected a set to validate on, or a share of "
        "the training set's identities");
  }
  if (options.val_fraction > 0) {
    const Dataset held_out = fraction_of(options, true, seed);
    return pair_set(held_out, draw_face_pairs(*held_out, kPairs, seed));
  }
  if (!options.val.empty()) return open_face_pairs(parse_data_spec(options.val), "val", seed);
  const DataSpec spec = parse_data_spec(options.train);
  if (!spec.option("split").empty()) {
    log_warning("validation uses identities of the training set " + options.train +
                ", since it names its split (--val-data takes another)");
  }
  return open_face_pairs(spec, "val", seed);
}

}  // namespace zoo
