// Latent diffusion through the program: dry runs, pictures from prompts and pictures, features scored, errors.
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <torch/torch.h>

#include "core/clip_tokenizer.h"
#include "core/files.h"
#include "core/options.h"
#include "core/text.h"
#include "datasets/image.h"
#include "models/diffusion/noise_source.h"
#include "models/ldm/ldm.h"
#include "models/weights/state_dict.h"
#include "tests/support.h"

namespace zoo {
namespace {

using test::expect_error;
using test::zoo_json;

using Arguments = std::vector<std::string>;

LdmOptions smallest_ldm(int64_t vocab_size) {
  LdmOptions options = ldm_tiny();
  options.unet.sample_size = 8;
  options.unet.block_out_channels = {16, 16};
  options.unet.cross_attention_dim = options.text_encoder.hidden_size = 16;
  options.unet.attention_head_dim = {2};
  options.unet.norm_num_groups = options.autoencoder.norm_num_groups = 8;
  options.autoencoder.block_out_channels = {8, 16, 16};
  options.autoencoder.sample_size = 32;
  options.autoencoder.scaling_factor = 0.5;
  options.text_encoder.vocab_size = vocab_size;
  options.text_encoder.intermediate_size = 32;
  options.text_encoder.num_attention_heads = 2;
  return options;
}

/// Weights of zoo with a model so small that its pictures take no time, and a diffusers folder without networks.
class LdmProgram : public testing::Test {
 protected:
  static void SetUpTestSuite() {
    folder_ = test::scratch_dir("ldm");
    weights_ = join_path(folder_, "model.safetensors");
    bare_ = join_path(folder_, "bare");
    const ClipTokenizer tokenizer =
        ClipTokenizer::train({"a red circle", "a red circle", "two blue squares"}, 20);
    write_weights(tokenizer);
    make_folders(join_path(bare_, "tokenizer"));
    make_folders(join_path(bare_, "scheduler"));
    write_file(join_path(bare_, "model_index.json"), R"({"_class_name": "StableDiffusionPipeline"})");
    for (const auto& [name, content] : tokenizer.files())
      write_file(join_path(join_path(bare_, "tokenizer"), name), content);
    write_file(
        join_path(bare_, "scheduler/scheduler_config.json"),
        R"({"_class_name": "PNDMScheduler", "beta_start": 0.00085, "beta_end": 0.012, "skip_prk_steps": true,
                   "beta_schedule": "scaled_linear", "set_alpha_to_one": false, "steps_offset": 1, "clip_sample": false})");
    expected_ids_ = tokenizer.encode("A red  circle");
    short_ids_ = tokenizer.encode("A red  circle", smallest_ldm(0).text_encoder.max_position_embeddings);
  }

  static void write_weights(const ClipTokenizer& tokenizer) {
    torch::manual_seed(1);
    const LdmOptions options = smallest_ldm(tokenizer.vocab_size());
    Ldm model(options);
    const torch::NoGradGuard no_grad;
    for (torch::Tensor& parameter : model->parameters()) {
      if (parameter.dim() > 1) parameter.normal_(0, 0.1);
    }
    StateDict state = module_state(*model);
    Json section = options;
    section["name"] = "ldm-tiny";
    state.metadata["zoo.config"] = Json{{"model", section}, {"eval", {{"steps", 4}}}}.dump();
    state.metadata["zoo.tokenizer"] = tokenizer.to_json().dump();
    save_safetensors(weights_, state);
  }

  /// The document of a prediction into a fresh folder `name`.
  static Json predict(const std::string& name, const Arguments& arguments) {
    Arguments all = {"predict", "--weights", weights_, "--output", join_path(folder_, name),
                     "--json",  "--threads", "1"};
    all.insert(all.end(), arguments.begin(), arguments.end());
    return zoo_json(all);
  }
  static torch::Tensor latents(const std::string& name) {
    return load_tensors(join_path(join_path(folder_, name), "latents.safetensors")).find("latents")->clone();
  }
  static torch::Tensor predict_latents(const std::string& name, Arguments arguments) {
    arguments.insert(arguments.end(), {"--output-type", "latent"});
    predict(name, arguments);
    return latents(name);
  }
  static std::string write_latents(const std::string& name, const torch::Tensor& tensor) {
    StateDict file;
    file.tensors = {{"latents", tensor}};
    const std::string path = join_path(folder_, name);
    save_safetensors(path, file);
    return path;
  }

