#include <algorithm>

#include "core/error.h"
#include "core/text.h"
#include "datasets/faces/face_painter.h"
#include "datasets/faces/sources.h"

namespace zoo {
namespace {

/// The embedded set `faces[,size=N][,identities=N][,val_identities=N][,pictures=N][,landmarks=true][,seed=N]`.
struct DrawnFacesOptions {
  int64_t size = 64;
  int64_t identities = 800, val_identities = 100;
  int64_t pictures = 16;  // of each identity
  bool landmarks = false;
  uint64_t seed = 0;
};

DrawnFacesOptions parse_options(const DataSpec& spec) {
  DrawnFacesOptions options;
  options.size = spec.integer("size", options.size, 32, 1024);
  options.identities = spec.integer("identities", options.identities, 1, 10'000'000);
  options.val_identities = spec.integer("val_identities", options.val_identities, 1, 10'000'000);
  options.pictures = spec.integer("pictures", options.pictures, 1, 100'000);
  options.seed = static_cast<uint64_t>(spec.integer("seed", 0, 0, INT64_MAX));
  const std::string landmarks = spec.option("landmarks", "false");
  if (landmarks != "true" && landmarks != "false") {
    throw UsageError("'" + spec.text + "': landmarks=" + landmarks + ", expected true or false");
  }
  options.landmarks = landmarks == "true";
  return options;
}

/// Nothing is stored: person and picture are drawn from (seed, split, identity[, picture]) when they are asked for.
class DrawnFaces : public FaceDataset {
 public:
  DrawnFaces(const DrawnFacesOptions& options, const std::string& split) : options_(options), split_(split) {
    const int64_t count = split == "train" ? options.identities : options.val_identities;
    const auto digits = std::max(4, static_cast<int>(std::to_string(count).size()));
    for (int64_t i = 0; i < count; ++i) {
      names_.push_back(format("%s%0*lld", split.c_str(), digits, static_cast<long long>(i + 1)));
    }
  }

  int64_t size() const override { return static_cast<int64_t>(names_.size()) * options_.pictures; }
  int64_t identity(int64_t index) const override { return index / options_.pictures; }
  FaceRecord record(int64_t index) const override {
    const std::string& name = names_.at(static_cast<size_t>(identity(index)));
    FaceRecord record;
    record.identity = identity(index);
    record.name = format("%s/%s_%04lld.png", name.c_str(), name.c_str(),
                         static_cast<long long>(index % options_.pictures + 1));
    if (options_.landmarks) {
      const drawn::Person who = person(index);
      RandomStream rng = picture_stream(index);
      record.landmarks = drawn::landmarks(who, drawn::random_shot(who, rng), options_.size);
    }
    return record;
  }
  cv::Mat image(int64_t index) const override {
    const drawn::Person who = person(index);
    RandomStream rng = picture_stream(index);
    const drawn::Shot shot = drawn::random_shot(who, rng);
    return drawn::paint(who, shot, options_.size, rng);
  }
  const std::vector<std::string>& identities() const override { return names_; }
  std::string description() const override {
    return format("faces %s (%zu drawn identities, %lld pictures)", split_.c_str(), names_.size(),
                  static_cast<long long>(size()));
  }

 private:
  uint64_t split_number() const { return split_ == "train" ? 0 : 1; }
  drawn::Person person(int64_t index) const {
    RandomStream rng{options_.seed, split_number(), static_cast<uint64_t>(identity(index))};
    return drawn::random_person(rng);
  }
  RandomStream picture_stream(int64_t index) const {
    return {options_.seed, split_number(), static_cast<uint64_t>(identity(index)),
            static_cast<uint64_t>(index % options_.pictures) + 1};
  }

  DrawnFacesOptions options_;
  std::string split_;
  std::vector<std::string> names_;
};

}  // namespace

std::shared_ptr<FaceDataset> open_drawn_faces(const DataSpec& spec, const std::string& split) {
  if (split != "train" && split != "val") {
    throw UsageError("'" + spec.text + "': no split '" + split + "', expected one of train, val");
  }
  return std::make_shared<DrawnFaces>(parse_options(spec), split);
}

}  // namespace zoo
