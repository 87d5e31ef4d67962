#include "trainers/tasks/detection.h"

#include <torch/torch.h>

#include <algorithm>
#include <set>

#include "core/error.h"
#include "core/files.h"
#include "core/log.h"
#include "core/text.h"
#include "datasets/draw.h"
#include "models/precision.h"
#include "models/shape_text.h"
#include "trainers/tasks/detection_predictions.h"

namespace zoo {

namespace {

constexpr double kPreviewThreshold = 0.5;

}  // namespace

cv::Mat draw_found(const cv::Mat& rgb, const std::vector<Detection>& found, double threshold) {
  std::vector<DrawnBox> boxes;
  for (const Detection& one : found) {
    if (one.score < threshold) continue;
    boxes.push_back(
        {one.box[0], one.box[1], one.box[2], one.box[3], one.category, one.score, one.category_id});
  }
  return draw_detections(rgb, boxes);
}

DetectionTask::DetectionTask(Json& config, Purpose purpose, const StateDict* weights,
                             const MakeDetector& make)
    : data_(config.at("data").get<DataOptions>()),
      transform_(config.at("data").at("transform").get<DetectionTransformOptions>()),
      eval_(config.at("eval").get<DetectionEvalOptions>()),
      seed_(config.at("trainer").at("seed").get<uint64_t>()),
      fused_(config, purpose) {
  Json& num_classes = config.at("model").at("num_classes");
  const bool classes_from_data = weights == nullptr && num_classes == 0;
  open_data(purpose == Purpose::inference && classes_from_data ? Purpose::evaluation : purpose);
  if (weights != nullptr && weights->metadata.count("zoo.categories") > 0 && purpose != Purpose::training) {
    map_ = CategoryMap::from_json(weights->metadata.at("zoo.categories"), num_classes.get<int64_t>());
  } else if (training_ != nullptr) {
    map_ = CategoryMap(training_->categories(), num_classes.get<int64_t>());
  } else if (num_classes.get<int64_t>() == CategoryMap::published_coco().num_classes()) {
    map_ = CategoryMap::published_coco();
  } else if (validation_ != nullptr) {
    map_ = CategoryMap(validation_->categories(), num_classes.get<int64_t>());
  } else {
    map_ = CategoryMap::numbered(num_classes.get<int64_t>());
  }
  if (purpose == Purpose::evaluation) map_ = map_.matched_to(validation_->categories());
  num_classes = map_.num_classes();
  detector_ = make(map_.num_classes());
}

void DetectionTask::open_data(Purpose purpose) {
  if (purpose == Purpose::training) {
    std::tie(training_, validation_) = open_train_val(data_, seed_);
  } else if (purpose == Purpose::evaluation) {
    validation_ = open_validation(data_, seed_);
  }
}

std::vector<ParameterGroup> DetectionTask::parameter_groups(const OptimizerOptions& options) {
  ParameterGroup head{"head", {}, options.lr, options.weight_decay};
  ParameterGroup backbone{"backbone", {}, options.backbone_lr, options.weight_decay};
  for (const auto& item : detector_.module->named_parameters()) {
    const bool in_backbone = item.key().find("backbone") != std::string::npos;
    if (!item.value().requires_grad() || (in_backbone && options.backbone_lr == 0)) continue;
    (in_backbone ? backbone : head).parameters.emplace_back(item.key(), item.value());
  }
  return {head, backbone};
}

BatchSource& DetectionTask::training_batches() {
  if (training_batches_ == nullptr) {
    training_batches_ = detection_batches(training_, data_, transform_, true, seed_, batch_part());
  }
  return *training_batches_;
}

torch::Tensor DetectionTask::class_indices(const torch::Tensor& labels) const {
  torch::Tensor indices = torch::empty_like(labels);
  const auto* from = labels.data_ptr<int64_t>();
  auto* to = indices.data_ptr<int64_t>();
  for (int64_t i = 0; i < labels.numel(); ++i) to[i] = map_.index_of(from[i]);
  return indices;
}

LossTerms DetectionTask::loss(const Batch& batch, torch::Device device) {
  const auto& detection = dynamic_cast<const DetectionBatch&>(batch);
  std::vector<torch::Tensor> labels, boxes;
  for (size_t i = 0; i < detection.labels.size(); ++i) {
    labels.push_back(class_indices(detection.labels[i]).to(device));
    boxes.push_back(detection.boxes[i].to(device));
  }
  const torch::Tensor mask = detection.padded ? detection.mask.to(device) : torch::Tensor();
  return detector_.loss(detection.pixels.to(device), mask, labels, boxes, mean_objects(detection));
}

/// Objects of a batch's part, the mean over processes; 0 for the only one.
double DetectionTask::mean_objects(const DetectionBatch& batch) const {
  if (ranks() == nullptr) return 0;
  const torch::Tensor objects = torch::zeros({}, torch::kDouble);
  for (const torch::Tensor& labels : batch.labels) objects.add_(labels.numel());
  ranks()->sum(objects);
  return std::max(1.0, objects.item<double>() / static_cast<double>(ranks()->count()));
}

std::pair<torch::Tensor, torch::Tensor> DetectionTask::forward(const DetectionBatch& batch,
                                                               torch::Device device) {
  fused_.count_pass([this] { return trace_spec(); }, device);
  if (fused_.running()) {
    const torch::Tensor& x = batch.pixels;
    const auto outputs = fused_.run(
        {x, batch.padded ? batch.mask : torch::ones({x.size(0), x.size(2), x.size(3)}, torch::kBool)});
    return {outputs[0], outputs[1]};
  }
  fused_.lay_out(*detector_.module, device);
  const torch::Tensor mask = batch.padded ? batch.mask.to(device) : torch::Tensor();
  const AutocastGuard autocast(device, fused_.precision());
  return detector_.forward(batch.pixels.to(device), mask);
}

std::vector<std::vector<Detection>> DetectionTask::detect(const DetectionBatch& batch, torch::Device device) {
  auto [logits, boxes] = forward(batch, device);
  // The best class of every query, no-object left out (detr.md section 7.2): softmax over all, maximum over
  // the rest.
  const torch::Tensor probabilities = logits.to(torch::kFloat).softmax(-1).slice(-1, 0, -1);  // [B,Q,C]
  auto [scores, labels] = probabilities.max(-1);                                              // [B,Q]
  const torch::Tensor sizes = batch.original_sizes.to(torch::kFloat);                         // [B,2] h w
  const torch::Tensor scale =
      sizes.index_select(1, torch::tensor({1, 0, 1, 0})).unsqueeze(1);  // [B,1,4] w h w h
  const torch::Tensor scaled = boxes.to(torch::kFloat).cpu();
  const torch::Tensor corner = scaled.slice(-1, 0, 2) - scaled.slice(-1, 2, 4) / 2;
  const torch::Tensor xywh =
      (torch::cat({corner, scaled.slice(-1, 2, 4)}, -1) * scale).contiguous();  // [B,Q,4]
  scores = scores.cpu().contiguous();
  labels = labels.cpu().contiguous();
  const torch::Tensor order = scores.argsort(/*stable=*/true, -1, /*descending=*/true);

  std::vector<std::vector<Detection>> result(static_cast<size_t>(scores.size(0)));
  const auto score = scores.accessor<float, 2>();
  const auto label = labels.accessor<int64_t, 2>();
  const auto box = xywh.accessor<float, 3>();
  const auto rank = order.accessor<int64_t, 2>();
  for (int64_t b = 0; b < scores.size(0); ++b) {
    for (int64_t i = 0; i < scores.size(1); ++i) {
      const int64_t q = rank[b][i];
      const Category* category = map_.category(label[b][q]);
      if (category == nullptr) continue;  // an unused index: published COCO weights have eleven
      result[static_cast<size_t>(b)].push_back({category->id,
                                                category->name,
                                                score[b][q],
                                                {box[b][q][0], box[b][q][1], box[b][q][2], box[b][q][3]}});
    }
  }
  return result;
}

Json DetectionTask::evaluate(torch::Device device, const std::function<void(int64_t, int64_t)>& progress) {
  const torch::NoGradGuard no_grad;
  const auto batches = detection_batches(validation_, data_, transform_, false, seed_);
  batches->start_epoch(0);
  fused_.start(trace_spec(), batches->batches_per_epoch(), device);
  detections_.clear();
  int64_t done = 0;
  std::set<int64_t> seen;
  while (auto batch = batches->next()) {
    const auto& detection = dynamic_cast<const DetectionBatch&>(*batch);
    const auto found = detect(detection, device);
    for (size_t i = 0; i < found.size(); ++i) {
      seen.insert(detection.image_ids[i]);
      for (const Detection& one : found[i]) {
        detections_.push_back({detection.image_ids[i], one.category_id, one.box, one.score});
      }
    }
    if (progress) progress(++done, batches->batches_per_epoch());
  }
  fused_.stop();
  CocoGroundTruth truth = ground_truth(*validation_);
  metrics_ = evaluate_coco(truth, detections_, static_cast<int>(std::max(1, torch::get_num_threads())));
  return coco_metrics_json(metrics_, truth);
}

std::vector<Preview> DetectionTask::previews(int64_t count, torch::Device device) {
  const torch::NoGradGuard no_grad;
  std::vector<Preview> previews;
  for (int64_t i = 0; i < std::min({count, eval_.previews, validation_->size()}); ++i) {
    std::vector<DetectionSample> samples;
    samples.push_back(evaluation_sample(*validation_, i, transform_));
    const auto found = detect(*collate(std::move(samples), transform_), device);
    const std::string name = file_stem(validation_->record(i).file_name);
    previews.push_back({name.empty() ? std::to_string(i) : name,
                        draw_found(validation_->image(i), found.front(), kPreviewThreshold)});
  }
  return previews;
}

TraceSpec DetectionTask::trace_spec() {
  TraceSpec spec;
  spec.module = detector_.module;
  const auto forward = detector_.forward;
  spec.forward = [forward](const std::vector<torch::Tensor>& inputs) {
    auto [logits, boxes] = forward(inputs[0], inputs[1]);
    return std::vector<torch::Tensor>{logits, boxes};
  };
  const int64_t base = std::min<int64_t>((transform_.eval_size + 31) / 32 * 32, 320);
  spec.example = [base](int64_t variant) {
    const int64_t batch = 1 + variant % 3, height = base - 32 * (variant % 2),
                  width = base + 17 * (variant % 4);
    const torch::Tensor pixels = torch::randn({batch, 3, height, width});
    torch::Tensor mask = torch::ones({batch, height, width}, torch::kBool);
    for (int64_t b = 1; b < batch; ++b) {  // every image after the first is padded differently
      mask[b].slice(0, height - 11 * b).fill_(false);
      mask[b].slice(1, width - 29 * b).fill_(false);
    }
    return std::vector<torch::Tensor>{pixels * mask.unsqueeze(1), mask};
  };
  spec.variants = 4;
  spec.inputs = {"pixel_values", "pixel_mask"};
  spec.outputs = {"logits", "boxes"};
  return spec;
}

std::vector<torch::Tensor> DetectionTask::example_inputs(int64_t batch_size,
                                                         std::pair<int64_t, int64_t> size) const {
  return {torch::randn({batch_size, 3, size.first, size.second}),
          torch::ones({batch_size, size.first, size.second}, torch::kBool)};
}

std::map<std::string, std::string> DetectionTask::weight_metadata() const {
  return {{"zoo.categories", map_.to_json()}, {"zoo.preprocessing", Json(transform_).dump()}};
}

std::vector<std::pair<std::string, std::string>> DetectionTask::describe(const Batch& batch) const {
  const auto& detection = dynamic_cast<const DetectionBatch&>(batch);
  int64_t objects = 0;
  for (const torch::Tensor& labels : detection.labels) objects += labels.numel();
  return {{"pixels", shape_text(detection.pixels) + " float32"},
          {"mask", shape_text(detection.mask) + " bool"},
          {"labels", format("%lld objects in %lld images", static_cast<long long>(objects),
                            static_cast<long long>(detection.size()))},
          {"boxes", format("[%lld, 4] float32, cx cy w h in 0..1", static_cast<long long>(objects))}};
}

}  // namespace zoo
