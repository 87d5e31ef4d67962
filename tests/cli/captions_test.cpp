// Captioned pictures and both stages of latent diffusion through the program: data, short trainings, scores, exports, errors.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "core/files.h"
#include "core/text.h"
#include "models/weights/state_dict.h"
#include "tests/process.h"
#include "tests/support.h"

namespace zoo {
namespace {

using test::CommandResult;
using test::expect_error;
using test::zoo_json;
using test::zoo_run;
using testing::HasSubstr;

using Arguments = std::vector<std::string>;

/// `zoo train` of a few steps on drawings of 16 pixels.
Arguments short_training(const std::string& model, const std::string& run, const Arguments& settings) {
  Arguments command = {"train",     "--model", model,       "--data", "captions,size=16,train=24,val=8",
                       "--threads", "1",       "--workers", "0",      "--max-steps",
                       "3",         "--json",  "--output",  run,      "--batch-size",
                       "4"};
  for (const char* setting : {"data.transform.size=16,16", "data.val_batch_size=4",
                              "trainer.validate_every=0", "trainer.validate_every_steps=0"})
    command.insert(command.end(), {"--set", setting});
  for (const std::string& setting : settings) command.insert(command.end(), {"--set", setting});
  return command;
}

Json train_json(const std::string& model, const std::string& run, const Arguments& settings) {
  return zoo_json(short_training(model, run, settings));
}

/// A reader, an autoencoder and a denoiser over it, shared by all tests.
class CaptionsProgram : public testing::Test {
 protected:
  static void SetUpTestSuite() {
    folder_ = test::scratch_dir("captions-program");
    reader_ = join_path(folder_, "reader");
    autoencoder_ = join_path(folder_, "autoencoder");
    denoiser_ = join_path(folder_, "denoiser");
    train_json("captions-reader", reader_, {"model.widths=8,8", "model.feature_size=8"});
    autoencoded_ =
        train_json("autoencoder-tiny", autoencoder_,
                   {"model.block_out_channels=8,8", "model.norm_num_groups=4", "eval.features=" + reader_});
    denoised_ = train_json(
        "ldm-tiny", denoiser_,
        {"model.autoencoder_weights=" + autoencoder_, "model.unet.block_out_channels=8,8",
         "model.unet.down_block_types=CrossAttnDownBlock2D,DownBlock2D",
         "model.unet.up_block_types=UpBlock2D,CrossAttnUpBlock2D", "model.unet.norm_num_groups=4",
         "model.unet.attention_head_dim=2", "model.unet.cross_attention_dim=8",
         "model.text_encoder.hidden_size=8", "model.text_encoder.intermediate_size=16",
         "model.text_encoder.num_attention_heads=2", "model.tokenizer_merges=20", "eval.steps=2",
         "eval.training_samples=4", "eval.reader=" + reader_, "eval.features=" + reader_, "eval.previews=4"});
  }

