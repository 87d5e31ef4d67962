#pragma once
#include <CLI/CLI.hpp>
#include <string>
#include <vector>

#include "core/options.h"

namespace zoo {

/// A flag that is another spelling of a configuration key: `--lr` is optimizer.lr.
struct KeyFlag {
  const char* flag;
  const char* key;
  const char* metavar;
  const char* help;
};
/// All of them; the order is the order of --help.
const std::vector<KeyFlag>& key_flags();

/// One change of the configuration, in the order of the command line.
struct Edit {
  std::string key, value;
  std::string source;  ///< the flag, for messages
};

/// What the commands share of reading their flags. A command adds its options to `app`, and calls `edits()`
/// after parsing.
class ConfigFlags {
 public:
  /// Adds --config, --set and those of key_flags() that `flags` names.
  ConfigFlags(CLI::App& app, const std::vector<std::string>& flags);

  const std::string& config_file() const { return config_file_; }
  /// Flags and --set in the order of the command line.
  std::vector<Edit> edits() const;
  /// Whether a flag was given.
  bool given(const std::string& flag) const { return app_->get_option(flag)->count() > 0; }

 private:
  CLI::App* app_;
  std::string config_file_;
};

/// An option with one value; the last one given holds.
CLI::Option* add_text(CLI::App& app, const std::string& name, std::string& value, const std::string& metavar,
                      const std::string& help);
/// An option with one value that may be given again; every value is kept.
CLI::Option* add_texts(CLI::App& app, const std::string& name, std::vector<std::string>& values,
                       const std::string& metavar, const std::string& help);
/// Reads "HxW" or "N" (square). Throws UsageError.
std::pair<int64_t, int64_t> parse_size(const std::string& flag, const std::string& text);
/// Reads a number of a flag that is no configuration key. Throw UsageError naming flag, value and range.
double parse_flag_double(const std::string& flag, const std::string& text, double low, double high);
int64_t parse_flag_int(const std::string& flag, const std::string& text, int64_t low, int64_t high);

/// Prints a JSON document on stdout.
void print_json(const Json& document);
/// Prints text on stdout.
void print_text(const std::string& text);

/// Every command adds its subcommand and returns what to run when it was chosen.
struct Command {
  CLI::App* app = nullptr;
  std::function<int()> run;
};
Command list_command(CLI::App& parent);
Command summary_command(CLI::App& parent);
Command train_command(CLI::App& parent);
Command eval_command(CLI::App& parent);
Command predict_command(CLI::App& parent);
Command export_command(CLI::App& parent);
Command bench_command(CLI::App& parent);
Command data_command(CLI::App& parent);
Command completion_command(CLI::App& parent);

/// The whole program: parses, runs, and turns errors into one line on stderr and an exit code.
int run_program(int argc, char** argv);

}  // namespace zoo
