#pragma once
#include <string>

#include <opencv2/core.hpp>
#include <opencv2/videoio.hpp>

namespace zoo {

/// Whether an input is `camera:N`.
bool is_camera(const std::string& input);
/// Whether the name ends like a video (.mp4 .avi .mov .mkv .webm .m4v .mpg .mpeg), in any case.
bool has_video_ending(const std::string& path);

/// Frames of a video file or of a camera, in order.
class VideoFrames {
 public:
  /// `source`: a file, or `camera:N`. Throws UsageError for a camera without a number, Error where it cannot be opened.
  explicit VideoFrames(const std::string& source);

  /// The next frame as RGB; false at the end. Throws Error where there is no frame at all.
  bool next(cv::Mat& rgb);
  /// Frames a second; 25 where the source does not say.
  double rate() const { return rate_; }

 private:
  std::string source_;
  cv::VideoCapture capture_;
  double rate_ = 25;
  bool started_ = false;
};

}  // namespace zoo
