#include "cli/setup.h"

#include <ATen/Parallel.h>

#include "core/error.h"
#include "core/files.h"
#include "core/log.h"
#include "core/text.h"
#include "datasets/spec.h"
#include "models/ldm/weights.h"
#include "models/weights/weights_follow.h"
#include "trainers/trainer.h"

namespace zoo {

namespace {

/// The recipe of foreign weights, told by the names of their tensors.
const Recipe& recognised_recipe(const StateDict& weights) {
  for (const Recipe& recipe : recipes()) {
    if (recipe.recognises && recipe.recognises(weights)) {
      log_info("weights: " + weights.source + " look like " + recipe.name + " (--model NAME says otherwise)");
      return recipe;
    }
  }
  throw Error(
      weights.source + ": the names of its tensors are none of a model zoo knows, expected --model NAME",
      "zoo list models shows the names");
}

Json stored_config(const StateDict& weights) {
  const auto found = weights.metadata.find("zoo.config");
  if (found == weights.metadata.end()) return nullptr;
  Json config = Json::parse(found->second, nullptr, false);
  if (!config.is_object()) throw Error(weights.source + ": its zoo.config is not a JSON document");
  return config;
}

/// A model for inference around the tensors of `state`; none, and `config` as it was, where they are not all that it
/// needs.
std::unique_ptr<Task> make_around(const Recipe& recipe, Json& config, const StateDict& state) {
  if (config.at("trainer").at("partial_weights").get<bool>()) return nullptr;
  const WeightsFollowScope scope;
  Json made = config;
  std::unique_ptr<Task> task = recipe.make(made, Purpose::inference, &state);
  if (scope.incomplete()) return nullptr;
  config = std::move(made);
  return task;
}

}  // namespace

ResolvedConfig resolve_config(const Recipe& recipe, const Json& stored, const std::string& config_file,
                              const std::vector<Edit>& edits) {
  Json config = recipe.defaults();
  if (!stored.is_null()) overlay(config, stored, "stored configuration");
  if (!config_file.empty()) overlay(config, read_json(config_file), config_file);
  for (const Edit& edit : edits) {
    if (edit.key == "model.name") throw UsageError(edit.source + ": model.name is chosen by --model");
    set_key(config, edit.key, edit.value, edit.source);
  }
  config["model"]["name"] = recipe.name;
  validate_config(recipe, config);
  return {&recipe, std::move(config)};
}

const Recipe& chosen_recipe(const std::string& model, const std::string& config_file) {
  if (!model.empty()) return find_recipe(model);
  if (config_file.empty())
    throw UsageError("no model: expected --model NAME (zoo list models shows the names)");
  const Json config = read_json(config_file);
  const Json::json_pointer name("/model/name");
  if (!config.is_object() || !config.contains(name) || !config.at(name).is_string()) {
    throw UsageError(config_file + ": names no recipe, expected --model NAME or its key model.name");
  }
  return find_recipe(config.at(name).get<std::string>());
}

torch::Device prepare_torch(const Json& config) {
  const auto threads = config.at("trainer").at("threads").get<int>();
  if (threads > 0) at::set_num_threads(threads);
  return resolve_device(config.at("trainer").at("device").get<std::string>());
}

std::unique_ptr<Task> untrained_model(const Recipe& recipe, Json& config) {
  const Json& model = config.at("model");
  if (model.contains("num_classes") && model.at("num_classes") == 0) use_embedded_data(recipe, config);
  check_data_specs(config);
  std::unique_ptr<Task> task = recipe.make(config, Purpose::inference, nullptr);
  task->module().eval();
  return task;
}

StateDict load_weights(const std::string& path) {
  return is_diffusers_folder(path) ? read_diffusers_folder(path) : load_state_dict(path);
}

LoadedModel load_model(const std::string& weights, const std::string& model, Purpose purpose,
                       const std::string& config_file, const std::vector<Edit>& edits) {
  if (weights.empty()) throw UsageError("no weights: expected --weights FILE or a run directory");
  const Recipe* named = model.empty() ? nullptr : &find_recipe(model);
  const StateDict state = load_weights(weights);
  Json stored = stored_config(state);
  if (named == nullptr && stored.is_object()) {
    named = &find_recipe(stored.at("model").at("name").get<std::string>());
  }
  const Recipe& recipe = named != nullptr ? *named : recognised_recipe(state);
  // A run's own precision was for its training: inference is fp32 unless this command line says otherwise.
  if (stored.is_object()) stored["trainer"]["precision"] = "fp32";
  ResolvedConfig resolved = resolve_config(recipe, stored, config_file, edits);
  LoadedModel loaded{&recipe, std::move(resolved.config), nullptr, torch::kCPU};
  if (purpose != Purpose::inference) {
    use_embedded_data(recipe, loaded.config);
    check_data_specs(loaded.config);
  }
  loaded.device = prepare_torch(loaded.config);
  if (purpose == Purpose::inference) loaded.task = make_around(recipe, loaded.config, state);
  if (loaded.task == nullptr) loaded.task = recipe.make(loaded.config, purpose, &state);
  loaded.task->module().eval();
  loaded.task->module().to(loaded.device);
  return loaded;
}

void use_embedded_data(const Recipe& recipe, Json& config) {
  Json& data = config.at("data");
  if (!data.at("train").get<std::string>().empty() || !data.at("val").get<std::string>().empty()) return;
  data["train"] = recipe.data;
  log_info("data: the embedded set '" + recipe.data + "' (--data SPEC takes another)");
}

void check_data_specs(const Json& config) {
  for (const char* key : {"train", "val"}) {
    const auto spec = config.at("data").at(key).get<std::string>();
    if (!spec.empty()) parse_data_spec(spec);
  }
}

}  // namespace zoo
