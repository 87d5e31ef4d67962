#include <iostream>
#include <opencv2/core.hpp>
#include <opencv2/imgcodecs.hpp>
#include <opencv2/imgproc.hpp>
#include <string>
#include <utility>
#include <vector>

#include "core/error.h"
#include "core/files.h"
#include "datasets/image.h"
#include "trainers/tasks/margin_regions.h"

namespace zoo {
namespace {

FaceLossOptions loss_named(const std::string& name) {
  FaceLossOptions options;
  options.name = name;
  return options;
}

/// Losses at their papers' margins.
std::vector<std::pair<std::string, FaceLossOptions>> losses_to_draw() {
  FaceLossOptions multiplied = loss_named("asoftmax");
  multiplied.asoftmax.lambda_min = multiplied.asoftmax.lambda_max = 0;  // the end of its annealing
  return {{"normface", loss_named("normface")},
          {"asoftmax, m = 4", multiplied},
          {"cosface, m = 0.4", loss_named("cosface")},
          {"arcface, m = 0.5", loss_named("arcface")},
          {"combined, 1, 0.3, 0.2", loss_named("combined")},
          {"circle, m = 0.25", loss_named("circle")}};
}

cv::Mat side_by_side(const std::vector<std::string>& files) {
  std::vector<cv::Mat> pictures;
  for (const std::string& file : files) {
    pictures.push_back(read_image(file));
    if (pictures.back().rows != pictures.front().rows)
      throw Error(file + ": not as high as " + files.front() + ", expected pictures of one height");
  }
  cv::Mat row;
  cv::hconcat(pictures, row);
  return row;
}

/// PNG in as few bytes as it takes, since these are kept with the sources.
void write_packed(const std::string& path, const cv::Mat& rgb) {
  cv::Mat bgr;
  cv::cvtColor(rgb, bgr, cv::COLOR_RGB2BGR);
  std::vector<unsigned char> bytes;
  cv::imencode(".png", bgr, bytes, {cv::IMWRITE_PNG_COMPRESSION, 9});
  write_file(path, std::string(bytes.begin(), bytes.end()));
}

void draw(const std::vector<std::string>& arguments) {
  const size_t count = arguments.size();
  if (count == 2 && arguments[0] == "boundaries") {
    write_packed(arguments[1], draw_margin_regions(losses_to_draw()));
  } else if (count >= 3 && arguments[0] == "row") {
    write_packed(arguments[1], side_by_side({arguments.begin() + 2, arguments.end()}));
  } else {
    throw UsageError("face_figures: expected 'boundaries OUT.png' or 'row OUT.png A.png B.png …'");
  }
}

}  // namespace
}  // namespace zoo

int main(int argc, char** argv) {
  try {
    zoo::draw({argv + 1, argv + argc});
    return 0;
  } catch (const zoo::Error& error) {
    std::cerr << "error: " << error.what() << std::endl;
    return error.exit_code();
  }
}