  static inline std::string folder_, weights_, bare_;
  static inline std::vector<int64_t> expected_ids_,
      short_ids_;  // of "A red  circle": 77, and what weights_ take
};

TEST_F(LdmProgram, DryRunNeedsTokenizerAndSchedulerAlone) {
  const Arguments common = {"predict",   "--weights", bare_,     "A red  circle",
                            "--dry-run", "--json",    "--steps", "9"};
  const auto run = [&](Arguments more) {
    more.insert(more.begin(), common.begin(), common.end());
    return zoo_json(more);
  };
  const Json plms = run({});
  EXPECT_EQ(plms.at("sampler"), "plms");  // the folder's
  EXPECT_EQ(plms.at("token_ids"), Json(expected_ids_));
  EXPECT_EQ(plms.at("token_ids").size(), 77u);
  EXPECT_EQ(plms.at("timesteps"), (std::vector<double>{889, 778, 778, 667, 556, 445, 334, 223, 112, 1}));
  EXPECT_TRUE(plms.at("sigmas").is_null());
  const Json euler = run({"--sampler", "euler"});
  EXPECT_EQ(euler.at("timesteps")[1], 874.125);
  EXPECT_EQ(euler.at("sigmas").size(), 10u);
  EXPECT_NEAR(euler.at("sigmas")[0].get<double>(), 14.6146, 1e-4);
  EXPECT_EQ(euler.at("sigmas")[9], 0);
  const Json leading = run({"--sampler", "euler", "--set", "model.scheduler.timestep_spacing=leading"});
  EXPECT_EQ(leading.at("timesteps")[0], 889);
  EXPECT_NEAR(leading.at("start_factor").get<double>(), 7.94378, 1e-4);
  EXPECT_EQ(run({"two squares"}).at("token_ids").size(), 2u);  // a list each
}

TEST_F(LdmProgram, DryRunOfOwnWeights) {
  const Json document = zoo_json({"predict", "--weights", weights_, "A red  circle", "--dry-run", "--json"});
  EXPECT_EQ(document.at("token_ids"), Json(short_ids_));
  EXPECT_EQ(document.at("steps"), 4);  // eval.steps of the training
}

TEST_F(LdmProgram, WritesAPictureOfEveryPrompt) {
  const std::string prompts = join_path(folder_, "prompts.txt");
  write_file(prompts, "a red circle\n\ntwo blue squares\n");
  const Json document = predict("pictures", {prompts, "a blue circle", "--size", "24x32", "--seed", "5",
                                             "--batch-size", "2", "--previews", "2"});
  EXPECT_EQ(document.at("metrics").at("pictures"), 3);
  const Json& rows = document.at("predictions");
  EXPECT_EQ(rows[1].at("prompt"), "two blue squares");
  EXPECT_EQ(rows[2].at("seed"), 7);
  for (const Json& row : rows) {
    const cv::Mat picture =
        read_image(join_path(join_path(folder_, "pictures"), row.at("file_name").get<std::string>()));
    EXPECT_EQ(picture.rows, 24);
    EXPECT_EQ(picture.cols, 32);
  }
  EXPECT_TRUE(file_exists(join_path(folder_, "pictures/preview-0000.png")));
  EXPECT_EQ(read_json(join_path(folder_, "pictures/predictions.json")), rows);
}

TEST_F(LdmProgram, APictureDependsOnItsSeedAlone) {
  const Arguments two = {"a red circle", "two blue squares", "--seed", "3", "--sampler", "euler_a"};
  Arguments batch = two;
  batch.insert(batch.end(), {"--batch-size", "2"});
  const torch::Tensor each = predict_latents("each", two), both = predict_latents("both", batch);
  EXPECT_LT((each - both).abs().max().item<float>(), 1e-4 * each.abs().max().item<float>());
  EXPECT_TRUE(each.equal(predict_latents("again", two)));
  EXPECT_TRUE(each[1].equal(
      predict_latents("alone", {"two blue squares", "--seed", "4", "--sampler", "euler_a"})[0]));
  EXPECT_FALSE(each[0].allclose(
      predict_latents("other", {"two blue squares", "--seed", "3", "--sampler", "euler_a"})[0]));
}

TEST_F(LdmProgram, LatentsOfAFileAreTheStartNoise) {
  const torch::Tensor noise = NoiseSource(9, 2).draw({4, 8, 8});
  const std::string file = write_latents("noise.safetensors", noise);
  const torch::Tensor given = predict_latents("given", {"a red circle", "--latents", file});
  EXPECT_EQ(given.size(0), 2);  // one picture of the prompt each
  const torch::Tensor seeded = predict_latents("seeded", {"a red circle", "a red circle", "--seed", "9"});
  EXPECT_TRUE(given.equal(seeded));
  EXPECT_FALSE(given[0].allclose(
      predict_latents("guided", {"a red circle", "--guidance-scale", "1", "--seed", "9"})[0]));
  EXPECT_FALSE(given[0].allclose(predict_latents(
      "negative", {"a red circle", "--negative-prompt", "two blue squares", "--seed", "9"})[0]));
}

TEST_F(LdmProgram, StartsFromPicturesAndPaintsInMasks) {
  const std::string image = join_path(folder_, "image.png"), mask = join_path(folder_, "mask.png");
  write_image(image, cv::Mat(32, 48, CV_8UC3, cv::Scalar(250, 20, 20)));
  cv::Mat white(32, 48, CV_8UC3, cv::Scalar(0, 0, 0));
  white(cv::Rect(0, 0, 24, 32)).setTo(cv::Scalar(255, 255, 255));
  write_image(mask, white);
  const Arguments start = {"a red circle", "--init-image", image, "--sampler", "ddim", "--steps", "10"};
  const auto with = [&](Arguments more) {
    more.insert(more.begin(), start.begin(), start.end());
    return more;
  };
  const torch::Tensor little = predict_latents("little", with({"--strength", "0.1"}));
  EXPECT_EQ(little.sizes(), (std::vector<int64_t>{1, 4, 8, 12}));  // the picture's size
  EXPECT_FALSE(little.allclose(predict_latents("much", with({"--strength", "0.9"}))));
  const torch::Tensor painted = predict_latents("painted", with({"--mask", mask, "--seed", "1"}));
  const torch::Tensor repainted =
      predict_latents("repainted", with({"--mask", mask, "--seed", "1", "--guidance-scale", "9"}));
  EXPECT_TRUE(painted.slice(3, 6).equal(repainted.slice(3, 6)));  // kept: black in the mask
  EXPECT_FALSE(painted.slice(3, 0, 6).allclose(repainted.slice(3, 0, 6)));
}

TEST_F(LdmProgram, FlagsAreCheckedBeforeWeightsAreRead) {
  const Arguments none = {"predict", "--weights", "no-such-file", "a fox"};
  const auto refuse = [&](Arguments more, const std::vector<std::string>& parts) {
    more.insert(more.begin(), none.begin(), none.end());
    expect_error(more, 2, parts);
  };
  refuse({"--sampler", "eular"}, {"--sampler", "did you mean 'euler'"});
  refuse({"--steps", "0"}, {"--steps", "0"});
  refuse({"--guidance-scale", "x"}, {"--guidance-scale", "x"});
  refuse({"--output-type", "gif"}, {"--output-type", "gif"});
  refuse({"--mask", "m.png"}, {"--mask", "--init-image"});
  refuse({"--strength", "0.5"}, {"--strength", "--init-image"});
  refuse({"--size", "64y64"}, {"--size", "64y64"});
}

TEST_F(LdmProgram, ErrorsNameWhatWouldBeRight) {
  const Arguments common = {"predict", "--weights", weights_,
                            "a fox",   "--output",  join_path(folder_, "errors")};
  const auto refuse = [&](int code, Arguments more, const std::vector<std::string>& parts) {
    more.insert(more.begin(), common.begin(), common.end());
    expect_error(more, code, parts);
  };
  refuse(2, {"--size", "30x32"}, {"30x32", "a height of 28 or 32"});
  refuse(2, {"--size", "30x33"}, {"a height of 28 or 32", "a width of 32 or 36"});
  refuse(1, {"--latents", write_latents("thin.safetensors", torch::zeros({1, 3, 8, 8}))},
         {"thin.safetensors", "latents"});
  const std::string noise = write_latents("square.safetensors", torch::zeros({1, 4, 8, 8}));
  refuse(2, {"--latents", noise, "--size", "64x64"}, {"64x64", "32x32"});
  refuse(1, {"--init-image", "no-such.png"}, {"no-such.png"});
  expect_error({"predict", "--weights", weights_, join_path(folder_, "missing.txt")}, 1, {"missing.txt"});
  expect_error(
      {"predict", "--weights", join_path(bare_, "scheduler/scheduler_config.json"), "a", "--dry-run"}, 1,
      {"scheduler_config.json"});
}

TEST_F(LdmProgram, ListsSamplersAndScoresFeatures) {
  const Json listed = zoo_json({"list", "samplers", "--json"});
  std::vector<std::string> names;
  for (const Json& row : listed.at("samplers")) names.push_back(row.at("name").get<std::string>());
  EXPECT_THAT(names, testing::ElementsAre("ddpm", "ddim", "plms", "euler", "euler_a", "heun", "lms",
                                          "dpmpp_2m", "dpmpp_2m_karras", "unipc"));
  StateDict file;
  torch::manual_seed(2);
  const torch::Tensor real = torch::randn({50, 4});
  file.tensors = {{"real", real}, {"fake", real + 3}};
  const std::string path = join_path(folder_, "features.safetensors");
  save_safetensors(path, file);
  const Json metrics = zoo_json({"eval", "--predictions", path, "--json"}).at("metrics");
  EXPECT_NEAR(metrics.at("FID").get<double>(), 4 * 9, 1e-4);
  EXPECT_GT(metrics.at("KID").get<double>(), 1);
}

}  // namespace
}  // namespace zoo
