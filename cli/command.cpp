#include "cli/command.h"

#include <algorithm>
#include <cstdio>
#include <map>

#include "core/error.h"
#include "core/text.h"

namespace zoo {

const std::vector<KeyFlag>& key_flags() {
  static const std::vector<KeyFlag> flags = {
      {"--data", "data.train", "SPEC", "Data: an embedded set, or KIND:PATH (see `zoo data list`)"},
      {"--val-data", "data.val", "SPEC", "Validation data; default: the same SPEC, its split val"},
      {"--weights", "model.weights", "FILE", "Weights to start from: a run, zoo's or published ones"},
      {"--epochs", "trainer.epochs", "N", "Passes over the training data"},
      {"--max-steps", "trainer.max_steps", "N", "End after N optimiser steps"},
      {"--batch-size", "data.batch_size", "N", "Samples in a batch"},
      {"--lr", "optimizer.lr", "X", "Step size of the optimiser"},
      {"--seed", "trainer.seed", "N", "Seed of weights, order and augmentation"},
      {"--device", "trainer.device", "D", "auto, cpu, cuda or cuda:N"},
      {"--precision", "trainer.precision", "P", "fp32 or bf16"},
      {"--workers", "data.workers", "N", "Threads that decode and augment"},
      {"--threads", "trainer.threads", "N", "Threads of the operators; 0: all cores"},
  };
  return flags;
}

namespace {

/// An option whose values stay with the parser, which knows their order among the others.
void add_edit(CLI::App& app, const std::string& name, const std::string& metavar, const std::string& help) {
  app.add_option(
         name, [](const CLI::results_t&) { return true; }, help)
      ->type_name(metavar)
      ->take_all()
      ->expected(1)
      ->allow_extra_args(false)
      ->group("Configuration");
}

}  // namespace

ConfigFlags::ConfigFlags(CLI::App& app, const std::vector<std::string>& flags) : app_(&app) {
  for (const KeyFlag& flag : key_flags()) {
    if (std::find(flags.begin(), flags.end(), flag.flag) == flags.end()) continue;
    add_edit(app, flag.flag, flag.metavar, std::string(flag.help) + " (" + flag.key + ")");
  }
  add_text(app, "--config", config_file_, "FILE", "JSON document laid over the recipe")
      ->group("Configuration");
  add_edit(app, "--set", "KEY=VALUE", "Any key, for example trainer.clip_norm=0.1; may be given again");
}

std::vector<Edit> ConfigFlags::edits() const {
  std::map<const CLI::Option*, size_t> seen;
  std::vector<Edit> edits;
  for (const CLI::Option* option : app_->parse_order()) {
    const std::string name = option->get_name();
    const auto flag = std::find_if(key_flags().begin(), key_flags().end(),
                                   [&](const KeyFlag& candidate) { return name == candidate.flag; });
    if (flag == key_flags().end() && name != "--set") continue;
    const std::string value = option->results().at(seen[option]++);
    if (flag != key_flags().end()) {
      edits.push_back({flag->key, value, name});
      continue;
    }
    const size_t equals = value.find('=');
    if (equals == std::string::npos || equals == 0) {
      throw UsageError("--set " + value + ": expected KEY=VALUE, for example trainer.clip_norm=0.1");
    }
    edits.push_back({value.substr(0, equals), value.substr(equals + 1), name});
  }
  return edits;
}

CLI::Option* add_text(CLI::App& app, const std::string& name, std::string& value, const std::string& metavar,
                      const std::string& help) {
  return app.add_option(name, value, help)->type_name(metavar)->take_last();
}

CLI::Option* add_texts(CLI::App& app, const std::string& name, std::vector<std::string>& values,
                       const std::string& metavar, const std::string& help) {
  return app.add_option(name, values, help)
      ->type_name(metavar)
      ->take_all()
      ->expected(1)
      ->allow_extra_args(false);
}

std::pair<int64_t, int64_t> parse_size(const std::string& flag, const std::string& text) {
  const std::vector<std::string> parts = split(lower(text), 'x');
  int64_t height = 0, width = 0;
  const bool fits = parts.size() <= 2 && parse_int(parts.front(), height) && parse_int(parts.back(), width);
  if (!fits || height < 1 || width < 1 || height > 65536 || width > 65536) {
    throw UsageError(flag + ": '" + text + "' is no size, expected HxW, for example 640x640");
  }
  return {height, width};
}

double parse_flag_double(const std::string& flag, const std::string& text, double low, double high) {
  double value = 0;
  if (!parse_double(text, value)) throw UsageError(flag + ": '" + text + "' is not a number");
  require_range(flag, value, low, high);
  return value;
}

int64_t parse_flag_int(const std::string& flag, const std::string& text, int64_t low, int64_t high) {
  int64_t value = 0;
  if (!parse_int(text, value)) throw UsageError(flag + ": '" + text + "' is not an integer");
  require_count(flag, value, static_cast<double>(low), static_cast<double>(high));
  return value;
}

void print_text(const std::string& text) {
  std::fwrite(text.data(), 1, text.size(), stdout);
  std::fflush(stdout);
}

void print_json(const Json& document) {
  print_text(dump_json(document) + "\n");
}

}  // namespace zoo
