#include "models/ldm/config.h"

#include <algorithm>
#include <functional>

#include "core/error.h"
#include "core/text.h"

namespace zoo {

namespace {

/// What the key must be where a file has it, for zoo's network to be the one that is meant. null fits always.
const Json& unet_fixed() {
  static const Json fixed = {{"center_input_sample", false},
                             {"mid_block_type", "UNetMidBlock2DCrossAttn"},
                             {"only_cross_attention", false},
                             {"downsample_padding", 1},
                             {"mid_block_scale_factor", 1},
                             {"act_fn", "silu"},
                             {"dual_cross_attention", false},
                             {"class_embed_type", nullptr},
                             {"addition_embed_type", nullptr},
                             {"num_class_embeds", nullptr},
                             {"encoder_hid_dim", nullptr},
                             {"encoder_hid_dim_type", nullptr},
                             {"num_attention_heads", nullptr},
                             {"reverse_transformer_layers_per_block", nullptr},
                             {"resnet_time_scale_shift", "default"},
                             {"resnet_skip_time_act", false},
                             {"resnet_out_scale_factor", 1},
                             {"time_embedding_type", "positional"},
                             {"time_embedding_dim", nullptr},
                             {"time_embedding_act_fn", nullptr},
                             {"timestep_post_act", nullptr},
                             {"time_cond_proj_dim", nullptr},
                             {"conv_in_kernel", 3},
                             {"conv_out_kernel", 3},
                             {"attention_type", "default"},
                             {"class_embeddings_concat", false},
                             {"mid_block_only_cross_attention", nullptr},
                             {"cross_attention_norm", nullptr}};
  return fixed;
}

const Json& autoencoder_fixed() {
  static const Json fixed = {
      {"act_fn", "silu"},        {"use_quant_conv", true},       {"use_post_quant_conv", true},
      {"shift_factor", nullptr}, {"latents_mean", nullptr},      {"latents_std", nullptr},
      {"norm_type", "group"},    {"lookup_from_codebook", false}};
  return fixed;
}

void require_fixed(const Json& config, const Json& fixed, const std::string& source) {
  for (const auto& [key, expected] : fixed.items()) {
    const auto found = config.find(key);
    if (found == config.end() || found->is_null() || *found == expected) continue;
    if (key == "mid_block_only_cross_attention" && *found == false) continue;
    throw Error(source + ": " + key + " is " + found->dump() + ", which zoo has no network for, expected " +
                expected.dump());
  }
}

/// `fallback` with the values that `config` gives to its keys.
template <class Options>
Options read_part(const Json& config, const Options& fallback, const std::string& source) {
  Json document = fallback;
  Json given = Json::object();
  for (const auto& item : document.items()) {
    const auto found = config.find(item.key());
    if (found != config.end() && !found->is_null()) given[item.key()] = *found;
  }
  try {
    overlay(document, given, source);
    const auto options = document.get<Options>();
    options.validate(source + ": ");
    return options;
  } catch (const UsageError& error) {
    throw Error(error.what());
  }
}

void require_object(const Json& config, const std::string& source) {
  if (!config.is_object()) throw Error(source + ": no JSON object, expected a model's configuration");
}

/// A number for each level that is the same for all, as one number.
void take_single(Json& config, const std::string& key, const std::string& source) {
  const auto found = config.find(key);
  if (found == config.end() || !found->is_array() || found->empty()) return;
  const Json first = found->front();
  const bool same =
      std::all_of(found->begin(), found->end(), [&](const Json& each) { return each == first; });
  if (!same)
    throw Error(source + ": " + key + " is " + found->dump() + ", expected the same for every level");
  *found = first;
}

/// Block types say nothing beyond their number, where all are of the one kind.
void require_types(const Json& config, const char* key, const std::string& type, size_t levels,
                   const std::string& source) {
  const auto found = config.find(key);
  if (found == config.end()) return;
  if (*found == Json(std::vector<std::string>(levels, type))) return;
  throw Error(source + ": " + key + " is " + found->dump() + format(", expected %zu of ", levels) + type);
}

}  // namespace

UNetOptions unet_from_config(const Json& config, const std::string& source) {
  require_object(config, source);
  require_fixed(config, unet_fixed(), source);
  Json plain = config;
  take_single(plain, "transformer_layers_per_block", source);
  take_single(plain, "layers_per_block", source);
  take_single(plain, "cross_attention_dim", source);
  if (plain.contains("attention_head_dim") && plain["attention_head_dim"].is_number()) {
    plain["attention_head_dim"] = Json::array({plain["attention_head_dim"]});
  }
  if (plain.contains("sample_size") && plain["sample_size"].is_array() && !plain["sample_size"].empty()) {
    plain["sample_size"] = plain["sample_size"].front();
  }
  // diffusers' own defaults where the file leaves a key out.
  UNetOptions fallback;
  fallback.cross_attention_dim = 1280;
  return read_part(plain, fallback, source);
}

AutoencoderOptions autoencoder_from_config(const Json& config, const std::string& source) {
  require_object(config, source);
  require_fixed(config, autoencoder_fixed(), source);
  Json plain = config;
  plain["kind"] = config.contains("_class_name") && config["_class_name"] == "VQModel" ? "vq" : "kl";
  AutoencoderOptions fallback;
  fallback.block_out_channels = {64};
  fallback.layers_per_block = 1;
  fallback.sample_size = 32;
  const auto options = read_part(plain, fallback, source);
  const size_t levels = options.block_out_channels.size();
  require_types(config, "down_block_types", "DownEncoderBlock2D", levels, source);
  require_types(config, "up_block_types", "UpDecoderBlock2D", levels, source);
  const auto width = config.find("vq_embed_dim");
  if (width != config.end() && !width->is_null() && *width != options.latent_channels) {
    throw Error(source + ": vq_embed_dim is " + width->dump() + ", expected latent_channels " +
                std::to_string(options.latent_channels));
  }
  return options;
}

ClipTextOptions clip_text_from_config(const Json& config, const std::string& source) {
  require_object(config, source);
  ClipTextOptions fallback;  // transformers' defaults of a CLIPTextConfig
  fallback.hidden_size = 512;
  fallback.intermediate_size = 2048;
  fallback.num_attention_heads = 8;
  const Json& text = config.contains("text_config") ? config["text_config"] : config;
  require_object(text, source);
  return read_part(text, fallback, source);
}

Json unet_to_config(const UNetOptions& options) {
  Json config = options;
  config.update(unet_fixed());
  config["_class_name"] = "UNet2DConditionModel";
  config["_diffusers_version"] = "0.42.1";
  if (options.attention_head_dim.size() == 1) {
    config["attention_head_dim"] = options.attention_head_dim.front();
  }
  return config;
}

Json autoencoder_to_config(const AutoencoderOptions& options) {
  const bool kl = options.kind == "kl";
  const size_t levels = options.block_out_channels.size();
  Json config = options;
  config.erase("kind");
  config["_class_name"] = kl ? "AutoencoderKL" : "VQModel";
  config["_diffusers_version"] = "0.42.1";
  config["act_fn"] = "silu";
  config["down_block_types"] = std::vector<std::string>(levels, "DownEncoderBlock2D");
  config["up_block_types"] = std::vector<std::string>(levels, "UpDecoderBlock2D");
  if (kl) config.erase("num_vq_embeddings");
  return config;
}

Json clip_text_to_config(const ClipTextOptions& options) {
  Json config = options;
  config["architectures"] = {"CLIPTextModel"};
  config["model_type"] = "clip_text_model";
  config["attention_dropout"] = 0.0;
  config["bos_token_id"] = options.vocab_size - 2;
  config["eos_token_id"] = options.vocab_size - 1;
  config["projection_dim"] = options.hidden_size;
  config["dtype"] = "float32";
  return config;
}

}  // namespace zoo
