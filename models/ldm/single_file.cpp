#include "models/ldm/single_file.h"

#include <algorithm>
#include <iterator>
#include <map>
#include <optional>
#include <string_view>
#include <unordered_map>
#include <unordered_set>

#include "core/error.h"
#include "core/text.h"
#include "models/ldm/part_options.h"

namespace zoo {

namespace {

constexpr const char* kOriginalUNet = "model.diffusion_model.";
constexpr const char* kOriginalAverage = "model_ema.diffusion_model";
constexpr const char* kOriginalVae = "first_stage_model.";
constexpr const char* kOriginalClip = "cond_stage_model.transformer.";
constexpr const char* kOpenClip = "cond_stage_model.model.";

/// Pairs (theirs, ours) of beginnings of names; none begins like another.
using Beginnings = std::map<std::string, std::string>;

/// `name` with its beginning replaced; as it is where no pair fits.
std::string with_beginning(const Beginnings& beginnings, const std::string& name) {
  auto found =
      beginnings.upper_bound(name);  // as none begins like another, the one before is the only candidate
  if (found == beginnings.begin()) return name;
  --found;
  if (!starts_with(name, found->first)) return name;
  return found->second + name.substr(found->first.size());
}

const Beginnings kResidualNames = {
    {"in_layers.0.", "norm1."},  {"in_layers.2.", "conv1."},  {"emb_layers.1.", "time_emb_proj."},
    {"out_layers.0.", "norm2."}, {"out_layers.3.", "conv2."}, {"skip_connection.", "conv_shortcut."}};

/// The blocks of an original UNet, counted through as its file does, and where they are in diffusers' tree.
class UNetNames {
 public:
  explicit UNetNames(const StateDict& unet) {
    for (const auto& item : unet.tensors) names_.insert(item.first);
    blocks_ = {{"time_embed.0.", "time_embedding.linear_1."},
               {"time_embed.2.", "time_embedding.linear_2."},
               {"input_blocks.0.0.", "conv_in."},
               {"out.0.", "conv_norm_out."},
               {"out.2.", "conv_out."},
               {"middle_block.1.", "mid_block.attentions.0."}};
    residuals_ = {{"middle_block.0.", "mid_block.resnets.0."}, {"middle_block.2.", "mid_block.resnets.1."}};
    way_down();
    way_back();
  }

  std::string ours(const std::string& name) const {
    for (const auto& [theirs, ours] : residuals_) {
      if (starts_with(name, theirs)) return ours + with_beginning(kResidualNames, name.substr(theirs.size()));
    }
    return with_beginning(blocks_, name);
  }

 private:
  bool has(const std::string& name) const { return names_.count(name) > 0; }

  /// A residual block and the transformer behind it.
  bool add_layer(const std::string& theirs, const std::string& ours, const std::string& number) {
    if (!has(theirs + "0.in_layers.0.weight")) return false;
    residuals_[theirs + "0."] = ours + "resnets." + number + ".";
    if (has(theirs + "1.norm.weight")) blocks_[theirs + "1."] = ours + "attentions." + number + ".";
    return true;
  }

  void way_down() {
    for (int block = 1, level = 0, layer = 0;; ++block) {
      const std::string theirs = "input_blocks." + std::to_string(block) + ".";
      const std::string ours = "down_blocks." + std::to_string(level) + ".";
      if (has(theirs + "0.op.weight")) {
        blocks_[theirs + "0.op."] = ours + "downsamplers.0.conv.";
        ++level;
        layer = 0;
      } else if (!add_layer(theirs, ours, std::to_string(layer++))) {
        return;
      }
    }
  }

  void way_back() {
    for (int block = 0, level = 0, layer = 0;; ++block) {
      const std::string theirs = "output_blocks." + std::to_string(block) + ".";
      const std::string ours = "up_blocks." + std::to_string(level) + ".";
      if (!add_layer(theirs, ours, std::to_string(layer++))) return;
      for (const char* place : {"1", "2"}) {  // behind the transformer, where there is one
        if (!has(theirs + place + ".conv.weight")) continue;
        blocks_[theirs + place + ".conv."] = ours + "upsamplers.0.conv.";
        ++level;
        layer = 0;
      }
    }
  }

