#include "models/summary.h"
#include "cli/command.h"
#include "cli/setup.h"
#include "core/error.h"
#include "core/text.h"

namespace zoo {

namespace {

using Size = std::pair<int64_t, int64_t>;  // height, width

struct SummaryFlags {
  std::string model, input_size;
  bool json = false;
};

/// One forward pass of a recipe's model; `size` is the wanted one, or set to the recipe's own.
Summary summarize_recipe(const Recipe& recipe, const SummaryFlags& flags, const ConfigFlags& configuration,
                         Size& size) {
  ResolvedConfig resolved =
      resolve_config(recipe, nullptr, configuration.config_file(), configuration.edits());
  const std::unique_ptr<Task> task = untrained_model(recipe, resolved.config);
  const TraceSpec spec = task->trace_spec();
  if (flags.input_size.empty()) size = task->default_input_size();
  const std::vector<torch::Tensor> inputs = task->example_inputs(1, size);
  return summarize(task->module(), [&] { spec.forward(inputs); });
}

Summary summarize_architecture(const Architecture& architecture, const SummaryFlags& flags, Size& size) {
  if (flags.input_size.empty()) size = {architecture.size, architecture.size};
  const std::shared_ptr<torch::nn::Module> module = architecture.make();
  module->eval();
  const torch::Tensor pixels = torch::zeros({1, 3, size.first, size.second});
  return summarize(*module, [&] { architecture.forward(*module, pixels); });
}

int summary(const SummaryFlags& flags, const ConfigFlags& configuration) {
  if (flags.model.empty())
    throw UsageError("no model: expected --model NAME (zoo list models shows the names)");
  Size size = {0, 0};
  if (!flags.input_size.empty()) size = parse_size("--input-size", flags.input_size);
  const torch::NoGradGuard no_grad;
  const Architecture* architecture = find_architecture(flags.model);
  const Summary summary = architecture != nullptr
                              ? summarize_architecture(*architecture, flags, size)
                              : summarize_recipe(find_recipe(flags.model), flags, configuration, size);
  if (flags.json) {
    Json document = summary.to_json();
    document["command"] = "summary";
    document["model"] = architecture != nullptr ? architecture->name : find_recipe(flags.model).name;
    document["data"] = nullptr;
    document["input_size"] = {size.first, size.second};
    print_json(document);
  } else {
    print_text(format("input [1, 3, %lld, %lld]\n", static_cast<long long>(size.first),
                      static_cast<long long>(size.second)) +
               summary.str());
  }
  return 0;
}

}  // namespace

Command summary_command(CLI::App& parent) {
  CLI::App* app =
      parent.add_subcommand("summary", "Layers, shapes, parameters, FLOPs and receptive fields of a model");
  auto flags = std::make_shared<SummaryFlags>();
  add_text(*app, "--model", flags->model, "NAME", "Recipe or architecture (zoo list models)");
  add_text(*app, "--input-size", flags->input_size, "HxW", "Size of the input");
  app->add_flag("--json", flags->json, "Print one JSON document");
  auto configuration = std::make_shared<ConfigFlags>(*app, std::vector<std::string>{});
  return {app, [flags, configuration] { return summary(*flags, *configuration); }};
}

}  // namespace zoo
