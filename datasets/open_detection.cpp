#include <utility>

#include "core/error.h"
#include "core/text.h"
#include "datasets/detection_source.h"
#include "datasets/shapes.h"

namespace zoo {
namespace {

class FileDetectionDataset : public DetectionDataset {
 public:
  FileDetectionDataset(DetectionSource source, std::string name)
      : source_(std::move(source)), name_(std::move(name)) {}

  int64_t size() const override { return static_cast<int64_t>(source_.records.size()); }
  const DetectionRecord& record(int64_t index) const override {
    return source_.records.at(static_cast<size_t>(index));
  }
  cv::Mat image(int64_t index) const override { return read_record_image(source_, record(index)); }
  const std::vector<Category>& categories() const override { return source_.categories; }
  std::string description() const override {
    return format("%s (%zu images)", name_.c_str(), source_.records.size());
  }

 private:
  DetectionSource source_;
  std::string name_;
};

class SubsetDataset : public DetectionDataset {
 public:
  SubsetDataset(std::shared_ptr<DetectionDataset> whole, std::vector<int64_t> indices)
      : whole_(std::move(whole)), indices_(std::move(indices)) {}

  int64_t size() const override { return static_cast<int64_t>(indices_.size()); }
  const DetectionRecord& record(int64_t index) const override { return whole_->record(inner(index)); }
  cv::Mat image(int64_t index) const override { return whole_->image(inner(index)); }
  const std::vector<Category>& categories() const override { return whole_->categories(); }
  std::string description() const override {
    return format("%lld of %s", static_cast<long long>(size()), whole_->description().c_str());
  }

 private:
  int64_t inner(int64_t index) const { return indices_.at(static_cast<size_t>(index)); }

  std::shared_ptr<DetectionDataset> whole_;
  std::vector<int64_t> indices_;
};

}  // namespace

std::shared_ptr<DetectionDataset> open_detection_dataset(const DataSpec& spec,
                                                         const std::string& default_split) {
  if (spec.kind == "shapes") return make_shapes(spec, spec.option("split", default_split));
  const DetectionFormat* format = find_detection_format(spec.kind);
  if (format == nullptr) {
    std::vector<std::string> names;
    for (const DataKind& kind : data_kinds()) {
      if (kind.task == "detection") names.push_back(kind.name);
    }
    throw UsageError("'" + spec.text + "' is no data for detection, expected one of " + join(names, ", "));
  }
  const std::string split = choose_split(spec, default_split, format->splits(spec));
  Findings findings(/*strict=*/true);
  DetectionSource source = format->read(spec, split, findings);
  review_source(source, findings);
  const std::string name =
      split.empty() || !spec.option("split").empty() ? spec.text : spec.text + " " + split;
  return std::make_shared<FileDetectionDataset>(std::move(source), name);
}

std::shared_ptr<DetectionDataset> subset(std::shared_ptr<DetectionDataset> dataset,
                                         std::vector<int64_t> indices) {
  for (const int64_t index : indices)
    dataset->record(index);  // throws std::out_of_range for a wrong one at once
  return std::make_shared<SubsetDataset>(std::move(dataset), std::move(indices));
}

}  // namespace zoo
