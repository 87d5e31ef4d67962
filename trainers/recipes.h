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

/// Weights in a published layout, and the text files (name, content) that stand beside them in a folder.
struct PublishedWeights {
  StateDict state;
  std::vector<std::pair<std::string, std::string>> files;
  /// Writes a layout of several weight files into a folder, which exists; null: `state` and `files` are all.
  std::function<void(const std::string& folder)> write_folder = nullptr;
};

/// A row of the one table that says which models exist: a named configuration of a model and of the task that
/// drives it.
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
  /// Builds model and task from a resolved configuration. Values that come from data (model.num_classes = 0)
  /// or from `weights` (may be null) are written back into `config`.
  std::function<std::unique_ptr<Task>(Json& config, Purpose purpose, const StateDict* weights)> make;
  /// Whether tensors with these names belong to a model of this recipe's family; null where it reads no
  /// foreign weights.
  std::function<bool(const StateDict& weights)> recognises;
  /// Own tensors under the names of a published layout; throws UsageError for a layout that the family does
  /// not have.
  std::function<PublishedWeights(const Json& config, const StateDict& state, const std::string& layout)>
      publish;
};

/// Every recipe, in the order to show.
const std::vector<Recipe>& recipes();
/// By name or alias. Throws UsageError naming the nearest.
const Recipe& find_recipe(const std::string& name);

/// A network that `zoo summary` knows but that is not trained on its own.
struct Architecture {
  std::string name;
  std::string description;
  std::function<std::shared_ptr<torch::nn::Module>()> make;
  std::function<void(torch::nn::Module&, const torch::Tensor& pixels)> forward;  ///< pixels [B,3,H,W]
  int64_t size = 224;                                                            ///< of the published input
};
const std::vector<Architecture>& architectures();
/// By name; null where there is none.
const Architecture* find_architecture(const std::string& name);

/// Sections that every recipe has, with their defaults; a recipe overlays them.
Json base_config();
/// Throws UsageError for any value out of range, whatever section it stands in.
void validate_config(const Recipe& recipe, const Json& config);

}  // namespace zoo
