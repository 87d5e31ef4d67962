#include <algorithm>
#include <cmath>
#include <mutex>
#include <unordered_map>

#include "core/error.h"
#include "core/files.h"
#include "core/formats/record_io.h"
#include "core/text.h"
#include "datasets/faces/sources.h"
#include "datasets/image.h"
#include "datasets/parallel.h"

namespace zoo {
namespace {

constexpr double kMaxLabel = 1 << 24;  // above, a float skips whole numbers

class RecordFaces : public FaceDataset {
 public:
  RecordFaces(MappedFile mapped, std::vector<RecordPlace> places, std::vector<int32_t> labels,
              int64_t classes)
      : mapped_(std::move(mapped)),
        file_(mapped_.data(), mapped_.size(), mapped_.path()),
        places_(std::move(places)),
        labels_(std::move(labels)) {
    for (int64_t i = 0; i < classes; ++i) names_.push_back(std::to_string(i));
  }

  int64_t size() const override { return static_cast<int64_t>(places_.size()); }
  int64_t identity(int64_t index) const override { return labels_.at(static_cast<size_t>(index)); }
  FaceRecord record(int64_t index) const override {
    return {format("key %lld", static_cast<long long>(place(index).key)), identity(index), {}};
  }
  cv::Mat image(int64_t index) const override {
    std::string joined;
    const ImageRecord record = parse_image_record(file_, place(index), file_.read(place(index), joined));
    if (record.image.empty()) file_.fail(place(index), "holds no picture");
    return decode_image(
        reinterpret_cast<const uint8_t*>(record.image.data()), record.image.size(),
        format("%s: key %lld", mapped_.path().c_str(), static_cast<long long>(place(index).key)));
  }
  const std::vector<std::string>& identities() const override { return names_; }
  std::string description() const override {
    return format("%s (%zu pictures of %zu identities)", mapped_.path().c_str(), places_.size(),
                  names_.size());
  }

 private:
  const RecordPlace& place(int64_t index) const { return places_.at(static_cast<size_t>(index)); }

  MappedFile mapped_;
  RecordFile file_;
  std::vector<RecordPlace> places_;
  std::vector<int32_t> labels_;
  std::vector<std::string> names_;
};

std::string key_name(const RecordPlace& place) {
  return format("key %lld", static_cast<long long>(place.key));
}

/// `num_classes,height,width`; 0 where there is no such file.
int64_t classes_of_property(const std::string& path) {
  if (path.empty() || !file_exists(path)) return 0;
  int64_t classes = 0;
  if (!parse_int(trim(split(trim(read_file(path)), ',')[0]), classes) || classes < 1) {
    throw Error(path + ": begins with no number of identities, expected num_classes,112,112");
  }
  return classes;
}

/// What record 0 of an insightface file tells: pictures are keys 1…end-1, identities end…last-1.
struct Ranges {
  int64_t images_end = 0, identities_end = 0;
  int64_t classes() const { return identities_end - images_end; }
};

class RecordReader {
 public:
  RecordReader(const std::string& path, Findings& findings)
      : path_(path), findings_(findings), mapped_(path), file_(mapped_.data(), mapped_.size(), path) {}

  std::shared_ptr<FaceDataset> read(const std::string& property) {
    read_places();
    const Ranges ranges = read_ranges();
    if (ranges.images_end > 0) keep_images(ranges);
    int64_t classes = ranges.classes();
    const int64_t told = classes_of_property(property);
    if (classes > 0 && told > 0 && told != classes) {
      findings_.fatal(property, "", format("%lld identities", static_cast<long long>(told)),
                      format("%lld, as record 0 of the .rec tells", static_cast<long long>(classes)));
    }
    if (classes == 0) classes = told;
    read_labels(classes);
    if (places_.empty()) throw Error(path_ + ": holds no picture, expected records of pictures");
    if (classes == 0) classes = 1 + *std::max_element(labels_.begin(), labels_.end());
    return std::make_shared<RecordFaces>(std::move(mapped_), std::move(places_), std::move(labels_), classes);
  }

 private:
  void read_places() {
    const std::string index = path_.substr(0, path_.size() - 4) + ".idx";
    if (!file_exists(index)) {
      places_ = file_.scan();
      return;
    }
    const MappedFile text(index);
    places_ = read_record_index(text.text(), index);
  }

