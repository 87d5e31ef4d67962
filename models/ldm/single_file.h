#pragma once
#include "models/weights/state_dict.h"

namespace zoo {

/// Whether names are those of the original Stable Diffusion checkpoints: `model.diffusion_model.`,
/// `first_stage_model.`, `cond_stage_model.`, all in one file.
bool is_original_ldm(const StateDict& state);

/// Tensors of an original file under zoo's names: `unet.`, `vae.`, `text_encoder.`; whatever belongs to none
/// of the three is left out. `averages`: the UNet's averaged weights (`model_ema.`). The text encoder may be
/// CLIP's (Stable Diffusion 1) or OpenCLIP's (2), of which the last layer is left out, as it is unused.
/// Throws Error where a part or an average is missing.
StateDict ldm_from_original(const StateDict& state, bool averages = false);

/// Whether names are those of an autoencoder in the original layout, with or without `first_stage_model.` or
/// `vae.`.
bool is_original_autoencoder(const StateDict& state);
/// Its tensors under diffusers' names.
StateDict autoencoder_from_original(const StateDict& state);

/// Older names of an autoencoder in diffusers' layout made new: attentions' `query`, `key`, `value`,
/// `proj_attn`, also with shape [C,C,1,1].
StateDict with_new_attention_names(const StateDict& autoencoder);

/// Names of transformers' text encoder without `text_model.`; what is no part of it is left out
/// (`position_ids`, the projection, a picture encoder).
StateDict with_plain_text_names(const StateDict& text);

}  // namespace zoo
