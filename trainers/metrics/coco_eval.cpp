#include "trainers/metrics/coco_eval.h"

#include <algorithm>
#include <atomic>
#include <cmath>
#include <exception>
#include <limits>
#include <mutex>
#include <numeric>
#include <thread>
#include <unordered_map>

#include "core/error.h"
#include "core/log.h"
#include "core/numbers.h"
#include "core/text.h"

namespace zoo {

namespace {

// T IoU thresholds, R recall points, A area ranges, K categories, D detections and G objects of one bucket,
// which is an image and a category.
constexpr int kThresholds = 10, kRecalls = 101, kAreas = 4;
constexpr int kMaxDetections = 100;  // of a bucket
constexpr double kAreaRanges[kAreas][2] = {
    {0, 1e10}, {0, 1024}, {1024, 9216}, {9216, 1e10}};  // both ends included
constexpr double kAbsent = -1;                          // no object of that size and category
constexpr double kSpacing = 0x1p-52;                    // numpy.spacing(1)
constexpr double kAlmostOne = 1 - 1e-10;                // the highest IoU a match may be asked for
constexpr int kAll = 0, kSmall = 1, kMedium = 2, kLarge = 3;

/// As numpy.linspace(low, high, count), bit for bit.
template <size_t count>
std::array<double, count> linspace(double low, double high) {
  std::array<double, count> values;
  const double step = (high - low) / static_cast<double>(count - 1);
  for (size_t i = 0; i < count; ++i) values[i] = static_cast<double>(i) * step + low;
  values[count - 1] = high;
  return values;
}

const std::array<double, kThresholds> kIouThresholds = linspace<kThresholds>(0.5, 0.95);
const std::array<double, kRecalls> kRecallPoints = linspace<kRecalls>(0, 1);

/// numpy's pairwise summation: its order of additions decides the last bit of a mean.
double pairwise_sum(const double* x, size_t n) {
  if (n > 128) {
    const size_t half = n / 2 - n / 2 % 8;
    return pairwise_sum(x, half) + pairwise_sum(x + half, n - half);
  }
  double sum = 0;
  size_t i = 0;
  if (n >= 8) {
    double part[8] = {};
    for (; i + 8 <= n; i += 8) {
      for (size_t j = 0; j < 8; ++j) part[j] += x[i + j];
    }
    sum = ((part[0] + part[1]) + (part[2] + part[3])) + ((part[4] + part[5]) + (part[6] + part[7]));
  }
  for (; i < n; ++i) sum += x[i];
  return sum;
}

/// The mean of the entries that exist, NaN where none does.
double mean_of_present(std::vector<double> entries) {
  entries.erase(std::remove(entries.begin(), entries.end(), kAbsent), entries.end());
  if (entries.empty()) return kNaN;
  return pairwise_sum(entries.data(), entries.size()) / static_cast<double>(entries.size());
}

/// Distinct ids and their dense numbers in ascending order.
class DenseIds {
 public:
  explicit DenseIds(std::vector<int64_t> ids) : ids_(std::move(ids)) {
    std::sort(ids_.begin(), ids_.end());
    ids_.erase(std::unique(ids_.begin(), ids_.end()), ids_.end());
    numbers_.reserve(ids_.size());
    for (size_t i = 0; i < ids_.size(); ++i) numbers_.emplace(ids_[i], static_cast<int>(i));
  }
  size_t size() const { return ids_.size(); }
  /// -1 where there is no such id.
  int operator[](int64_t id) const {
    const auto found = numbers_.find(id);
    return found == numbers_.end() ? -1 : found->second;
  }

 private:
  std::vector<int64_t> ids_;
  std::unordered_map<int64_t, int> numbers_;
};

/// A box with its area as pycocotools computes it.
struct Box {
  double x, y, w, h, size;
  explicit Box(const std::array<double, 4>& box) : x(box[0]), y(box[1]), w(box[2]), h(box[3]), size(w * h) {}
};

double iou(const Box& detection, const Box& object, bool crowd) {
  const double w = std::min(detection.w + detection.x, object.w + object.x) - std::max(detection.x, object.x);
  const double h = std::min(detection.h + detection.y, object.h + object.y) - std::max(detection.y, object.y);
  if (w <= 0 || h <= 0) return 0;
  const double shared = w * h;
  return shared / (crowd ? detection.size : detection.size + object.size - shared);
}

bool outside(double area, int range) {
  return area < kAreaRanges[range][0] || area > kAreaRanges[range][1];
}

/// A record of one category: its image and its place in the caller's list.
struct Entry {
  int image;
  int64_t index;
};

/// The order of the scores as numpy sorts -score: from high to low, NaN behind all.
bool higher(double a, double b) {
  return a > b || (std::isnan(b) && !std::isnan(a));
}

/// The records of a category by image, in a stable counting sort: places[begin[i]] … places[begin[i+1]-1].
struct ByImage {
  std::vector<size_t> begin, places;

