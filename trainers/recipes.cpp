#include "trainers/recipes.h"

#include <algorithm>

#include "core/error.h"
#include "core/text.h"
#include "datasets/options.h"
#include "models/backbones/resnet.h"
#include "models/backbones/vgg.h"
#include "models/detr/criterion.h"
#include "models/detr/detr.h"
#include "models/detr/weights.h"
#include "trainers/tasks/detection.h"

namespace zoo {

namespace {

/// Keys of section `model` that every recipe has beside the options of its architecture.
Json model_section(const std::string& name, Json options) {
  options["name"] = name;
  options["weights"] = "";           // --weights: to start from
  options["backbone_weights"] = "";  // a file of the backbone alone, as torchvision or timm distribute them
  return options;
}

/// Adds the loss of the encoder's cells; its terms end in `_enc`.
void add_encoder_loss(const DetrOutput& cells, const std::vector<torch::Tensor>& labels,
                      const std::vector<torch::Tensor>& boxes, const DetrLossOptions& options,
                      LossTerms& terms) {
  std::vector<torch::Tensor> many_labels, many_boxes;
  for (size_t i = 0; i < labels.size(); ++i) {
    many_labels.push_back(labels[i].repeat({options.encoder_repeats}));
    many_boxes.push_back(boxes[i].repeat({options.encoder_repeats, 1}));
  }
  const LossTerms more = detr_criterion(cells.logits, cells.boxes, many_labels, many_boxes, options);
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
                               const std::vector<torch::Tensor>& boxes) mutable {
    const DetrFeatures features = detr->encode(pixels, mask);
    const DetrOutput output = detr->predict(detr->decode(features));
    LossTerms terms = detr_criterion(output.logits, output.boxes, labels, boxes, loss);
    if (loss.encoder_weight > 0) add_encoder_loss(detr->predict_cells(features), labels, boxes, loss, terms);
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

template <class Net>
Architecture classifier(const std::string& name, const std::string& description,
                        const std::function<Net()>& make) {
  Architecture architecture;
  architecture.name = name;
  architecture.description = description;
  architecture.make = [make] { return make().ptr(); };
  architecture.forward = [](torch::nn::Module& module, const torch::Tensor& pixels) {
    dynamic_cast<typename Net::ContainedType&>(module).forward(pixels);
  };
  return architecture;
}

}  // namespace

const std::vector<Recipe>& recipes() {
  static const std::vector<Recipe> table = [] {
    std::vector<Recipe> rows = {
        tiny_detr(),
        published_detr("detr-resnet50", "DETR, Carion et al. 2020: ResNet-50, stride 32", detr_resnet50()),
        published_detr("detr-resnet50-dc5", "DETR with dilated last stage, stride 16", detr_resnet50_dc5()),
        published_detr("detr-resnet101", "DETR: ResNet-101, stride 32", detr_resnet101()),
        published_detr("detr-resnet101-dc5", "DETR: ResNet-101 with dilated last stage",
                       detr_resnet101_dc5()),
    };
    rows[1].alias = "detr";
    return rows;
  }();
  return table;
}

const Recipe& find_recipe(const std::string& name) {
  std::vector<std::string> names;
  for (const Recipe& recipe : recipes()) {
    if (recipe.name == name || (!recipe.alias.empty() && recipe.alias == name)) return recipe;
    names.push_back(recipe.name);
    if (!recipe.alias.empty()) names.push_back(recipe.alias);
  }
  for (const Architecture& architecture : architectures()) names.push_back(architecture.name);
  throw UsageError("unknown model '" + name + "'" + did_you_mean(name, names) +
                   " (known: " + join(names, ", ") + ")");
}

const std::vector<Architecture>& architectures() {
  static const std::vector<Architecture> table = {
      classifier<Vgg>("vgg16", "VGG-16, Simonyan and Zisserman 2014", [] { return Vgg(VggOptions()); }),
      classifier<ResNetClassifier>("resnet50", "ResNet-50, He et al. 2015, stride in the 3x3",
                                   [] { return ResNetClassifier(resnet50()); }),
      classifier<ResNetClassifier>("resnet101", "ResNet-101", [] { return ResNetClassifier(resnet101()); }),
  };
  return table;
}

const Architecture* find_architecture(const std::string& name) {
  for (const Architecture& architecture : architectures()) {
    if (architecture.name == name) return &architecture;
  }
  return nullptr;
}

Json base_config() {
  return {{"model", Json::object()},         {"data", DataOptions()},         {"loss", Json::object()},
          {"optimizer", OptimizerOptions()}, {"schedule", ScheduleOptions()}, {"trainer", TrainerOptions()},
          {"eval", Json::object()},          {"verify", Json::object()}};
}

void validate_config(const Recipe& recipe, const Json& config) {
  config.at("data").get<DataOptions>().validate();
  config.at("optimizer").get<OptimizerOptions>().validate();
  config.at("schedule").get<ScheduleOptions>().validate();
  config.at("trainer").get<TrainerOptions>().validate();
  recipe.validate(config);
}

}  // namespace zoo
