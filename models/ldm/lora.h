#pragma once
#include <string>
#include <vector>

#include <torch/types.h>

#include "core/options.h"
#include "models/weights/state_dict.h"

namespace zoo {

class LdmImpl;

/// Adapters of low rank on linear layers, Hu et al. 2021 (arXiv 2106.09685): W + (alpha/rank)·B·A. Section
/// `model.lora`.
struct LoraOptions {
  int64_t rank = 0;  ///< 0: none
  double alpha = 0;  ///< 0: as rank, which is scale 1
  /// The UNet's linear layers whose names end with one of these: the attentions' by default; also
  /// ff.net.0.proj, ff.net.2.
  std::vector<std::string> targets = {"to_q", "to_k", "to_v", "to_out.0"};
  bool text_encoder = false;  ///< the text encoder's attentions too: q_proj, k_proj, v_proj, out_proj

  /// Throws UsageError naming the key, its value and the range.
  void validate() const;
  double scale() const { return alpha == 0 ? 1 : alpha / static_cast<double>(rank); }
};
NLOHMANN_DEFINE_TYPE_NON_INTRUSIVE(LoraOptions, rank, alpha, targets, text_encoder)

/// Gives the model the adapters that the options name; they change nothing yet. Throws UsageError where a
/// target is no linear layer of the UNet.
void add_adapters(LdmImpl& ldm, const LoraOptions& options);
/// Only adapters are trained: every other parameter gets no gradient.
void freeze_all_but_adapters(LdmImpl& ldm);
/// Adds what the adapters do to the weights and takes them away.
void merge_adapters(LdmImpl& ldm);

/// One adapter of a file.
struct LoraPair {
  std::string module;      ///< "unet.down_blocks.0.attentions.0.transformer_blocks.0.attn1.to_k"
  torch::Tensor down, up;  ///< [r,in] or [r,in,k,k]; [out,r] or [out,r,1,1]
  double scale = 1;
};

/// The adapters of a file in any of the usual layouts, read name by name: PEFT's (`lora_A`, `lora_B`),
/// diffusers' training scripts (`lora.down`, `lora_linear_layer.down`), old attention processors
/// (`processor.to_q_lora.down`), kohya's (`lora_unet_…`). Scales: kohya's alpha/r; else alpha and r of the
/// metadata where they are there, else 1. Throws Error naming a tensor that is no part of an adapter (DoRA is
/// none), has no partner, or whose layer the model does not have.
std::vector<LoraPair> read_lora(const StateDict& file, const LdmImpl& ldm);

/// Adds strength·scale·up·down to the weights. Throws Error where shapes do not fit, before anything is
/// changed.
void merge_lora(LdmImpl& ldm, const std::vector<LoraPair>& pairs, double strength = 1);
/// Makes the file's adapters the model's own, for further training. Throws Error where one is not on a linear
/// layer.
void load_adapters(LdmImpl& ldm, const std::vector<LoraPair>& pairs);

/// The model's adapters as `pytorch_lora_weights.safetensors`, which diffusers and PEFT read: PEFT's names,
/// rank and alpha in the metadata. Throws Error where it has none.
StateDict lora_state(const LdmImpl& ldm);

}  // namespace zoo
