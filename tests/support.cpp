#include "tests/support.h"

#include <fcntl.h>
#include <gtest/gtest.h>
#include <poll.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <cstdlib>
#include <filesystem>

#include "core/error.h"
#include "core/text.h"

namespace zoo::test {
namespace fs = std::filesystem;

namespace {

std::string from_environment(const char* name, const std::string& fallback) {
  const char* value = std::getenv(name);
  return value != nullptr && *value != '\0' ? value : fallback;
}

/// Folders made by scratch_dir, removed at the end of the program.
struct Scratch {
  std::vector<std::string> folders;
  ~Scratch() {
    std::error_code code;
    for (const std::string& folder : folders) fs::remove_all(folder, code);
  }
};

void read_both(int out, int err, CommandResult& result) {
  pollfd files[2] = {{out, POLLIN, 0}, {err, POLLIN, 0}};
  std::string* texts[2] = {&result.out, &result.err};
  char buffer[65536];
  int open_files = 2;
  while (open_files > 0 && ::poll(files, 2, -1) >= 0) {
    for (int i = 0; i < 2; ++i) {
      if (files[i].fd < 0 || files[i].revents == 0) continue;
      const ssize_t count = ::read(files[i].fd, buffer, sizeof buffer);
      if (count > 0) {
        texts[i]->append(buffer, static_cast<size_t>(count));
      } else {
        ::close(files[i].fd);
        files[i].fd = -1;
        --open_files;
      }
    }
  }
}

}  // namespace

std::string source_dir() {
  return from_environment("ZOO_SOURCE_DIR", fs::current_path().string());
}
std::string binary_dir() {
  return from_environment("ZOO_BINARY_DIR", source_dir() + "/build/release");
}

std::string shared_data() {
  const std::string folder = source_dir() + "/../shared/data";
  return fs::is_directory(folder) ? fs::canonical(folder).string() : "";
}

std::string scratch_dir(const std::string& name) {
  static Scratch scratch;
  static int count = 0;
  const fs::path folder = fs::temp_directory_path() / ("zoo-test-" + std::to_string(::getpid()) + "-" +
                                                       std::to_string(count++) + "-" + name);
  fs::create_directories(folder);
  scratch.folders.push_back(folder.string());
  return folder.string();
}

CommandResult run_command(const std::vector<std::string>& command, const std::string& input) {
  int in[2], out[2], err[2];
  if (::pipe(in) != 0 || ::pipe(out) != 0 || ::pipe(err) != 0) return {127, "", "no pipe"};
  const pid_t child = ::fork();
  if (child == 0) {
    ::dup2(in[0], 0), ::dup2(out[1], 1), ::dup2(err[1], 2);
    for (int* ends : {in, out, err}) ::close(ends[0]), ::close(ends[1]);
    std::vector<char*> arguments;
    for (const std::string& part : command) arguments.push_back(const_cast<char*>(part.c_str()));
    arguments.push_back(nullptr);
    ::execvp(arguments[0], arguments.data());
    ::_exit(127);
  }
  ::close(in[0]), ::close(out[1]), ::close(err[1]);
  if (!input.empty() && ::write(in[1], input.data(), input.size()) < 0)
    ADD_FAILURE() << "no standard input taken";
  ::close(in[1]);
  CommandResult result;
  read_both(out[0], err[0], result);
  int status = 0;
  ::waitpid(child, &status, 0);
  result.exit_code = WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
  return result;
}

std::string program() {
  return binary_dir() + "/zoo";
}

CommandResult zoo_run(std::vector<std::string> arguments) {
  arguments.insert(arguments.begin(), program());
  return run_command(arguments);
}

Json zoo_json(const std::vector<std::string>& arguments) {
  const CommandResult result = zoo_run(arguments);
  EXPECT_EQ(result.exit_code, 0) << join(arguments, " ") << "\n" << result.err;
  return Json::parse(result.out, nullptr, false);
}

void expect_error(const std::vector<std::string>& arguments, int code,
                  const std::vector<std::string>& parts) {
  const CommandResult result = zoo_run(arguments);
  const std::string shown = join(arguments, " ") + "\n" + result.err;
  EXPECT_EQ(result.exit_code, code) << shown;
  EXPECT_EQ(result.out, "") << shown;
  const std::string err = "\n" + result.err;
  const size_t begin = err.find("\nerror: ");
  ASSERT_NE(begin, std::string::npos) << shown;
  const std::string end = err.substr(begin + 1);
  EXPECT_LE(std::count(end.begin(), end.end(), '\n'), 2) << shown;
  const std::string line = end.substr(0, end.find('\n'));
  for (const std::string& part : parts)
    EXPECT_NE(line.find(part), std::string::npos) << part << " in: " << line;
}

std::string error_of(const std::function<void()>& call) {
  try {
    call();
  } catch (const Error& error) {
    return error.what();
  }
  return "";
}

std::string python() {
  const std::string path = from_environment("ZOO_PYTHON", source_dir() + "/.deps/test-venv/bin/python");
  return fs::exists(path) ? path : "";
}

void run_python(const std::string& script, const std::vector<std::string>& arguments) {
  std::vector<std::string> command = {python(), source_dir() + "/tests/parity/" + script};
  command.insert(command.end(), arguments.begin(), arguments.end());
  const CommandResult result = run_command(command);
  ASSERT_EQ(result.exit_code, 0) << script << ":\n" << result.err;
}

}  // namespace zoo::test
