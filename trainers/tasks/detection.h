#pragma once
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "datasets/detection.h"
#include "trainers/metrics/coco_eval.h"
#include "trainers/recipes.h"
#include "trainers/task.h"
#include "trainers/tasks/category_map.h"
#include "trainers/tasks/fused_evaluation.h"

namespace zoo {

/// What the task needs of a detector; made by the recipe that names the model.
struct Detector {
  std::shared_ptr<torch::nn::Module> module;
  /// (pixels [B,3,H,W], mask [B,H,W] true on real pixels, undefined: no padding) -> logits [B,Q,C+1], boxes
  /// [B,Q,4] cx cy w h in 0..1; module in eval mode.
  std::function<std::pair<torch::Tensor, torch::Tensor>(torch::Tensor pixels, torch::Tensor mask)> forward;
  /// The same arguments, per image labels [T] (class indices) and boxes [T,4], and the number of objects that
  /// the loss is divided by (0: those of the batch); module in train mode.
  std::function<LossTerms(torch::Tensor pixels, torch::Tensor mask, const std::vector<torch::Tensor>& labels,
                          const std::vector<torch::Tensor>& boxes, double num_boxes)>
      loss;
};

/// Builds a detector for so many classes (no-object not counted).
using MakeDetector = std::function<Detector(int64_t num_classes)>;

/// One detected object, in pixels of the original image.
struct Detection {
  int64_t category_id = 0;
  std::string category;
  double score = 0;
  std::array<double, 4> box{};  ///< x, y, w, h; not clipped
};

/// Section `eval` of detection recipes.
struct DetectionEvalOptions {
  int64_t previews = 6;  ///< pictures drawn at each validation of a run

  void validate() const { require_range("eval.previews", static_cast<double>(previews), 0, 1000); }
};
NLOHMANN_DEFINE_TYPE_NON_INTRUSIVE(DetectionEvalOptions, previews)

/// A picture with the detections of at least `threshold` drawn.
cv::Mat draw_found(const cv::Mat& rgb, const std::vector<Detection>& found, double threshold);

/// Detection by any detector that gives a set of (class, box) per image: all queries are scored, no
/// suppression.
class DetectionTask : public Task {
 public:
  /// Opens what `purpose` needs and builds the model; writes model.num_classes into `config` where it is 0.
  DetectionTask(Json& config, Purpose purpose, const StateDict* weights, const MakeDetector& make);

  torch::nn::Module& module() override { return *detector_.module; }
  std::shared_ptr<torch::nn::Module> shared_module() override { return detector_.module; }
  std::vector<ParameterGroup> parameter_groups(const OptimizerOptions& options) override;
  BatchSource& training_batches() override;
  LossTerms loss(const Batch& batch, torch::Device device) override;
  Json evaluate(torch::Device device, const std::function<void(int64_t, int64_t)>& progress) override;
  std::string best_metric() const override { return "AP"; }
  std::vector<Preview> previews(int64_t count, torch::Device device) override;
  TraceSpec trace_spec() override;
  std::vector<torch::Tensor> example_inputs(int64_t batch_size,
                                            std::pair<int64_t, int64_t> size) const override;
  std::pair<int64_t, int64_t> default_input_size() const override {
    return {transform_.eval_size, transform_.eval_size};
  }
  std::map<std::string, std::string> weight_metadata() const override;
  std::vector<std::pair<std::string, std::string>> describe(const Batch& batch) const override;

  /// Detections of every image of a batch, sorted by score, highest first.
  std::vector<std::vector<Detection>> detect(const DetectionBatch& batch, torch::Device device);
  const DetectionTransformOptions& transform() const { return transform_; }
  const CategoryMap& categories() const { return map_; }
  /// All detections of the last `evaluate`, in the form of COCO's results.
  const std::vector<CocoDetection>& detections() const { return detections_; }
  const CocoMetrics& metrics() const { return metrics_; }

 private:
  void open_data(Purpose purpose);
  std::pair<torch::Tensor, torch::Tensor> forward(const DetectionBatch& batch, torch::Device device);
  torch::Tensor class_indices(const torch::Tensor& labels) const;
  double mean_objects(const DetectionBatch& batch) const;

  DataOptions data_;
  DetectionTransformOptions transform_;
  DetectionEvalOptions eval_;
  uint64_t seed_ = 0;
  FusedEvaluation fused_;
  std::shared_ptr<DetectionDataset> training_, validation_;
  CategoryMap map_;
  Detector detector_;
  std::unique_ptr<BatchSource> training_batches_;
  std::vector<CocoDetection> detections_;
  CocoMetrics metrics_{};
};

}  // namespace zoo
