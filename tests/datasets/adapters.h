#pragma once
#include <gtest/gtest.h>

#include <memory>
#include <string>

#include "core/error.h"
#include "datasets/detection.h"
#include "datasets/spec.h"

namespace zoo::test {

/// The message of the Error (exit code 1) that opening gives; fails the test where there is none.
inline std::string open_error(const std::string& spec, const std::string& split) {
  try {
    open_detection_dataset(parse_data_spec(spec), split);
  } catch (const Error& error) {
    EXPECT_EQ(error.exit_code(), 1);
    return error.what();
  }
  ADD_FAILURE() << "no Error for " << spec;
  return "";
}

inline std::string replaced(std::string text, const std::string& from, const std::string& to) {
  const size_t at = text.find(from);
  EXPECT_NE(at, std::string::npos) << from;
  return text.replace(at, from.size(), to);
}

}  // namespace zoo::test
