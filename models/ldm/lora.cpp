#include "models/ldm/lora.h"

#include <algorithm>
#include <cmath>
#include <functional>
#include <map>
#include <optional>
#include <set>

#include "core/error.h"
#include "core/text.h"
#include "models/layers/adapted_linear.h"
#include "models/ldm/ldm.h"
#include "models/shape_text.h"

namespace zoo {

namespace {

constexpr const char* kTextPrefix = "text_encoder.";
constexpr const char* kMetadataKey = "lora_adapter_metadata";
const std::vector<std::string> kTextTargets = {"q_proj", "k_proj", "v_proj", "out_proj"};

using LinearLayers = std::vector<std::pair<std::string, std::shared_ptr<AdaptedLinearImpl>>>;

/// All that may have an adapter, with their names.
LinearLayers linear_layers(const LdmImpl& ldm) {
  LinearLayers layers;
  for (const auto& item : ldm.named_modules("", /*include_self=*/false)) {
    if (auto layer = std::dynamic_pointer_cast<AdaptedLinearImpl>(item.value())) {
      layers.emplace_back(item.key(), std::move(layer));
    }
  }
  return layers;
}

bool is_target(const std::string& module, const std::string& target) {
  return module == target || ends_with(module, "." + target);
}

bool is_any_target(const std::string& module, const std::vector<std::string>& targets) {
  return std::any_of(targets.begin(), targets.end(),
                     [&](const std::string& target) { return is_target(module, target); });
}

void require_known_targets(const LinearLayers& layers, const std::vector<std::string>& targets) {
  for (const std::string& target : targets) {
    const bool known = std::any_of(layers.begin(), layers.end(), [&](const auto& layer) {
      return starts_with(layer.first, "unet.") && is_target(layer.first, target);
    });
    if (!known) {
      throw UsageError(
          "model.lora.targets: '" + target +
          "' is no linear layer of the UNet, expected of to_q, to_k, to_v, to_out.0, ff.net.0.proj, "
          "ff.net.2, proj_in, proj_out");
    }
  }
}

// Names in files.

enum class LoraRole { kDown, kUp, kAlpha };

struct RoleEnding {
  const char* ending;
  LoraRole role;
};
constexpr RoleEnding kRoleEndings[] = {{".lora_A.weight", LoraRole::kDown},
                                       {".lora_B.weight", LoraRole::kUp},
                                       {".lora_A.default.weight", LoraRole::kDown},
                                       {".lora_B.default.weight", LoraRole::kUp},
                                       {".lora_linear_layer.down.weight", LoraRole::kDown},
                                       {".lora_linear_layer.up.weight", LoraRole::kUp},
                                       {".lora.down.weight", LoraRole::kDown},
                                       {".lora.up.weight", LoraRole::kUp},
                                       {".lora_down.weight", LoraRole::kDown},
                                       {".lora_up.weight", LoraRole::kUp},
                                       {"_lora.down.weight", LoraRole::kDown},  // old processors
                                       {"_lora.up.weight", LoraRole::kUp},
                                       {".alpha", LoraRole::kAlpha}};

struct LoraName {
  std::string module;  ///< as the file has it
  LoraRole role;
  bool processor;  ///< named by an old attention processor
};

std::optional<LoraName> parse_lora_name(const std::string& name) {
  for (const auto& [ending, role] : kRoleEndings) {
    if (!ends_with(name, ending)) continue;
    const std::string module = name.substr(0, name.size() - std::string_view(ending).size());
    return LoraName{module, role, ending[0] == '_'};
  }
  return std::nullopt;
}

/// What an old processor calls a projection, as the layer's own name.
std::string processor_layer(std::string module) {
  const bool text = module.find("self_attn.") != std::string::npos;
  const std::string place = ".processor";
  if (const size_t found = module.find(place); found != std::string::npos) module.erase(found, place.size());
  const size_t dot = module.rfind('.');
  const std::string owner = module.substr(0, dot + 1), projection = module.substr(dot + 1);  // to_q
  if (text) return owner + projection.substr(projection.rfind('_') + 1) + "_proj";
  return owner + (projection == "to_out" ? "to_out.0" : projection);
}

/// Where names of files lead in the model.
class LoraModules {
 public:
  explicit LoraModules(const LdmImpl& ldm) {
    for (const auto& item : ldm.named_parameters()) {
      if (!ends_with(item.key(), ".weight") || item.value().dim() < 2) continue;
      const std::string module = item.key().substr(0, item.key().size() - 7);
      names_.insert(module);
      std::string flat = starts_with(module, "unet.") ? "lora_unet_" + module.substr(5)
                                                      : "lora_te_text_model_" + after_text(module);
      std::replace(flat.begin(), flat.end(), '.', '_');
      flat_.emplace(flat, module);
    }
  }

