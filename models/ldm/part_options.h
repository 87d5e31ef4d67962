#pragma once
#include <string>

#include "core/options.h"
#include "models/ldm/ldm.h"
#include "models/weights/state_dict.h"

namespace zoo {

/// What names and shapes of a part's tensors, in diffusers' or transformers' names without a prefix, tell of
/// its options: those keys alone. They tell neither heads nor groups of the norms, nor an activation. Throw
/// Error naming a tensor that no such network is without.
Json told_unet_options(const StateDict& state);
Json told_autoencoder_options(const StateDict& state);
Json told_clip_text_options(const StateDict& state);

/// Throws Error where `options`, read from the file `config`, say other than the tensors of `weights`.
void require_told(const Json& options, const Json& told, const std::string& config,
                  const std::string& weights);

/// Options of all three parts from their tensors below `unet.`, `vae.` and `text_encoder.` alone. What these
/// do not tell is Stable Diffusion's: 8 heads, or heads of 64 channels where projections are linear, and in
/// the text encoder.
LdmOptions told_ldm_options(const StateDict& state);

/// The tensors whose names begin with `prefix`, without it.
StateDict part_of(const StateDict& state, const std::string& prefix);

}  // namespace zoo
