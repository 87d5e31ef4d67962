#include "models/ldm/diffusers_folder.h"

#include "core/clip_tokenizer.h"
#include "core/error.h"
#include "core/files.h"
#include "core/text.h"
#include "models/ldm/config.h"
#include "models/ldm/part_options.h"
#include "models/ldm/single_file.h"
#include "models/ldm/weights.h"

namespace zoo {

namespace {

constexpr const char* kModelIndex = "model_index.json";
constexpr const char* kDiffusersWeights = "diffusion_pytorch_model";
constexpr const char* kTransformersWeights = "model";

/// Names that a part's weights may have, the best first. `stem` as in safetensors files, `pickled` as in .bin
/// ones.
std::vector<std::string> weight_file_names(const std::string& stem, const std::string& pickled) {
  return {stem + ".safetensors",
          stem + ".safetensors.index.json",
          stem + ".fp16.safetensors",
          stem + ".safetensors.index.fp16.json",
          stem + ".fp16.safetensors.index.json",
          pickled + ".bin",
          pickled + ".bin.index.json",
          pickled + ".fp16.bin"};
}

std::string find_part_weights(const std::string& folder, const std::string& stem) {
  const std::string pickled = stem == kTransformersWeights ? "pytorch_model" : stem;
  for (const std::string& name : weight_file_names(stem, pickled)) {
    if (const std::string path = join_path(folder, name); file_exists(path)) return path;
  }
  throw Error(folder + ": no weights, expected " + stem + ".safetensors or " + pickled + ".bin");
}

Json read_part_config(const std::string& folder, const std::string& name) {
  if (!is_directory(folder)) throw Error(folder + ": no such folder, expected a part of a diffusers model");
  return read_json(join_path(folder, name));
}

/// A part with `options`, which must be what the tensors tell.
template <class Options>
DiffusersPart<Options> fitting_part(const std::string& folder, const Options& options, StateDict state,
                                    Json (*told)(const StateDict&)) {
  require_told(options, told(state), join_path(folder, "config.json"), state.source);
  return {options, std::move(state)};
}

/// What model_index.json says each part is.
void require_index(const std::string& folder) {
  const std::string path = join_path(folder, kModelIndex);
  const Json index = read_json(path);
  for (const char* part : {"unet", "vae", "text_encoder", "tokenizer", "scheduler"}) {
    if (!index.is_object() || !index.contains(part)) {
      throw Error(path + ": names no " + part + ", expected a latent diffusion model's");
    }
    const std::string own = join_path(folder, part);
    if (!is_directory(own)) throw Error(own + ": no such folder, which " + path + " names");
  }
  if (index.contains("text_encoder_2")) {
    throw Error(path + ": names a second text encoder (SDXL), expected a Stable Diffusion 1 or 2 model");
  }
}

void add_below(const std::string& prefix, StateDict part, StateDict& whole) {
  for (auto& [name, tensor] : part.tensors) whole.tensors.emplace_back(prefix + name, std::move(tensor));
}

StateDict renamed_part(const StateDict& state, const std::string& prefix, const std::string& new_prefix) {
  StateDict part = part_of(state, prefix);
  for (auto& item : part.tensors) item.first = new_prefix + item.first;
  part.metadata["format"] = "pt";
  return part;
}

void write_part(const std::string& folder, const Json& config, const StateDict& state,
                const std::string& stem) {
  make_folders(folder);
  write_file(join_path(folder, "config.json"), dump_json(config) + "\n");
  save_safetensors(join_path(folder, stem + ".safetensors"), state);
}

Json model_index(const std::string& scheduler) {
  const Json none = Json::array({nullptr, nullptr});
  return {{"_class_name", "StableDiffusionPipeline"},
          {"_diffusers_version", "0.42.1"},
          {"feature_extractor", none},
          {"image_encoder", none},
          {"requires_safety_checker", false},
          {"safety_checker", none},
          {"scheduler", {"diffusers", scheduler}},
          {"text_encoder", {"transformers", "CLIPTextModel"}},
          {"tokenizer", {"transformers", "CLIPTokenizer"}},
          {"unet", {"diffusers", "UNet2DConditionModel"}},
          {"vae", {"diffusers", "AutoencoderKL"}}};
}

}  // namespace

DiffusersPart<UNetOptions> read_unet_folder(const std::string& folder) {
  const Json config = read_part_config(folder, "config.json");
  const UNetOptions options = unet_from_config(config, join_path(folder, "config.json"));
  return fitting_part(folder, options, load_state_dict(find_part_weights(folder, kDiffusersWeights)),
                      told_unet_options);
}

DiffusersPart<AutoencoderOptions> read_autoencoder_folder(const std::string& folder) {
  const Json config = read_part_config(folder, "config.json");
  const AutoencoderOptions options = autoencoder_from_config(config, join_path(folder, "config.json"));
  const StateDict state = load_state_dict(find_part_weights(folder, kDiffusersWeights));
  return fitting_part(folder, options, with_new_attention_names(state), told_autoencoder_options);
}

DiffusersPart<ClipTextOptions> read_clip_text_folder(const std::string& folder) {
  const Json config = read_part_config(folder, "config.json");
  const ClipTextOptions options = clip_text_from_config(config, join_path(folder, "config.json"));
  const StateDict state = load_state_dict(find_part_weights(folder, kTransformersWeights));
  return fitting_part(folder, options, with_plain_text_names(state), told_clip_text_options);
}

bool is_diffusers_folder(const std::string& path) {
  return is_directory(path) && file_exists(join_path(path, kModelIndex));
}

StateDict read_diffusers_folder(const std::string& folder) {
  require_index(folder);
  DiffusersPart<UNetOptions> unet = read_unet_folder(join_path(folder, "unet"));
  DiffusersPart<AutoencoderOptions> vae = read_autoencoder_folder(join_path(folder, "vae"));
  DiffusersPart<ClipTextOptions> text = read_clip_text_folder(join_path(folder, "text_encoder"));
  const std::string scheduler = join_path(join_path(folder, "scheduler"), "scheduler_config.json");
  const LdmOptions options = {unet.options, vae.options,
                              text.options, scheduler_from_diffusers(read_json(scheduler), scheduler),
                              {},           ""};
  try {
    options.validate();
  } catch (const UsageError& error) {
    throw Error(folder + ": its parts do not fit each other: " + error.what());
  }
  StateDict whole;
  whole.source = folder;
  add_below("unet.", std::move(unet.state), whole);
  add_below("vae.", std::move(vae.state), whole);
  add_below("text_encoder.", std::move(text.state), whole);
  whole.metadata[kLdmOptionsKey] = Json(options).dump();
  whole.metadata[kLdmTokenizerKey] =
      ClipTokenizer::from_folder(join_path(folder, "tokenizer")).to_json().dump();
  return whole;
}

void write_diffusers_folder(const std::string& folder, const LdmOptions& options, const StateDict& state,
                            const std::vector<std::pair<std::string, std::string>>& tokenizer) {
  if (options.autoencoder.kind != "kl") {
    throw UsageError(
        "--layout diffusers: its pipelines take no autoencoder with a codebook, expected kind kl");
  }
  write_part(join_path(folder, "unet"), unet_to_config(options.unet), renamed_part(state, "unet.", ""),
             kDiffusersWeights);
  write_part(join_path(folder, "vae"), autoencoder_to_config(options.autoencoder),
             renamed_part(state, "vae.", ""), kDiffusersWeights);
  // With the prefix every version of transformers reads it; newer ones read either.
  write_part(join_path(folder, "text_encoder"), clip_text_to_config(options.text_encoder),
             renamed_part(state, "text_encoder.", "text_model."), kTransformersWeights);
  for (const auto& [name, content] : tokenizer) {
    make_folders(join_path(folder, "tokenizer"));
    write_file(join_path(join_path(folder, "tokenizer"), name), content);
  }
  const Json scheduler = scheduler_to_diffusers(options.scheduler);
  make_folders(join_path(folder, "scheduler"));
  write_file(join_path(join_path(folder, "scheduler"), "scheduler_config.json"), dump_json(scheduler) + "\n");
  write_file(join_path(folder, kModelIndex), dump_json(model_index(scheduler.at("_class_name"))) + "\n");
}

}  // namespace zoo
