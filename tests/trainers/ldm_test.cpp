#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <signal.h>
#include <torch/torch.h>

#include <ATen/Parallel.h>

#include "core/error.h"
#include "core/files.h"
#include "datasets/image.h"
#include "tests/support.h"
#include "trainers/checkpoint.h"
#include "trainers/recipes.h"
#include "trainers/run_directory.h"
#include "trainers/signals.h"
#include "trainers/tasks/autoencoder.h"
#include "trainers/tasks/denoiser.h"
#include "trainers/tasks/denoiser_parts.h"
#include "trainers/trainer.h"

// Both stages of latent diffusion through the trainer, on drawings of 16 pixels: what is learnt of, kept and scored.

namespace zoo {
namespace {

using testing::HasSubstr;

/// A recipe's configuration with changes, its data the smallest drawings.
Json small_config(const std::string& recipe, const std::vector<std::string>& changes) {
  Json config = find_recipe(recipe).defaults();
  config["data"]["train"] = "captions,size=16,train=24,val=8";
  config["data"]["workers"] = 0;
  config["data"]["transform"]["size"] = {16, 16};
  for (const char* change :
       {"data.batch_size=4", "data.val_batch_size=4", "trainer.max_steps=6", "trainer.validate_every=0",
        "trainer.validate_every_steps=0", "trainer.threads=1", "trainer.device=cpu", "eval.previews=0"})
    set_key(config, change);
  for (const std::string& change : changes) set_key(config, change);
  validate_config(find_recipe(recipe), config);
  return config;
}

/// An autoencoder of factor 2, with a discriminator from step 2 on where asked.
Json small_autoencoder(const std::vector<std::string>& changes = {}) {
  std::vector<std::string> all = {"model.block_out_channels=8,8", "model.norm_num_groups=4",
                                  "model.sample_size=16", "loss.discriminator_channels=4",
                                  "loss.discriminator_layers=1"};
  all.insert(all.end(), changes.begin(), changes.end());
  return small_config("autoencoder-tiny", all);
}

Json small_denoiser(const std::vector<std::string>& changes = {}) {
  std::vector<std::string> all = {"model.autoencoder.block_out_channels=8,8",
                                  "model.autoencoder.norm_num_groups=4",
                                  "model.unet.block_out_channels=8,8",
                                  "model.unet.down_block_types=CrossAttnDownBlock2D,DownBlock2D",
                                  "model.unet.up_block_types=UpBlock2D,CrossAttnUpBlock2D",
                                  "model.unet.norm_num_groups=4",
                                  "model.unet.attention_head_dim=2",
                                  "model.unet.cross_attention_dim=8",
                                  "model.text_encoder.hidden_size=8",
                                  "model.text_encoder.intermediate_size=16",
                                  "model.text_encoder.num_attention_heads=2",
                                  "model.text_encoder.max_position_embeddings=16",
                                  "model.tokenizer_merges=20",
                                  "eval.training_samples=0",
                                  "eval.steps=2"};
  all.insert(all.end(), changes.begin(), changes.end());
  return small_config("ldm-tiny", all);
}

std::unique_ptr<Task> make_task(Json& config, Purpose purpose = Purpose::training,
                                const StateDict* weights = nullptr) {
  at::set_num_threads(1);
  torch::manual_seed(5);
  return find_recipe(config.at("model").at("name")).make(config, purpose, weights);
}

/// Trains into a new run; with `stop_after` a signal comes in that step's loss and the run is resumed.
std::string trained(Json config, const std::string& name) {
  const std::unique_ptr<Task> task = make_task(config);
  const std::string run = join_path(test::scratch_dir(name), "run");
  create_run(run, config);
  train(*task, config, run, false);
  return run;
}

/// Stops at the end of step 3, by a limit, and goes on in another process's place.
std::string trained_in_two(const Json& config, const std::string& name) {
  Json first = config;
  const std::unique_ptr<Task> task = make_task(first);
  const std::string run = join_path(test::scratch_dir(name), "run");
  create_run(run, first);
  Json short_run = first;
  short_run["trainer"]["max_steps"] = 3;
  short_run["schedule"]["name"] = "constant";
  train(*task, short_run, run, false);
  Json second = read_run_config(run);
  second["schedule"]["name"] = "constant";
  torch::manual_seed(99);
  torch::rand({7});
  const std::unique_ptr<Task> again =
      find_recipe(second.at("model").at("name")).make(second, Purpose::training, nullptr);
  train(*again, second, run, true);
  return run;
}

void expect_equal_runs(const std::string& a, const std::string& b) {
  const auto mine = load_checkpoint(a), theirs = load_checkpoint(b);
  ASSERT_TRUE(mine && theirs);
  ASSERT_EQ(mine->tensors.tensors.size(), theirs->tensors.tensors.size());
  for (const auto& [name, tensor] : mine->tensors.tensors) {
    const torch::Tensor* same = theirs->tensors.find(name);
    ASSERT_NE(same, nullptr) << name;
    EXPECT_TRUE(torch::equal(tensor, *same)) << name;
  }
}

TEST(LdmAutoencoder, AResumedRunWithADiscriminatorIsEqualToOneNeverStopped) {
  const Json config = small_autoencoder({"loss.adversarial=0.5", "loss.adversarial_start=2",
                                         "schedule.name=constant", "trainer.ema_decay=0.9"});
  const std::string whole = trained(config, "ae-whole"), resumed = trained_in_two(config, "ae-resumed");
  expect_equal_runs(whole, resumed);
  const auto checkpoint = load_checkpoint(whole);
  EXPECT_TRUE(checkpoint->tensors.contains_prefix("loss."));
  // The discriminator moved, which starts in the middle of what was resumed.
  Json fresh = config;
  auto task = make_task(fresh);
  int64_t moved = 0;
  for (const auto& item : task->loss_module()->named_buffers()) {
    const torch::Tensor* now = checkpoint->tensors.find("loss." + item.key());
    if (now != nullptr && item.value().is_floating_point() && !torch::equal(*now, item.value())) ++moved;
  }
  EXPECT_GT(moved, 4);
}

TEST(LdmAutoencoder, ScoresAreThoseOfItsReconstructions) {
  Json config = small_autoencoder();
  const auto task = make_task(config);
  task->module().eval();
  const Json metrics = task->evaluate(torch::kCPU, nullptr);
  auto& model = dynamic_cast<AutoencoderImpl&>(task->module());
  const auto data = open_caption_dataset(parse_data_spec("captions,size=16,val=8"), "val");
  const torch::NoGradGuard no_grad;
  double sum = 0;
  for (int64_t i = 0; i < 8; ++i) {
    const torch::Tensor image = picture_tensor(data->picture(i)).unsqueeze(0);
    const torch::Tensor made = model.decode(model.encode(image).narrow(1, 0, 4));
    const torch::Tensor bytes = made.add(1).mul(127.5).round().clamp(0, 255),
                        real = image.add(1).mul(127.5).round();
    sum += 10 * std::log10(255 * 255 / (bytes - real).to(torch::kDouble).square().mean().item<double>());
  }
  EXPECT_NEAR(metrics.at("PSNR").get<double>(), sum / 8, 1e-6);
  EXPECT_TRUE(metrics.at("rFID").is_null());
  EXPECT_LT(metrics.at("SSIM").get<double>(), 1);
}

TEST(LdmAutoencoder, SizesThatDoNotFitNameTheNearest) {
  Json config = small_autoencoder({"data.transform.size=17,16"});
  EXPECT_THAT(test::error_of([&] { make_task(config); }),
              HasSubstr("data.transform.size: 17 is no multiple of 2, expected 16 or 18"));
  Json published = find_recipe("autoencoder-kl").defaults();
  published["data"]["train"] = "captions,train=4,val=2";
  EXPECT_NO_THROW(validate_config(find_recipe("autoencoder-kl"), published));
  EXPECT_THAT(test::error_of([&] { make_task(published); }), HasSubstr("loss.perceptual=0"));
}

TEST(LdmDenoiser, AResumedRunIsEqualToOneNeverStopped) {
  const std::string autoencoder = trained(small_autoencoder({"trainer.max_steps=2"}), "ldm-ae");
  for (const char* cache : {"", "memory"}) {
    const Json config = small_denoiser({"model.autoencoder_weights=" + autoencoder,
                                        std::string("data.cache_latents=") + cache, "schedule.name=constant",
                                        "loss.offset_noise=0.05"});
    expect_equal_runs(trained(config, "ldm-whole"), trained_in_two(config, "ldm-resumed"));
  }
}

/// The first stage's options and weights are taken over, its latents brought to deviation 1.
TEST(LdmDenoiser, TakesTheTrainedAutoencoder) {
  const std::string autoencoder = trained(
      small_autoencoder({"trainer.max_steps=2", "model.latent_channels=4", "model.layers_per_block=2"}),
      "ldm-ae");
  Json config = small_denoiser({"model.autoencoder_weights=" + autoencoder});
  const auto task = make_task(config);
  EXPECT_EQ(config["model"]["autoencoder"]["layers_per_block"], 2);
  auto& model = dynamic_cast<LdmImpl&>(task->module());
  const StateDict stored = load_state_dict(autoencoder);
  for (const auto& item : model.vae->named_parameters())
    EXPECT_TRUE(torch::equal(item.value(), *stored.find(item.key()))) << item.key();
  const double factor = config["model"]["autoencoder"]["scaling_factor"];
  EXPECT_GT(factor, 0);
  EXPECT_EQ(model.scaling_factor(), factor);
  auto& source = task->training_batches();
  static_cast<void>(source);
  for (const ParameterGroup& group : task->parameter_groups(OptimizerOptions())) {
    for (const auto& item : group.parameters)
      EXPECT_EQ(item.first.find("vae."), std::string::npos) << item.first;
  }
}

TEST(LdmDenoiser, ValidationLossDependsOnTheWeightsAlone) {
  std::vector<double> losses;
  for (const char* size : {"data.val_batch_size=3", "data.val_batch_size=8"}) {
    Json config = small_denoiser({size, "model.autoencoder.scaling_factor=1"});
    const auto task = make_task(config);
    task->module().eval();
    const torch::NoGradGuard no_grad;
    torch::rand({static_cast<int64_t>(losses.size()) + 1});
    losses.push_back(task->evaluate(torch::kCPU, nullptr).at("loss").get<double>());
  }
  EXPECT_NEAR(losses[0], losses[1], 1e-6 * losses[0]);
  EXPECT_GT(losses[0], 0.1);
}

/// A fresh UNet predicts 0: the loss of epsilon is the mean square of Gaussian noise, weights apart.
TEST(LdmDenoiser, LossIsThatOfThePredictedKind) {
  for (const bool cached : {false, true}) {
    Json config =
        small_denoiser({"model.autoencoder.scaling_factor=1", "model.scheduler.prediction_type=epsilon",
                        "model.scheduler.rescale_betas_zero_snr=false", "data.batch_size=16",
                        cached ? "data.cache_latents=memory" : "data.cache_latents="});
    const auto task = make_task(config);
    BatchSource& source = task->training_batches();
    source.start_epoch(0);
    const auto batch = source.next();
    EXPECT_EQ(dynamic_cast<const CaptionBatch&>(*batch).images.defined(), !cached);
    const LossTerms terms = task->loss(*batch, torch::kCPU);
    EXPECT_NEAR(terms.total.item<double>(), 1, 0.1);  // 4096 numbers
    EXPECT_EQ(terms.terms[0].second.item<double>(), terms.total.item<double>());
  }
}

TEST(LdmDenoiser, MeansOfLatentsKeepOutWhatIsDrawn) {
  const auto loss_of = [](const std::string& latents) {
    Json config = small_denoiser({"data.latents=" + latents, "loss.min_snr_gamma=0",
                                  "data.cache_latents=", "model.autoencoder.scaling_factor=1"});
    const auto task = make_task(config);
    auto& denoiser = dynamic_cast<LdmTask&>(*task);
    const torch::NoGradGuard no_grad;
    // A deviation of e^5: draws are far from their means. A fresh denoiser says 0, so that the loss is the target's.
    denoiser.model()->vae->named_parameters()["quant_conv.bias"].slice(0, 4).fill_(10);
    task->training_batches().start_epoch(0);
    return task->loss(*task->training_batches().next(), torch::kCPU).total.item<double>();
  };
  EXPECT_LT(loss_of("mean"), 10);
  EXPECT_GT(loss_of("drawn"), 1000);
}

TEST(LdmDenoiser, AdaptersAloneAreTrained) {
  const std::string base = trained(small_denoiser({"model.autoencoder.scaling_factor=1"}), "ldm-base");
  const StateDict weights = load_state_dict(base);
  Json config =
      small_denoiser({"model.autoencoder.scaling_factor=1", "model.lora.rank=2", "trainer.ema_decay=0"});
  const auto task = make_task(config, Purpose::training, &weights);
  const std::string run = join_path(test::scratch_dir("ldm-lora"), "run");
  create_run(run, config);
  train(*task, config, run, false);
  const StateDict adapted = load_state_dict(run);
  int64_t adapters = 0;
  for (const auto& [name, tensor] : adapted.tensors) {
    const torch::Tensor* before = weights.find(name);
    if (before == nullptr) {
      EXPECT_THAT(name, HasSubstr(".lora_"));
      if (name.find("lora_B") != std::string::npos) adapters += tensor.abs().max().item<double>() > 0 ? 1 : 0;
    } else {
      EXPECT_TRUE(torch::equal(tensor, *before)) << name;
    }
  }
  EXPECT_GT(adapters, 8);
  // A run of adapters is evaluated with them, and published both ways.
  Json again = config;
  EXPECT_NO_THROW(make_task(again, Purpose::evaluation, &adapted));
  const PublishedWeights published = find_recipe("ldm-tiny").publish(config, adapted, "diffusers");
  EXPECT_TRUE(published.state.contains_prefix("unet."));
  const std::string folder = test::scratch_dir("ldm-lora-folder");
  published.write_folder(folder);
  EXPECT_TRUE(file_exists(folder + "/unet/config.json"));
  EXPECT_TRUE(file_exists(folder + "/tokenizer/merges.txt"));
}

TEST(LdmDenoiser, KeepsItsTokenizer) {
  const std::string run = trained(small_denoiser({"model.autoencoder.scaling_factor=1"}), "ldm-tokenizer");
  const StateDict weights = load_state_dict(run);
  Json config = read_run_config(run);
  const auto task = make_task(config, Purpose::inference, &weights);
  auto& ldm = dynamic_cast<LdmTask&>(*task);
  Json fresh = small_denoiser({"model.autoencoder.scaling_factor=1"});
  const auto other = make_task(fresh);
  const std::string text = "a large orange ring at the top left";
  EXPECT_EQ(ldm.tokenizer().encode(text), dynamic_cast<LdmTask&>(*other).tokenizer().encode(text));
  EXPECT_EQ(fresh["model"]["text_encoder"]["vocab_size"], 512 + 20 + 2);
  // Without weights or merges nobody knows one.
  Json none = small_denoiser({"model.tokenizer_merges=0"});
  EXPECT_THAT(test::error_of([&] { make_task(none); }), HasSubstr("expected model.tokenizer=FOLDER"));
}

TEST(LdmDenoiser, SamplesOfATextDependOnTheirSeed) {
  Json config = small_denoiser({"model.autoencoder.scaling_factor=1"});
  const auto task = make_task(config);
  task->module().eval();
  auto& ldm = dynamic_cast<LdmTask&>(*task);
  const torch::Tensor two = ldm.draw({"a red ring", "a blue star"}, 0, 3, torch::kCPU);
  EXPECT_EQ(two.sizes().vec(), (std::vector<int64_t>{2, 3, 16, 16}));
  const torch::Tensor second = ldm.draw({"a blue star"}, 1, 3, torch::kCPU);
  EXPECT_TRUE(torch::allclose(two[1], second[0], 1e-4, 1e-5));
  EXPECT_FALSE(torch::allclose(two[0], two[1], 1e-2, 1e-2));
}

TEST(LdmLatentCache, HoldsWhatTheEncoderSays) {
  const auto data = open_caption_dataset(parse_data_spec("captions,size=16,train=6"), "train");
  DataOptions options;
  options.batch_size = 4;
  options.workers = 0;
  CaptionTransformOptions transform;
  transform.size = {16, 16};
  AutoencoderOptions sizes;
  sizes.block_out_channels = {8, 8};
  sizes.norm_num_groups = 4;
  sizes.layers_per_block = 1;
  Autoencoder first(sizes), other(sizes);
  const std::string folder = test::scratch_dir("latents");
  LatentCache cache(folder, data, options, transform);
  cache.fill(*first, torch::kCPU);
  const torch::NoGradGuard no_grad;
  const torch::Tensor direct = first->encode(picture_tensor(data->picture(5)).unsqueeze(0));
  EXPECT_TRUE(torch::allclose(cache.rows({5, 0})[0], direct[0], 1e-5, 1e-6));
  EXPECT_EQ(list_folder(folder).size(), 1U);
  LatentCache again(folder, data, options, transform);
  int64_t encoded = 0;
  again.fill(*first, torch::kCPU, [&](int64_t, int64_t) { ++encoded; });
  EXPECT_EQ(encoded, 0);
  EXPECT_TRUE(torch::equal(again.rows({3}), cache.rows({3})));
  LatentCache different(folder, data, options, transform);
  different.fill(*other, torch::kCPU);
  EXPECT_EQ(list_folder(folder).size(), 2U);
  EXPECT_FALSE(torch::equal(different.rows({3}), cache.rows({3})));
}

TEST(LdmLatentCache, APictureThatCannotBeReadIsNamedOrLeftOut) {
  const std::string folder = test::scratch_dir("latents-bad");
  write_file(folder + "/metadata.jsonl",
             "{\"file_name\": \"a.png\", \"text\": \"x\"}\n{\"file_name\": \"gone.png\", \"text\": \"y\"}\n");
  const auto drawn = open_caption_dataset(parse_data_spec("captions,size=16,train=1"), "train");
  write_file(folder + "/a.png", encode_png(drawn->picture(0)));
  const auto data = open_caption_dataset(parse_data_spec("captions:" + folder), "train");
  DataOptions options;
  options.workers = 0;
  CaptionTransformOptions transform;
  transform.size = {16, 16};
  AutoencoderOptions sizes;
  sizes.block_out_channels = {8, 8};
  sizes.norm_num_groups = 4;
  Autoencoder model(sizes);
  LatentCache strict("memory", data, options, transform);
  EXPECT_THAT(test::error_of([&] { strict.fill(*model, torch::kCPU); }), HasSubstr("gone.png"));
  options.skip_bad = true;
  LatentCache tolerant("memory", data, options, transform);
  tolerant.fill(*model, torch::kCPU);
  EXPECT_NO_THROW(tolerant.require(0));
  EXPECT_THAT(test::error_of([&] { tolerant.require(1); }),
              HasSubstr("gone.png: its picture cannot be read"));
}

// Reading traits.

TEST(LdmTraits, AReaderLearnsAndJudgesSamples) {
  Json config = small_config("captions-reader",
                             {"data.train=captions,size=32,train=256,val=48,held_out=nothing",
                              "data.transform.size=32,32", "data.batch_size=32", "model.widths=16,32",
                              "model.feature_size=32", "trainer.max_steps=60", "optimizer.lr=0.01"});
  const std::string run = trained(config, "reader");
  LoadedTraitReader reader = load_trait_reader(run);
  ASSERT_EQ(reader.traits.size(), 2U);
  EXPECT_EQ(reader.traits[1].name, "color");
  const auto data = open_caption_dataset(parse_data_spec("captions,size=32,val=48,held_out=nothing"), "val");
  std::vector<int64_t> records(48);
  std::vector<torch::Tensor> pictures;
  for (int64_t i = 0; i < 48; ++i) {
    records[static_cast<size_t>(i)] = i;
    pictures.push_back(picture_tensor(data->picture(i)));
  }
  CaptionTransformOptions transform;
  transform.size = {32, 32};
  const auto features = open_picture_features(run, "bilinear");
  EXPECT_EQ(features->details().at("resize"), "antialiased to 32x32");
  PictureScores same(features.get(), nullptr, torch::kCPU), moved(features.get(), nullptr, torch::kCPU);
  SampleScores right(&reader, &same), shifted(&reader, &moved);
  right.add(torch::stack(pictures), *data, records, transform);
  shifted.add(torch::stack(pictures).roll(1, 0), *data, records, transform);
  Json good, bad;
  right.write("", GenerationOptions(), good);
  shifted.write("_other", GenerationOptions(), bad);
  EXPECT_GT(good.at("color_right").get<double>(), 0.8);
  EXPECT_LT(bad.at("color_right_other").get<double>(), 0.4);
  EXPECT_LE(good.at("both_right").get<double>(), good.at("color_right").get<double>());
  EXPECT_NEAR(good.at("FID").get<double>(), 0, 1e-6);
  // What the trainer said of the same pictures.
  Json evaluation = read_run_config(run);
  const StateDict weights = load_state_dict(run);
  const auto task = make_task(evaluation, Purpose::evaluation, &weights);
  task->module().eval();
  const Json metrics = task->evaluate(torch::kCPU, nullptr);
  EXPECT_DOUBLE_EQ(metrics.at("accuracy_color").get<double>(), good.at("color_right").get<double>());
  EXPECT_DOUBLE_EQ(metrics.at("accuracy").get<double>(), good.at("both_right").get<double>());
  EXPECT_THAT(test::error_of([&] {
                load_trait_reader(trained(small_autoencoder({"trainer.max_steps=1"}), "no-reader"));
              }),
              HasSubstr("no reader of traits, expected a run of captions-reader"));
}

}  // namespace
}  // namespace zoo
