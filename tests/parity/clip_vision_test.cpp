#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <torch/torch.h>

#include "core/clip_tokenizer.h"
#include "core/error.h"
#include "core/files.h"
#include "core/text.h"
#include "models/clip_vision/clip.h"
#include "models/weights/state_dict.h"
#include "tests/support.h"
#include "trainers/clip_scorer.h"

namespace zoo {
namespace {

/// A folder with a small tokenizer and what clip_vision.py adds.
std::string clip_folder(const std::string& kind, const std::string& name) {
  const std::string folder = test::scratch_dir(name);
  const auto tokenizer =
      ClipTokenizer::train({"a red circle", "a red circle", "two blue squares", "blue and red"}, 30);
  for (const auto& [file, content] : tokenizer.files()) write_file(join_path(folder, file), content);
  test::run_python("clip_vision.py", {folder, kind});
  return folder;
}

double farthest(const torch::Tensor& a, const torch::Tensor& b) {
  return (a - b).abs().max().item<double>();
}

class ClipVisionParity : public testing::TestWithParam<std::string> {};

const std::vector<std::string>& clip_texts() {
  static const std::vector<std::string> texts = [] {
    std::string longer = "Two BLUE squares, and a very long list of things: ";
    for (int i = 0; i < 60; ++i) longer += "red blue ";
    return std::vector<std::string>{"a red circle", longer};
  }();
  return texts;
}

TEST_P(ClipVisionParity, EqualsTransformers) {
  ZOO_NEEDS_PYTHON();
  const torch::NoGradGuard no_grad;
  const std::string folder = clip_folder(GetParam(), "clip-" + GetParam());
  const StateDict cases = load_tensors(folder + "/cases.expected");
  LoadedClip clip = load_clip(folder);
  const int64_t side = clip.model->options.vision_config.image_size;
  const torch::Tensor pixels = *cases.find("pixels"), ids = *cases.find("ids");

  EXPECT_LE(farthest(clip.model->picture_features(pixels), *cases.find("picture_features")), 1e-4);
  EXPECT_LE(
      farthest(clip.model->text_features(ids, clip.tokenizer.end_token()), *cases.find("text_features")),
      1e-4);
  ClipScorer scorer(folder);
  for (int64_t i = 0; i < 2; ++i) {
    const std::string text = clip_texts()[static_cast<size_t>(i)];
    SCOPED_TRACE(i);
    EXPECT_TRUE(torch::tensor(clip.tokenizer.encode(text, 20)).equal(ids[i]));
    const torch::Tensor rgb = cases.find("rgb" + std::to_string(i))->unsqueeze(0);
    // Of bytes, at most one step of rounding, and that rarely.
    const torch::Tensor steps = (clip_pixels(rgb, side) - pixels.slice(0, i, i + 1)).abs() * 255 * 0.27;
    EXPECT_LE(steps.max().item<double>(), 1.1);
    EXPECT_LE(steps.gt(0.1).to(torch::kFloat).mean().item<double>(), 0.02);
    const torch::Tensor pictures = rgb.to(torch::kFloat).div(127.5).sub(1);
    const double expected = std::max(0.0, 100 * (*cases.find("cosines"))[i].item<double>());
    EXPECT_NEAR(scorer.scores(pictures, {text}, torch::kCPU).item<double>(), expected, 0.2);
  }
}

INSTANTIATE_TEST_SUITE_P(Activations, ClipVisionParity, testing::Values("quick", "gelu"),
                         [](const auto& info) { return info.param; });

TEST(ClipVisionFilesParity, FoldersAtFaultAreNamed) {
  ZOO_NEEDS_PYTHON();
  const std::string folder = clip_folder("quick", "clip-faults"), config = folder + "/config.json";
  const Json whole = read_json(config);
  EXPECT_THAT(test::error_of([&] { load_clip(folder + "/none"); }), testing::HasSubstr("No such file"));
  Json changed = whole;
  changed["vision_config"]["intermediate_size"] = 41;
  write_file(config, changed.dump());
  EXPECT_THAT(test::error_of([&] { load_clip(folder); }), testing::HasSubstr("misshapen"));
  changed = whole;
  changed["vision_config"]["patch_size"] = 64;
  write_file(config, changed.dump());
  EXPECT_THAT(test::error_of([&] { load_clip(folder); }),
              testing::AllOf(testing::HasSubstr(config), testing::HasSubstr("patch_size")));
  changed = whole;
  changed.erase("vision_config");
  write_file(config, changed.dump());
  EXPECT_THAT(test::error_of([&] { load_clip(folder); }), testing::HasSubstr("expected that of a CLIPModel"));
}

}  // namespace
}  // namespace zoo
