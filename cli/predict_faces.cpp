#include <algorithm>
#include <optional>

#include <torch/torch.h>

#include "cli/predict.h"
#include "core/error.h"
#include "core/files.h"
#include "core/log.h"
#include "core/text.h"
#include "trainers/metrics/cosines.h"
#include "trainers/signals.h"
#include "trainers/tasks/face_pictures.h"
#include "trainers/tasks/faces.h"

namespace zoo {

namespace {

/// A picture, brought to the network's size.
struct Face {
  std::string source;
  cv::Mat picture;
};

/// Collects the faces of all inputs and their embeddings, batch by batch.
class FaceInputs {
 public:
  FaceInputs(const PredictFlags& flags, FaceTask& task, torch::Device device, int64_t batch_size)
      : flags_(flags), task_(task), device_(device), batch_size_(batch_size) {}

  void read() {
    std::vector<std::string> pictures;
    for (const std::string& input : flags_.inputs) {
      if (ends_with(lower(input), ".csv")) {
        read_list(input);
      } else {
        pictures.push_back(input);
      }
    }
    const InputSummary summary = for_each_input(
        pictures,
        [&](const InputImage& image) {
          add(image.frame < 0 ? image.source
                              : format("%s#%lld", image.source.c_str(), static_cast<long long>(image.frame)),
              image.rgb, std::nullopt);
        },
        [] { return stop_requested(); });
    failures_.insert(failures_.end(), summary.failures.begin(), summary.failures.end());
    flush();
    if (unaligned_ > 0) {
      log_info(
          format("faces: %lld without landmarks, and there is no detector: the middle of each picture is "
                 "taken (data.transform.crop=%g), expected aligned faces or a CSV with landmarks",
                 static_cast<long long>(unaligned_), task_.transform().crop));
    }
  }

  const std::vector<Face>& faces() const { return faces_; }
  torch::Tensor embeddings() const {
    return embeddings_.empty() ? torch::zeros({0, 0}) : torch::cat(embeddings_);
  }
  const std::vector<std::string>& failures() const { return failures_; }

 private:
  /// A CSV of path, identity and landmarks.
  void read_list(const std::string& path) {
    try {
      DataSpec spec{"faces", path, {{"split", "all"}}, path};
      const auto dataset = open_face_dataset(spec, "all");
      for (int64_t i = 0; i < dataset->size() && !stop_requested(); ++i) {
        const FaceRecord record = dataset->record(i);
        add(record.name, dataset->image(i), record.landmarks);
      }
    } catch (const UsageError&) {
      throw;
    } catch (const Error& error) {
      failures_.emplace_back(error.what());
    }
  }

  void add(const std::string& source, const cv::Mat& rgb, const std::optional<FaceLandmarks>& landmarks) {
    if (!landmarks) ++unaligned_;
    const cv::Mat face = aligned_face(rgb, landmarks, task_.transform());
    const bool keep = faces_.size() < kCompared;  // pictures are drawn only where two are compared
    faces_.push_back({source, keep ? face.clone() : cv::Mat()});
    waiting_.push_back(face_tensor(face, task_.transform()));
    if (static_cast<int64_t>(waiting_.size()) >= batch_size_) flush();
  }

  void flush() {
    if (waiting_.empty()) return;
    embeddings_.push_back(task_.embed(torch::stack(waiting_), device_));
    waiting_.clear();
  }

  static constexpr size_t kCompared = 2;

