#include "core/log.h"

#include <gtest/gtest.h>

#include "core/error.h"

namespace zoo {
namespace {

/// What a level shows on stderr of one message of each kind.
std::string shown_at(LogLevel level) {
  set_log_level(level);
  testing::internal::CaptureStderr();
  log_info("info");
  log_warning("wet paint");
  log_verbose("detail");
  set_log_level(LogLevel::normal);
  return testing::internal::GetCapturedStderr();
}

TEST(Log, LevelsChooseWhatIsShown) {
  EXPECT_EQ(shown_at(LogLevel::quiet), "warning: wet paint\n");
  EXPECT_EQ(shown_at(LogLevel::normal), "info\nwarning: wet paint\n");
  EXPECT_EQ(shown_at(LogLevel::verbose), "info\nwarning: wet paint\ndetail\n");
}

TEST(Log, SinkAndInterludeSeeEachLine) {
  std::string sink, order;
  set_log_sink([&](const std::string& line) { sink += line + ";"; });
  set_log_interlude([&] { order += "b"; }, [&] { order += "a"; });
  const std::string shown = shown_at(LogLevel::verbose);
  set_log_sink(nullptr);
  set_log_interlude(nullptr, nullptr);
  EXPECT_EQ(shown, "info\nwarning: wet paint\ndetail\n");
  EXPECT_EQ(sink, "info;warning: wet paint;detail;");
  EXPECT_EQ(order, "bababa");
}

TEST(Log, ErrorsAreOneLineWithHintAndExitCode) {
  const Error error("a\nb", "c\r\nd");
  EXPECT_STREQ(error.what(), "a b");
  EXPECT_EQ(error.hint(), "c  d");
  EXPECT_EQ(error.exit_code(), 1);
  EXPECT_EQ(UsageError("x").exit_code(), 2);
  EXPECT_EQ(Interrupted("x").exit_code(), 130);
}

}  // namespace
}  // namespace zoo