  /// The layer's registered name, empty where the model has none.
  std::string find(const LoraName& name) const {
    std::string module = name.processor ? processor_layer(name.module) : name.module;
    if (starts_with(module, "lora_te1_")) module = "lora_te_" + module.substr(9);
    if (const auto found = flat_.find(module); found != flat_.end()) return found->second;
    for (const std::string& prefix : {std::string("base_model.model."), std::string()}) {
      if (!starts_with(module, prefix)) continue;
      module = module.substr(prefix.size());
      if (starts_with(module, "text_encoder.text_model.")) module.erase(13, 11);
      for (const std::string& candidate : {module, "unet." + module}) {
        if (names_.count(candidate) > 0) return candidate;
      }
    }
    return "";
  }

 private:
  static std::string after_text(const std::string& module) {
    return starts_with(module, kTextPrefix) ? module.substr(std::string_view(kTextPrefix).size()) : module;
  }

  std::set<std::string> names_;
  std::map<std::string, std::string> flat_;  // kohya's name -> ours
};

// Scales.

/// What the metadata of a file say of its adapters' alphas.
class LoraScales {
 public:
  explicit LoraScales(const StateDict& file) {
    const auto found = file.metadata.find(kMetadataKey);
    if (found == file.metadata.end()) return;
    settings_ = Json::parse(found->second, nullptr, /*allow_exceptions=*/false);
    if (!settings_.is_object())
      throw Error(file.source + ": its metadata " + kMetadataKey + " are no JSON object");
    for (const char* part : {"unet", "text_encoder"}) {
      const Json dora = setting(part, "use_dora");
      if (dora.is_boolean() && dora.get<bool>()) {
        throw Error(file.source + ": its adapters are DoRA, expected plain LoRA");
      }
    }
  }

  double scale(const std::string& module, int64_t rank) const {
    const std::string part = starts_with(module, "unet.") ? "unet" : "text_encoder";
    Json alpha = setting(part, "lora_alpha");
    const Json patterns = setting(part, "alpha_pattern");
    if (patterns.is_object()) {
      for (const auto& item : patterns.items()) {
        if (is_target(module, item.key())) alpha = item.value();
      }
    }
    if (!alpha.is_number()) return 1;
    const Json stable = setting(part, "use_rslora");
    const auto r = static_cast<double>(rank);
    return alpha.get<double>() / (stable.is_boolean() && stable.get<bool>() ? std::sqrt(r) : r);
  }

 private:
  Json setting(const std::string& part, const std::string& key) const {
    return settings_.is_object() ? settings_.value(part + "." + key, Json()) : Json();
  }

