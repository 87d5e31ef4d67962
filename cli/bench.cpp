#include <algorithm>
#include <chrono>
#include <cmath>
#include <map>
#include <numeric>

#include "cli/command.h"
#include "cli/setup.h"
#include "core/error.h"
#include "core/log.h"
#include "core/text.h"
#include "models/online_action/action_trace.h"
#include "models/runtime/runtime.h"
#include "models/summary.h"
#include "trainers/device.h"
#include "trainers/progress.h"
#include "trainers/tasks/online_action.h"
#include "trainers/training_step.h"

namespace zoo {

namespace {

using Clock = std::chrono::steady_clock;

struct BenchFlags {
  std::string model, mode = "infer", input_size, weights;
  bool json = false;
};

/// Seconds of repeated steps: warm-up first, then for at least `kSeconds` and `kLeast` steps.
constexpr double kSeconds = 8;
constexpr int kLeast = 10, kMost = 2000, kWarmUp = 3;

double seconds_since(Clock::time_point start) {
  return std::chrono::duration<double>(Clock::now() - start).count();
}

std::vector<double> measure(const std::function<void()>& step) {
  for (int i = 0; i < kWarmUp; ++i) step();
  std::vector<double> seconds;
  const Clock::time_point start = Clock::now();
  while (static_cast<int>(seconds.size()) < kLeast ||
         (seconds_since(start) < kSeconds && static_cast<int>(seconds.size()) < kMost)) {
    const Clock::time_point begin = Clock::now();
    step();
    seconds.push_back(seconds_since(begin));
  }
  std::sort(seconds.begin(), seconds.end());
  return seconds;
}

double quantile(const std::vector<double>& sorted, double q) {
  const double position = q * static_cast<double>(sorted.size() - 1);
  const auto low = static_cast<size_t>(std::floor(position));
  const size_t high = std::min(low + 1, sorted.size() - 1);
  return sorted[low] + (position - static_cast<double>(low)) * (sorted[high] - sorted[low]);
}

/// What a benchmark found, beside its times.
struct Measured {
  std::vector<double> seconds;  ///< of the steps, sorted
  int64_t samples = 0;          ///< of a step
  double macs = 0;              ///< of a step's forward pass; 0: not counted
  std::string precision = "fp32";
  Json fallback = nullptr;
  /// Steps that come in bursts, as batches do from several workers: the rate is then of all steps, not of the median.
  bool bursts = false;
};

Json metrics_of(const Measured& measured) {
  const double median = quantile(measured.seconds, 0.5);
  const double total = std::accumulate(measured.seconds.begin(), measured.seconds.end(), 0.0);
  const double step = measured.bursts ? total / static_cast<double>(measured.seconds.size()) : median;
  return {{"seconds_per_step", median},
          {"seconds_min", measured.seconds.front()},
          {"seconds_p10", quantile(measured.seconds, 0.1)},
          {"seconds_p90", quantile(measured.seconds, 0.9)},
          {"seconds_p99", quantile(measured.seconds, 0.99)},
          {"steps", measured.seconds.size()},
          {"samples_per_second", static_cast<double>(measured.samples) / step},
          {"peak_memory_bytes", peak_resident_memory()},
          {"precision", measured.precision},
          {"fallback", measured.fallback},
          {"gflops", measured.macs > 0 ? Json(2e-9 * measured.macs / median) : Json(nullptr)}};
}

/// Where the time of a forward pass goes, the means of some, by what steps do.
std::string step_table(Runtime& runtime, const std::vector<torch::Tensor>& inputs) {
  constexpr int kRuns = 10;
  std::map<std::string, std::pair<int, double>> kinds;  // steps of a run, milliseconds
  for (int i = 0; i < kRuns; ++i) {
    for (const auto& [name, seconds] : runtime.profile(inputs)) {
      kinds[name].first += i == 0 ? 1 : 0;
      kinds[name].second += 1e3 * seconds / kRuns;
    }
  }
  std::vector<std::pair<double, std::string>> slowest;
  for (const auto& [name, kind] : kinds) slowest.emplace_back(kind.second, name);
  std::sort(slowest.rbegin(), slowest.rend());
  Table rows({"step", "times", "ms"});
  for (const auto& [milliseconds, name] : slowest) {
    rows.add({name, std::to_string(kinds[name].first), format("%.3f", milliseconds)});
  }
  return rows.str();
}

using Tensors = std::vector<torch::Tensor>;

/// `feed` makes the next run's inputs of a run's outputs.
Measured bench_runs(Task& task, const Json& config, const TraceSpec& spec, Tensors inputs,
                    const std::function<void(const Tensors& outputs, Tensors& inputs)>& feed) {
  const torch::NoGradGuard no_grad;
  task.module().eval();
  Measured measured;
  measured.samples = inputs.front().size(0);
  measured.macs = summarize(task.module(), [&] { spec.forward(inputs); }).macs;
  RuntimeOptions options;
  options.precision = config.at("trainer").at("precision").get<std::string>();
  Runtime runtime(spec, options);
  measured.seconds = measure([&] { feed(runtime.run(inputs), inputs); });
  if (log_level() == LogLevel::verbose) log_verbose(step_table(runtime, inputs));
  measured.precision = runtime.precision();
  if (!runtime.fallback().empty()) measured.fallback = runtime.fallback();
  return measured;
}

/// Streams side by side, one step after another, each from the state that the last one left.
Measured bench_streams(ActionTask& task, const Json& config, int64_t streams) {
  const ActionModel& model = task.model();
  Tensors inputs = {torch::randn({streams, model.feature_size})};
  for (torch::Tensor& tensor : model.start(streams, torch::kCPU)) inputs.push_back(std::move(tensor));
  return bench_runs(task, config, action_step_spec(model), inputs, [](const Tensors& outputs, Tensors& next) {
    std::copy(outputs.end() - static_cast<std::ptrdiff_t>(next.size() - 1), outputs.end(), next.begin() + 1);
  });
}

/// A model that takes steps is measured by them, any other by a forward pass.
Measured bench_inference(Task& task, const Json& config, const std::pair<int64_t, int64_t>& size) {
  const auto batch = config.at("data").at("batch_size").get<int64_t>();
  auto* actions = dynamic_cast<ActionTask*>(&task);
  if (actions != nullptr && actions->model().scores_all) return bench_streams(*actions, config, batch);
  return bench_runs(task, config, task.trace_spec(), task.example_inputs(batch, size),
                    [](const Tensors&, Tensors&) {});
}

Measured bench_training(Task& task, const Json& config) {
  const torch::Device device = resolve_device(config.at("trainer").at("device").get<std::string>());
  task.module().to(device);
  task.module().train();
  TrainingStep step(task, config, device);
  BatchSource& source = task.training_batches();
  source.start_epoch(0);
  std::vector<std::unique_ptr<Batch>> batches;
  for (int64_t i = 0; i < config.at("trainer").at("accumulate").get<int64_t>(); ++i) {
    batches.push_back(source.next());
    if (batches.back() == nullptr) throw Error("the training data has fewer batches than trainer.accumulate");
  }
  Measured measured;
  for (const auto& batch : batches) measured.samples += batch->size();
  measured.precision = config.at("trainer").at("precision").get<std::string>();
  measured.seconds = measure([&] { step.run(batches, 1.0); });
  return measured;
}

/// Batches as the training thread would get them, over as many epochs as it takes.
Measured bench_data(Task& task, const Json& config) {
  BatchSource& source = task.training_batches();
  int64_t epoch = 0;
  source.start_epoch(epoch);
  Measured measured;
  measured.samples = config.at("data").at("batch_size").get<int64_t>();
  measured.bursts = true;
  measured.seconds = measure([&] {
    while (source.next() == nullptr) source.start_epoch(++epoch);
  });
  return measured;
}

/// The training data at the wanted size: of faces the network's own, of detection short and long side of every
/// picture.
void set_training_size(Json& config, const std::pair<int64_t, int64_t>& size) {
  if (!config.at("data").contains("transform"))
    throw UsageError("--input-size: " + config.at("model").at("name").get<std::string>() +
                     " takes no pictures, expected --set model.window=STEPS");
  Json& transform = config.at("data").at("transform");
  if (transform.contains("input_size")) {
    transform["input_size"] = config.at("model")["input_size"] = {size.first, size.second};
    return;
  }
  transform["train_sizes"] = {std::min(size.first, size.second)};
  transform["crop_resize_sizes"] = Json::array();
  transform["max_size"] = std::max(size.first, size.second);
}

std::string table(const Json& metrics) {
  Table rows({"figure", "value"});
  for (const char* name : {"seconds_per_step", "seconds_min", "seconds_p10", "seconds_p90", "seconds_p99"}) {
    rows.add({name, format("%.5f", metrics.at(name).get<double>())});
  }
  rows.add({"steps", std::to_string(metrics.at("steps").get<int64_t>())});
  rows.add({"samples_per_second", format("%.2f", metrics.at("samples_per_second").get<double>())});
  rows.add({"gflops",
            metrics.at("gflops").is_null() ? "n/a" : format("%.1f", metrics.at("gflops").get<double>())});
  rows.add({"peak_memory", human_bytes(metrics.at("peak_memory_bytes").get<double>())});
  rows.add({"precision", metrics.at("precision").get<std::string>()});
  rows.add(
      {"fallback", metrics.at("fallback").is_null() ? "none" : metrics.at("fallback").get<std::string>()});
  return rows.str();
}

int bench(const BenchFlags& flags, const ConfigFlags& configuration) {
  require_choice("--mode", flags.mode, {"infer", "train", "data"});
  if (flags.model.empty() && flags.weights.empty()) throw UsageError("no model: expected --model NAME");
  std::pair<int64_t, int64_t> size = {0, 0};
  if (!flags.input_size.empty()) size = parse_size("--input-size", flags.input_size);
  std::vector<Edit> edits = configuration.edits();
  if (!configuration.given("--batch-size") && flags.mode == "infer") {
    edits.insert(edits.begin(), {"data.batch_size", "1", "--batch-size"});
  }
  const Purpose purpose = flags.mode == "infer" ? Purpose::inference : Purpose::training;
  LoadedModel loaded;
  if (!flags.weights.empty()) {
    loaded = load_model(flags.weights, flags.model, purpose, configuration.config_file(), edits);
  } else {
    ResolvedConfig resolved =
        resolve_config(find_recipe(flags.model), nullptr, configuration.config_file(), edits);
    if (purpose == Purpose::training) use_embedded_data(*resolved.recipe, resolved.config);
    check_data_specs(resolved.config);
    if (size.first > 0 && purpose == Purpose::training) set_training_size(resolved.config, size);
    prepare_torch(resolved.config);
    seed_torch(resolved.config.at("trainer").at("seed").get<uint64_t>());
    loaded = {resolved.recipe, resolved.config, nullptr, torch::kCPU};
    loaded.task = purpose == Purpose::inference ? untrained_model(*loaded.recipe, loaded.config)
                                                : loaded.recipe->make(loaded.config, purpose, nullptr);
  }
  if (size.first == 0) size = loaded.task->default_input_size();
  Measured measured;
  if (flags.mode == "infer") measured = bench_inference(*loaded.task, loaded.config, size);
  if (flags.mode == "train") measured = bench_training(*loaded.task, loaded.config);
  if (flags.mode == "data") measured = bench_data(*loaded.task, loaded.config);
  const Json metrics = metrics_of(measured);
  if (flags.json) {
    print_json({{"command", "bench"},
                {"model", loaded.recipe->name},
                {"data", purpose == Purpose::training ? loaded.config.at("data").at("train") : Json(nullptr)},
                {"mode", flags.mode},
                {"batch_size", measured.samples},
                {"input_size", {size.first, size.second}},
                {"metrics", metrics}});
  } else {
    print_text(table(metrics));
  }
  return 0;
}

}  // namespace

Command bench_command(CLI::App& parent) {
  CLI::App* app = parent.add_subcommand(
      "bench", "Measure inference (with -v by step), a training step, or the data path");
  auto flags = std::make_shared<BenchFlags>();
  add_text(*app, "--model", flags->model, "NAME", "Recipe; without --weights it gets random weights");
  add_text(*app, "--mode", flags->mode, "MODE", "infer (default), train or data");
  add_text(*app, "--input-size", flags->input_size, "HxW", "Size of the input; default: the recipe's");
  add_text(*app, "--weights", flags->weights, "FILE|RUN", "Weights to measure with");
  app->add_flag("--json", flags->json, "Print one JSON document");
  auto configuration = std::make_shared<ConfigFlags>(
      *app, std::vector<std::string>{"--data", "--batch-size", "--precision", "--workers", "--threads"});
  return {app, [flags, configuration] { return bench(*flags, *configuration); }};
}

}  // namespace zoo
