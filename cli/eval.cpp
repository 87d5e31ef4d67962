#include <algorithm>
#include <thread>

#include "cli/command.h"
#include "cli/results.h"
#include "cli/setup.h"
#include "core/error.h"
#include "core/files.h"
#include "core/text.h"
#include "trainers/progress.h"
#include "trainers/tasks/detection.h"
#include "trainers/tasks/detection_predictions.h"

namespace zoo {

namespace {

struct EvalFlags {
  std::string model, weights, predictions, task, references, save_predictions, output;
  std::vector<std::string> data;
  bool json = false;
};

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

void save_outputs(const EvalFlags& flags, Task& task, size_t set) {
  auto* detection = dynamic_cast<DetectionTask*>(&task);
  if (detection == nullptr) return;
  if (!flags.save_predictions.empty()) {
    write_coco_results(numbered_file(flags.save_predictions, set), detection->detections());
  }
  if (flags.output.empty()) return;
  make_folders(flags.output);
  write_coco_results(numbered_file(join_path(flags.output, "predictions.json"), set),
                     detection->detections());
}

int evaluate_model(const EvalFlags& flags, const ConfigFlags& configuration) {
  std::vector<NamedMetrics> results;
  Json model;
  const auto sets = edits_of_each_set(flags, configuration.edits());
  for (const auto& edits : sets) {
    LoadedModel loaded =
        load_model(flags.weights, flags.model, Purpose::evaluation, configuration.config_file(), edits);
    model = loaded.recipe->name;
    ProgressLine line("evaluating");
    const Json metrics =
        loaded.task->evaluate(loaded.device, [&](int64_t done, int64_t all) { line.update(done, all); });
    line.finish();
    save_outputs(flags, *loaded.task, results.size());
    results.push_back({scored_data(loaded.config), metrics});
  }
  const Json document = results_json("eval", model, results);
  if (!flags.output.empty()) write_file(join_path(flags.output, "metrics.json"), dump_json(document) + "\n");
  if (flags.json) {
    print_json(document);
  } else {
    print_text(metrics_table(results));
  }
  return 0;
}

/// Scores what any program predicted; no model, no image, no torch.
int evaluate_predictions(const EvalFlags& flags) {
  if (!flags.weights.empty()) throw UsageError("--predictions and --weights exclude each other");
  if (!flags.task.empty()) require_choice("--task", flags.task, {"detection"});
  if (flags.data.empty())
    throw UsageError("--predictions FILE of detections needs the ground truth: expected --data coco:PATH");
  if (flags.data.size() > 1)
    throw UsageError("--predictions FILE belongs to one data set, expected one --data");
  const CocoGroundTruth truth = read_ground_truth(parse_data_spec(flags.data.front()));
  const CocoMetrics metrics =
      evaluate_coco(truth, read_coco_results(flags.predictions),
                    static_cast<int>(std::max(1u, std::thread::hardware_concurrency())));
  const std::vector<NamedMetrics> results = {{flags.data.front(), coco_metrics_json(metrics, truth)}};
  if (flags.json) {
    print_json(results_json("eval", nullptr, results));
  } else {
    print_text(metrics_table(results));
  }
  return 0;
}

}  // namespace

Command eval_command(CLI::App& parent) {
  CLI::App* app = parent.add_subcommand("eval", "Score weights, or the predictions of any program, on data");
  auto flags = std::make_shared<EvalFlags>();
  add_text(*app, "--weights", flags->weights, "FILE|RUN", "Weights: a run, zoo's or published ones");
  add_text(*app, "--model", flags->model, "NAME", "Recipe, needed for foreign weights only");
  add_text(*app, "--predictions", flags->predictions, "FILE", "Score this file instead of a model");
  add_text(*app, "--task", flags->task, "NAME", "Kind of work of --predictions where the file does not tell");
  add_texts(*app, "--data", flags->data, "SPEC", "Data to score on (split val); may be given again");
  add_text(*app, "--references", flags->references, "FILE",
           "References of a translation, one sentence a line");
  add_text(*app, "--save-predictions", flags->save_predictions, "FILE",
           "Write the predictions (COCO results json)");
  add_text(*app, "--output", flags->output, "DIR", "Write metrics.json and predictions.json there");
  app->add_flag("--json", flags->json, "Print one JSON document");
  auto configuration = std::make_shared<ConfigFlags>(
      *app, std::vector<std::string>{"--batch-size", "--device", "--precision", "--workers", "--threads"});
  return {app, [flags, configuration] {
            return flags->predictions.empty() ? evaluate_model(*flags, *configuration)
                                              : evaluate_predictions(*flags);
          }};
}

}  // namespace zoo
