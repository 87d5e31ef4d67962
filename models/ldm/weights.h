#pragma once
#include <string>
#include <utility>
#include <vector>

#include "models/ldm/ldm.h"
#include "models/weights/state_dict.h"

namespace zoo {

/// Keys of the metadata that readers leave for others.
inline constexpr const char* kLdmOptionsKey = "zoo.ldm";                  ///< LdmOptions as JSON
inline constexpr const char* kAutoencoderOptionsKey = "zoo.autoencoder";  ///< AutoencoderOptions as JSON
inline constexpr const char* kLdmTokenizerKey = "zoo.tokenizer";          ///< ClipTokenizer::to_json

/// Whether `path` is a folder with a model_index.json.
bool is_diffusers_folder(const std::string& path);

/// A folder as diffusers writes it: `unet/`, `vae/` and `text_encoder/` with a config.json and weights each
/// (safetensors before .bin, full precision before `.fp16`, whole or sharded), `tokenizer/`, `scheduler/`.
/// Tensors under zoo's names, as views of the mapped files; metadata zoo.ldm and zoo.tokenizer. Throws Error
/// naming a part that is missing, a key that zoo's networks do not have, and a configuration that does not
/// fit the tensors.
StateDict read_diffusers_folder(const std::string& folder);

/// All weights of latent diffusion that a path may name: a diffusers folder, an original single file
/// (`averages`: the UNet's averaged weights), zoo's own. Throws Error where it is none of them.
StateDict read_ldm(const std::string& path, bool averages = false);

/// An autoencoder alone, under diffusers' names without a prefix: a diffusers folder or its `vae/`, a file in
/// the original layout, zoo's own of either stage. Metadata zoo.autoencoder. Throws Error where there is
/// none.
StateDict read_autoencoder(const std::string& path);

/// Whether tensors are those of latent diffusion: zoo's names (with all three parts) or the original ones.
bool ldm_recognises(const StateDict& state);

/// Tensors of any layout that `ldm_recognises` under zoo's names.
StateDict ldm_from_layout(const StateDict& state, bool averages = false);

/// What the metadata says (zoo.ldm, or `model` in a run's zoo.config), else what the tensors tell.
LdmOptions ldm_options_of(const StateDict& state);

/// Copies weights of any layout into the model (or the tensors themselves, in a WeightsFollowScope). Throws
/// Error with the numbers of missing, extra and misshapen tensors, with `partial` only a warning.
void load_ldm_weights(LdmImpl& ldm, const StateDict& state, bool partial);

/// The model of a path as for read_ldm, for inference, in eval mode: its tensors stay in the mapped file
/// where they are in float32.
Ldm load_ldm(const std::string& path, bool averages = false);

/// Writes a folder that diffusers' StableDiffusionPipeline and transformers open. `state` has zoo's names,
/// `tokenizer` the files (name, content) of tokenizer/. model_index.json comes last, so that half a folder is
/// none.
void write_diffusers_folder(const std::string& folder, const LdmOptions& options, const StateDict& state,
                            const std::vector<std::pair<std::string, std::string>>& tokenizer);

}  // namespace zoo
