#include "trainers/recipes.h"

#include <algorithm>

#include "core/error.h"
#include "core/text.h"
#include "datasets/options.h"
#include "models/backbones/resnet.h"
#include "models/backbones/vgg.h"
#include "trainers/recipes/rows.h"

namespace zoo {

namespace {

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
    std::vector<Recipe> rows = detr_recipes();
    for (Recipe& recipe : face_recipes()) rows.push_back(std::move(recipe));
    for (Recipe& recipe : action_recipes()) rows.push_back(std::move(recipe));
    for (Recipe& recipe : ldm_recipes()) rows.push_back(std::move(recipe));
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

Json model_section(const std::string& name, Json options) {
  options["name"] = name;
  options["weights"] = "";  // --weights: to start from
  return options;
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
