#include "trainers/video_features.h"

#include <algorithm>
#include <cmath>

#include <torch/torch.h>

#include "core/error.h"
#include "core/files.h"
#include "core/log.h"
#include "core/text.h"
#include "datasets/detection.h"
#include "datasets/normalize.h"
#include "datasets/video.h"
#include "models/layers/channels_last.h"
#include "models/weights/state_dict.h"

namespace zoo {

namespace {

constexpr double kBorder = 256.0 / 224.0;  // of the short side, as ImageNet's evaluation has it
constexpr float kMean[] = {0.485F, 0.456F, 0.406F}, kDeviation[] = {0.229F, 0.224F, 0.225F};

double rate_of(const DataSpec& spec, double fallback) {
  const std::string text = spec.option("steps_per_second");
  double rate = fallback;
  if (!text.empty() && (!parse_double(text, rate) || !(rate > 0 && rate <= 1000)))
    throw UsageError("steps_per_second=" + text + " in '" + spec.text + "': expected a number of 0 to 1000");
  return rate;
}

/// Blocks of the four stages that tensors have.
ResNetOptions options_of(const StateDict& state) {
  ResNetOptions options;
  for (size_t stage = 0; stage < options.blocks.size(); ++stage) {
    int64_t blocks = 0;
    while (state.find(format("layer%zu.%lld.conv3.weight", stage + 1, static_cast<long long>(blocks))) !=
           nullptr)
      ++blocks;
    if (blocks == 0)
      throw Error(state.source +
                  ": the names of its tensors are none of a ResNet's, expected weights of "
                  "ResNet-50, -101 or -152 in torchvision's layout");
    options.blocks[stage] = blocks;
  }
  return options;
}

ResNet load_backbone(const DataSpec& spec) {
  const std::string file = spec.option("backbone");
  if (file.empty()) {
    throw UsageError("'" + spec.text + "' names no backbone, expected video:PATH,backbone=FILE",
                     "FILE: weights of a ResNet-50, -101 or -152 in torchvision's layout");
  }
  const StateDict state = load_state_dict(file);
  ResNet net(options_of(state));
  require_fit(assign(*net, state, {"fc."}), state.source, /*partial=*/false);
  net->eval();
  use_channels_last(*net);
  return net;
}

TraceSpec trace_of(ResNet net, int64_t size) {
  TraceSpec spec;
  spec.module = net.ptr();
  spec.forward = [net](const std::vector<torch::Tensor>& inputs) mutable -> std::vector<torch::Tensor> {
    return {torch::adaptive_avg_pool2d(net->features(inputs[0]), {1, 1}).flatten(1)};
  };
  spec.example = [size](int variant) -> std::vector<torch::Tensor> {
    return {torch::zeros({1 + variant, 3, size, size})};
  };
  spec.inputs = {"pixel_values"};
  spec.outputs = {"features"};
  return spec;
}

/// The middle of a picture as normalised pixels [1,3,size,size].
torch::Tensor pixels_of(const cv::Mat& rgb, int64_t size) {
  const auto short_side = static_cast<int64_t>(std::llround(static_cast<double>(size) * kBorder));
  const auto scale = static_cast<double>(short_side) / std::min(rgb.rows, rgb.cols);
  const int64_t height = std::max<int64_t>(short_side, std::llround(rgb.rows * scale)),
                width = std::max<int64_t>(short_side, std::llround(rgb.cols * scale));
  const cv::Mat resized = resize_antialiased(rgb, height, width);
  const int64_t top = (height - size) / 2, left = (width - size) / 2;
  float scales[3], shifts[3];
  for (int c = 0; c < 3; ++c) {
    scales[c] = 1 / (255 * kDeviation[c]);
    shifts[c] = -kMean[c] / kDeviation[c];
  }
  torch::Tensor pixels = torch::empty({1, 3, size, size});
  auto* to = pixels.mutable_data_ptr<float>();
  const int64_t plane = size * size;
  for (int64_t y = 0; y < size; ++y) {
    normalize_row(resized.ptr<uint8_t>(static_cast<int>(top + y)) + 3 * left, size, size, scales, shifts,
                  to + y * size, to + plane + y * size, to + 2 * plane + y * size);
  }
  return pixels;
}

/// Videos whose features are in memory.
class SeenVideos : public ActionDataset {
 public:
  SeenVideos(std::string description, double steps_per_second)
      : description_(std::move(description)), steps_per_second_(steps_per_second) {}

  void add(const std::string& name, const torch::Tensor& rows) { videos_.emplace_back(name, rows); }

