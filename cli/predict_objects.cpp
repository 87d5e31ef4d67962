#include <algorithm>
#include <map>
#include <memory>
#include <set>

#include <opencv2/imgproc.hpp>
#include <opencv2/videoio.hpp>

#include "cli/predict.h"
#include "core/error.h"
#include "core/files.h"
#include "core/log.h"
#include "core/text.h"
#include "datasets/image.h"
#include "models/runtime/memory_pool.h"
#include "trainers/signals.h"
#include "trainers/tasks/detection.h"

namespace zoo {

namespace {

constexpr const char* kThreshold = "0.5";

/// The wanted categories of --classes; throws Error naming the nearest where the model has none of that name.
std::set<std::string> wanted_classes(const std::string& text, const CategoryMap& map) {
  std::set<std::string> wanted;
  if (text.empty()) return wanted;
  std::vector<std::string> known;
  for (const Category& category : map.categories()) known.push_back(category.name);
  for (const std::string& part : split(text, ',')) {
    const std::string name = trim(part);
    if (std::find(known.begin(), known.end(), name) == known.end()) {
      throw Error("--classes: the model has no class '" + name + "'" + did_you_mean(name, known) +
                  " (it has " + join(known, ", ") + ")");
    }
    wanted.insert(name);
  }
  return wanted;
}

/// Numbers in file names as image ids (000000000139.jpg is 139), where all inputs have one and no two are
/// equal.
bool names_are_ids(const std::vector<std::string>& files) {
  std::set<int64_t> seen;
  for (const std::string& file : files) {
    int64_t id = 0;
    const std::string stem = file_stem(file);
    const bool digits = !stem.empty() && stem.find_first_not_of("0123456789") == std::string::npos;
    if (!digits || !parse_int(stem, id) || !seen.insert(id).second) return false;
  }
  return !files.empty();
}

/// Collects predictions of one call: the JSON, the table, the drawn pictures and videos.
class DetectionPredictions {
 public:
  DetectionPredictions(const PredictFlags& flags, DetectionTask& task, torch::Device device,
                       int64_t batch_size)
      : flags_(flags),
        task_(task),
        device_(device),
        batch_size_(batch_size),
        threshold_(
            parse_flag_double("--threshold", flags.threshold.empty() ? kThreshold : flags.threshold, 0, 1)),
        most_(flags.max_detections.empty()
                  ? kAllDetections
                  : parse_flag_int("--max-detections", flags.max_detections, 1, kAllDetections)),
        wanted_(wanted_classes(flags.classes, task.categories())),
        names_are_ids_(names_are_ids(input_files(flags.inputs))) {}

  void add(InputImage image) {
    waiting_.push_back(std::move(image));
    if (static_cast<int64_t>(waiting_.size()) >= batch_size_) flush();
  }

  void flush() {
    if (waiting_.empty()) return;
    const torch::NoGradGuard no_grad;
    const MemoryPoolScope pool;
    std::vector<DetectionSample> samples;
    for (const InputImage& image : waiting_)
      samples.push_back(evaluation_sample(image.rgb, task_.transform()));
    const auto found = task_.detect(*collate(std::move(samples), task_.transform()), device_);
    for (size_t i = 0; i < waiting_.size(); ++i) keep(waiting_[i], found[i]);
    waiting_.clear();
  }

  /// Writes predictions.json and closes the videos.
  void finish() {
    flush();
    videos_.clear();
    std::string text = "[";
    for (size_t i = 0; i < results_.size(); ++i) text += (i == 0 ? "\n" : ",\n") + compact(results_[i]);
    write_file(join_path(flags_.output, "predictions.json"), text + "\n]\n");
  }

  const Json& results() const { return results_; }
  std::string table() const { return table_.str(); }
  int64_t shown() const { return shown_; }

 private:
  static std::string compact(const Json& value) {
    return value.dump(-1, ' ', false, Json::error_handler_t::replace);
  }

