#include <algorithm>

#include "core/error.h"
#include "core/log.h"
#include "core/text.h"
#include "models/diffusion/sampler.h"

namespace zoo {

namespace {

/// Keys of the schedule itself and of DDIM, under the same names in both.
const std::vector<std::string>& scheduler_keys() {
  static const std::vector<std::string> keys = {
      "num_train_timesteps",    "beta_start",        "beta_end",         "beta_schedule", "prediction_type",
      "timestep_spacing",       "steps_offset",      "set_alpha_to_one", "clip_sample",   "clip_sample_range",
      "rescale_betas_zero_snr", "use_karras_sigmas", "final_sigmas_type"};
  return keys;
}

/// What diffusers' classes take for a key that is left out.
SchedulerOptions class_defaults(const std::string& class_name) {
  SchedulerOptions options;
  options.beta_start = 0.0001;
  options.beta_end = 0.02;
  options.beta_schedule = "linear";
  options.steps_offset = 0;
  options.set_alpha_to_one = class_name == "DDIMScheduler";
  options.clip_sample = class_name == "DDIMScheduler" || class_name == "DDPMScheduler";
  return options;
}

/// The sampler of a class; dpmpp_2m_karras is told by use_karras_sigmas.
std::string sampler_of(const std::string& class_name, bool karras, const std::string& source) {
  if (class_name.empty()) return SchedulerOptions().sampler;
  for (const SamplerInfo& info : samplers()) {
    if (info.diffusers_class == class_name)
      return info.name == "dpmpp_2m" && karras ? "dpmpp_2m_karras" : info.name;
  }
  log_warning(source + ": " + class_name + " is no sampler here, dpmpp_2m is the default instead");
  return "dpmpp_2m";
}

/// Settings that would change what the named class does; other samplers are not touched by them.
void warn_of_unknown_settings(const Json& config, const std::string& source) {
  const Json known = {{"thresholding", false},
                      {"variance_type", "fixed_small"},
                      {"solver_order", 2},
                      {"algorithm_type", "dpmsolver++"},
                      {"lower_order_final", true},
                      {"euler_at_final", false},
                      {"predict_x0", true},
                      {"skip_prk_steps", true},
                      {"use_exponential_sigmas", false},
                      {"use_beta_sigmas", false},
                      {"use_lu_lambdas", false},
                      {"use_flow_sigmas", false},
                      {"interpolation_type", "linear"}};
  for (const auto& [key, value] : known.items()) {
    if (config.contains(key) && !config.at(key).is_null() && config.at(key) != value)
      log_warning(source + ": " + key + " is " + config.at(key).dump() + ", here it is " + value.dump());
  }
}

}  // namespace

SchedulerOptions scheduler_from_diffusers(const Json& config, const std::string& source) {
  if (!config.is_object()) throw Error(source + ": expected an object of a scheduler's settings");
  const std::string class_name =
      config.contains("_class_name") && config.at("_class_name").is_string() ? config.at("_class_name") : "";
  if (config.contains("trained_betas") && !config.at("trained_betas").is_null())
    throw Error(source + ": trained_betas is not known here, expected a beta_schedule");
  Json document = class_defaults(class_name), given = Json::object();
  for (const std::string& key : scheduler_keys()) {
    if (config.contains(key) && !config.at(key).is_null()) given[key] = config.at(key);
  }
  try {
    overlay(document, given, source);
    auto options = document.get<SchedulerOptions>();
    options.sampler = sampler_of(class_name, options.use_karras_sigmas, source);
    options.validate();
    warn_of_unknown_settings(config, source);
    return options;
  } catch (const UsageError& error) {
    throw Error(starts_with(error.what(), source) ? error.what() : source + ": " + error.what());
  }
}

Json scheduler_to_diffusers(const SchedulerOptions& options) {
  const Json document = options;
  Json config = Json::object();
  for (const std::string& key : scheduler_keys()) config[key] = document.at(key);
  if (options.timestep_spacing == "auto") config.erase("timestep_spacing");
  for (const SamplerInfo& info : samplers()) {
    if (info.name == options.sampler) config["_class_name"] = info.diffusers_class;
  }
  if (options.sampler == "dpmpp_2m_karras") config["use_karras_sigmas"] = true;
  config["_diffusers_version"] = "0.42.1";
  config["trained_betas"] = nullptr;
  config["skip_prk_steps"] = true;
  return config;
}

}  // namespace zoo