  int64_t size() const override { return static_cast<int64_t>(videos_.size()); }
  std::string name(int64_t video) const override { return at(video).first; }
  int64_t steps(int64_t video) const override { return at(video).second.size(0); }
  int64_t feature_size() const override { return VideoFeatures::kWidth; }
  double steps_per_second() const override { return steps_per_second_; }
  const std::vector<std::string>& class_names() const override { return no_names_; }
  int64_t ambiguous_class() const override { return -1; }
  void read(const FeatureRows& rows, float* to) const override {
    const float* from = at(rows.video).second.const_data_ptr<float>();
    for (int64_t i = 0; i < rows.count; ++i, to += feature_size())
      std::copy_n(from + (rows.first + i * rows.every) * feature_size(), feature_size(), to);
  }
  const LabelTable& labels(int64_t) const override { throw Error(description_ + ": has no labels"); }
  std::string description() const override { return description_; }

 private:
  const std::pair<std::string, torch::Tensor>& at(int64_t video) const {
    return videos_.at(static_cast<size_t>(video));
  }

  std::string description_;
  double steps_per_second_;
  std::vector<std::pair<std::string, torch::Tensor>> videos_;  ///< rows [L,2048] float, contiguous
  std::vector<std::string> no_names_;
};

void require_end(const DataSpec& spec) {
  if (is_camera(spec.path))
    throw UsageError("'" + spec.text + "': a camera has no end, expected video files (or predict --stream)");
}

}  // namespace

VideoFeatures::VideoFeatures(const DataSpec& spec, double steps_per_second)
    : steps_per_second_(rate_of(spec, steps_per_second)),
      size_(spec.integer("size", 224, 32, 4096)),
      backbone_(load_backbone(spec)),
      runtime_(trace_of(backbone_, size_), RuntimeOptions()) {}

torch::Tensor VideoFeatures::of(const cv::Mat& rgb) {
  const torch::NoGradGuard no_grad;
  return runtime_.run({pixels_of(rgb, size_)}).front()[0].clone();  // the runtime's memory is used again
}

void VideoFeatures::for_each_step(const std::string& source,
                                  const std::function<void(const torch::Tensor& row)>& use,
                                  const std::function<bool()>& stop) {
  VideoFrames frames(source);
  cv::Mat rgb;
  int64_t step = 0;
  for (int64_t frame = 0; !stop() && frames.next(rgb); ++frame) {
    const auto due = [&] {
      return static_cast<double>(step) / steps_per_second_ <= static_cast<double>(frame) / frames.rate();
    };
    if (!due()) continue;
    const torch::Tensor row = of(rgb);
    for (; due(); ++step) use(row);  // several steps where there are more of them than frames
  }
}

torch::Tensor VideoFeatures::of_file(const std::string& path, const std::function<bool()>& stop) {
  std::vector<torch::Tensor> rows;
  for_each_step(
      path, [&](const torch::Tensor& row) { rows.push_back(row); }, stop);
  if (stop()) throw Interrupted("interrupted within " + path);
  return torch::stack(rows);
}

std::vector<std::string> video_sources(const DataSpec& spec) {
  if (is_camera(spec.path) || !is_directory(spec.path)) return {spec.path};
  std::vector<std::string> paths;
  for (const std::string& name : list_folder(spec.path)) {
    if (has_video_ending(name)) paths.push_back(join_path(spec.path, name));
  }
  if (paths.empty()) throw Error(spec.path + ": no video in it, expected files like .mp4 or .avi");
  return paths;
}

std::shared_ptr<ActionDataset> open_videos(const DataSpec& spec, double steps_per_second,
                                           const std::function<bool()>& stop) {
  require_end(spec);
  const std::vector<std::string> sources = video_sources(spec);
  VideoFeatures features(spec, steps_per_second);
  auto videos = std::make_shared<SeenVideos>(spec.text, features.steps_per_second());
  for (const std::string& source : sources) videos->add(file_stem(source), features.of_file(source, stop));
  return videos;
}

std::string make_video_features(const DataSpec& spec, const std::string& folder,
                                const std::function<bool()>& stop) {
  require_end(spec);
  const std::string target = join_path(starts_with(folder, "features:") ? folder.substr(9) : folder, "rgb");
  std::vector<std::pair<std::string, std::string>> files;  // video, features
  for (const std::string& video : video_sources(spec)) {
    const std::string file = join_path(target, file_stem(video) + ".npy");
    if (file_exists(file)) throw Error(file + " is already there, expected a new folder");
    for (const auto& other : files) {
      if (other.second == file)
        throw Error(video + ": is named as " + other.first + " is, expected other names");
    }
    files.emplace_back(video, file);
  }
  VideoFeatures features(spec, kActionStepsPerSecond);
  make_folders(target);
  for (const auto& [video, file] : files) {
    const torch::Tensor rows = features.of_file(video, stop);
    write_features(file, rows);
    log_info(format("%s: %lld steps", file.c_str(), static_cast<long long>(rows.size(0))));
  }
  const std::string rate = features.steps_per_second() == kActionStepsPerSecond
                               ? ""
                               : format(",fps=%g", features.steps_per_second());
  return "features:" + parent_folder(target) + rate;
}

}  // namespace zoo