  ByImage(const std::vector<Entry>& entries, size_t images) : begin(images + 1, 0), places(entries.size()) {
    for (const Entry& entry : entries) ++begin[static_cast<size_t>(entry.image) + 1];
    std::partial_sum(begin.begin(), begin.end(), begin.begin());
    std::vector<size_t> next(begin.begin(), begin.end() - 1);
    for (size_t i = 0; i < entries.size(); ++i) places[next[static_cast<size_t>(entries[i].image)]++] = i;
  }
};

/// What matching says of a detection in one area range; bit t is threshold t. Ignored at t: neither bit.
struct Outcome {
  uint16_t hit = 0, miss = 0;
};
constexpr uint16_t kEveryThreshold = (1 << kThresholds) - 1;

/// Precision [A][T][R][K] and recall of all categories, kAbsent where a category has no object.
struct Curves {
  size_t categories;
  std::vector<double> precision;
  /// [6][T][K]: the four areas, then all areas with one and with ten detections.
  std::vector<double> recall;

  explicit Curves(size_t k)
      : categories(k),
        precision(kAreas * kThresholds * kRecalls * k, kAbsent),
        recall(6 * kThresholds * k, kAbsent) {}
  double& precision_at(int area, int t, int r, size_t k) {
    return precision[static_cast<size_t>((area * kThresholds + t) * kRecalls + r) * categories + k];
  }
  double& recall_at(int row, int t, size_t k) {
    return recall[static_cast<size_t>(row * kThresholds + t) * categories + k];
  }
};

/// One category from its records to its curves; detr.md's step numbers are pycocotools' order of work.
class CategoryEvaluation {
 public:
  CategoryEvaluation(const CocoGroundTruth& truth, const std::vector<CocoDetection>& detections,
                     size_t images)
      : truth_(truth), detections_(detections), images_(images) {}

  void run(std::vector<Entry> objects, std::vector<Entry> found, size_t category, Curves& curves) {
    // Ties keep the order of the images, and within an image that of the list.
    std::sort(found.begin(), found.end(), [&](const Entry& a, const Entry& b) {
      const double x = score(a), y = score(b);
      if (higher(x, y) || higher(y, x)) return higher(x, y);
      return a.image != b.image ? a.image < b.image : a.index < b.index;
    });
    for (auto& area : outcomes_) area.assign(found.size(), Outcome());
    ranks_.assign(found.size(), 0);
    std::fill(std::begin(positives_), std::end(positives_), 0);
    const ByImage objects_of(objects, images_), found_of(found, images_);
    for (size_t i = 0; i < images_; ++i) {
      objects_here_.clear();
      for (size_t p = objects_of.begin[i]; p < objects_of.begin[i + 1]; ++p) {
        objects_here_.push_back(&truth_.objects[static_cast<size_t>(objects[objects_of.places[p]].index)]);
      }
      if (objects_here_.empty() && found_of.begin[i] == found_of.begin[i + 1]) continue;
      match(found, found_of.places.data() + found_of.begin[i], found_of.begin[i + 1] - found_of.begin[i]);
    }
    for (int area = 0; area < kAreas; ++area) {
      if (positives_[area] > 0) accumulate(area, category, curves);
    }
  }

 private:
  double score(const Entry& entry) const { return detections_[static_cast<size_t>(entry.index)].score; }

  /// Matches the detections of one image, `places` being theirs in `found`, best first.
  void match(const std::vector<Entry>& found, const size_t* places, size_t count) {
    for (size_t d = 0; d < count; ++d) ranks_[places[d]] = static_cast<int64_t>(d);
    count = std::min<size_t>(count, kMaxDetections);
    boxes_.clear();
    for (size_t d = 0; d < count; ++d) {
      boxes_.emplace_back(detections_[static_cast<size_t>(found[places[d]].index)].box);
    }
    compute_ious();
    for (int area = 0; area < kAreas; ++area) {
      order_objects(area);
      for (size_t d = 0; d < count; ++d) {
        const bool counts = !outside(boxes_[d].size, area);
        outcomes_[area][places[d]] = {0, counts ? kEveryThreshold : uint16_t{0}};
      }
      if (candidates_.empty()) continue;
      for (int t = 0; t < kThresholds; ++t) match_at(t, places, outcomes_[area]);
    }
  }

