#include "models/detr/detr.h"
#include "core/error.h"
#include "core/text.h"
#include "models/detr/criterion.h"
#include "models/detr/weights.h"
#include "trainers/recipes/rows.h"
#include "trainers/tasks/detection.h"

namespace zoo {

namespace {

/// Adds the loss of the encoder's cells; its terms end in `_enc`.
void add_encoder_loss(const DetrOutput& cells, const std::vector<torch::Tensor>& labels,
                      const std::vector<torch::Tensor>& boxes, const DetrLossOptions& options,
                      double num_boxes, LossTerms& terms) {
  std::vector<torch::Tensor> many_labels, many_boxes;
  for (size_t i = 0; i < labels.size(); ++i) {
    many_labels.push_back(labels[i].repeat({options.encoder_repeats}));
    many_boxes.push_back(boxes[i].repeat({options.encoder_repeats, 1}));
  }
  const LossTerms more = detr_criterion(cells.logits, cells.boxes, many_labels, many_boxes, options,
                                        num_boxes * static_cast<double>(options.encoder_repeats));
  terms.total = terms.total + options.encoder_weight * more.total;
  for (const auto& [name, value] : more.terms) terms.terms.emplace_back(name + "_enc", value);
}

Detector make_detr(const DetrOptions& options, const DetrLossOptions& loss) {
  Detr detr(options);
  Detector detector;
  detector.module = detr.ptr();
  detector.forward = [detr](const torch::Tensor& pixels, const torch::Tensor& mask) mutable {
    const DetrOutput output = detr->forward(pixels, mask);
    return std::make_pair(output.logits.select(0, -1), output.boxes.select(0, -1));
  };
  detector.loss = [detr, loss](const torch::Tensor& pixels, const torch::Tensor& mask,
                               const std::vector<torch::Tensor>& labels,
                               const std::vector<torch::Tensor>& boxes, double num_boxes) mutable {
    const DetrFeatures features = detr->encode(pixels, mask);
    const DetrOutput output = detr->predict(detr->decode(features));
    LossTerms terms = detr_criterion(output.logits, output.boxes, labels, boxes, loss, num_boxes);
    if (loss.encoder_weight > 0)
      add_encoder_loss(detr->predict_cells(features), labels, boxes, loss, num_boxes, terms);
    return terms;
  };
  return detector;
}

/// Weights of a whole DETR in any published layout, or of its backbone alone.
void load_detr(torch::nn::Module& module, const Json& config, const StateDict* weights) {
  const auto partial = config.at("trainer").at("partial_weights").get<bool>();
  auto& detr = dynamic_cast<DetrImpl&>(module);
  const auto backbone = config.at("model").at("backbone_weights").get<std::string>();
  if (!backbone.empty()) load_detr_backbone(detr, load_state_dict(backbone), partial);
  if (weights != nullptr) load_detr_weights(detr, *weights, partial);
}

std::unique_ptr<Task> make_detr_task(Json& config, Purpose purpose, const StateDict* weights) {
  auto task = std::make_unique<DetectionTask>(config, purpose, weights, [&](int64_t num_classes) {
    auto options = config.at("model").get<DetrOptions>();
    options.num_classes = num_classes;
    return make_detr(options, config.at("loss").get<DetrLossOptions>());
  });
  load_detr(task->module(), config, weights);
  return task;
}

void validate_detr(const Json& config) {
  config.at("model").get<DetrOptions>().validate();
  config.at("loss").get<DetrLossOptions>().validate();
  config.at("data").at("transform").get<DetectionTransformOptions>().validate();
  config.at("eval").get<DetectionEvalOptions>().validate();
}

PublishedWeights publish_detr(const Json& config, const StateDict& state, const std::string& layout) {
  require_choice("--layout", layout, {"zoo", "original", "hf", "hf-timm"});
  const auto options = config.at("model").get<DetrOptions>();
  PublishedWeights published{detr_to_layout(state, layout), {}};
  if (layout != "original") {
    const auto categories = state.metadata.find("zoo.categories");
    published.files.emplace_back(
        "config.json",
        detr_hf_config(options, layout, categories == state.metadata.end() ? "[]" : categories->second));
  }
  return published;
}

Recipe detr_recipe(const std::string& name, const std::string& description, const DetrOptions& options) {
  Recipe recipe;
  recipe.name = name;
  recipe.family = "detr";
  recipe.task = "detection";
  recipe.description = description;
  recipe.data = "shapes";
  recipe.defaults = [name, options] {
    Json config = base_config();
    config["model"] = model_section(name, options);
    config["model"]["backbone_weights"] =
        "";  // of the backbone alone, as torchvision or timm distribute them
    config["loss"] = DetrLossOptions();
    config["data"]["transform"] = DetectionTransformOptions();
    config["data"]["batch_size"] = 2;
    config["eval"] = DetectionEvalOptions();
    return config;
  };
  recipe.validate = validate_detr;
  recipe.make = make_detr_task;
  recipe.publish = publish_detr;
  return recipe;
}

/// The published recipes: 300 epochs, step size 1e-4 (backbone 1e-5), times 0.1 after two thirds.
Recipe published_detr(const std::string& name, const std::string& description, const DetrOptions& options) {
  Recipe recipe = detr_recipe(name, description, options);
  const auto defaults = recipe.defaults;
  recipe.defaults = [defaults] {
    Json config = defaults();
    config["schedule"]["step"] = 2.0 / 3.0;
    return config;
  };
  recipe.recognises = [options](const StateDict& weights) { return detr_recognises(weights, options); };
  return recipe;
}

/// A small detector for the embedded data: minutes on two cores.
Recipe tiny_detr() {
  Recipe recipe =
      detr_recipe("detr-tiny", "a small DETR for the embedded data: minutes on two cores", detr_tiny());
  const auto defaults = recipe.defaults;
  recipe.defaults = [defaults] {
    Json config = defaults();
    config["data"]["batch_size"] = 16;
    DetectionTransformOptions transform;
    transform.train_sizes = {128};
    transform.crop_resize_sizes = {};
    transform.eval_size = 128;
    transform.max_size = 256;
    config["data"]["transform"] = transform;
    config["loss"]["encoder_weight"] = 1.0;
    config["optimizer"]["lr"] = 2e-3;
    config["optimizer"]["backbone_lr"] = 2e-3;
    config["schedule"]["name"] = "onecycle";
    config["schedule"]["peak"] = 0.05;
    config["trainer"]["clip_norm"] = 1.0;
    config["trainer"]["max_steps"] = 4000;
    config["trainer"]["validate_every"] = 0;
    config["trainer"]["validate_every_steps"] = 1000;
    config["trainer"]["checkpoint_every"] = 500;
    return config;
  };
  return recipe;
}

}  // namespace

std::vector<Recipe> detr_recipes() {
  std::vector<Recipe> rows = {
      tiny_detr(),
      published_detr("detr-resnet50", "DETR, Carion et al. 2020: ResNet-50, stride 32", detr_resnet50()),
      published_detr("detr-resnet50-dc5", "DETR with dilated last stage, stride 16", detr_resnet50_dc5()),
      published_detr("detr-resnet101", "DETR: ResNet-101, stride 32", detr_resnet101()),
      published_detr("detr-resnet101-dc5", "DETR: ResNet-101 with dilated last stage", detr_resnet101_dc5()),
  };
  rows[1].alias = "detr";
  return rows;
}

}  // namespace zoo