  void keep(const InputImage& image, const std::vector<Detection>& all) {
    ++running_id_;
    int64_t id = running_id_;
    if (names_are_ids_ && image.frame < 0) parse_int(file_stem(image.source), id);
    std::vector<Detection> found;
    for (const Detection& detection : all) {
      const bool wanted = wanted_.empty() || wanted_.count(detection.category) > 0;
      if (wanted && static_cast<int64_t>(found.size()) < most_) found.push_back(detection);
    }
    for (const Detection& one : found) {
      Json result = {{"image_id", id},
                     {"file_name", file_name(image.source)},
                     {"category_id", one.category_id},
                     {"category", one.category},
                     {"bbox", one.box},
                     {"score", one.score}};
      if (image.frame >= 0) result["frame"] = image.frame;
      results_.push_back(std::move(result));
      if (one.score < threshold_) continue;
      ++shown_;
      const std::string where = image.frame < 0 ? file_name(image.source)
                                                : format("%s#%lld", file_name(image.source).c_str(),
                                                         static_cast<long long>(image.frame));
      table_.add({where, one.category, format("%.3f", one.score), format("%.1f", one.box[0]),
                  format("%.1f", one.box[1]), format("%.1f", one.box[2]), format("%.1f", one.box[3])});
    }
    if (!flags_.no_images) draw(image, found);
  }

  void draw(const InputImage& image, const std::vector<Detection>& found) {
    const cv::Mat drawn = draw_found(image.rgb, found, threshold_);
    if (image.frame < 0) return write_image(join_path(flags_.output, image.name + ".png"), drawn);
    auto& video = videos_[image.name];
    if (video == nullptr) {
      const std::string path = join_path(flags_.output, image.name + ".avi");
      video = std::make_unique<cv::VideoWriter>(path, cv::VideoWriter::fourcc('M', 'J', 'P', 'G'),
                                                image.frame_rate, drawn.size());
      if (!video->isOpened()) throw Error("cannot write " + path + ": no encoder for motion JPEG");
    }
    cv::Mat bgr;
    cv::cvtColor(drawn, bgr, cv::COLOR_RGB2BGR);
    video->write(bgr);
  }

  const PredictFlags& flags_;
  DetectionTask& task_;
  torch::Device device_;
  int64_t batch_size_;
  double threshold_;
  int64_t most_;
  std::set<std::string> wanted_;
  bool names_are_ids_;
  std::vector<InputImage> waiting_;
  int64_t running_id_ = 0, shown_ = 0;
  Json results_ = Json::array();
  Table table_{{"file", "class", "score", "x", "y", "width", "height"}};
  std::map<std::string, std::unique_ptr<cv::VideoWriter>> videos_;
};

void report(const PredictFlags& flags, const LoadedModel& loaded, const DetectionPredictions& predictions,
            const InputSummary& summary) {
  if (flags.json) {
    print_json({{"command", "predict"},
                {"model", loaded.recipe->name},
                {"data", nullptr},
                {"output", flags.output},
                {"metrics", {{"images", summary.images}, {"detections", predictions.shown()}}},
                {"predictions", predictions.results()},
                {"failures", summary.failures}});
    return;
  }
  print_text(predictions.table());
  log_info(format("%lld objects in %lld pictures, in %s", static_cast<long long>(predictions.shown()),
                  static_cast<long long>(summary.images), flags.output.c_str()));
}

}  // namespace

std::vector<std::string> predict_objects(const PredictFlags& flags, const LoadedModel& loaded,
                                         DetectionTask& task) {
  DetectionPredictions predictions(flags, task, loaded.device,
                                   loaded.config.at("data").at("batch_size").get<int64_t>());
  const InputSummary summary = for_each_input(
      flags.inputs, [&](InputImage image) { predictions.add(std::move(image)); },
      [] { return stop_requested(); });
  predictions.finish();
  report(flags, loaded, predictions, summary);
  return summary.failures;
}

}  // namespace zoo
