#include "cli/predict.h"

#include <sys/prctl.h>

#include "core/error.h"
#include "core/files.h"
#include "core/log.h"
#include "core/text.h"
#include "trainers/signals.h"
#include "trainers/tasks/denoiser.h"
#include "trainers/tasks/detection.h"
#include "trainers/tasks/faces.h"
#include "trainers/tasks/online_action.h"

namespace zoo {

namespace {

/// One error for all inputs that failed: the rest was done.
void require_no_failure(const std::vector<std::string>& failures) {
  if (failures.empty()) return;
  for (size_t i = 1; i < failures.size(); ++i) log_warning(failures[i]);
  throw Error(failures.front() +
              (failures.size() > 1 ? format(" (and %zu more inputs failed)", failures.size() - 1) : ""));
}

int predict(const PredictFlags& flags, const ConfigFlags& configuration) {
  if (flags.inputs.empty())
    throw UsageError("no input: expected files, folders, globs, videos, camera:N, - or a prompt");
  if (!flags.threshold.empty()) parse_flag_double("--threshold", flags.threshold, 0, 1);
  if (!flags.max_detections.empty())
    parse_flag_int("--max-detections", flags.max_detections, 1, kAllDetections);
  check_picture_flags(flags);
  if (flags.pictures.dry_run) {
    dry_run_pictures(flags, configuration);
    return 0;
  }
  // A few pictures touch most memory once. Huge pages are cleared whole, and where a virtual machine's host has to
  // find them first, that takes longer than all small ones (0.2 s of 1.1 s); the frames of a film lose 5 percent.
  ::prctl(PR_SET_THP_DISABLE, 1, 0, 0, 0);
  std::vector<Edit> edits = configuration.edits();
  if (!configuration.given("--batch-size"))
    edits.insert(edits.begin(), {"data.batch_size", "1", "--batch-size"});
  LoadedModel loaded =
      load_model(flags.weights, flags.model, Purpose::inference, configuration.config_file(), edits);
  auto* actions = dynamic_cast<ActionTask*>(loaded.task.get());
  if (actions == nullptr && (flags.stream || !flags.save_state.empty() || !flags.load_state.empty()))
    throw UsageError("--stream, --save-state and --load-state: " + loaded.recipe->name +
                     " is no model of online actions");
  auto* diffusion = dynamic_cast<LdmTask*>(loaded.task.get());
  if (diffusion == nullptr && !flags.pictures.given().empty())
    throw UsageError(flags.pictures.given().front() + ": " + loaded.recipe->name + " makes no pictures");
  if (!flags.stream) make_folders(flags.output);
  install_signal_handlers();
  std::vector<std::string> failures;
  if (auto* detection = dynamic_cast<DetectionTask*>(loaded.task.get())) {
    failures = predict_objects(flags, loaded, *detection);
  } else if (auto* faces = dynamic_cast<FaceTask*>(loaded.task.get())) {
    failures = predict_faces(flags, loaded, *faces);
  } else if (actions != nullptr) {
    failures = predict_actions(flags, loaded, *actions);
  } else if (diffusion != nullptr) {
    failures = predict_pictures(flags, loaded, *diffusion);
  } else {
    throw Error(loaded.recipe->name + " has no predictions to draw");
  }
  require_no_failure(failures);
  if (stop_requested())
    throw Interrupted("interrupted" +
                      (flags.stream ? "" : ", the predictions so far are in " + flags.output));
  return 0;
}

}  // namespace

Command predict_command(CLI::App& parent) {
  CLI::App* app = parent.add_subcommand(
      "predict",
      "Predict on pictures, videos, a camera or streams of features; compare two faces; paint prompts");
  auto flags = std::make_shared<PredictFlags>();
  app->add_option("INPUT", flags->inputs,
                  "Files, folders, globs, videos, camera:N, or - for a picture on stdin; of faces also a CSV "
                  "path,identity,10 landmark numbers. Two faces are compared, else embeddings are written. "
                  "Online actions: "
                  "features:PATH; with --stream also a pipe, - for stdin. Latent diffusion: prompts, "
                  "FILE.txt with one a "
                  "line, or - for such lines on stdin")
      ->type_name("");
  add_text(*app, "--weights", flags->weights, "FILE|RUN", "Weights: a run, zoo's or published ones");
  add_text(*app, "--model", flags->model, "NAME", "Recipe, needed for foreign weights only");
  add_text(*app, "--threshold", flags->threshold, "X",
           "Least score in pictures and table (0.5); of faces, the least score of one person");
  add_text(*app, "--max-detections", flags->max_detections, "N", "At most N objects a picture");
  add_text(*app, "--classes", flags->classes, "A,B", "Only these classes");
  add_text(*app, "--output", flags->output, "DIR",
           "Folder for predictions.json or embeddings.safetensors, and pictures (predictions)");
  app->add_flag("--no-images", flags->no_images, "Draw nothing");
  app->add_flag("--stream", flags->stream, "Online actions: one JSON line a step, while steps arrive");
  add_text(*app, "--save-state", flags->save_state, "FILE", "Write the stream's state at its end");
  add_text(*app, "--load-state", flags->load_state, "FILE", "Go on from a state that --save-state wrote");
  app->add_flag("--json", flags->json, "Print one JSON document");
  add_picture_flags(*app, flags->pictures);
  auto configuration = std::make_shared<ConfigFlags>(
      *app, std::vector<std::string>{"--batch-size", "--device", "--precision", "--threads"});
  return {app, [flags, configuration] { return predict(*flags, *configuration); }};
}

}  // namespace zoo
