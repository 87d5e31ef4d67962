#pragma once
#include <functional>
#include <string>
#include <vector>

#include "core/options.h"

namespace zoo::test {

/// The source tree: ZOO_SOURCE_DIR of the environment (set by ctest), else the current folder.
std::string source_dir();
/// The build tree: ZOO_BINARY_DIR of the environment, else build/release of the source tree.
std::string binary_dir();
/// The folder of real data beside the project, empty where it is missing (tests then skip).
std::string shared_data();
/// A new empty folder of that name below the system's temporary folder, removed when the program ends.
std::string scratch_dir(const std::string& name);

struct CommandResult {
  int exit_code = 0;  ///< 128 + signal where one ended it
  std::string out, err;
};
/// Runs a program with arguments (no shell) and waits. `input` is its standard input.
CommandResult run_command(const std::vector<std::string>& command, const std::string& input = "");

/// The program `zoo` of the build tree.
std::string program();
/// Runs it with these arguments.
CommandResult zoo_run(std::vector<std::string> arguments);

/// The JSON that `zoo ARGUMENTS` prints; fails the running test where the program does not exit with 0.
Json zoo_json(const std::vector<std::string>& arguments);
/// Expects that `zoo ARGUMENTS` exits with that code, prints nothing on stdout, and ends stderr with one line
/// `error: …` that holds all parts, then at most one hint line.
void expect_error(const std::vector<std::string>& arguments, int code, const std::vector<std::string>& parts);

/// The message of the zoo::Error that a call throws; empty where it throws none.
std::string error_of(const std::function<void()>& call);

/// The interpreter of the test environment, empty where there is none (tests then skip).
std::string python();
/// Runs tests/parity/SCRIPT with arguments; fails the running test with its stderr where it does not exit
/// with 0.
void run_python(const std::string& script, const std::vector<std::string>& arguments);

}  // namespace zoo::test

/// Skips the running test, loudly, where the Python references are not installed.
#define ZOO_NEEDS_PYTHON()                                                                   \
  if (zoo::test::python().empty()) {                                                         \
    GTEST_SKIP() << "no Python references: scripts/test installs them into .deps/test-venv"; \
  }
/// Skips the running test, loudly, where the folder of real data is missing.
#define ZOO_NEEDS_SHARED_DATA()                                                              \
  if (zoo::test::shared_data().empty()) {                                                    \
    GTEST_SKIP() << "no ../shared/data beside the project: tests on real data are left out"; \
  }
