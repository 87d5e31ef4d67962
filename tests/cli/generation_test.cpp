// Folders of pictures scored against others by `zoo eval --predictions FOLDER`.
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <torch/torch.h>

#include "core/files.h"
#include "core/options.h"
#include "core/text.h"
#include "datasets/image.h"
#include "models/inception/inception.h"
#include "models/weights/state_dict.h"
#include "tests/support.h"
#include "trainers/metrics/generation.h"

namespace zoo {
namespace {

using test::expect_error;
using test::zoo_json;

using Arguments = std::vector<std::string>;

/// Two folders of noise, and an Inception with random weights that keep their maps in range.
class GenerationFolders : public testing::Test {
 protected:
  static void SetUpTestSuite() {
    folder_ = test::scratch_dir("generation");
    weights_ = join_path(folder_, "inception.safetensors");
    torch::manual_seed(4);
    const torch::NoGradGuard no_grad;
    network_ = Inception();
    for (auto& item : network_->named_parameters()) {
      torch::Tensor& tensor = item.value();
      if (tensor.dim() == 4)
        tensor.normal_(0, std::sqrt(2.0 / static_cast<double>(tensor.numel() / tensor.size(0))));
    }
    network_->eval();
    save_safetensors(weights_, module_state(*network_));
    real_ = write_pictures("real", 3, 1);
    made_ = write_pictures("made", 4, 2);
  }
  static void TearDownTestSuite() { network_ = nullptr; }

  static torch::Tensor picture(int64_t number, int64_t seed) {
    torch::manual_seed(static_cast<uint64_t>(100 * seed + number));
    return torch::randint(0, 256, {24, 32, 3}, torch::kByte);
  }
  static std::string write_pictures(const std::string& name, int64_t count, int64_t seed) {
    const std::string folder = join_path(folder_, name);
    make_folders(folder);
    for (int64_t i = 0; i < count; ++i) {
      const torch::Tensor bytes = picture(i, seed);
      write_image(join_path(folder, format("%lld.png", static_cast<long long>(i))),
                  cv::Mat(24, 32, CV_8UC3, bytes.data_ptr()));
    }
    return folder;
  }
  static Json score(const Arguments& more) {
    Arguments all = {"eval", "--predictions", made_, "--data", real_, "--json", "--threads", "1"};
    all.insert(all.end(), more.begin(), more.end());
    return zoo_json(all);
  }
  static InceptionRows rows(int64_t count, int64_t seed) {
    std::vector<torch::Tensor> pictures;
    for (int64_t i = 0; i < count; ++i)
      pictures.push_back(picture(i, seed).permute({2, 0, 1}).to(torch::kFloat) / 255);
    return network_->forward(inception_input(torch::stack(pictures), "bilinear"));
  }

  static inline std::string folder_, weights_, real_, made_;
  static inline Inception network_{nullptr};
};

TEST_F(GenerationFolders, FiguresAreThoseOfTheFeatures) {
  const torch::NoGradGuard no_grad;
  const Json document = score({"--set", "eval.features=" + weights_, "--set", "eval.generation.is_splits=2"});
  const Json& metrics = document.at("metrics");
  const InceptionRows real = rows(3, 1), made = rows(4, 2);
  GenerationOptions options;
  options.is_splits = 2;
  const double fid = frechet_distance(real.features, made.features, "");
  EXPECT_GT(fid, 0);
  EXPECT_NEAR(metrics.at("FID").get<double>(), fid, 1e-3 * fid);
  EXPECT_NEAR(metrics.at("KID").get<double>(),
              kernel_distance(real.features, made.features, options, "").mean, 1e-3);
  const double score = inception_score(made.logits - network_->fc->bias, options, "").mean;
  EXPECT_NEAR(metrics.at("IS").get<double>(), score, 1e-4 * score);
  EXPECT_TRUE(metrics.at("CLIP").is_null());
  const Json& details = document.at("details");
  EXPECT_EQ(details.at("features"), weights_);
  EXPECT_EQ(details.at("network"), "inception-2015-12-05");
  EXPECT_EQ(details.at("resize"), "bilinear");
  EXPECT_EQ(details.at("real"), 3);
  EXPECT_EQ(details.at("fake"), 4);
}

TEST_F(GenerationFolders, FewerPicturesThanSplitsHaveNoScore) {
  const Json metrics = score({"--set", "eval.features=" + weights_, "--task", "generation", "--set",
                              "eval.generation.resize=clean"})
                           .at("metrics");
  EXPECT_TRUE(metrics.at("IS").is_null());
  EXPECT_GT(metrics.at("FID").get<double>(), 0);
}

TEST_F(GenerationFolders, WithoutWeightsFiguresAreNullAndSaidWhy) {
  const test::CommandResult result =
      test::zoo_run({"eval", "--predictions", made_, "--data", real_, "--json"});
  EXPECT_EQ(result.exit_code, 0);
  const Json document = Json::parse(result.out);
  for (const char* name : {"FID", "KID", "IS", "CLIP"})
    EXPECT_TRUE(document.at("metrics").at(name).is_null());
  EXPECT_THAT(result.err, testing::HasSubstr("eval.features=FILE, pytorch-fid's pt_inception-2015-12-05"));
  EXPECT_THAT(result.err, testing::HasSubstr("eval.clip=FOLDER"));
}

TEST_F(GenerationFolders, FaultsAreNamed) {
  const std::string empty = join_path(folder_, "empty"), broken = join_path(folder_, "broken");
  make_folders(empty);
  make_folders(broken);
  write_file(join_path(broken, "0.png"), "no picture");
  const std::string features = "eval.features=" + weights_;
  expect_error({"eval", "--predictions", empty, "--data", real_, "--set", features}, 1,
               {empty, "holds no pictures"});
  expect_error({"eval", "--predictions", broken, "--data", real_, "--set", features}, 1, {broken + "/0.png"});
  expect_error({"eval", "--predictions", made_, "--set", features}, 2, {"expected one --data"});
  expect_error({"eval", "--predictions", made_, "--data", "shapes", "--set", features}, 2,
               {"--data shapes", "a folder of pictures"});
  const std::string other = join_path(folder_, "other.safetensors");
  save_safetensors(other, {{{"weight", torch::zeros({2})}}, {}, ""});
  expect_error({"eval", "--predictions", made_, "--data", real_, "--set", "eval.features=" + other}, 1,
               {other, "gives no features of pictures", "pt_inception-2015-12-05"});
  expect_error({"eval", "--predictions", made_, "--data", real_, "--set", "eval.clip=" + empty}, 1,
               {empty, "config.json"});
  expect_error({"eval", "--predictions", made_, "--data", real_, "--set", "eval.generation.resize=lanczos"},
               2, {"eval.generation.resize", "bilinear"});
}

}  // namespace
}  // namespace zoo
