#include "datasets/findings.h"

#include "core/text.h"

namespace zoo {

Finding finding_of(const Error& error, const std::string& file, const std::string& record,
                   const std::string& expected) {
  std::string what = error.what();
  for (const std::string& head : {file + ": ", "cannot read " + file + ": "}) {
    if (starts_with(what, head)) what = what.substr(head.size());
  }
  const size_t comma = what.find(", expected ");
  if (comma == std::string::npos) return {file, record, what, expected, true, "stops the run"};
  return {file, record, what.substr(0, comma), what.substr(comma + 11), true, "stops the run"};
}

}  // namespace zoo
