#pragma once
#include <functional>
#include <string>
#include <vector>

#include <opencv2/core.hpp>

namespace zoo {

/// One picture to predict on.
struct InputImage {
  std::string source;  ///< the file, for messages and for "file_name"
  std::string name;    ///< unique name of the drawn picture, without ending
  int64_t frame = -1;  ///< number in a video or camera stream, else -1
  double frame_rate = 0;
  cv::Mat rgb;
};

/// What a list of INPUT arguments amounts to.
struct InputSummary {
  int64_t images = 0;
  std::vector<std::string> failures;  ///< one line for each bad input; the rest was done
};

/// Goes through INPUTs: files, folders (their pictures in order of name), globs, video files, `camera:N`, `-`
/// (one encoded picture on stdin), and hands every picture to `use`. A bad input is noted and the rest is
/// done. A camera runs until `stop` says so.
InputSummary for_each_input(const std::vector<std::string>& inputs,
                            const std::function<void(InputImage)>& use, const std::function<bool()>& stop);

/// The file names of pictures that the INPUTs name, without decoding; to see whether numbers in names are
/// unique.
std::vector<std::string> input_files(const std::vector<std::string>& inputs);

}  // namespace zoo