  static inline std::string folder_, reader_, autoencoder_, denoiser_;
  static inline Json autoencoded_, denoised_;
};

TEST_F(CaptionsProgram, BothStagesAreScored) {
  EXPECT_GT(autoencoded_.at("metrics").at("PSNR").get<double>(), 3);
  EXPECT_TRUE(autoencoded_.at("metrics").at("rFID").is_number());
  EXPECT_TRUE(file_exists(join_path(autoencoder_, "predictions/reconstructions.png")));
  const Json& metrics = denoised_.at("metrics");
  for (const char* name :
       {"loss", "FID", "KID", "both_right", "both_right_unguided", "shape_right", "color_right"})
    EXPECT_TRUE(metrics.at(name).is_number()) << name;
  EXPECT_NEAR(metrics.at("both_right_chance").get<double>(), 1.0 / 48, 1e-12);
  EXPECT_TRUE(file_exists(join_path(denoiser_, "predictions/samples.png")));
  const Json again = zoo_json({"eval", "--weights", denoiser_, "--set", "eval.samples=4", "--json"});
  EXPECT_EQ(again.at("metrics"), metrics);
  const Json alone = zoo_json(
      {"eval", "--weights", denoiser_, "--set", "eval.reader=", "--set", "eval.features=", "--json"});
  EXPECT_EQ(alone.at("metrics").at("loss"), metrics.at("loss"));
  EXPECT_TRUE(alone.at("metrics").at("FID").is_null());
  EXPECT_TRUE(alone.at("metrics").at("both_right").is_null());
  const Json stage_one = zoo_json({"eval", "--weights", autoencoder_, "--json"});
  EXPECT_EQ(stage_one.at("metrics"), autoencoded_.at("metrics"));
}

TEST_F(CaptionsProgram, ExportsFourFilesAndAFolder) {
  const std::string traced = join_path(folder_, "exported.pt");
  const Json document = zoo_json({"export", "--weights", denoiser_, "--output", traced, "--json"});
  EXPECT_LT(document.at("metrics").at("max_difference").get<double>(), 1e-4);
  for (const char* part : {"text_encoder", "unet", "vae_encoder", "vae_decoder"})
    EXPECT_TRUE(file_exists(join_path(folder_, std::string("exported-") + part + ".pt"))) << part;
  const std::string published = join_path(folder_, "published");
  zoo_json({"export", "--weights", denoiser_, "--output", published, "--layout", "diffusers", "--json"});
  EXPECT_TRUE(file_exists(join_path(published, "model_index.json")));
  // And back: other options of the recipe are the folder's.
  const Json read =
      zoo_json({"eval", "--weights", published, "--model", "ldm-tiny", "--data",
                "captions,size=16,train=24,val=8", "--set", "data.transform.size=16,16", "--json"});
  const Json own = zoo_json(
      {"eval", "--weights", denoiser_, "--set", "eval.reader=", "--set", "eval.features=", "--json"});
  EXPECT_NEAR(read.at("metrics").at("loss").get<double>(), own.at("metrics").at("loss").get<double>(), 1e-5);
  expect_error({"export", "--weights", denoiser_, "--output", join_path(folder_, "one.safetensors"),
                "--layout", "diffusers"},
               2, {"--layout diffusers is a folder of several files", "--output DIR"});
  expect_error({"export", "--weights", autoencoder_, "--output", join_path(folder_, "hf"), "--layout", "hf"},
               2, {"--layout"});
}

TEST_F(CaptionsProgram, DataIsListedMadeCheckedAndShown) {
  const std::string set = join_path(folder_, "set");
  const CommandResult made = zoo_run({"data", "make", "captions,size=16,train=6,val=4", set});
  ASSERT_EQ(made.exit_code, 0) << made.err;
  EXPECT_THAT(made.out, HasSubstr("read it by captions:" + set));
  const Json checked = zoo_json({"data", "check", "captions:" + set, "--json"});
  EXPECT_EQ(checked.at("findings").size(), 0U);
  EXPECT_EQ(checked.at("splits")[0].at("captions"), 18);
  const std::string sheet = join_path(folder_, "sheet.png");
  EXPECT_EQ(zoo_run({"data", "show", "captions:" + set, "--output", sheet}).exit_code, 0);
  EXPECT_TRUE(file_exists(sheet));
  EXPECT_THAT(zoo_run({"data", "list"}).out, HasSubstr("captions:PATH"));
  write_file(join_path(set, "val/metadata.jsonl"), "{\"file_name\": \"000000.png\"}\n");
  expect_error({"data", "show", "captions:" + set, "--output", sheet}, 1,
               {"val/metadata.jsonl: line 1: 000000.png has no \"text\""});
}

TEST_F(CaptionsProgram, ErrorsAreOneLine) {
  const std::string run = join_path(folder_, "never");
  const auto denoiser = [&](const std::string& setting) {
    return short_training("ldm-tiny", run, {setting});
  };
  expect_error(denoiser("eval.sampler=ddmi"), 2, {"eval.sampler", "ddim"});
  expect_error(denoiser("model.scheduler.prediction_type=noise"), 2, {"prediction_type", "epsilon"});
  expect_error(denoiser("data.caption_dropout=2"), 2, {"data.caption_dropout", "2"});
  expect_error(denoiser("model.unet.cross_attention_dim=64"), 2,
               {"model.unet.cross_attention_dim: 64, expected"});
  expect_error(denoiser("data.transform.size=18,16"), 2, {"18 is no multiple of", "expected 16 or"});
  expect_error(denoiser("model.autoencoder_weights=" + reader_), 1, {reader_});
  expect_error(denoiser("eval.reader=" + autoencoder_), 1, {autoencoder_ + ": no reader of traits"});
  expect_error(denoiser("model.tokenizer_merges=0"), 1, {"no tokenizer is known", "model.tokenizer=FOLDER"});
  Arguments flipped =
      short_training("ldm-tiny", run, {"data.transform.flip=0.5", "data.cache_latents=memory"});
  expect_error(flipped, 2, {"data.cache_latents keeps each picture once"});
  expect_error(short_training("autoencoder-kl", run, {"loss.perceptual=1"}), 2, {"loss.perceptual=0"});
  expect_error(
      short_training("captions-reader", run, {"data.train=captions:" + join_path(folder_, "nothing")}), 1,
      {"nothing: is not there, expected a folder with metadata.jsonl"});
}

}  // namespace
}  // namespace zoo