  Json settings_;
};

/// An adapter as it is put together from a file.
struct FoundLora {
  LoraPair pair;
  std::optional<double> alpha;
};

using FoundLoras = std::map<std::string, FoundLora>;  // by the file's own name of the layer

void add_found(const std::string& name, const torch::Tensor& tensor, const LoraModules& modules,
               const std::string& source, FoundLoras& found) {
  const std::optional<LoraName> parsed = parse_lora_name(name);
  if (!parsed) throw Error(source + ": " + name + " is no tensor of a LoRA (lora_A, lora_down, …)");
  FoundLora& lora = found[parsed->module];
  lora.pair.module = modules.find(*parsed);
  if (lora.pair.module.empty())
    throw Error(source + ": " + name + " adapts a layer that the model does not have");
  if (parsed->role == LoraRole::kAlpha) {
    if (tensor.numel() != 1)
      throw Error(source + ": " + name + " has shape " + shape_text(tensor) + ", expected one number");
    lora.alpha = tensor.to(torch::kDouble).item<double>();
  } else {
    (parsed->role == LoraRole::kDown ? lora.pair.down : lora.pair.up) = tensor;
  }
}

/// scale·up·down in the weight's shape, undefined where it does not fit.
torch::Tensor lora_change(const LoraPair& pair, const torch::Tensor& weight) {
  const torch::Tensor up = pair.up.to(torch::kFloat).flatten(1),
                      down = pair.down.to(torch::kFloat).flatten(1);
  const bool fits = up.dim() == 2 && down.dim() == 2 && up.size(1) == down.size(0) &&
                    up.size(0) == weight.size(0) && up.size(0) * down.size(1) == weight.numel();
  return fits ? pair.scale * torch::matmul(up, down).view_as(weight) : torch::Tensor();
}

}  // namespace

void LoraOptions::validate() const {
  require_count("model.lora.rank", rank, 0);
  require_range("model.lora.alpha", alpha, 0);
  if (rank > 0 && targets.empty() && !text_encoder) {
    throw UsageError("model.lora.targets: empty, expected names of layers, or model.lora.text_encoder=true");
  }
}

void add_adapters(LdmImpl& ldm, const LoraOptions& options) {
  options.validate();
  if (options.rank == 0) return;
  const LinearLayers layers = linear_layers(ldm);
  require_known_targets(layers, options.targets);
  for (const auto& [name, layer] : layers) {
    const bool text = starts_with(name, kTextPrefix);
    const bool wanted = text ? options.text_encoder && is_any_target(name, kTextTargets)
                             : is_any_target(name, options.targets);
    if (wanted) layer->add_adapter(options.rank, options.scale());
  }
}

void freeze_all_but_adapters(LdmImpl& ldm) {
  for (auto& item : ldm.named_parameters()) {
    item.value().set_requires_grad(item.key().find(".lora_") != std::string::npos);
  }
}

void merge_adapters(LdmImpl& ldm) {
  const torch::NoGradGuard no_grad;
  for (const auto& [name, layer] : linear_layers(ldm)) {
    if (!layer->has_adapter()) continue;
    layer->weight.add_(layer->adapter_change());
    layer->remove_adapter();
  }
  ldm.options.lora.rank = 0;
}

std::vector<LoraPair> read_lora(const StateDict& file, const LdmImpl& ldm) {
  const LoraModules modules(ldm);
  const LoraScales scales(file);
  FoundLoras found;
  for (const auto& [name, tensor] : file.tensors) add_found(name, tensor, modules, file.source, found);
  std::vector<LoraPair> pairs;
  for (auto& [name, lora] : found) {
    LoraPair& pair = lora.pair;
    if (!pair.down.defined() || !pair.up.defined() || pair.down.dim() < 2) {
      throw Error(file.source + ": the adapter of " + name + " is not whole, expected down and up");
    }
    const int64_t rank = pair.down.size(0);
    pair.scale = lora.alpha                   ? *lora.alpha / static_cast<double>(rank)
                 : starts_with(name, "lora_") ? 1
                                              : scales.scale(pair.module, rank);
    pairs.push_back(std::move(pair));
  }
  if (pairs.empty()) throw Error(file.source + ": no adapters, expected a LoRA");
  return pairs;
}

void merge_lora(LdmImpl& ldm, const std::vector<LoraPair>& pairs, double strength) {
  const torch::NoGradGuard no_grad;
  const auto parameters = ldm.named_parameters();
  for (const LoraPair& pair : pairs) {
    if (lora_change(pair, parameters[pair.module + ".weight"]).defined()) continue;
    throw Error("the adapter of " + pair.module + " has shapes " + shape_text(pair.down) + " and " +
                shape_text(pair.up) + ", which do not fit the weight " +
                shape_text(parameters[pair.module + ".weight"]));
  }
  for (const LoraPair& pair : pairs) {
    torch::Tensor weight = parameters[pair.module + ".weight"];
    weight.add_(lora_change(pair, weight).to(weight.options()), strength);
  }
}

void load_adapters(LdmImpl& ldm, const std::vector<LoraPair>& pairs) {
  const torch::NoGradGuard no_grad;
  std::map<std::string, std::shared_ptr<AdaptedLinearImpl>> layers;
  for (const auto& [name, layer] : linear_layers(ldm)) layers.emplace(name, layer);
  for (const LoraPair& pair : pairs) {
    const auto layer = layers.find(pair.module);
    if (layer == layers.end() || !lora_change(pair, layer->second->weight).defined()) {
      throw Error("the adapter of " + pair.module +
                  " is not on a linear layer of its size, expected one that can be "
                  "trained on; merge it instead");
    }
    layer->second->add_adapter(pair.down.size(0), pair.scale);
    const auto parameters = layer->second->named_parameters();
    torch::Tensor down = parameters["lora_A.weight"], up = parameters["lora_B.weight"];
    down.copy_(pair.down.flatten(1));
    up.copy_(pair.up.flatten(1));
  }
}

StateDict lora_state(const LdmImpl& ldm) {
  StateDict state;
  Json settings = Json::object();
  for (const auto& [name, layer] : linear_layers(ldm)) {
    if (!layer->has_adapter()) continue;
    const bool text = starts_with(name, kTextPrefix);
    const std::string inner = name.substr(text ? 13 : 5), part = text ? "text_encoder." : "unet.";
    const auto parameters = layer->named_parameters();
    const std::string file_name = part + (text ? "text_model." : "") + inner;
    state.tensors.emplace_back(file_name + ".lora_A.weight", parameters["lora_A.weight"]);
    state.tensors.emplace_back(file_name + ".lora_B.weight", parameters["lora_B.weight"]);
    const int64_t rank = parameters["lora_A.weight"].size(0);
    const double alpha = layer->adapter_scale() * static_cast<double>(rank);
    if (!settings.contains(part + "r")) {
      settings.update({{part + "r", rank},
                       {part + "lora_alpha", alpha},
                       {part + "target_modules", Json::array()},
                       {part + "rank_pattern", Json::object()},
                       {part + "alpha_pattern", Json::object()},
                       {part + "use_rslora", false},
                       {part + "use_dora", false}});
    }
    settings[part + "target_modules"].push_back(inner);  // an ending, with or without text_model. before it
    if (settings[part + "r"] != rank) settings[part + "rank_pattern"][inner] = rank;
    if (settings[part + "lora_alpha"] != alpha) settings[part + "alpha_pattern"][inner] = alpha;
  }
  if (state.tensors.empty())
    throw Error("the model has no adapters to write, expected model.lora.rank above 0");
  state.metadata = {{"format", "pt"}, {kMetadataKey, settings.dump()}};
  return state;
}

}  // namespace zoo
