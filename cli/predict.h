#pragma once
#include <string>
#include <vector>

#include "cli/command.h"
#include "cli/inputs.h"
#include "cli/setup.h"
#include "models/ldm/pipeline.h"

namespace zoo {

class ActionTask;
class DetectionTask;
class FaceTask;
class LdmTask;

/// Flags of latent diffusion, as given; empty where they were not.
struct PictureFlags {
  std::string sampler, steps, guidance_scale, guidance_rescale, negative_prompt, size, seed, latents,
      init_image, strength, mask, output_type, clip_skip, tile, previews;
  bool dry_run = false;

  /// Names of those that were given.
  std::vector<std::string> given() const;
};

struct PredictFlags {
  std::string weights, model, threshold, max_detections, classes, output = "predictions";
  std::string save_state, load_state;  ///< of a stream
  std::vector<std::string> inputs;
  bool no_images = false, json = false, stream = false;
  PictureFlags pictures;
};

constexpr int64_t kAllDetections = 1 << 30;

/// One kind of work each: writes into flags.output, prints what was found, and gives the inputs that failed.
std::vector<std::string> predict_objects(const PredictFlags& flags, const LoadedModel& loaded,
                                         DetectionTask& task);
std::vector<std::string> predict_faces(const PredictFlags& flags, const LoadedModel& loaded, FaceTask& task);
std::vector<std::string> predict_actions(const PredictFlags& flags, const LoadedModel& loaded,
                                         ActionTask& task);
std::vector<std::string> predict_pictures(const PredictFlags& flags, const LoadedModel& loaded,
                                          LdmTask& task);

/// Throws UsageError where a flag of latent diffusion has a value that no model takes: before weights are read.
void check_picture_flags(const PredictFlags& flags);
/// `--dry-run`: token ids of the prompts, times and levels of the sampler, from no more of `flags.weights` than the
/// tokenizer and the scheduler's configuration.
void dry_run_pictures(const PredictFlags& flags, const ConfigFlags& configuration);
/// Prompts of the INPUTs: an INPUT itself, or the lines of FILE.txt or stdin.
std::vector<std::string> read_prompts(const std::vector<std::string>& inputs);
/// Flags over a configuration's section `eval`; sizes stay 0 where none is given.
PictureOptions picture_options(const PredictFlags& flags, const Json& eval);
/// Adds the flags of PictureFlags.
void add_picture_flags(CLI::App& app, PictureFlags& flags);

}  // namespace zoo