  std::unordered_set<std::string> names_;
  Beginnings blocks_, residuals_;
};

StateDict unet_from_original(const StateDict& state, bool averages) {
  StateDict unet = part_of(state, kOriginalUNet);
  if (averages) {
    std::unordered_map<std::string_view, const torch::Tensor*> by_name;
    for (const auto& [name, tensor] : state.tensors) by_name.emplace(name, &tensor);
    for (auto& [name, tensor] : unet.tensors) {
      std::string average = kOriginalAverage;
      std::copy_if(name.begin(), name.end(), std::back_inserter(average), [](char c) { return c != '.'; });
      const auto found = by_name.find(average);
      if (found == by_name.end()) {
        throw Error(state.source + ": no averaged weights (" + average + "), expected a file that has them");
      }
      tensor = *found->second;
    }
  }
  const UNetNames names(unet);
  for (auto& item : unet.tensors) item.first = names.ours(item.first);
  return unet;
}

const Beginnings kVaeNames = {{"mid.attn_1.k.", "mid_block.attentions.0.to_k."},
                              {"mid.attn_1.norm.", "mid_block.attentions.0.group_norm."},
                              {"mid.attn_1.proj_out.", "mid_block.attentions.0.to_out.0."},
                              {"mid.attn_1.q.", "mid_block.attentions.0.to_q."},
                              {"mid.attn_1.v.", "mid_block.attentions.0.to_v."},
                              {"mid.block_1.", "mid_block.resnets.0."},
                              {"mid.block_2.", "mid_block.resnets.1."},
                              {"norm_out.", "conv_norm_out."}};

std::string with_shortcut(std::string rest) {
  constexpr std::string_view kTheirs = "nin_shortcut.";
  const size_t place = rest.find(kTheirs);
  return place == std::string::npos ? rest : rest.replace(place, kTheirs.size(), "conv_shortcut.");
}

/// A name below `encoder.` or `decoder.`.
std::string vae_name(const std::string& name, bool decoder, int64_t levels) {
  const std::vector<std::string> parts = split(name, '.');  // down.0.block.1.conv1.weight
  int64_t level = 0;
  if (parts.size() < 5 || parts[0] != (decoder ? "up" : "down") || !parse_int(parts[1], level)) {
    return with_shortcut(with_beginning(kVaeNames, name));
  }
  const std::string blocks = decoder ? "up_blocks." + std::to_string(levels - 1 - level) + "."
                                     : "down_blocks." + std::to_string(level) + ".";
  const size_t inside = parts[0].size() + 1 + parts[1].size() + 1 + parts[2].size() + 1;
  const std::string rest = with_shortcut(name.substr(inside));
  if (parts[2] == "block") return blocks + "resnets." + rest;
  return blocks + (decoder ? "upsamplers.0." : "downsamplers.0.") + rest;
}

/// 1x1 convolutions as matrices.
torch::Tensor as_matrix(const torch::Tensor& weight) {
  return weight.dim() == 4 && weight.size(2) == 1 && weight.size(3) == 1 ? weight.flatten(1) : weight;
}

void flatten_attentions(StateDict& vae) {
  for (auto& [name, tensor] : vae.tensors) {
    if (name.find(".attentions.") != std::string::npos) tensor = as_matrix(tensor);
  }
}

/// What stands before an autoencoder's original names; no value where they are not there.
std::optional<std::string> original_vae_prefix(const StateDict& state) {
  for (const std::string prefix : {kOriginalVae, "vae.", ""}) {
    if (state.find(prefix + "encoder.down.0.block.0.norm1.weight") != nullptr) return prefix;
  }
  return std::nullopt;
}

const Beginnings kOpenClipLayer = {{"attn.out_proj.", "self_attn.out_proj."},
                                   {"ln_1.", "layer_norm1."},
                                   {"ln_2.", "layer_norm2."},
                                   {"mlp.c_fc.", "mlp.fc1."},
                                   {"mlp.c_proj.", "mlp.fc2."}};

/// A tensor of a layer of OpenCLIP's text tower; q, k and v come one below the other.
void add_openclip_layer(const std::string& layer, const std::string& rest, const torch::Tensor& tensor,
                        StateDict& text) {
  constexpr std::string_view kStacked = "attn.in_proj_";
  if (!starts_with(rest, kStacked)) {
    text.tensors.emplace_back(layer + with_beginning(kOpenClipLayer, rest), tensor);
    return;
  }
  if (tensor.dim() == 0 || tensor.size(0) % 3 != 0) {
    throw Error(text.source + ": " + rest + " of a text layer cannot be cut into q, k and v");
  }
  const std::string kind = rest.substr(kStacked.size());  // weight, bias
  const auto parts = tensor.chunk(3, 0);
  const char* names[] = {"q_proj.", "k_proj.", "v_proj."};
  for (size_t i = 0; i < 3; ++i) text.tensors.emplace_back(layer + "self_attn." + names[i] + kind, parts[i]);
}

StateDict text_from_openclip(const StateDict& open) {
  static const Beginnings kNames = {{"ln_final.", "final_layer_norm."},
                                    {"positional_embedding", "embeddings.position_embedding.weight"},
                                    {"token_embedding.", "embeddings.token_embedding."}};
  const std::string blocks = "transformer.resblocks.";
  int64_t layers = 0;
  while (open.find(blocks + std::to_string(layers) + ".ln_1.weight") != nullptr) ++layers;
  StateDict text;
  text.source = open.source;
  for (const auto& [name, tensor] : open.tensors) {
    if (!starts_with(name, blocks)) {
      const std::string ours = with_beginning(kNames, name);
      if (ours != name) text.tensors.emplace_back(ours, tensor);
      continue;
    }
    const std::vector<std::string> parts = split(name, '.');
    int64_t layer = 0;
    if (parts.size() < 4 || !parse_int(parts[2], layer) || layer >= layers - 1) continue;
    add_openclip_layer("encoder.layers." + parts[2] + ".", name.substr(blocks.size() + parts[2].size() + 1),
                       tensor, text);
  }
  return text;
}

void add_part(const StateDict& part, const std::string& prefix, const char* what, StateDict& whole) {
  if (part.tensors.empty()) {
    throw Error(whole.source + ": no " + what + ", expected all three parts of latent diffusion");
  }
  for (const auto& [name, tensor] : part.tensors) whole.tensors.emplace_back(prefix + name, tensor);
}

}  // namespace

bool is_original_ldm(const StateDict& state) {
  return state.contains_prefix(std::string(kOriginalUNet) + "input_blocks.0.");
}

StateDict ldm_from_original(const StateDict& state, bool averages) {
  StateDict whole;
  whole.source = state.source;
  whole.metadata = state.metadata;
  add_part(unet_from_original(state, averages), "unet.", "UNet (model.diffusion_model.)", whole);
  StateDict vae;
  if (state.contains_prefix(kOriginalVae)) vae = autoencoder_from_original(part_of(state, kOriginalVae));
  add_part(vae, "vae.", "autoencoder (first_stage_model.)", whole);
  const bool open = state.contains_prefix(kOpenClip);
  const StateDict text = open ? text_from_openclip(part_of(state, kOpenClip))
                              : with_plain_text_names(part_of(state, kOriginalClip));
  add_part(text, "text_encoder.", "text encoder (cond_stage_model.)", whole);
  return whole;
}

bool is_original_autoencoder(const StateDict& state) {
  return original_vae_prefix(state).has_value();
}

StateDict autoencoder_from_original(const StateDict& state) {
  const StateDict original = part_of(state, original_vae_prefix(state).value_or(""));
  int64_t levels = 0;
  while (original.find(format("decoder.up.%lld.block.0.norm1.weight", static_cast<long long>(levels))) !=
         nullptr)
    ++levels;
  StateDict vae;
  vae.source = state.source;
  for (const auto& [name, tensor] : original.tensors) {
    const bool decoder = starts_with(name, "decoder."), encoder = starts_with(name, "encoder.");
    if (decoder || encoder) {
      vae.tensors.emplace_back(name.substr(0, 8) + vae_name(name.substr(8), decoder, levels), tensor);
    } else if (starts_with(name, "quant") || starts_with(name, "post_quant_conv.")) {
      vae.tensors.emplace_back(name, tensor);
    }
  }
  flatten_attentions(vae);
  return vae;
}

StateDict with_new_attention_names(const StateDict& autoencoder) {
  static const std::pair<const char*, const char*> kNames[] = {
      {".query.", ".to_q."}, {".key.", ".to_k."}, {".value.", ".to_v."}, {".proj_attn.", ".to_out.0."}};
  StateDict renamed = autoencoder;
  for (auto& [name, tensor] : renamed.tensors) {
    if (name.find(".attentions.") == std::string::npos) continue;
    for (const auto& [old, now] : kNames) {
      const size_t place = name.find(old);
      if (place != std::string::npos) name.replace(place, std::string_view(old).size(), now);
    }
  }
  flatten_attentions(renamed);
  return renamed;
}

StateDict with_plain_text_names(const StateDict& text) {
  const bool prefixed = text.contains_prefix("text_model.");
  const StateDict plain = prefixed ? part_of(text, "text_model.") : text;
  StateDict kept;
  kept.source = text.source;
  kept.metadata = text.metadata;
  for (const auto& item : plain.tensors) {
    const bool ours = starts_with(item.first, "embeddings.") || starts_with(item.first, "encoder.") ||
                      starts_with(item.first, "final_layer_norm.");
    if (ours && !ends_with(item.first, "position_ids")) kept.tensors.push_back(item);
  }
  return kept;
}

}  // namespace zoo
