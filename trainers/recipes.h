#pragma once
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "core/options.h"
#include "models/weights/state_dict.h"
#include "trainers/task.h"

namespace zoo {

/// What a task is made for: which data it opens. Training opens both sets, evaluation the validation set.
enum class Purpose { training, evaluation, inference };

/// A row of the one table that says which models exist: a named configuration of a model and of the task that drives it.
struct Recipe {
  std::string name;         ///< "detr-resnet50"
  std::string alias;        ///< "detr", where the recipe is a family's published base; else empty
  std::string family;       ///< "detr"
  std::string task;         ///< "detection"
  std::string description;  ///< one line
  std::string data;         ///< embedded set used where no --data is given
  /// All sections with the recipe's values: `model data loss optimizer schedule trainer eval verify`.
  std::function<Json()> defaults;
  /// Throws UsageError for a value out of range in the sections that belong to the model and its task.
  std::function<void(const Json& config)> validate;
  /// Builds model and task from a resolved configuration. Values that come from data (model.num_classes = 0) or from
  /// `weights` (may be null) are written back into `config`.
  std::function<std::unique_ptr<Task>(Json& config, Purpose purpose, const StateDict* weights)> make;
  /// Whether tensors with these names belong to a model of this recipe's family; null where it reads no foreign weights.
  std::function<bool(const StateDict& weights)> recognises;
  /// Layouts that `zoo export --layout` writes, beside `zoo`.
  std::vector<std::string> layouts;
};

/// Every recipe, in the order to show.
const std::vector<Recipe>& recipes();
/// By name or alias. Throws UsageError naming the nearest.
const Recipe& find_recipe(const std::string& name);
/// Names of models that are not trained here but that `zoo summary` and `zoo bench` know.
std::vector<std::string> all_model_names();

/// Sections that every recipe has, with their defaults; a recipe overlays them.
Json base_config();
/// Throws UsageError for any value out of range, whatever section it stands in.
void validate_config(const Recipe& recipe, const Json& config);

}  // namespace zoo
