#include "models/detr/weights.h"

#include <algorithm>
#include <set>

#include "core/error.h"
#include "core/text.h"
#include "models/weights/layout.h"

namespace zoo {

namespace {

constexpr const char* kBody = "backbone.0.body.";

/// A pair of names with the same wildcards in the same order: `#` a number, `*` any rest.
struct NamePair {
  std::string theirs, ours;
};

std::string pattern_of(const std::string& name) {
  std::string pattern;
  for (const char c : name) {
    if (c == '#') {
      pattern += "(\\d+)";
    } else if (c == '*') {
      pattern += "(.+)";
    } else {
      if (c == '.') pattern += '\\';
      pattern += c;
    }
  }
  return pattern;
}

std::string replacement_of(const std::string& name) {
  std::string replacement;
  int group = 0;
  for (const char c : name)
    replacement += c == '#' || c == '*' ? "$" + std::to_string(++group) : std::string(1, c);
  return replacement;
}

LayoutRule rule(const NamePair& names, int part = 0, int parts = 1) {
  return {pattern_of(names.theirs),
          replacement_of(names.ours),
          pattern_of(names.ours),
          replacement_of(names.theirs),
          part,
          parts};
}

/// A second spelling of theirs, which is read but not written.
LayoutRule also_read(const NamePair& names) {
  return {pattern_of(names.theirs), replacement_of(names.ours), "", ""};
}

/// An attention of transformers: three projections apart.
void add_attention(std::vector<LayoutRule>& rules, const std::string& theirs, const std::string& ours) {
  const char* projections[] = {"q_proj", "k_proj", "v_proj"};
  for (const char* kind : {"weight", "bias"}) {
    for (int part = 0; part < 3; ++part) {
      rules.push_back(rule({theirs + projections[part] + "." + kind, ours + "in_proj_" + kind}, part, 3));
    }
  }
  rules.push_back(rule({theirs + "out_proj.*", ours + "out_proj.*"}));
  rules.push_back(also_read({theirs + "o_proj.*", ours + "out_proj.*"}));
}

/// Layers of the encoder or decoder of transformers; `norms` in the order of ours.
void add_layers(std::vector<LayoutRule>& rules, const std::string& side,
                const std::vector<std::string>& norms) {
  const std::string theirs = "model." + side + ".layers.#.", ours = "transformer." + side + ".layers.#.";
  add_attention(rules, theirs + "self_attn.", ours + "self_attn.");
  if (side == "decoder") add_attention(rules, theirs + "encoder_attn.", ours + "multihead_attn.");
  for (const std::string n : {"1", "2"}) {
    rules.push_back(rule({theirs + "fc" + n + ".*", ours + "linear" + n + ".*"}));
    rules.push_back(also_read({theirs + "mlp.fc" + n + ".*", ours + "linear" + n + ".*"}));
  }
  for (size_t i = 0; i < norms.size(); ++i) {
    rules.push_back(rule({theirs + norms[i] + ".*", ours + "norm" + std::to_string(i + 1) + ".*"}));
  }
}

/// All of transformers' names but those of the convolutions.
std::vector<LayoutRule> transformers_rules() {
  std::vector<LayoutRule> rules;
  add_layers(rules, "encoder", {"self_attn_layer_norm", "final_layer_norm"});
  add_layers(rules, "decoder", {"self_attn_layer_norm", "encoder_attn_layer_norm", "final_layer_norm"});
  for (const NamePair& names : std::vector<NamePair>{
           {"model.encoder.layernorm.*", "transformer.encoder.norm.*"},
           {"model.decoder.layernorm.*", "transformer.decoder.norm.*"},
           {"model.query_position_embeddings.weight", "query_embed.weight"},
           {"model.input_projection.*", "input_proj.*"},
           {"class_labels_classifier.*", "class_embed.*"},
           {"bbox_predictor.*", "bbox_embed.*"},
           {"model.position_embedding.row_embeddings.weight", "backbone.1.row_embed.weight"},
           {"model.position_embedding.column_embeddings.weight", "backbone.1.col_embed.weight"},
       }) {
    rules.push_back(rule(names));
  }
  rules.push_back(
      also_read({"model.backbone.position_embedding.row_embeddings.weight", "backbone.1.row_embed.weight"}));
  rules.push_back(also_read(
      {"model.backbone.position_embedding.column_embeddings.weight", "backbone.1.col_embed.weight"}));
  return rules;
}

/// The ResNet of transformers and torchvision's names for it.
std::vector<NamePair> native_resnet() {
  std::vector<NamePair> names = {{"embedder.embedder.convolution.*", "conv1.*"},
                                 {"embedder.embedder.normalization.*", "bn1.*"}};
  for (int stage = 0; stage < 4; ++stage) {
    const std::string theirs = "encoder.stages." + std::to_string(stage) + ".layers.";
    const std::string ours = "layer" + std::to_string(stage + 1) + ".";
    for (int i = 0; i < 3; ++i) {
      const std::string layer = theirs + "#.layer." + std::to_string(i), n = std::to_string(i + 1);
      names.push_back({layer + ".convolution.*", ours + "#.conv" + n + ".*"});
      names.push_back({layer + ".normalization.*", ours + "#.bn" + n + ".*"});
    }
    names.push_back({theirs + "#.shortcut.convolution.*", ours + "#.downsample.0.*"});
    names.push_back({theirs + "#.shortcut.normalization.*", ours + "#.downsample.1.*"});
  }
  return names;
}

/// A transformers layout: `convolutions` are its names below the backbone and ours below the body.
Layout transformers_layout(const std::string& name, const std::vector<NamePair>& convolutions) {
  Layout layout{name, transformers_rules(), {"*.num_batches_tracked"}};
  for (const NamePair& names : convolutions) {
    layout.rules.push_back(rule({"model.backbone.conv_encoder.model." + names.theirs, kBody + names.ours}));
    layout.rules.push_back(also_read({"model.backbone.model." + names.theirs, kBody + names.ours}));
  }
  return layout;
}

const Layout& layout_of(const std::string& name) {
  static const Layout timm = transformers_layout("hf-timm", {{"*", "*"}});
  static const Layout native = transformers_layout("hf", native_resnet());
  static const Layout original{"original", {}, {"*.num_batches_tracked"}};
  return name == "hf" ? native : name == "hf-timm" ? timm : original;
}

/// transformers' ResNet without a detector; torchvision's and timm's names are ours.
const Layout& backbone_layout() {
  static const Layout layout = [] {
    Layout made{"resnet", {}, {"fc.*", "classifier.*", "*.num_batches_tracked"}};
    for (const NamePair& names : native_resnet()) {
      made.rules.push_back(also_read({"resnet." + names.theirs, names.ours}));
      made.rules.push_back(also_read(names));
    }
    return made;
  }();
  return layout;
}

/// Number of different `PREFIX`N: layers of a list.
int64_t count_layers(const StateDict& state, const std::string& prefix) {
  std::set<std::string> numbers;
  for (const auto& [name, tensor] : state.tensors) {
    if (starts_with(name, prefix))
      numbers.insert(name.substr(prefix.size(), name.find('.', prefix.size()) - prefix.size()));
  }
  return static_cast<int64_t>(numbers.size());
}

std::string backbone_of(const StateDict& state) {
  const std::string body = kBody;
  if (state.contains_prefix(body + "stem.")) return "tiny";
  const bool bottlenecks = state.find(body + "layer1.0.conv3.weight") != nullptr;
  const int64_t blocks = count_layers(state, body + "layer3.");
  if (bottlenecks && blocks == 6) return "resnet50";
  if (bottlenecks && blocks == 23) return "resnet101";
  throw Error(state.source + ": its backbone is none that zoo has (" + std::to_string(blocks) +
              " blocks of " + (bottlenecks ? "three" : "other than three") +
              " convolutions in layer3), expected ResNet-50 or ResNet-101");
}

int64_t rows(const StateDict& state, const std::string& name, int64_t fallback) {
  const torch::Tensor* tensor = state.find(name);
  return tensor == nullptr || tensor->dim() == 0 ? fallback : tensor->size(0);
}

/// Tensors of the same names and shapes without elements: joining them costs nothing.
StateDict shapes_of(const StateDict& state) {
  StateDict shapes;
  shapes.source = state.source;
  for (const auto& [name, tensor] : state.tensors) shapes.tensors.emplace_back(name, tensor.to(torch::kMeta));
  return shapes;
}

/// The tensors below a prefix, without it.
StateDict select(const StateDict& state, const std::string& prefix) {
  StateDict selected;
  selected.source = state.source;
  for (const auto& [name, tensor] : state.tensors) {
    if (starts_with(name, prefix)) selected.tensors.emplace_back(name.substr(prefix.size()), tensor);
  }
  return selected;
}

/// id2label and label2id of transformers: a name for every class index.
void add_labels(Json& config, int64_t num_classes, const std::string& categories) {
  std::vector<std::string> labels;
  const Json list = Json::parse(categories, nullptr, /*allow_exceptions=*/false);
  for (int64_t i = 0; i < num_classes; ++i) {
    labels.push_back(list.empty() ? "LABEL_" + std::to_string(i) : "N/A");
  }
  for (const Json& category : list) {
    const auto index = category.at("index").get<int64_t>();
    if (index >= 0 && index < num_classes)
      labels[static_cast<size_t>(index)] = category.at("name").get<std::string>();
  }
  for (size_t i = 0; i < labels.size(); ++i) {
    config["id2label"][std::to_string(i)] = labels[i];
    config["label2id"][labels[i]] = i;
  }
}

Json native_backbone_config(const DetrOptions& options) {
  return {{"model_type", "resnet"},
          {"layer_type", "bottleneck"},
          {"embedding_size", 64},
          {"hidden_sizes", {256, 512, 1024, 2048}},
          {"depths", (options.backbone == "resnet50" ? resnet50() : resnet101()).blocks},
          {"hidden_act", "relu"},
          {"downsample_in_first_stage", false},
          {"downsample_in_bottleneck", false},
          {"num_channels", 3},
          {"out_features", {"stage4"}}};
}

}  // namespace

const std::vector<std::string>& detr_layouts() {
  static const std::vector<std::string> names = {"original", "hf", "hf-timm"};
  return names;
}

std::string recognise_detr_layout(const StateDict& state) {
  const auto has = [&](const char* name) { return state.find(name) != nullptr; };
  if (has("class_embed.weight") && has("query_embed.weight") &&
      has("transformer.decoder.layers.0.multihead_attn.in_proj_weight")) {
    return "original";
  }
  if (!has("class_labels_classifier.weight") || !has("model.query_position_embeddings.weight") ||
      !has("model.decoder.layers.0.encoder_attn.q_proj.weight")) {
    return "";
  }
  const bool native = state.contains_prefix("model.backbone.conv_encoder.model.embedder.") ||
                      state.contains_prefix("model.backbone.model.embedder.");
  return native ? "hf" : "hf-timm";
}

StateDict detr_from_layout(const StateDict& state) {
  return from_layout(state, layout_of(recognise_detr_layout(state)));
}

StateDict detr_to_layout(const StateDict& state, const std::string& layout) {
  if (layout == "zoo" || layout == "original") return state;
  require_choice("--layout", layout, {"zoo", "original", "hf", "hf-timm"});
  if (state.contains_prefix("transformer.encoder.norm.")) {
    throw UsageError("--layout " + layout +
                     " has no place for model.pre_norm=true, expected --layout original");
  }
  if (state.contains_prefix(std::string(kBody) + "stem.")) {
    throw UsageError("--layout " + layout +
                     " has no place for the backbone 'tiny', expected --layout original");
  }
  return to_layout(state, layout_of(layout));
}

DetrOptions detr_options_of(const StateDict& state, DetrOptions options) {
  if (recognise_detr_layout(state).empty()) {
    throw Error(state.source + ": the names of its tensors are not DETR's, expected one of the layouts " +
                join(detr_layouts(), ", "));
  }
  const StateDict ours = detr_from_layout(shapes_of(state));
  options.backbone = backbone_of(ours);
  options.num_classes = rows(ours, "class_embed.weight", options.num_classes + 1) - 1;
  options.num_queries = rows(ours, "query_embed.weight", options.num_queries);
  options.hidden_dim = rows(ours, "input_proj.weight", options.hidden_dim);
  options.encoder_layers = count_layers(ours, "transformer.encoder.layers.");
  options.decoder_layers = count_layers(ours, "transformer.decoder.layers.");
  options.feedforward = rows(ours, "transformer.decoder.layers.0.linear1.weight", options.feedforward);
  options.pre_norm = ours.contains_prefix("transformer.encoder.norm.");
  options.position = ours.contains_prefix("backbone.1.row_embed.") ? "learned" : "sine";
  options.reference_points = ours.contains_prefix("reference_points");
  return options;
}

bool detr_recognises(const StateDict& state, const DetrOptions& options) {
  if (options.dilation || recognise_detr_layout(state).empty()) return false;
  return detr_options_of(state, options).backbone == options.backbone;
}

void load_detr_weights(DetrImpl& detr, const StateDict& state, bool partial) {
  require_fit(assign(detr, detr_from_layout(state)), state.source, partial);
}

Detr load_detr(const std::string& path) {
  const StateDict state = load_state_dict(path);
  DetrOptions options;
  if (const auto config = state.metadata.find("zoo.config"); config != state.metadata.end()) {
    try {
      options = Json::parse(config->second).at("model").get<DetrOptions>();
    } catch (const Json::exception&) {
      throw Error(state.source + ": its zoo.config has no options of a DETR under 'model'");
    }
  }
  Detr detr(detr_options_of(state, options));
  load_detr_weights(*detr, state, /*partial=*/false);
  detr->eval();
  return detr;
}

void load_detr_backbone(DetrImpl& detr, const StateDict& state, bool partial) {
  const StateDict body = recognise_detr_layout(state).empty() ? from_layout(state, backbone_layout())
                                                              : select(detr_from_layout(state), kBody);
  require_fit(assign(detr.backbone->body(), body), state.source, partial);
}

std::string detr_hf_config(const DetrOptions& options, const std::string& layout,
                           const std::string& categories) {
  require_choice("--layout", layout, {"hf", "hf-timm"});
  if (options.dilation && layout == "hf") {
    throw UsageError(
        "--layout hf has no place for model.dilation=true (DC5), expected --layout hf-timm or original");
  }
  Json config = {{"architectures", {"DetrForObjectDetection"}},
                 {"model_type", "detr"},
                 {"dtype", "float32"},
                 {"is_encoder_decoder", true},
                 {"activation_function", "relu"},
                 {"num_channels", 3},
                 {"num_queries", options.num_queries},
                 {"d_model", options.hidden_dim},
                 {"encoder_layers", options.encoder_layers},
                 {"encoder_attention_heads", options.heads},
                 {"encoder_ffn_dim", options.feedforward},
                 {"decoder_layers", options.decoder_layers},
                 {"decoder_attention_heads", options.heads},
                 {"decoder_ffn_dim", options.feedforward},
                 {"dropout", options.dropout},
                 {"attention_dropout", options.dropout},
                 {"activation_dropout", options.dropout},
                 {"auxiliary_loss", false},
                 {"position_embedding_type", options.position},
                 {"dilation", options.dilation},
                 {"use_pretrained_backbone", false},
                 {"use_timm_backbone", layout == "hf-timm"}};
  config["backbone"] = layout == "hf-timm" ? Json(options.backbone) : Json(nullptr);
  config["backbone_config"] = layout == "hf-timm" ? Json(nullptr) : native_backbone_config(options);
  add_labels(config, options.num_classes, categories);
  return dump_json(config) + "\n";
}

}  // namespace zoo