  /// IoU [D][G], and the detections that could match at all.
  void compute_ious() {
    ious_.clear();
    candidates_.clear();
    if (objects_here_.empty()) return;
    object_boxes_.clear();
    for (const CocoObject* object : objects_here_) object_boxes_.emplace_back(object->box);
    for (size_t d = 0; d < boxes_.size(); ++d) {
      bool near = false;
      for (size_t g = 0; g < object_boxes_.size(); ++g) {
        ious_.push_back(iou(boxes_[d], object_boxes_[g], objects_here_[g]->crowd));
        near |= !(ious_.back() < kIouThresholds[0]);
      }
      if (near) candidates_.push_back(d);
    }
  }

  /// Objects that count first, ignored ones behind; both in their own order.
  void order_objects(int area) {
    order_.clear();
    for (const bool ignored : {false, true}) {
      for (size_t g = 0; g < objects_here_.size(); ++g) {
        const CocoObject& object = *objects_here_[g];
        if ((object.crowd || outside(object.area, area)) == ignored) order_.push_back(g);
      }
      if (!ignored) counting_ = order_.size();
    }
    positives_[area] += static_cast<int64_t>(counting_);
  }

  void match_at(int t, const size_t* places, std::vector<Outcome>& outcomes) {
    taken_.assign(order_.size(), false);
    const auto bit = static_cast<uint16_t>(1 << t);
    for (const size_t d : candidates_) {
      const double* row = ious_.data() + d * order_.size();
      double best = std::min(kIouThresholds[static_cast<size_t>(t)], kAlmostOne);
      size_t chosen = order_.size();
      for (size_t i = 0; i < order_.size(); ++i) {
        // A match with an object that counts is never given up for an ignored one.
        if (i == counting_ && chosen < counting_) break;
        const size_t g = order_[i];
        if ((taken_[i] && !objects_here_[g]->crowd) || row[g] < best) continue;
        best = row[g];  // of equal ones the later object wins
        chosen = i;
      }
      if (chosen == order_.size()) continue;
      taken_[chosen] = true;
      Outcome& outcome = outcomes[places[d]];
      outcome.miss = static_cast<uint16_t>(outcome.miss & ~bit);
      if (chosen < counting_) outcome.hit |= bit;
    }
  }

  void accumulate(int area, size_t category, Curves& curves) {
    const auto positives = static_cast<double>(positives_[area]);
    for (int t = 0; t < kThresholds; ++t) {
      const int bit = 1 << t;
      int64_t hits = 0, misses = 0, hits_of_1 = 0, hits_of_10 = 0;
      precision_.clear();  // at each hit: between two hits it only falls
      for (size_t i = 0; i < ranks_.size(); ++i) {
        const Outcome outcome = outcomes_[area][i];
        misses += (outcome.miss & bit) != 0;
        if ((outcome.hit & bit) == 0) continue;
        ++hits;
        hits_of_1 += ranks_[i] < 1;
        hits_of_10 += ranks_[i] < 10;
        precision_.push_back(static_cast<double>(hits) / (static_cast<double>(misses + hits) + kSpacing));
      }
      for (size_t i = precision_.size(); i-- > 1;)
        precision_[i - 1] = std::max(precision_[i - 1], precision_[i]);
      size_t next = 0;
      for (int r = 0; r < kRecalls; ++r) {
        const double recall = kRecallPoints[static_cast<size_t>(r)];
        while (next < precision_.size() && static_cast<double>(next + 1) / positives < recall) ++next;
        curves.precision_at(area, t, r, category) = next < precision_.size() ? precision_[next] : 0;
      }
      curves.recall_at(area, t, category) = static_cast<double>(hits) / positives;
      if (area != kAll) continue;
      curves.recall_at(kAreas, t, category) = static_cast<double>(hits_of_1) / positives;
      curves.recall_at(kAreas + 1, t, category) = static_cast<double>(hits_of_10) / positives;
    }
  }

