#pragma once
#include <chrono>
#include <cstdint>
#include <mutex>
#include <string>

namespace zoo {

/// One line on a terminal's stderr that is drawn again and again, at most ten times a second; on anything
/// else it writes nothing. Log lines of any thread appear above it. One line may live at a time.
///   evaluating [=======>            ] 12/50  eta 0:31
class ProgressLine {
 public:
  explicit ProgressLine(std::string label);
  ~ProgressLine() { finish(); }
  ProgressLine(const ProgressLine&) = delete;
  ProgressLine& operator=(const ProgressLine&) = delete;

  /// Whether there is a terminal that shows it.
  bool active() const { return active_; }
  /// Whether an update would be drawn now: callers skip the work of making `details` where not.
  bool due() const;
  /// `done` of `all` pieces of work, and what to say behind the bar. Without details: the time left.
  void update(int64_t done, int64_t all, const std::string& details = "");
  /// From now on the line tells of other work, which begins now.
  void relabel(const std::string& label);
  /// Clears the line for good.
  void finish();

 private:
  using Clock = std::chrono::steady_clock;
  void clear();
  void draw();

  std::mutex mutex_;
  bool active_ = false;
  std::string label_, line_;
  Clock::time_point began_, drawn_;
};

/// The line without a terminal: `label [====>   ] done/all  details`, cut to `columns`. `color` marks the
/// bar.
std::string progress_text(const std::string& label, int64_t done, int64_t all, const std::string& details,
                          int64_t columns, bool color);

/// How fast steps go, the latest ones foremost.
class Pace {
 public:
  void add(double seconds, int64_t samples);
  double samples_per_second() const { return seconds_ > 0 ? samples_ / seconds_ : 0; }
  /// So many steps at this pace.
  double seconds_of(int64_t steps) const { return steps > 0 ? seconds_ * static_cast<double>(steps) : 0; }

 private:
  int64_t steps_ = 0;
  double seconds_ = 0, samples_ = 0;  ///< of a step
};

}  // namespace zoo
