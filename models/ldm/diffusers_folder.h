#pragma once
#include <string>

#include "models/ldm/ldm.h"
#include "models/weights/state_dict.h"

namespace zoo {

/// One part of a diffusers folder.
template <class Options>
struct DiffusersPart {
  Options options;
  StateDict state;  ///< names without a prefix, spelled as zoo's
};

/// A folder with config.json and weights. Throw Error where one is missing or they do not fit each other.
DiffusersPart<UNetOptions> read_unet_folder(const std::string& folder);
DiffusersPart<AutoencoderOptions> read_autoencoder_folder(const std::string& folder);
DiffusersPart<ClipTextOptions> read_clip_text_folder(const std::string& folder);

}  // namespace zoo
