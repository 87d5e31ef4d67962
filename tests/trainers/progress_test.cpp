#include "trainers/progress.h"

#include <fcntl.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <pty.h>
#include <unistd.h>

#include <cstdlib>
#include <thread>

#include "core/log.h"

namespace zoo::test {
namespace {

using testing::HasSubstr;

TEST(ProgressTest, TextFitsTheTerminal) {
  EXPECT_EQ(progress_text("training", 5, 20, "loss 1.5", 80, false),
            "training [=====>              ] 5/20  loss 1.5");
  EXPECT_EQ(progress_text("training", 20, 20, "", 80, false), "training [====================] 20/20  ");
  EXPECT_EQ(progress_text("t", 0, 0, "", 80, false), "t [>                   ] 0/0  ");
  EXPECT_EQ(progress_text("training", 5, 20, "loss 1.5", 12, false), "training [=");
  EXPECT_EQ(progress_text("a", 1, 1, "", 80, true), "a [\033[32m====================\033[0m] 1/1  ");
}

TEST(ProgressTest, PaceFollowsTheLatestSteps) {
  Pace pace;
  EXPECT_EQ(pace.samples_per_second(), 0);
  EXPECT_EQ(pace.seconds_of(10), 0);
  pace.add(2, 8);
  pace.add(4, 8);
  EXPECT_DOUBLE_EQ(pace.seconds_of(10), 30);
  EXPECT_DOUBLE_EQ(pace.samples_per_second(), 8.0 / 3);
  EXPECT_EQ(pace.seconds_of(-5), 0);
  for (int i = 0; i < 500; ++i) pace.add(1, 8);
  EXPECT_NEAR(pace.seconds_of(1), 1, 1e-3);
}

/// stderr as a pseudo-terminal while it lives; what was drawn comes back as text.
class Terminal {
 public:
  Terminal() {
    winsize size{25, 60, 0, 0};
    if (::openpty(&master_, &slave_, nullptr, nullptr, &size) != 0) return;
    ::fcntl(master_, F_SETFL, O_NONBLOCK);
    before_ = ::dup(STDERR_FILENO);
    ::dup2(slave_, STDERR_FILENO);
    ::setenv("TERM", "xterm", 1);
  }
  ~Terminal() {
    ::dup2(before_, STDERR_FILENO);
    for (const int descriptor : {master_, slave_, before_}) ::close(descriptor);
  }
  std::string text() {
    std::string text;
    char buffer[4096];
    for (ssize_t count; (count = ::read(master_, buffer, sizeof buffer)) > 0;) {
      text.append(buffer, static_cast<size_t>(count));
    }
    return text;
  }

 private:
  int master_ = -1, slave_ = -1, before_ = -1;
};

TEST(ProgressTest, DrawsOnATerminalTenTimesASecondAtMost) {
  ::setenv("NO_COLOR", "1", 1);
  Terminal terminal;
  ProgressLine line("evaluating");
  ASSERT_TRUE(line.active());
  for (int i = 1; i <= 2000; ++i) line.update(i, 100000);
  const std::string drawn = terminal.text();
  EXPECT_THAT(drawn, HasSubstr("\revaluating [>                   ] 1/100000  eta "));
  EXPECT_LE(std::count(drawn.begin(), drawn.end(), '\r'), 3);
  EXPECT_EQ(drawn.find('\n'), std::string::npos);
  EXPECT_EQ(drawn.find("\033[32m"), std::string::npos);
}

TEST(ProgressTest, LogLinesStandAboveAndTheLineIsClearedAtTheEnd) {
  ::setenv("NO_COLOR", "1", 1);
  Terminal terminal;
  {
    ProgressLine line("training");
    line.update(1, 2, "loss 3");
    terminal.text();
    std::thread([] { log_info("a message"); }).join();
    EXPECT_THAT(terminal.text(),
                HasSubstr("\r\033[Ka message\r\n\rtraining [==========>         ] 1/2  loss 3\033[K"));
  }
  EXPECT_EQ(terminal.text(), "\r\033[K");
  log_info("afterwards");
  EXPECT_EQ(terminal.text(), "afterwards\r\n");
}

TEST(ProgressTest, WritesNothingWhereThereIsNoTerminal) {
  int ends[2];
  ASSERT_EQ(::pipe(ends), 0);
  ::fcntl(ends[0], F_SETFL, O_NONBLOCK);
  const int before = ::dup(STDERR_FILENO);
  ::dup2(ends[1], STDERR_FILENO);
  {
    ProgressLine line("evaluating");
    EXPECT_FALSE(line.active());
    EXPECT_FALSE(line.due());
    line.update(1, 2);
  }
  ::dup2(before, STDERR_FILENO);
  char byte = 0;
  EXPECT_LT(::read(ends[0], &byte, 1), 0);
  for (const int descriptor : {ends[0], ends[1], before}) ::close(descriptor);
}

}  // namespace
}  // namespace zoo::test
