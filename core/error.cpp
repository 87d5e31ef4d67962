#include "core/error.h"

#include <utility>

namespace zoo {

namespace {

/// An error is one line: line breaks of file names or foreign messages become spaces.
std::string one_line(std::string text) {
  for (char& c : text) {
    if (c == '\n' || c == '\r') c = ' ';
  }
  return text;
}

}  // namespace

Error::Error(const std::string& message, std::string hint)
    : std::runtime_error(one_line(message)), hint_(one_line(std::move(hint))) {}

}  // namespace zoo
