#pragma once
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "cli/command.h"
#include "models/weights/state_dict.h"
#include "trainers/recipes.h"

namespace zoo {

/// A recipe and its resolved configuration.
struct ResolvedConfig {
  const Recipe* recipe = nullptr;
  Json config;
};

/// Recipe defaults < `stored` (a run's or weight file's configuration; may be null) < --config < flags and
/// --set. Validated. Throws UsageError (exit 2) for anything that the command line or the keys of a document
/// tell.
ResolvedConfig resolve_config(const Recipe& recipe, const Json& stored, const std::string& config_file,
                              const std::vector<Edit>& edits);
/// The recipe that --model names, else the `model.name` of --config. Throws UsageError where neither is
/// there.
const Recipe& chosen_recipe(const std::string& model, const std::string& config_file);

/// The tensors of `--weights`: a file, a run, or a folder of several parts (diffusers). Throws Error as their readers.
StateDict load_weights(const std::string& path);

/// A model made from weights, for eval, predict and export.
struct LoadedModel {
  const Recipe* recipe = nullptr;
  Json config;
  std::unique_ptr<Task> task;
  torch::Device device = torch::kCPU;
};
/// Loads `weights` (a file or a run), finds its recipe (its own `zoo.config`, --model, or the names of the
/// tensors), resolves the configuration, opens what `purpose` needs, and puts the weights into the model in
/// eval mode.
LoadedModel load_model(const std::string& weights, const std::string& model, Purpose purpose,
                       const std::string& config_file, const std::vector<Edit>& edits);

/// A model with random weights, in eval mode, for summaries and benchmarks; classes that come from data are
/// those of the recipe's embedded set where `config` names none.
std::unique_ptr<Task> untrained_model(const Recipe& recipe, Json& config);

/// Sets the operators' threads (0: all cores) and resolves the device. Called once, before any tensor work.
torch::Device prepare_torch(const Json& config);

/// The default of `--data` in one line on stderr: which embedded set is used.
void use_embedded_data(const Recipe& recipe, Json& config);
/// Throws UsageError where a SPEC of the configuration is no SPEC (exit 2), before anything is opened.
void check_data_specs(const Json& config);

}  // namespace zoo
