#include "trainers/signals.h"

#include <signal.h>
#include <unistd.h>

namespace zoo {

namespace {

constexpr int kInterruptedCode = 130;
volatile sig_atomic_t stop_flag = 0;

void on_signal(int) {
  if (stop_flag != 0) ::_exit(kInterruptedCode);
  stop_flag = 1;
}

}  // namespace

void install_signal_handlers() {
  struct sigaction action {};
  action.sa_handler = on_signal;
  action.sa_flags = SA_RESTART;  // reads and writes under way go on: the step is finished first
  sigemptyset(&action.sa_mask);
  sigaction(SIGINT, &action, nullptr);
  sigaction(SIGTERM, &action, nullptr);
}

bool stop_requested() {
  return stop_flag != 0;
}
void reset_stop_request() {
  stop_flag = 0;
}

}  // namespace zoo