  const PredictFlags& flags_;
  FaceTask& task_;
  torch::Device device_;
  int64_t batch_size_, unaligned_ = 0;
  std::vector<Face> faces_;
  std::vector<torch::Tensor> waiting_, embeddings_;
  std::vector<std::string> failures_;
};

/// How alike two faces are, and from which score on they are one person.
struct Comparison {
  double score = 0, threshold = 0;
  bool same() const { return score >= threshold; }
};

Comparison compare(const PredictFlags& flags, const FaceTask& task, const torch::Tensor& embeddings) {
  const VerifyOptions& options = task.verify();
  Comparison comparison;
  std::optional<double> told;
  if (options.metric == "cosine") {
    comparison.score = pair_cosines(embeddings, {0}, {1}, "the faces").front();
    told = task.threshold();
  } else if (is_fitted(options.metric)) {
    if (options.parameters.empty())
      throw UsageError("verify.metric=" + options.metric +
                       " has parameters: expected verify.parameters=FILE of zoo eval --output");
    const StoredVerifier stored = load_verifier(options.parameters, options.metric);
    comparison.score =
        stored.verifier->score(embeddings.narrow(0, 0, 1), embeddings.narrow(0, 1, 1)).item<double>();
    if (stored.verification.contains("threshold") && stored.verification.at("threshold").is_number())
      told = stored.verification.at("threshold").get<double>();
  } else {
    comparison.score = fit_verifier(options.verifier(), {})
                           ->score(embeddings.narrow(0, 0, 1), embeddings.narrow(0, 1, 1))
                           .item<double>();
  }
  if (!flags.threshold.empty()) told = parse_flag_double("--threshold", flags.threshold, 0, 1);
  if (!told) {
    log_info(format("threshold: %g (verify.threshold), since the weights tell none; zoo eval finds one",
                    options.threshold));
  }
  comparison.threshold = told.value_or(options.threshold);
  return comparison;
}

void report_pair(const PredictFlags& flags, const LoadedModel& loaded, const FaceInputs& inputs,
                 const Comparison& pair) {
  const Json metrics = {{"score", pair.score}, {"threshold", pair.threshold}, {"same", pair.same()}};
  const Json document = {
      {"command", "predict"},     {"model", loaded.recipe->name},
      {"data", nullptr},          {"output", flags.output},
      {"metrics", metrics},       {"inputs", {inputs.faces()[0].source, inputs.faces()[1].source}},
      {"failures", Json::array()}};
  write_file(join_path(flags.output, "predictions.json"), dump_json(document) + "\n");
  if (!flags.no_images) {
    write_face_pair(join_path(flags.output, "comparison.png"), inputs.faces()[0].picture,
                    inputs.faces()[1].picture, pair.score, pair.threshold);
  }
  if (flags.json) return print_json(document);
  print_text(format("%s  score %.4f  threshold %.4f\n", pair.same() ? "same" : "different", pair.score,
                    pair.threshold));
}

void report_embeddings(const PredictFlags& flags, const LoadedModel& loaded, const FaceInputs& inputs) {
  const std::string file = join_path(flags.output, "embeddings.safetensors");
  StateDict state;
  state.tensors = {{"embeddings", inputs.embeddings()}};
  Json names = Json::array();
  for (const Face& face : inputs.faces()) names.push_back(face.source);
  state.metadata["zoo.files"] = names.dump(-1, ' ', false, Json::error_handler_t::replace);
  save_safetensors(file, state);
  if (flags.json) {
    return print_json({{"command", "predict"},
                       {"model", loaded.recipe->name},
                       {"data", nullptr},
                       {"output", flags.output},
                       {"metrics", {{"images", inputs.faces().size()}}},
                       {"inputs", names},
                       {"failures", inputs.failures()}});
  }
  print_text(format("wrote %zu embeddings to %s\n", inputs.faces().size(), file.c_str()));
}

}  // namespace

std::vector<std::string> predict_faces(const PredictFlags& flags, const LoadedModel& loaded, FaceTask& task) {
  if (!flags.classes.empty()) throw UsageError("--classes: " + loaded.recipe->name + " has no classes");
  if (!flags.max_detections.empty())
    throw UsageError("--max-detections: " + loaded.recipe->name + " is no detector");
  FaceInputs inputs(flags, task, loaded.device, loaded.config.at("data").at("batch_size").get<int64_t>());
  inputs.read();
  const bool pair = flags.inputs.size() == 2 && inputs.faces().size() == 2 && inputs.failures().empty();
  if (pair) {
    report_pair(flags, loaded, inputs, compare(flags, task, inputs.embeddings()));
  } else if (!inputs.faces().empty() && (flags.inputs.size() != 2 || inputs.failures().empty())) {
    report_embeddings(flags, loaded, inputs);
  }
  return inputs.failures();
}

}  // namespace zoo
