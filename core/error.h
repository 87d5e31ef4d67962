#pragma once
#include <stdexcept>
#include <string>

namespace zoo {

/// An error that a person can cause and mend. `main` turns it into one line, `error: what, where, what would
/// be right`, on stderr, an optional hint line, and the exit code.
class Error : public std::runtime_error {
 public:
  explicit Error(const std::string& message, std::string hint = "");

  const std::string& hint() const { return hint_; }
  /// 1: the world is not as it should be (files, data, weights, memory, divergence).
  virtual int exit_code() const { return 1; }

 private:
  std::string hint_;
};

/// An error that can be told from the command line (or the keys of a configuration) alone: exit code 2.
class UsageError : public Error {
 public:
  using Error::Error;
  int exit_code() const override { return 2; }
};

/// Ended by SIGINT or SIGTERM after a resumable checkpoint was written: exit code 130.
class Interrupted : public Error {
 public:
  using Error::Error;
  int exit_code() const override { return 130; }
};

}  // namespace zoo
