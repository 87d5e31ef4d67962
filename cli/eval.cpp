#include "cli/eval.h"

#include <algorithm>

#include "cli/setup.h"
#include "core/error.h"
#include "core/files.h"
#include "core/text.h"
#include "datasets/spec.h"
#include "trainers/progress.h"
#include "trainers/tasks/autoencoder.h"
#include "trainers/tasks/denoiser.h"
#include "trainers/tasks/detection.h"
#include "trainers/tasks/detection_predictions.h"
#include "trainers/tasks/faces.h"
#include "trainers/tasks/online_action.h"

namespace zoo {

namespace {

/// The data sets to score: each --data with its split val, or what the run was validated on.
std::vector<std::vector<Edit>> edits_of_each_set(const EvalFlags& flags, const std::vector<Edit>& edits) {
  if (flags.data.empty()) return {edits};
  std::vector<std::vector<Edit>> all;
  for (const std::string& spec : flags.data) {
    std::vector<Edit> own = edits;
    own.push_back({"data.train", spec, "--data"});
    own.push_back({"data.val", "", "--data"});
    own.push_back({"data.val_fraction", "0", "--data"});
    all.push_back(std::move(own));
  }
  return all;
}

std::string scored_data(const Json& config) {
  const auto val = config.at("data").at("val").get<std::string>();
  return val.empty() ? config.at("data").at("train").get<std::string>() : val;
}

/// FILE for the first data set, FILE-2, FILE-3 … (before the ending) for the further ones.
std::string numbered_file(const std::string& file, size_t set) {
  if (set == 0) return file;
  const size_t dot = file.rfind('.');
  const size_t end = dot == std::string::npos || file.find('/', dot) != std::string::npos ? file.size() : dot;
  return file.substr(0, end) + "-" + std::to_string(set + 1) + file.substr(end);
}

/// Where the predictions on a data set belong: --save-predictions, and a file of that name below --output.
std::vector<std::string> prediction_files(const EvalFlags& flags, const std::string& name, size_t set) {
  std::vector<std::string> files;
  if (!flags.save_predictions.empty()) files.push_back(numbered_file(flags.save_predictions, set));
  if (!flags.output.empty()) files.push_back(numbered_file(join_path(flags.output, name), set));
  return files;
}

void save_outputs(const EvalFlags& flags, Task& task, size_t set) {
  if (auto* detection = dynamic_cast<DetectionTask*>(&task)) {
    for (const std::string& file : prediction_files(flags, "predictions.json", set))
      write_coco_results(file, detection->detections());
  }
  if (auto* actions = dynamic_cast<ActionTask*>(&task)) {
    for (const std::string& file : prediction_files(flags, "predictions.safetensors", set))
      save_safetensors(file, actions->predictions());
  }
  if (auto* faces = dynamic_cast<FaceTask*>(&task)) {
    for (const std::string& file : prediction_files(flags, "predictions.safetensors", set))
      save_safetensors(file, faces->predictions());
    const std::unique_ptr<Verifier> verifier = flags.output.empty() ? nullptr : faces->fitted_verifier();
    if (verifier != nullptr) {
      save_verifier(numbered_file(join_path(flags.output, "verifier.safetensors"), set), *verifier,
                    faces->verification());
    }
  }
}

int evaluate_model(const EvalFlags& flags, const ConfigFlags& configuration) {
  std::vector<NamedMetrics> results;
  std::vector<NamedRoc> curves;
  Json model;
  if (!flags.output.empty()) make_folders(flags.output);
  for (const auto& edits : edits_of_each_set(flags, configuration.edits())) {
    LoadedModel loaded =
        load_model(flags.weights, flags.model, Purpose::evaluation, configuration.config_file(), edits);
    model = loaded.recipe->name;
    ProgressLine line("evaluating");
    NamedMetrics result{
        scored_data(loaded.config),
        loaded.task->evaluate(loaded.device, [&](int64_t done, int64_t all) { line.update(done, all); })};
    line.finish();
    save_outputs(flags, *loaded.task, results.size());
    if (auto* actions = dynamic_cast<ActionTask*>(loaded.task.get())) result.details = actions->details();
    if (auto* pictures = dynamic_cast<LdmTask*>(loaded.task.get())) result.details = pictures->details();
    if (auto* pictures = dynamic_cast<AutoencoderTask*>(loaded.task.get()))
      result.details = pictures->details();
    if (auto* faces = dynamic_cast<FaceTask*>(loaded.task.get())) {
      result.details = faces->details();
      curves.push_back({result.data, faces->roc()});
    }
    results.push_back(std::move(result));
  }
  report_results(flags, model, results, curves);
  return 0;
}

/// 1:N: the first --data is the gallery, the second holds the probes; all of each where its SPEC names no split.
int identify_faces(const EvalFlags& flags, const ConfigFlags& configuration) {
  if (flags.data.size() != 2)
    throw UsageError("--task identification: expected two --data, the gallery and then the probes");
  std::vector<DataSpec> specs;
  for (const std::string& text : flags.data) specs.push_back(parse_data_spec(text));
  LoadedModel loaded = load_model(flags.weights, flags.model, Purpose::inference, configuration.config_file(),
                                  configuration.edits());
  auto* faces = dynamic_cast<FaceTask*>(loaded.task.get());
  if (faces == nullptr)
    throw Error("--task identification: " + loaded.recipe->name + " is no model of faces");
  if (!flags.output.empty()) make_folders(flags.output);
  ProgressLine line("evaluating");
  const Json metrics =
      faces->identify(open_face_dataset(specs[0], "all"), open_face_dataset(specs[1], "all"), loaded.device,
                      [&](int64_t done, int64_t all) { line.update(done, all); });
  line.finish();
  report_results(flags, loaded.recipe->name,
                 {{flags.data[0] + " " + flags.data[1], metrics, faces->details()}}, {});
  return 0;
}

int evaluate(const EvalFlags& flags, const ConfigFlags& configuration) {
  if (!flags.task.empty())
    require_choice("--task", flags.task,
                   {"detection", "verification", "identification", "online-action", "generation"});
  if (!flags.predictions.empty()) return evaluate_predictions(flags, configuration);
  if (flags.task == "identification") return identify_faces(flags, configuration);
  return evaluate_model(flags, configuration);
}

}  // namespace

void report_results(const EvalFlags& flags, const Json& model, const std::vector<NamedMetrics>& results,
                    const std::vector<NamedRoc>& curves) {
  const Json document = results_json("eval", model, results);
  if (!flags.output.empty()) {
    make_folders(flags.output);
    write_file(join_path(flags.output, "metrics.json"), dump_json(document) + "\n");
    if (!curves.empty()) {
      const std::string title = model.is_string() ? model.get<std::string>() : file_name(flags.predictions);
      draw_roc(join_path(flags.output, "roc.png"), title, curves);
    }
  }
  if (flags.json) {
    print_json(document);
  } else {
    print_text(metrics_table(results));
  }
}

Command eval_command(CLI::App& parent) {
  CLI::App* app = parent.add_subcommand("eval", "Score weights, or the predictions of any program, on data");
  auto flags = std::make_shared<EvalFlags>();
  add_text(*app, "--weights", flags->weights, "FILE|RUN", "Weights: a run, zoo's or published ones");
  add_text(*app, "--model", flags->model, "NAME", "Recipe, needed for foreign weights only");
  add_text(
      *app, "--predictions", flags->predictions, "FILE|FOLDER",
      "Score this file instead of a model: COCO results, or safetensors of faces (a b same [fold]; gallery "
      "gallery_labels probes probe_labels; embeddings with --data ijb:) or of online actions (scores labels "
      "[ambiguous]) or features of pictures (real fake); or a folder of made pictures, with --data the real "
      "ones");
  add_text(*app, "--task", flags->task, "NAME",
           "detection, verification, identification, online-action or generation, where the file or the "
           "model does not tell");
  add_texts(*app, "--data", flags->data, "SPEC",
            "Data to score on (split val); may be given again. Identification: gallery, then probes");
  add_text(*app, "--references", flags->references, "FILE",
           "References of a translation, one sentence a line");
  add_text(*app, "--save-predictions", flags->save_predictions, "FILE",
           "Write the predictions (COCO results json; embeddings of pairs as safetensors)");
  add_text(*app, "--output", flags->output, "DIR", "Write metrics.json, predictions and roc.png there");
  app->add_flag("--json", flags->json, "Print one JSON document");
  auto configuration = std::make_shared<ConfigFlags>(
      *app, std::vector<std::string>{"--batch-size", "--device", "--precision", "--workers", "--threads"});
  return {app, [flags, configuration] { return evaluate(*flags, *configuration); }};
}

}  // namespace zoo
