#include <gtest/gtest.h>
#include <torch/torch.h>

#include "core/files.h"
#include "models/weights/state_dict.h"
#include "tests/support.h"
#include "trainers/metrics/generation.h"
#include "trainers/metrics/image_quality.h"

namespace zoo {
namespace {

TEST(GenerationParity, FiguresEqualThoseOfScipyAndScikitLearn) {
  ZOO_NEEDS_PYTHON();
  const std::string folder = test::scratch_dir("generation");
  test::run_python("generation.py", {folder});
  const Json figures = read_json(join_path(folder, "figures.json"));
  const StateDict cases = load_tensors(join_path(folder, "cases.safetensors"));
  const auto tensor = [&](const std::string& name) { return *cases.find(name); };
  const GenerationOptions options;
  for (const std::string name : {"wide", "few", "large"}) {
    const Json found = generation_json(tensor(name + ".real"), tensor(name + ".fake"), options, name);
    EXPECT_NEAR(found.at("FID").get<double>() / figures.at(name).at("FID").get<double>(), 1, 1e-9) << name;
    // Subsets of unequal sets are only like the whole.
    const double kid = figures.at(name).at("KID").get<double>();
    EXPECT_NEAR(found.at("KID").get<double>() / kid, 1, name == "wide" ? 0.05 : 1e-9) << name;
  }
  const MeanAndSpread score = inception_score(tensor("logits"), options, "logits");
  EXPECT_NEAR(score.mean / figures.at("IS")[0].get<double>(), 1, 1e-9);
  EXPECT_NEAR(score.spread / figures.at("IS")[1].get<double>(), 1, 1e-9);

  const auto picture = [&](const char* name) { return tensor(name).to(torch::kFloat) / 127.5 - 1; };
  const torch::Tensor noise = psnr(picture("noisy"), picture("original"), "pictures");
  const torch::Tensor likeness = ssim(picture("noisy"), picture("original"), "pictures");
  for (int64_t i = 0; i < 3; ++i) {
    EXPECT_NEAR(noise[i].item<double>(), figures.at("PSNR")[static_cast<size_t>(i)].get<double>(), 1e-9);
    EXPECT_NEAR(likeness[i].item<double>(), figures.at("SSIM")[static_cast<size_t>(i)].get<double>(), 1e-9);
  }
  EXPECT_LT(likeness[2].item<double>(), likeness[0].item<double>() - 0.05);
}

}  // namespace
}  // namespace zoo
