#pragma once
#include <string>

#include "core/options.h"
#include "models/ldm/ldm.h"

namespace zoo {

/// Between the options of the parts and the config.json that stands beside each in a diffusers folder.
/// Readers throw Error naming `source` and the key where a value is of the wrong type or range, or asks for
/// something that zoo's networks do not have.
UNetOptions unet_from_config(const Json& config, const std::string& source);
AutoencoderOptions autoencoder_from_config(const Json& config, const std::string& source);
ClipTextOptions clip_text_from_config(const Json& config, const std::string& source);

/// Of UNet2DConditionModel, AutoencoderKL or VQModel, CLIPTextModel.
Json unet_to_config(const UNetOptions& options);
Json autoencoder_to_config(const AutoencoderOptions& options);
Json clip_text_to_config(const ClipTextOptions& options);

}  // namespace zoo
