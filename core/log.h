#pragma once
#include <functional>
#include <string>

namespace zoo {

enum class LogLevel { quiet, normal, verbose };

/// Messages for a person: lines on stderr, so that stdout carries results alone. `-q` and `-v` set the level.
void set_log_level(LogLevel level);
LogLevel log_level();

void log_info(const std::string& message);     ///< shown unless quiet
void log_warning(const std::string& message);  ///< `warning: …`, always shown
void log_verbose(const std::string& message);  ///< shown with -v

/// Every shown line also goes to `sink` (a run's log.txt); an empty function ends that.
void set_log_sink(std::function<void(const std::string&)> sink);
/// Called before a line is written and after it: a progress bar clears and redraws itself.
void set_log_interlude(std::function<void()> before, std::function<void()> after);

/// Whether stderr (or stdout) is a terminal that understands colours and cursor moves, NO_COLOR and TERM
/// respected.
bool stderr_is_terminal();
bool use_color(int descriptor);

}  // namespace zoo
