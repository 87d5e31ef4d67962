#include "datasets/video.h"

#include <set>

#include <opencv2/imgproc.hpp>

#include "core/error.h"
#include "core/files.h"
#include "core/text.h"

namespace zoo {

namespace {

constexpr const char* kCamera = "camera:";

int camera_number(const std::string& source) {
  int64_t number = 0;
  if (!parse_int(source.substr(std::string(kCamera).size()), number) || number < 0)
    throw UsageError(source + ": expected camera:N with the number of the camera");
  return static_cast<int>(number);
}

}  // namespace

bool is_camera(const std::string& input) {
  return starts_with(input, kCamera);
}

bool has_video_ending(const std::string& path) {
  static const std::set<std::string> endings = {"mp4", "avi", "mov", "mkv", "webm", "m4v", "mpg", "mpeg"};
  const size_t dot = path.rfind('.');
  return dot != std::string::npos && endings.count(lower(path.substr(dot + 1))) > 0;
}

VideoFrames::VideoFrames(const std::string& source) : source_(source) {
  if (is_camera(source)) {
    capture_.open(camera_number(source));
  } else {
    const MappedFile readable(source);  // names the reason where the file cannot be read at all
    capture_.open(source);
  }
  if (!capture_.isOpened()) throw Error(source + ": cannot be opened as a video");
  const double rate = capture_.get(cv::CAP_PROP_FPS);
  if (rate > 0) rate_ = rate;
}

bool VideoFrames::next(cv::Mat& rgb) {
  cv::Mat bgr;
  if (!capture_.read(bgr)) {
    if (!started_) throw Error(source_ + ": no frame could be read");
    return false;
  }
  started_ = true;
  cv::cvtColor(bgr, rgb, cv::COLOR_BGR2RGB);
  return true;
}

}  // namespace zoo
