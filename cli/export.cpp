#include <torch/version.h>

#include <algorithm>

#include "cli/command.h"
#include "cli/setup.h"
#include "core/error.h"
#include "core/files.h"
#include "core/log.h"
#include "core/text.h"
#include "core/version.h"
#include "models/export/torchscript.h"

namespace zoo {

namespace {

struct ExportFlags {
  std::string weights, model, output, layout;
  bool json = false;
};

/// What the extra file zoo.json of a TorchScript file says.
std::string description(const LoadedModel& loaded, const std::vector<TraceSpec>& methods) {
  const auto metadata = loaded.task->weight_metadata();
  Json document = {{"recipe", loaded.recipe->name},
                   {"config", loaded.config},
                   {"inputs", methods.front().inputs},
                   {"outputs", methods.front().outputs},
                   {"methods", Json::object()},
                   {"zoo", kZooVersion},
                   {"torch", TORCH_VERSION}};
  for (const TraceSpec& method : methods)
    document["methods"][method.method] = {{"inputs", method.inputs}, {"outputs", method.outputs}};
  for (const auto& [key, text] : metadata) document[key.substr(key.find('.') + 1)] = Json::parse(text);
  return dump_json(document);
}

StateDict own_state(const LoadedModel& loaded) {
  StateDict state = module_state(loaded.task->module());
  state.metadata = loaded.task->weight_metadata();
  state.metadata["zoo.config"] = loaded.config.dump();
  return state;
}

/// Tensors in a published layout, and the files that stand beside them in a folder.
PublishedWeights in_layout(const LoadedModel& loaded, const std::string& layout) {
  if (layout == "zoo") return {own_state(loaded), {}};
  if (!loaded.recipe->publish)
    throw UsageError("--layout: " + loaded.recipe->name + " has no layout but zoo");
  return loaded.recipe->publish(loaded.config, own_state(loaded), layout);
}

/// A published layout needs a published name: --layout is checked against the recipe's own list before
/// weights are read.
void check_layout(const std::string& layout) {
  require_choice("--layout", layout, {"zoo", "original", "hf", "hf-timm", "insightface", "diffusers"});
}

/// NAME.pt, or a NAME-PART.pt for each part of a model that has several; `files` are those.
Json export_traces(const LoadedModel& loaded, const std::string& output, std::vector<std::string>& files) {
  double difference = 0;
  int64_t variants = 0;
  for (const auto& [part, methods] : loaded.task->exported_files()) {
    const std::string file = part.empty() ? output : output.substr(0, output.size() - 3) + "-" + part + ".pt";
    difference = std::max(difference, export_torchscript(methods, file, description(loaded, methods)));
    variants = methods.front().variants;
    files.push_back(file);
  }
  return {{"max_difference", difference}, {"checked_variants", variants}};
}

void write_weights(const PublishedWeights& published, const std::string& layout, const std::string& output) {
  const bool single_file = ends_with(output, ".safetensors") || ends_with(output, ".pth");
  if (single_file && published.state.tensors.empty())
    throw UsageError("--layout " + layout + " is a folder of several files, expected --output DIR");
  if (!single_file) make_folders(output);
  if (!single_file && published.write_folder) return published.write_folder(output);
  const std::string file = single_file ? output : join_path(output, "model.safetensors");
  if (ends_with(file, ".pth")) {
    save_pth(file, published.state);
  } else {
    save_safetensors(file, published.state);
  }
  for (const auto& [name, text] : published.files) {
    if (!single_file) write_file(join_path(output, name), text);
  }
}

int export_weights(const ExportFlags& flags, const ConfigFlags& configuration) {
  if (flags.output.empty()) {
    throw UsageError(
        "no output: expected --output FILE.pt (TorchScript), FILE.safetensors, FILE.pth or a folder");
  }
  const bool torchscript = ends_with(flags.output, ".pt");
  if (torchscript && !flags.layout.empty())
    throw UsageError("--layout is for weights, not for TorchScript (.pt)");
  const std::string layout = flags.layout.empty() ? "zoo" : flags.layout;
  check_layout(layout);
  std::vector<Edit> edits = configuration.edits();
  edits.push_back({"trainer.device", "cpu", "export"});
  edits.push_back({"trainer.precision", "fp32", "export"});
  const LoadedModel loaded =
      load_model(flags.weights, flags.model, Purpose::inference, configuration.config_file(), edits);
  make_folders(parent_folder(flags.output));
  Json document = {
      {"command", "export"}, {"model", loaded.recipe->name}, {"data", nullptr}, {"output", flags.output}};
  std::vector<std::string> files;
  if (torchscript) {
    document["metrics"] = export_traces(loaded, flags.output, files);
  } else {
    const PublishedWeights published = in_layout(loaded, layout);
    write_weights(published, layout, flags.output);
    document["layout"] = layout;
    document["metrics"] = {{"tensors", published.state.tensors.size()}};
    files = {flags.output};
  }
  if (flags.json) {
    print_json(document);
  } else {
    for (const std::string& file : files) print_text("wrote " + file + "\n");
  }
  return 0;
}

}  // namespace

Command export_command(CLI::App& parent) {
  CLI::App* app = parent.add_subcommand("export", "Write TorchScript, or weights in a published layout");
  auto flags = std::make_shared<ExportFlags>();
  add_text(*app, "--weights", flags->weights, "FILE|RUN", "Weights: a run, zoo's or published ones");
  add_text(*app, "--model", flags->model, "NAME", "Recipe, needed for foreign weights only");
  add_text(*app, "--output", flags->output, "FILE|DIR",
           "FILE.pt is TorchScript; FILE.safetensors, FILE.pth or a folder are weights");
  add_text(*app, "--layout", flags->layout, "NAME",
           "zoo, original, hf, hf-timm, insightface: names of the tensors");
  app->add_flag("--json", flags->json, "Print one JSON document");
  auto configuration = std::make_shared<ConfigFlags>(*app, std::vector<std::string>{"--threads"});
  return {app, [flags, configuration] { return export_weights(*flags, *configuration); }};
}

}  // namespace zoo
