#include "cli/inputs.h"

#include <glob.h>

#include <algorithm>
#include <iostream>
#include <iterator>
#include <map>
#include <set>

#include <opencv2/imgcodecs.hpp>
#include <opencv2/imgproc.hpp>

#include "core/error.h"
#include "core/files.h"
#include "core/text.h"
#include "datasets/image.h"
#include "datasets/video.h"

namespace zoo {

namespace {

const std::set<std::string> kImageEndings = {"jpg", "jpeg", "png", "bmp", "webp",
                                             "tif", "tiff", "ppm", "pgm"};

std::string ending(const std::string& path) {
  const size_t dot = path.rfind('.');
  return dot == std::string::npos ? "" : lower(path.substr(dot + 1));
}

std::vector<std::string> expand_glob(const std::string& pattern) {
  glob_t found{};
  std::vector<std::string> paths;
  if (::glob(pattern.c_str(), 0, nullptr, &found) == 0)
    paths.assign(found.gl_pathv, found.gl_pathv + found.gl_pathc);
  ::globfree(&found);
  return paths;
}

std::vector<std::string> pictures_of(const std::string& folder) {
  std::vector<std::string> paths;
  for (const std::string& name : list_folder(folder)) {
    if (kImageEndings.count(ending(name)) > 0) paths.push_back(join_path(folder, name));
  }
  if (paths.empty()) throw Error(folder + ": no picture in it, expected files like .jpg or .png");
  return paths;
}

/// The files behind one INPUT; the input itself where it is no folder and no glob.
std::vector<std::string> expand(const std::string& input) {
  if (input == "-" || is_camera(input)) return {input};
  if (is_directory(input)) return pictures_of(input);
  if (!file_exists(input) && input.find_first_of("*?[") != std::string::npos) {
    std::vector<std::string> paths = expand_glob(input);
    if (paths.empty()) throw Error(input + ": matches no file");
    return paths;
  }
  return {input};
}

/// Unique names for drawn pictures: a name that comes again gets a number.
class Names {
 public:
  std::string unique(const std::string& name) {
    const int count = seen_[name]++;
    return count == 0 ? name : unique(name + "-" + std::to_string(count + 1));
  }

 private:
  std::map<std::string, int> seen_;
};

cv::Mat read_standard_input() {
  const std::vector<char> bytes{std::istreambuf_iterator<char>(std::cin), std::istreambuf_iterator<char>()};
  cv::Mat bgr;
  if (!bytes.empty()) bgr = cv::imdecode(bytes, cv::IMREAD_COLOR | cv::IMREAD_IGNORE_ORIENTATION);
  if (bgr.empty())
    throw Error("-: standard input holds no picture, expected the bytes of a JPEG or PNG file");
  cv::cvtColor(bgr, bgr, cv::COLOR_BGR2RGB);
  return bgr;
}

/// Frames of a video file or camera.
void read_video(const std::string& source, const std::string& name,
                const std::function<void(InputImage)>& use, const std::function<bool()>& stop,
                InputSummary& summary) {
  VideoFrames frames(source);
  cv::Mat rgb;
  for (int64_t frame = 0; !stop() && frames.next(rgb); ++frame) {
    use({source, name, frame, frames.rate(), rgb});
    rgb = cv::Mat();  // the next frame has pixels of its own
    ++summary.images;
  }
}

void read_one(const std::string& path, Names& names, const std::function<void(InputImage)>& use,
              const std::function<bool()>& stop, InputSummary& summary) {
  if (is_camera(path) || has_video_ending(path)) {
    const std::string name = is_camera(path) ? "camera" + path.substr(7) : file_stem(path);
    return read_video(path, names.unique(name), use, stop, summary);
  }
  const cv::Mat rgb = path == "-" ? read_standard_input() : read_image(path);
  use({path, names.unique(path == "-" ? "stdin" : file_stem(path)), -1, 0, rgb});
  ++summary.images;
}

}  // namespace

InputSummary for_each_input(const std::vector<std::string>& inputs,
                            const std::function<void(InputImage)>& use, const std::function<bool()>& stop) {
  InputSummary summary;
  Names names;
  const auto attempt = [&](const auto& work) {
    try {
      work();
    } catch (const UsageError&) {
      throw;
    } catch (const Error& error) {
      summary.failures.emplace_back(error.what());
    }
  };
  for (const std::string& input : inputs) {
    std::vector<std::string> paths;
    attempt([&] { paths = expand(input); });
    for (const std::string& path : paths) {
      if (stop()) return summary;
      attempt([&] { read_one(path, names, use, stop, summary); });
    }
  }
  return summary;
}

std::vector<std::string> input_files(const std::vector<std::string>& inputs) {
  std::vector<std::string> files;
  for (const std::string& input : inputs) {
    try {
      const std::vector<std::string> paths = expand(input);
      files.insert(files.end(), paths.begin(), paths.end());
    } catch (const Error&) {
      continue;  // named when it is read
    }
  }
  return files;
}

}  // namespace zoo
