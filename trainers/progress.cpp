#include "trainers/progress.h"

#include <sys/ioctl.h>
#include <unistd.h>

#include <algorithm>
#include <utility>

#include "core/log.h"
#include "core/text.h"

namespace zoo {

namespace {

constexpr std::chrono::milliseconds kPeriod(100);
constexpr int64_t kBarWidth = 20;
constexpr int64_t kUsualColumns = 80;

int64_t terminal_columns() {
  winsize size{};
  if (::ioctl(STDERR_FILENO, TIOCGWINSZ, &size) != 0 || size.ws_col == 0) return kUsualColumns;
  return size.ws_col;
}

void write_stderr(const std::string& text) {
  if (::write(STDERR_FILENO, text.data(), text.size()) < 0) return;  // nobody looks: nothing to tell
}

}  // namespace

void Pace::add(double seconds, int64_t samples) {
  constexpr int64_t kMemory = 30;  // steps
  steps_ = std::min(steps_ + 1, kMemory);
  const double weight = 1 / static_cast<double>(steps_);
  seconds_ += weight * (seconds - seconds_);
  samples_ += weight * (static_cast<double>(samples) - samples_);
}

std::string progress_text(const std::string& label, int64_t done, int64_t all, const std::string& details,
                          int64_t columns, bool color) {
  const int64_t filled = all > 0 ? std::clamp<int64_t>(done * kBarWidth / all, 0, kBarWidth) : 0;
  std::string bar(static_cast<size_t>(filled), '=');
  if (filled < kBarWidth) bar += '>';
  bar.resize(static_cast<size_t>(kBarWidth), ' ');
  std::string text =
      label + " [" + bar + "] " + std::to_string(done) + "/" + std::to_string(all) + "  " + details;
  text.resize(static_cast<size_t>(
      std::min<int64_t>(static_cast<int64_t>(text.size()), std::max<int64_t>(1, columns - 1))));
  const size_t begin = label.size() + 2, end = begin + bar.size();
  if (color && text.size() >= end) {
    text.insert(end, "\033[0m");
    text.insert(begin, "\033[32m");
  }
  return text;
}

ProgressLine::ProgressLine(std::string label) : label_(std::move(label)), began_(Clock::now()) {
  active_ = stderr_is_terminal() && log_level() != LogLevel::quiet;
  if (!active_) return;
  set_log_interlude(
      [this] {
        const std::lock_guard<std::mutex> lock(mutex_);
        clear();
      },
      [this] {
        const std::lock_guard<std::mutex> lock(mutex_);
        draw();
      });
}

bool ProgressLine::due() const {
  return active_ && Clock::now() - drawn_ >= kPeriod;
}

void ProgressLine::update(int64_t done, int64_t all, const std::string& details) {
  if (!due() && done < all) return;
  if (!active_) return;
  const std::chrono::duration<double> elapsed = Clock::now() - began_;
  const double left =
      done > 0 ? elapsed.count() / static_cast<double>(done) * static_cast<double>(all - done) : 0;
  const std::string tail = details.empty() ? "eta " + human_seconds(left) : details;
  const std::lock_guard<std::mutex> lock(mutex_);
  line_ = progress_text(label_, done, all, tail, terminal_columns(), use_color(STDERR_FILENO));
  drawn_ = Clock::now();
  draw();
}

void ProgressLine::relabel(const std::string& label) {
  const std::lock_guard<std::mutex> lock(mutex_);
  label_ = label;
  began_ = Clock::now();
  drawn_ = {};
}

void ProgressLine::finish() {
  if (!active_) return;
  active_ = false;
  set_log_interlude(nullptr, nullptr);
  const std::lock_guard<std::mutex> lock(mutex_);
  clear();
  line_.clear();
}

void ProgressLine::clear() {
  if (!line_.empty()) write_stderr("\r\033[K");
}

void ProgressLine::draw() {
  if (!line_.empty()) write_stderr("\r" + line_ + "\033[K");
}

}  // namespace zoo