  const CocoGroundTruth& truth_;
  const std::vector<CocoDetection>& detections_;
  const size_t images_;

  std::vector<Outcome> outcomes_[kAreas];  ///< beside the category's detections, best first
  std::vector<int64_t> ranks_;             ///< among the detections of their image
  int64_t positives_[kAreas] = {};         ///< objects that count

  // Of the image being matched.
  std::vector<const CocoObject*> objects_here_;  // [G]
  std::vector<Box> boxes_, object_boxes_;        // [D], [G]
  std::vector<double> ious_;                     // [D][G]
  std::vector<size_t> candidates_, order_;       // detections near an object; objects as they are tried
  size_t counting_ = 0;                          // how many of order_ are not ignored
  std::vector<char> taken_;                      // beside order_
  std::vector<double> precision_;
};

/// Objects and detections sorted into categories.
struct Buckets {
  std::vector<std::vector<Entry>> objects, found;  // [K]
};

Buckets make_buckets(const CocoGroundTruth& truth, const std::vector<CocoDetection>& detections,
                     const DenseIds& images, const DenseIds& categories) {
  Buckets buckets;
  buckets.objects.resize(categories.size());
  buckets.found.resize(categories.size());
  int64_t stray_objects = 0, stray_found = 0, stray_category = 0;
  for (size_t i = 0; i < truth.objects.size(); ++i) {
    const int image = images[truth.objects[i].image_id], category = categories[truth.objects[i].category_id];
    if (image < 0 || category < 0) {
      ++stray_objects;
    } else {
      buckets.objects[static_cast<size_t>(category)].push_back({image, static_cast<int64_t>(i)});
    }
  }
  for (size_t i = 0; i < detections.size(); ++i) {
    const CocoDetection& one = detections[i];
    const int image = images[one.image_id], category = categories[one.category_id];
    if (image < 0) {
      throw Error(format(
          "detection %zu (counted from 0) has image_id %lld, expected the id of an image of the ground "
          "truth (it has %zu)",
          i, static_cast<long long>(one.image_id), images.size()));
    }
    if (category < 0) {
      if (stray_found++ == 0) stray_category = one.category_id;
    } else {
      buckets.found[static_cast<size_t>(category)].push_back({image, static_cast<int64_t>(i)});
    }
  }
  if (stray_objects > 0) {
    log_warning(format("left out %lld of %zu objects: the ground truth does not list their image or category",
                       static_cast<long long>(stray_objects), truth.objects.size()));
  }
  if (stray_found > 0) {
    log_warning(format(
        "left out %lld of %zu detections: the ground truth does not have their category_id (first: %lld)",
        static_cast<long long>(stray_found), detections.size(), static_cast<long long>(stray_category)));
  }
  return buckets;
}

/// Calls work(next) in `threads` threads, this one among them; `next()` hands out 0 … count-1. The first
/// exception is thrown on.
template <class Work>
void share_out(size_t count, int threads, const Work& work) {
  std::atomic<size_t> next{0};
  std::mutex mutex;
  std::exception_ptr failure;
  const auto guarded = [&] {
    try {
      work([&] { return next++; });
    } catch (...) {
      const std::lock_guard<std::mutex> lock(mutex);
      if (!failure) failure = std::current_exception();
      next = count;
    }
  };
  std::vector<std::thread> helpers;
  for (size_t i = 1; i < std::min(count, static_cast<size_t>(std::max(threads, 1))); ++i)
    helpers.emplace_back(guarded);
  guarded();
  for (std::thread& helper : helpers) helper.join();
  if (failure) std::rethrow_exception(failure);
}

std::vector<double> slice(const std::vector<double>& values, size_t begin, size_t count) {
  const auto first = values.begin() + static_cast<int64_t>(begin);
  return {first, first + static_cast<int64_t>(count)};
}

CocoMetrics summarize(const Curves& curves) {
  const size_t k = curves.categories;
  const auto ap = [&](int area, int t, int thresholds) {
    const size_t one = kRecalls * k;
    return mean_of_present(slice(curves.precision, static_cast<size_t>(area * kThresholds + t) * one,
                                 static_cast<size_t>(thresholds) * one));
  };
  const auto ar = [&](int row) {
    return mean_of_present(slice(curves.recall, static_cast<size_t>(row) * kThresholds * k, kThresholds * k));
  };
  CocoMetrics metrics{};
  metrics.AP = ap(kAll, 0, kThresholds);
  metrics.AP50 = ap(kAll, 0, 1);
  metrics.AP75 = ap(kAll, 5, 1);
  metrics.APs = ap(kSmall, 0, kThresholds);
  metrics.APm = ap(kMedium, 0, kThresholds);
  metrics.APl = ap(kLarge, 0, kThresholds);
  metrics.AR1 = ar(kAreas);
  metrics.AR10 = ar(kAreas + 1);
  metrics.AR100 = ar(kAll);
  metrics.ARs = ar(kSmall);
  metrics.ARm = ar(kMedium);
  metrics.ARl = ar(kLarge);
  return metrics;
}

double class_ap(Curves& curves, int category) {
  std::vector<double> entries;
  for (int t = 0; t < kThresholds; ++t) {
    for (int r = 0; r < kRecalls; ++r) {
      entries.push_back(curves.precision_at(kAll, t, r, static_cast<size_t>(category)));
    }
  }
  return mean_of_present(std::move(entries));
}

/// A line of the summary: its name, its value, and what it is measured on.
struct Figure {
  const char* name;
  double CocoMetrics::*value;
  const char *iou, *area, *detections;
};

constexpr Figure kFigures[] = {
    {"AP", &CocoMetrics::AP, "0.50:0.95", "all", "100"},
    {"AP50", &CocoMetrics::AP50, "0.50", "all", "100"},
    {"AP75", &CocoMetrics::AP75, "0.75", "all", "100"},
    {"APs", &CocoMetrics::APs, "0.50:0.95", "small", "100"},
    {"APm", &CocoMetrics::APm, "0.50:0.95", "medium", "100"},
    {"APl", &CocoMetrics::APl, "0.50:0.95", "large", "100"},
    {"AR1", &CocoMetrics::AR1, "0.50:0.95", "all", "1"},
    {"AR10", &CocoMetrics::AR10, "0.50:0.95", "all", "10"},
    {"AR100", &CocoMetrics::AR100, "0.50:0.95", "all", "100"},
    {"ARs", &CocoMetrics::ARs, "0.50:0.95", "small", "100"},
    {"ARm", &CocoMetrics::ARm, "0.50:0.95", "medium", "100"},
    {"ARl", &CocoMetrics::ARl, "0.50:0.95", "large", "100"},
};

Json or_null(double value) {
  return std::isnan(value) ? Json(nullptr) : Json(value);
}

}  // namespace

CocoMetrics evaluate_coco(const CocoGroundTruth& truth, const std::vector<CocoDetection>& detections,
                          int threads) {
  const DenseIds images(truth.image_ids), categories(truth.category_ids);
  Buckets buckets = make_buckets(truth, detections, images, categories);
  Curves curves(categories.size());
  share_out(categories.size(), threads, [&](const auto& next) {
    CategoryEvaluation evaluation(truth, detections, images.size());
    for (size_t k = next(); k < categories.size(); k = next()) {
      evaluation.run(std::move(buckets.objects[k]), std::move(buckets.found[k]), k, curves);
    }
  });
  CocoMetrics metrics = summarize(curves);
  for (const int64_t id : truth.category_ids) metrics.per_class.push_back(class_ap(curves, categories[id]));
  return metrics;
}

Json coco_metrics_json(const CocoMetrics& metrics, const CocoGroundTruth& truth) {
  Json json = Json::object();
  for (const Figure& figure : kFigures) json[figure.name] = or_null(metrics.*figure.value);
  std::unordered_map<std::string, int> uses;
  for (const std::string& name : truth.category_names) ++uses[name];
  Json& per_class = json["per_class"] = Json::object();
  for (size_t i = 0; i < truth.category_ids.size(); ++i) {
    std::string name = truth.category_names[i];
    if (uses[name] > 1) name += format(" (%lld)", static_cast<long long>(truth.category_ids[i]));
    per_class[name] = or_null(metrics.per_class[i]);
  }
  return json;
}

std::string coco_metrics_table(const CocoMetrics& metrics) {
  Table table({"metric", "IoU", "area", "detections", "value"});
  for (const Figure& figure : kFigures) {
    const double value = metrics.*figure.value;
    table.add({figure.name, figure.iou, figure.area, figure.detections,
               std::isnan(value) ? "n/a" : format("%.3f", value)});
  }
  return table.str();
}

}  // namespace zoo
