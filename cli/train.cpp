#include <ctime>

#include "cli/command.h"
#include "cli/results.h"
#include "cli/setup.h"
#include "core/error.h"
#include "core/files.h"
#include "core/log.h"
#include "core/text.h"
#include "datasets/spec.h"
#include "trainers/process_group.h"
#include "trainers/run_directory.h"
#include "trainers/trainer.h"

namespace zoo {

namespace {

struct TrainFlags {
  std::string model, resume, output;
  bool dry_run = false, json = false;
};

/// Keys that --resume lets a flag change without --set.
const std::vector<std::string> kResumeKeys = {"trainer.epochs", "trainer.max_steps", "data.workers",
                                              "trainer.threads", "trainer.device"};

std::string default_run_directory(const std::string& model) {
  const std::time_t now = std::time(nullptr);
  std::tm local{};
  localtime_r(&now, &local);
  char stamp[32];
  std::strftime(stamp, sizeof stamp, "%Y%m%d-%H%M%S", &local);
  return "runs/" + model + "-" + stamp;
}

void print_result(const TrainFlags& flags, const std::string& run, const Json& config,
                  const TrainResult& result) {
  const Json document = {
      {"command", "train"},
      {"model", config.at("model").at("name")},
      {"data", config.at("data").at("val").get<std::string>().empty() ? config.at("data").at("train")
                                                                      : config.at("data").at("val")},
      {"run", run},
      {"steps", result.steps},
      {"finished_before", result.already_finished},
      {"metrics", result.metrics}};
  if (flags.json) return print_json(document);
  print_text(metrics_table({{"", result.metrics}}));
}

/// The other ranks' messages are those of rank 0.
ProcessOptions own_place() {
  ProcessOptions processes = process_options();
  if (processes.rank > 0) set_log_level(LogLevel::quiet);
  return processes;
}

std::shared_ptr<ProcessGroup> join_training(const ProcessOptions& processes, const Json& config) {
  const auto batch = config.at("data").at("batch_size").get<int64_t>();
  if (batch % processes.ranks != 0) {
    throw UsageError(format("data.batch_size=%lld: WORLD_SIZE=%lld processes share it, expected a multiple",
                            static_cast<long long>(batch), static_cast<long long>(processes.ranks)));
  }
  return join_processes(processes);
}

/// The training itself; rank 0 alone tells of its end.
int train_and_print(const TrainFlags& flags, const std::string& run, const Json& config, Task& task,
                    const std::shared_ptr<ProcessGroup>& group) {
  const bool first = group == nullptr || group->rank() == 0;
  try {
    const TrainResult result = train(task, config, run, !flags.resume.empty(), group);
    if (first) print_result(flags, run, config, result);
    return 0;
  } catch (const Interrupted& interrupted) {
    if (first) throw;
    return interrupted.exit_code();
  }
}

int dry_run_report(const TrainFlags& flags, Task& task, const Json& config) {
  const DryRun dry = dry_run(task, config);
  if (flags.json) {
    Json document = dry.to_json();
    document["command"] = "train";
    document["model"] = config.at("model").at("name");
    document["config"] = config;
    print_json(document);
  } else {
    print_text(dump_json(config) + "\n" + dry.str());
  }
  return 0;
}

/// A new run: everything that the command line tells is checked before a file is written or data is opened.
int start_run(const TrainFlags& flags, const ConfigFlags& configuration) {
  const ProcessOptions processes = flags.dry_run ? ProcessOptions() : own_place();
  const Recipe& recipe = chosen_recipe(flags.model, configuration.config_file());
  ResolvedConfig resolved =
      resolve_config(recipe, nullptr, configuration.config_file(), configuration.edits());
  Json& config = resolved.config;
  check_data_specs(config);
  std::string run = flags.output.empty() ? default_run_directory(recipe.name) : flags.output;
  const std::shared_ptr<ProcessGroup> group = join_training(processes, config);
  if (!flags.dry_run && processes.rank == 0) require_no_run(run);
  use_embedded_data(recipe, config);
  if (recipe.name == "detr-resnet50" && config.at("data").at("train") == recipe.data) {
    log_info("model: " + recipe.name + " takes days on a CPU; --model detr-tiny ends in minutes");
  }
  prepare_torch(config);
  const auto weights = config.at("model").at("weights").get<std::string>();
  StateDict state;
  if (!weights.empty()) state = load_weights(weights);
  seed_torch(config.at("trainer").at("seed").get<uint64_t>());
  const std::unique_ptr<Task> task =
      recipe.make(config, Purpose::training, weights.empty() ? nullptr : &state);
  task->join(group);
  if (flags.dry_run) return dry_run_report(flags, *task, config);
  if (processes.rank == 0) create_run(run, config);
  if (group != nullptr) run = broadcast_text(*group, run);
  log_info("run: " + run);
  return train_and_print(flags, run, config, *task, group);
}

/// What --resume changes, each with its old and new value.
void report_changes(const Json& before, const Json& after, const std::string& prefix = "") {
  for (const auto& item : after.items()) {
    const Json& old = before.at(item.key());
    if (item.value().is_object()) {
      report_changes(old, item.value(), prefix + item.key() + ".");
    } else if (old != item.value()) {
      log_info("resume: " + prefix + item.key() + ": " + old.dump() + " -> " + item.value().dump());
    }
  }
}

int resume_run(const TrainFlags& flags, const ConfigFlags& configuration) {
  const ProcessOptions processes = own_place();
  if (!flags.model.empty()) throw UsageError("--resume takes the model from its run, expected no --model");
  if (!flags.output.empty()) throw UsageError("--resume writes into its run, expected no --output");
  if (!configuration.config_file().empty())
    throw UsageError("--resume takes its run's config.json, expected no --config");
  const std::vector<Edit> edits = configuration.edits();
  for (const Edit& edit : edits) {
    const bool allowed = edit.source == "--set" ||
                         std::find(kResumeKeys.begin(), kResumeKeys.end(), edit.key) != kResumeKeys.end();
    if (!allowed)
      throw UsageError(edit.source + ": --resume keeps it from the run, expected --set " + edit.key +
                       "=VALUE");
  }
  const Json stored = read_run_config(flags.resume);
  const Recipe& recipe = find_recipe(stored.at("model").at("name").get<std::string>());
  ResolvedConfig resolved = resolve_config(recipe, stored, "", edits);
  report_changes(resolve_config(recipe, stored, "", {}).config, resolved.config);
  for (const std::string& line : explain_moved_end(flags.resume, stored, resolved.config))
    log_info("resume: " + line);
  if (is_finished(flags.resume, resolved.config)) {
    log_info("resume: " + flags.resume +
             " is finished, nothing to do (--epochs or --max-steps moves its end)");
    if (processes.rank == 0)
      print_result(flags, flags.resume, resolved.config, finished_result(flags.resume));
    return 0;
  }
  const std::shared_ptr<ProcessGroup> group = join_training(processes, resolved.config);
  prepare_torch(resolved.config);
  seed_torch(resolved.config.at("trainer").at("seed").get<uint64_t>());
  const std::unique_ptr<Task> task = recipe.make(resolved.config, Purpose::training, nullptr);
  task->join(group);
  if (processes.rank == 0) update_run_config(flags.resume, resolved.config);
  return train_and_print(flags, flags.resume, resolved.config, *task, group);
}

}  // namespace

Command train_command(CLI::App& parent) {
  CLI::App* app = parent.add_subcommand("train", "Train a model, or go on with a run");
  auto flags = std::make_shared<TrainFlags>();
  add_text(*app, "--model", flags->model, "NAME", "Recipe to train (zoo list models)");
  add_text(*app, "--resume", flags->resume, "RUN", "Go on with a run from its last checkpoint");
  add_text(*app, "--output", flags->output, "DIR", "Run directory; default runs/MODEL-DATE-TIME");
  app->add_flag("--dry-run", flags->dry_run,
                "Print the configuration, sizes, one step's time and memory, and stop");
  app->add_flag("--json", flags->json, "Print one JSON document");
  auto configuration = std::make_shared<ConfigFlags>(
      *app,
      std::vector<std::string>{"--data", "--val-data", "--weights", "--epochs", "--max-steps", "--batch-size",
                               "--lr", "--seed", "--device", "--precision", "--workers", "--threads"});
  return {app, [flags, configuration] {
            return flags->resume.empty() ? start_run(*flags, *configuration)
                                         : resume_run(*flags, *configuration);
          }};
}

}  // namespace zoo
