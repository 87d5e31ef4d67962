#include "models/ldm/weights.h"

#include <algorithm>

#include "core/error.h"
#include "core/files.h"
#include "core/log.h"
#include "core/text.h"
#include "models/ldm/diffusers_folder.h"
#include "models/ldm/part_options.h"
#include "models/ldm/single_file.h"
#include "models/weights/weights_follow.h"

namespace zoo {

namespace {

constexpr const char* kLdmParts[] = {"unet.", "vae.", "text_encoder."};

Json parsed_metadata(const StateDict& state, const char* key) {
  const auto found = state.metadata.find(key);
  return found == state.metadata.end() ? Json() : Json::parse(found->second, nullptr, false);
}

/// The section `model` of a run's configuration, null where there is none.
Json stored_model(const StateDict& state) {
  const Json config = parsed_metadata(state, "zoo.config");
  return config.is_object() && config.contains("model") ? config["model"] : Json();
}

/// `stored` over the options' defaults: keys that the options do not have belong to others.
template <class Options>
Options stored_options(const Json& stored, const StateDict& state) {
  Json options = Options();
  for (const auto& item : options.items()) {
    if (stored.contains(item.key())) options[item.key()] = stored[item.key()];
  }
  try {
    return options.get<Options>();
  } catch (const Json::exception&) {
    throw Error(state.source + ": the options stored in it are not those of latent diffusion");
  }
}

bool has_all_parts(const StateDict& state) {
  for (const char* part : kLdmParts) {
    if (!state.contains_prefix(part)) return false;
  }
  return true;
}

/// A text tower of OpenCLIP is Stable Diffusion 2's, whose files do not tell which of its two predictions
/// they make.
void describe_original(const StateDict& whole, bool open) {
  if (!open) return;
  log_info("weights: " + whole.source +
           " does not tell what it predicts: epsilon is taken; for the models of 768 pixels say "
           "model.scheduler.prediction_type=v_prediction");
}

/// An original file's tensors tell sizes; its text tower the activation.
StateDict from_original(const StateDict& state, bool averages) {
  StateDict whole = ldm_from_original(state, averages);
  LdmOptions options = told_ldm_options(whole);
  const bool open = state.contains_prefix("cond_stage_model.model.");
  if (open) options.text_encoder.hidden_act = "gelu";
  describe_original(whole, open);
  whole.metadata[kLdmOptionsKey] = Json(options).dump();
  return whole;
}

StateDict with_options(DiffusersPart<AutoencoderOptions> part) {
  part.state.metadata[kAutoencoderOptionsKey] = Json(part.options).dump();
  return std::move(part.state);
}

StateDict with_told_options(const StateDict& state) {
  const StateDict renamed = with_new_attention_names(state);
  Json options = AutoencoderOptions();
  options.update(told_autoencoder_options(renamed));
  return with_options({options.get<AutoencoderOptions>(), renamed});
}

/// A run of the autoencoder's training also has what it was trained with.
StateDict without_loss(const StateDict& state) {
  StateDict own = state;
  own.tensors.clear();
  for (const auto& item : state.tensors) {
    if (!starts_with(item.first, "loss.")) own.tensors.push_back(item);
  }
  return own;
}

bool is_adapter(const std::string& name) {
  return name.find(".lora_") != std::string::npos;
}

bool has_adapters(const StateDict& state) {
  return std::any_of(state.tensors.begin(), state.tensors.end(),
                     [](const auto& item) { return is_adapter(item.first); });
}

/// A run of zoo has a config.json too.
bool is_run_folder(const std::string& path) {
  return file_exists(join_path(path, "last.ckpt")) || file_exists(join_path(path, "last.safetensors"));
}

/// Weights without any adapter are what one starts from: the model's own stay as they are.
void drop_adapters(std::vector<std::string>& names) {
  names.erase(std::remove_if(names.begin(), names.end(), is_adapter), names.end());
}

}  // namespace

StateDict read_ldm(const std::string& path, bool averages) {
  return is_diffusers_folder(path) ? read_diffusers_folder(path)
                                   : ldm_from_layout(load_state_dict(path), averages);
}

bool ldm_recognises(const StateDict& state) {
  return is_original_ldm(state) || has_all_parts(state);
}

StateDict ldm_from_layout(const StateDict& state, bool averages) {
  if (is_original_ldm(state)) return from_original(state, averages);
  if (has_all_parts(state)) return state;
  throw Error(state.source +
              ": its tensors are not those of latent diffusion, expected a diffusers folder, an " +
              "original checkpoint (model.diffusion_model.…) or a run of zoo");
}

LdmOptions ldm_options_of(const StateDict& state) {
  if (const Json stored = parsed_metadata(state, kLdmOptionsKey); stored.is_object()) {
    return stored_options<LdmOptions>(stored, state);
  }
  if (const Json stored = stored_model(state); stored.is_object()) {
    return stored_options<LdmOptions>(stored, state);
  }
  return told_ldm_options(state);
}

void load_ldm_weights(LdmImpl& ldm, const StateDict& state, bool partial) {
  const StateDict own = ldm_from_layout(state);
  FitReport report = assign(ldm, own, {"loss."});
  if (!has_adapters(own)) drop_adapters(report.missing);
  require_fit(report, own.source, partial);
}

Ldm load_ldm(const std::string& path, bool averages) {
  const StateDict state = read_ldm(path, averages);
  const WeightsFollowScope scope;
  Ldm ldm(ldm_options_of(state));
  load_ldm_weights(*ldm, state, /*partial=*/false);
  ldm->eval();
  return ldm;
}

StateDict read_autoencoder(const std::string& path) {
  const bool folder = is_diffusers_folder(path);
  if (folder || (file_exists(join_path(path, "config.json")) && !is_run_folder(path))) {
    return with_options(read_autoencoder_folder(folder ? join_path(path, "vae") : path));
  }
  const StateDict state = load_state_dict(path);
  if (is_original_autoencoder(state)) return with_told_options(autoencoder_from_original(state));
  if (state.contains_prefix("vae.")) {
    return with_options({ldm_options_of(state).autoencoder, part_of(state, "vae.")});
  }
  const StateDict own = without_loss(state);
  const Json stored = stored_model(state);
  if (!stored.is_object()) return with_told_options(own);
  return with_options({stored_options<AutoencoderOptions>(
                           stored.contains("autoencoder") ? stored["autoencoder"] : stored, state),
                       own});
}

}  // namespace zoo