  ImageRecord header(const RecordPlace& place, std::string& joined) const {
    return parse_image_record(file_, place, file_.read(place, joined));
  }

  Ranges read_ranges() const {
    const auto first = std::find_if(places_.begin(), places_.end(), [](const auto& p) { return p.key == 0; });
    if (first == places_.end()) return {};
    std::string joined;
    const ImageRecord record = header(*first, joined);
    if (record.flag != 2 || !record.image.empty()) return {};
    const double begin = record.label(0), end = record.label(1);
    if (!(begin >= 1 && end > begin && end <= kMaxLabel * 2 && begin == std::floor(begin) &&
          end == std::floor(end))) {
      file_.fail(*first, format("tells of pictures before key %g and identities before %g, expected rising "
                                "whole numbers",
                                begin, end));
    }
    return {static_cast<int64_t>(begin), static_cast<int64_t>(end)};
  }

  void keep_images(const Ranges& ranges) {
    const auto is_image = [&](const RecordPlace& p) { return p.key >= 1 && p.key < ranges.images_end; };
    const int64_t identities = std::count_if(places_.begin(), places_.end(), [&](const RecordPlace& p) {
      return p.key >= ranges.images_end && p.key < ranges.identities_end;
    });
    places_.erase(std::remove_if(places_.begin(), places_.end(), [&](const auto& p) { return !is_image(p); }),
                  places_.end());
    require_keys("pictures", static_cast<int64_t>(places_.size()), 1, ranges.images_end);
    require_keys("identities", identities, ranges.images_end, ranges.identities_end);
  }

  void require_keys(const char* what, int64_t found, int64_t begin, int64_t end) {
    if (found == end - begin) return;
    findings_.fatal(
        path_, "index", format("%lld keys of %s", static_cast<long long>(found), what),
        format("the %lld from %lld to %lld, as record 0 tells", static_cast<long long>(end - begin),
               static_cast<long long>(begin), static_cast<long long>(end - 1)));
  }

  /// Every header is looked at: a wrong label would else end a training hours later.
  void read_labels(int64_t classes) {
    constexpr int64_t kChunk = 16384;
    const auto count = static_cast<int64_t>(places_.size());
    labels_.assign(places_.size(), -1);
    std::vector<std::vector<Finding>> faults(static_cast<size_t>((count + kChunk - 1) / kChunk));
    on_all_cores(static_cast<int64_t>(faults.size()), [&](int64_t chunk) {
      std::string joined;
      for (int64_t i = chunk * kChunk; i < std::min(count, (chunk + 1) * kChunk); ++i) {
        read_label(static_cast<size_t>(i), classes, joined, faults[static_cast<size_t>(chunk)]);
      }
    });
    for (std::vector<Finding>& chunk : faults) {
      for (Finding& fault : chunk) findings_.add(std::move(fault));
    }
    size_t kept = 0;
    for (size_t i = 0; i < places_.size(); ++i) {
      if (labels_[i] < 0) continue;
      places_[kept] = places_[i];
      labels_[kept++] = labels_[i];
    }
    places_.resize(kept);
    labels_.resize(kept);
  }

  void read_label(size_t i, int64_t classes, std::string& joined, std::vector<Finding>& faults) {
    const double limit = classes > 0 ? static_cast<double>(classes) : kMaxLabel;
    try {
      const double label = header(places_[i], joined).label();
      if (label >= 0 && label < limit && label == std::floor(label)) {
        labels_[i] = static_cast<int32_t>(label);
      } else {
        faults.push_back({path_, key_name(places_[i]), format("label %g", label),
                          format("a whole number from 0 to %.0f", limit - 1), true, "stops the run"});
      }
    } catch (const Error& error) {
      const std::string head = path_ + ": ", text = error.what();
      faults.push_back({path_, "", starts_with(text, head) ? text.substr(head.size()) : text,
                        "a whole record", true, "stops the run"});
    }
  }

  std::string path_;
  Findings& findings_;
  MappedFile mapped_;
  RecordFile file_;
  std::vector<RecordPlace> places_;
  std::vector<int32_t> labels_;
};

}  // namespace

std::shared_ptr<FaceDataset> open_record_faces(const std::string& path, const std::string& property,
                                               Findings& findings) {
  if (!ends_with(path, ".rec")) throw Error(path + ": is no RecordIO file, expected a folder or FILE.rec");
  return RecordReader(path, findings).read(property);
}

}  // namespace zoo
