#pragma once
#include <string>
#include <utility>
#include <vector>

#include "core/error.h"

namespace zoo {

/// What a run does about a picture that cannot be used.
constexpr char kSkipped[] = "stops the run; left out and counted with data.skip_bad=true";

/// One thing wrong with a data set.
struct Finding {
  std::string file;      ///< annotation file or picture
  std::string record;    ///< `annotations[17], id 42`; empty where the whole file is meant
  std::string what;      ///< the fault
  std::string expected;  ///< what would be right
  bool fatal = true;     ///< whether it would stop or spoil a run
  std::string effect;    ///< what happens to it in a run

  /// `FILE: RECORD: WHAT, expected EXPECTED`
  std::string message() const {
    return file + ": " + (record.empty() ? "" : record + ": ") + what + ", expected " + expected;
  }
};

/// Where readers of data report what is wrong. Strict (a run opens the data): the first fatal finding is
/// thrown as Error, the others are dropped. Tolerant (`zoo data check`): all are kept, and the reader leaves
/// the record out.
class Findings {
 public:
  explicit Findings(bool strict) : strict_(strict) {}

  bool strict() const { return strict_; }
  void fatal(std::string file, std::string record, std::string what, std::string expected,
             std::string effect = "stops the run") {
    add({std::move(file), std::move(record), std::move(what), std::move(expected), true, std::move(effect)});
  }
  void note(std::string file, std::string record, std::string what, std::string expected,
            std::string effect) {
    add({std::move(file), std::move(record), std::move(what), std::move(expected), false, std::move(effect)});
  }
  void add(Finding finding) {
    if (strict_ && finding.fatal) throw Error(finding.message());
    if (!strict_) list_.push_back(std::move(finding));
  }
  const std::vector<Finding>& list() const { return list_; }

 private:
  bool strict_;
  std::vector<Finding> list_;
};

/// The error's text as a finding: without the file that it begins with, cut at `, expected`.
Finding finding_of(const Error& error, const std::string& file, const std::string& record,
                   const std::string& expected);

}  // namespace zoo
