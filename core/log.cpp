#include "core/log.h"

#include <unistd.h>

#include <cstdlib>
#include <mutex>
#include <utility>

namespace zoo {

namespace {

struct Log {
  std::mutex mutex;
  LogLevel level = LogLevel::normal;
  std::function<void(const std::string&)> sink;
  std::function<void()> before, after;
};

Log& the_log() {
  static Log log;
  return log;
}

void emit(LogLevel least, const std::string& message) {
  Log& log = the_log();
  const std::lock_guard<std::mutex> lock(log.mutex);
  if (log.sink) log.sink(message);
  if (log.level < least) return;
  if (log.before) log.before();
  const std::string line = message + "\n";
  if (::write(STDERR_FILENO, line.data(), line.size()) < 0) return;  // nobody reads: nothing to tell
  if (log.after) log.after();
}

}  // namespace

void set_log_level(LogLevel level) {
  the_log().level = level;
}
LogLevel log_level() {
  return the_log().level;
}

void log_info(const std::string& message) {
  emit(LogLevel::normal, message);
}
void log_warning(const std::string& message) {
  emit(LogLevel::quiet, "warning: " + message);
}
void log_verbose(const std::string& message) {
  emit(LogLevel::verbose, message);
}

void set_log_sink(std::function<void(const std::string&)> sink) {
  Log& log = the_log();
  const std::lock_guard<std::mutex> lock(log.mutex);
  log.sink = std::move(sink);
}

void set_log_interlude(std::function<void()> before, std::function<void()> after) {
  Log& log = the_log();
  const std::lock_guard<std::mutex> lock(log.mutex);
  log.before = std::move(before);
  log.after = std::move(after);
}

bool stderr_is_terminal() {
  const char* term = std::getenv("TERM");
  return ::isatty(STDERR_FILENO) != 0 && term != nullptr && std::string(term) != "dumb";
}

bool use_color(int descriptor) {
  const char* no_color = std::getenv("NO_COLOR");
  const char* term = std::getenv("TERM");
  return ::isatty(descriptor) != 0 && (no_color == nullptr || *no_color == '\0') && term != nullptr &&
         std::string(term) != "dumb";
}

}  // namespace zoo
