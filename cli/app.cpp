#include <csignal>
#include <cstdio>
#include <new>
#include <stdexcept>

#include <c10/util/Exception.h>
#include <torch/version.h>

#include "cli/command.h"
#include "core/error.h"
#include "core/log.h"
#include "core/text.h"
#include "core/version.h"
#include "models/runtime/cpu_features.h"

namespace zoo {

namespace {

/// -q and -v may stand anywhere before `--`: they are taken out before anything else is read.
std::vector<std::string> take_verbosity(int argc, char** argv) {
  std::vector<std::string> arguments;
  bool flags_ended = false;
  for (int i = 1; i < argc; ++i) {
    const std::string argument = argv[i];
    if (argument == "--") flags_ended = true;
    if (!flags_ended && (argument == "-q" || argument == "--quiet")) {
      set_log_level(LogLevel::quiet);
    } else if (!flags_ended && (argument == "-v" || argument == "--verbose")) {
      set_log_level(LogLevel::verbose);
    } else {
      arguments.push_back(argument);
    }
  }
  return arguments;
}

std::vector<std::string> flag_names(const CLI::App& app) {
  std::vector<std::string> names;
  for (const CLI::Option* option : app.get_options()) {
    for (const std::string& name : option->get_lnames()) names.push_back("--" + name);
  }
  return names;
}

std::vector<std::string> command_names(const CLI::App& app) {
  std::vector<std::string> names;
  for (const CLI::App* command : app.get_subcommands({})) names.push_back(command->get_name());
  return names;
}

/// The command, and below `data` its verb, must be known before the parser sees them: it would not name the
/// nearest.
void check_commands(const CLI::App& app, const std::vector<std::string>& arguments) {
  const CLI::App* level = &app;
  for (const std::string& argument : arguments) {
    const std::vector<std::string> names = command_names(*level);
    if (names.empty() || starts_with(argument, "-")) return;
    const CLI::App* found = nullptr;
    for (const CLI::App* command : level->get_subcommands({})) {
      if (command->get_name() == argument) found = command;
    }
    if (found == nullptr) {
      throw UsageError("unknown command '" + argument + "'" + did_you_mean(argument, names) +
                       " (known: " + join(names, ", ") + ")");
    }
    level = found;
  }
}

void check_unknown_flags(const CLI::App& app) {
  for (const CLI::App* command : app.get_subcommands()) check_unknown_flags(*command);
  for (const std::string& argument : app.remaining()) {
    if (!starts_with(argument, "-") || argument == "-") {
      throw UsageError("unexpected argument '" + argument + "', see zoo " + app.get_name() + " --help");
    }
    const std::string flag = argument.substr(0, argument.find('='));
    throw UsageError("unknown flag '" + flag + "'" + did_you_mean(flag, flag_names(app)) + " (see zoo " +
                     app.get_name() + " --help)");
  }
}

void print_version() {
  print_text(format("zoo %s\ntorch %s\ncpu %s\n", kZooVersion, TORCH_VERSION, cpu_features().c_str()));
}

int run_command(const std::vector<std::string>& arguments) {
  CLI::App app("zoo: published architectures, trained, evaluated and shipped in C++", "zoo");
  app.set_help_all_flag("--help-all", "Help of all commands");
  bool version = false;
  app.add_flag("--version", version, "Versions of zoo and torch, and the CPU features the runtime uses");
  app.footer("-q (quiet) and -v (verbose) may stand anywhere. zoo COMMAND --help tells about a command.");
  const std::vector<Command> commands = {list_command(app),  summary_command(app), train_command(app),
                                         eval_command(app),  predict_command(app), export_command(app),
                                         bench_command(app), data_command(app),    completion_command(app)};
  for (const Command& command : commands) command.app->allow_extras();
  check_commands(app, arguments);
  try {
    app.parse(std::vector<std::string>(arguments.rbegin(), arguments.rend()));
  } catch (const CLI::CallForHelp& help) {
    return app.exit(help);
  } catch (const CLI::CallForAllHelp& help) {
    return app.exit(help);
  } catch (const CLI::ParseError& error) {
    throw UsageError(error.what());
  }
  check_unknown_flags(app);
  if (version) {
    print_version();
    return 0;
  }
  for (const Command& command : commands) {
    if (command.app->parsed()) return command.run();
  }
  print_text(app.help());
  return arguments.empty() ? 2 : 0;
}

int report(const std::string& message, const std::string& hint, int code) {
  std::fprintf(stderr, "error: %s\n", message.c_str());
  if (!hint.empty()) std::fprintf(stderr, "hint: %s\n", hint.c_str());
  return code;
}

}  // namespace

int run_program(int argc, char** argv) {
  std::signal(SIGPIPE, SIG_IGN);
  try {
    return run_command(take_verbosity(argc, argv));
  } catch (const Error& error) {
    return report(error.what(), error.hint(), error.exit_code());
  } catch (const c10::OutOfMemoryError& error) {
    return report("out of memory: try a smaller --batch-size", "", 1);
  } catch (const std::bad_alloc&) {
    return report("out of memory: try a smaller --batch-size", "", 1);
  } catch (const c10::Error& error) {
    return report(Error(std::string("torch: ") + error.what_without_backtrace()).what(), "", 1);
  } catch (const std::exception& error) {
    return report(Error(error.what()).what(), "", 1);
  }
}

}  // namespace zoo
