#include "models/ldm/part_options.h"

#include <string_view>
#include <unordered_map>

#include "core/error.h"
#include "core/text.h"

namespace zoo {

namespace {

/// Tensors by name, and questions about them.
class TensorIndex {
 public:
  explicit TensorIndex(const StateDict& state) : source_(state.source) {
    for (const auto& [name, tensor] : state.tensors) by_name_.emplace(name, &tensor);
  }

  bool has(const std::string& name) const { return by_name_.count(name) > 0; }

  const torch::Tensor& at(const std::string& name, int64_t dims) const {
    const auto found = by_name_.find(name);
    if (found != by_name_.end() && found->second->dim() == dims) return *found->second;
    throw Error(source_ + ": " +
                (found == by_name_.end() ? "no tensor " + name : name + " has another shape") +
                format(", expected one of %lld dimensions", static_cast<long long>(dims)));
  }

  int64_t dims(const std::string& name) const {
    const auto found = by_name_.find(name);
    return found == by_name_.end() ? 0 : found->second->dim();
  }

  /// How many of `before`0`after`, `before`1`after`, … there are.
  int64_t count(const std::string& before, const std::string& after) const {
    int64_t n = 0;
    while (has(before + std::to_string(n) + after)) ++n;
    return n;
  }

 private:
  std::string source_;
  std::unordered_map<std::string_view, const torch::Tensor*> by_name_;
};

/// Channels of the levels, by the first convolution of each.
std::vector<int64_t> level_channels(const TensorIndex& index, const std::string& blocks) {
  std::vector<int64_t> channels;
  const std::string first = ".resnets.0.conv1.weight";
  const int64_t levels = index.count(blocks, first);
  for (int64_t i = 0; i < levels; ++i) {
    channels.push_back(index.at(blocks + std::to_string(i) + first, 4).size(0));
  }
  return channels;
}

std::vector<std::string> block_types(const TensorIndex& index, const std::string& blocks, int64_t levels,
                                     const std::string& kind) {
  std::vector<std::string> types;
  for (int64_t i = 0; i < levels; ++i) {
    const bool cross = index.has(blocks + std::to_string(i) + ".attentions.0.norm.weight");
    types.push_back((cross ? "CrossAttn" : "") + kind);
  }
  return types;
}

std::vector<int64_t> heads_of_64(const std::vector<int64_t>& channels) {
  std::vector<int64_t> heads;
  for (const int64_t width : channels) heads.push_back(std::max<int64_t>(1, width / 64));
  return heads;
}

}  // namespace

Json told_unet_options(const StateDict& state) {
  const TensorIndex index(state);
  const std::vector<int64_t> channels = level_channels(index, "down_blocks.");
  const auto levels = static_cast<int64_t>(channels.size());
  const std::string transformer = "mid_block.attentions.0.";
  const std::string layer = transformer + "transformer_blocks.0.";
  return {{"in_channels", index.at("conv_in.weight", 4).size(1)},
          {"out_channels", index.at("conv_out.weight", 4).size(0)},
          {"block_out_channels", channels},
          {"layers_per_block", index.count("down_blocks.0.resnets.", ".conv1.weight")},
          {"down_block_types", block_types(index, "down_blocks.", levels, "DownBlock2D")},
          {"up_block_types", block_types(index, "up_blocks.", levels, "UpBlock2D")},
          {"cross_attention_dim", index.at(layer + "attn2.to_k.weight", 2).size(1)},
          {"transformer_layers_per_block", index.count(transformer + "transformer_blocks.", ".norm1.weight")},
          {"use_linear_projection", index.dims(transformer + "proj_in.weight") == 2}};
}

Json told_autoencoder_options(const StateDict& state) {
  const TensorIndex index(state);
  const bool vq = index.has("quantize.embedding.weight");
  Json told = {{"kind", vq ? "vq" : "kl"},
               {"in_channels", index.at("encoder.conv_in.weight", 4).size(1)},
               {"out_channels", index.at("decoder.conv_out.weight", 4).size(0)},
               {"block_out_channels", level_channels(index, "encoder.down_blocks.")},
               {"layers_per_block", index.count("encoder.down_blocks.0.resnets.", ".conv1.weight")},
               {"latent_channels", index.at("decoder.conv_in.weight", 4).size(1)},
               {"mid_block_add_attention", index.has("encoder.mid_block.attentions.0.to_q.weight")}};
  if (vq) told["num_vq_embeddings"] = index.at("quantize.embedding.weight", 2).size(0);
  return told;
}

Json told_clip_text_options(const StateDict& state) {
  const TensorIndex index(state);
  const torch::Tensor& tokens = index.at("embeddings.token_embedding.weight", 2);
  return {{"vocab_size", tokens.size(0)},
          {"hidden_size", tokens.size(1)},
          {"max_position_embeddings", index.at("embeddings.position_embedding.weight", 2).size(0)},
          {"num_hidden_layers", index.count("encoder.layers.", ".layer_norm1.weight")},
          {"intermediate_size", index.at("encoder.layers.0.mlp.fc1.weight", 2).size(0)}};
}

void require_told(const Json& options, const Json& told, const std::string& config,
                  const std::string& weights) {
  for (const auto& [key, value] : told.items()) {
    if (options.at(key) == value) continue;
    throw Error(config + ": " + key + " is " + options.at(key).dump() + ", expected " + value.dump() +
                " by the tensors of " + weights);
  }
}

LdmOptions told_ldm_options(const StateDict& state) {
  Json options = LdmOptions();
  options["unet"].update(told_unet_options(part_of(state, "unet.")));
  options["autoencoder"].update(told_autoencoder_options(part_of(state, "vae.")));
  options["text_encoder"].update(told_clip_text_options(part_of(state, "text_encoder.")));
  auto told = options.get<LdmOptions>();
  if (told.unet.use_linear_projection)
    told.unet.attention_head_dim = heads_of_64(told.unet.block_out_channels);
  told.text_encoder.num_attention_heads = std::max<int64_t>(1, told.text_encoder.hidden_size / 64);
  return told;
}

StateDict part_of(const StateDict& state, const std::string& prefix) {
  StateDict part;
  part.source = state.source;
  for (const auto& [name, tensor] : state.tensors) {
    if (starts_with(name, prefix)) part.tensors.emplace_back(name.substr(prefix.size()), tensor);
  }
  return part;
}

}  // namespace zoo
