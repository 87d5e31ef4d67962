#include "core/error.h"
#include "core/text.h"
#include "models/ldm/lora.h"
#include "models/ldm/weights.h"
#include "trainers/recipes/rows.h"
#include "trainers/tasks/autoencoder.h"
#include "trainers/tasks/denoiser.h"
#include "trainers/tasks/trait_reading.h"

namespace zoo {

namespace {

using Change = std::function<void(Json& config)>;

/// Sections that recipes of captioned pictures share, `side` pixels high and wide.
Json caption_config(const std::string& name, const Json& model, int64_t side) {
  Json config = base_config();
  config["model"] = model_section(name, model);
  config["data"]["transform"] = CaptionTransformOptions();
  config["data"]["transform"]["size"] = {side, side};
  config["trainer"]["clip_norm"] = 1.0;
  return config;
}

PublishedWeights publish_own(const Json&, const StateDict& state, const std::string& layout) {
  require_choice("--layout", layout, {"zoo"});
  return {state, {}};
}

/// Reads shape and colour off the drawings of the set `captions`, of all pairs: it judges what a denoiser drew.
Recipe captions_reader() {
  Recipe recipe;
  recipe.name = "captions-reader";
  recipe.family = "trait-reader";
  recipe.task = "classification";
  recipe.description =
      "reads shape and colour off the embedded drawings, to judge pictures made from sentences";
  recipe.data = "captions,size=32,held_out=nothing";
  recipe.defaults = [] {
    Json config = caption_config("captions-reader", TraitReaderOptions(), 32);
    config["data"]["batch_size"] = 64;
    config["data"]["val_batch_size"] = 80;
    config["optimizer"]["lr"] = 2e-3;
    config["optimizer"]["weight_decay"] = 1e-2;
    config["schedule"]["name"] = "onecycle";
    config["trainer"]["epochs"] = 3;
    config["eval"] = TraitEvalOptions();
    return config;
  };
  recipe.validate = [](const Json& config) {
    config.at("model").get<TraitReaderOptions>().validate();
    config.at("data").at("transform").get<CaptionTransformOptions>().validate();
    config.at("eval").get<TraitEvalOptions>().validate();
  };
  recipe.make = [](Json& config, Purpose purpose, const StateDict* weights) {
    return std::make_unique<TraitReadingTask>(config, purpose, weights);
  };
  recipe.publish = publish_own;
  return recipe;
}

Recipe autoencoder_recipe(const std::string& name, const std::string& description,
                          const AutoencoderOptions& options, const Change& change) {
  Recipe recipe;
  recipe.name = name;
  recipe.family = "autoencoder";
  recipe.task = "generation";
  recipe.description = description;
  recipe.data = "captions";
  recipe.defaults = [name, options, change] {
    Json config = caption_config(name, options, options.sample_size);
    config["loss"] = AutoencoderLossOptions();
    config["eval"] = AutoencoderEvalOptions();
    change(config);
    return config;
  };
  recipe.validate = [](const Json& config) {
    config.at("model").get<AutoencoderOptions>().validate("model.");
    config.at("data").at("transform").get<CaptionTransformOptions>().validate();
    auto loss = config.at("loss").get<AutoencoderLossOptions>();
    if (loss.vgg.empty() && loss.lpips.empty())
      loss.perceptual = 0;  // a training alone needs them, and says so
    loss.validate();
    config.at("eval").get<AutoencoderEvalOptions>().validate();
  };
  recipe.make = [](Json& config, Purpose purpose, const StateDict* weights) {
    return std::make_unique<AutoencoderTask>(config, purpose, weights);
  };
  recipe.publish = publish_own;
  return recipe;
}

void validate_denoiser(const Json& config) {
  Json model = config.at("model");
  if (model.at("text_encoder").at("vocab_size") == 0)
    model["text_encoder"]["vocab_size"] = 514;  // the tokenizer tells it
  model.get<LdmOptions>().validate();
  model.get<DenoiserModelOptions>().validate();
  config.at("data").get<DenoiserDataOptions>().validate();
  const auto transform = config.at("data").at("transform").get<CaptionTransformOptions>();
  transform.validate();
  const bool cached = !config.at("data").at("cache_latents").get<std::string>().empty();
  if (cached && (transform.crop != "center" || transform.flip > 0))
    throw UsageError(
        "data.cache_latents keeps each picture once, expected data.transform.crop=center and flip=0");
  config.at("loss").get<DenoiserLossOptions>().validate();
  config.at("eval").get<DenoiserEvalOptions>().validate();
}

/// A folder of parts for diffusers, adapters merged; the file of a training of adapters holds those alone.
PublishedWeights publish_denoiser(const Json& config, const StateDict& state, const std::string& layout) {
  require_choice("--layout", layout, {"zoo", "diffusers"});
  if (layout == "zoo") return {state, {}};
  const auto options = config.at("model").get<LdmOptions>();
  const auto lora = config.at("model").at("lora").get<LoraOptions>();
  Ldm model(options);
  if (lora.rank > 0) add_adapters(*model, lora);
  load_ldm_weights(*model, state, false);
  PublishedWeights published;
  if (lora.rank > 0) {
    published.state = lora_state(*model);
    merge_adapters(*model);
  }
  StateDict whole = module_state(*model);
  const auto files = ClipTokenizer::from_json(Json::parse(state.metadata.at(kLdmTokenizerKey))).files();
  published.write_folder = [options, whole = std::move(whole), files](const std::string& folder) {
    write_diffusers_folder(folder, options, whole, files);
  };
  return published;
}

Recipe denoiser_recipe(const std::string& name, const std::string& description, const LdmOptions& options,
                       const Change& change) {
  Recipe recipe;
  recipe.name = name;
  recipe.family = "ldm";
  recipe.task = "generation";
  recipe.description = description;
  recipe.data = "captions";
  recipe.defaults = [name, options, change] {
    Json config = caption_config(name, options, options.autoencoder.sample_size);
    config["model"].update(Json(DenoiserModelOptions()));
    config["data"].update(Json(DenoiserDataOptions()));
    config["loss"] = DenoiserLossOptions();
    config["eval"] = DenoiserEvalOptions();
    change(config);
    return config;
  };
  recipe.validate = validate_denoiser;
  recipe.make = [](Json& config, Purpose purpose, const StateDict* weights) {
    const bool foreign = weights != nullptr && weights->metadata.count("zoo.config") == 0;
    if (foreign) {
      Json told = ldm_options_of(*weights);
      told.erase("autoencoder_weights");
      config.at("model").update(told);
    }
    return std::make_unique<LdmTask>(config, purpose, weights);
  };
  recipe.publish = publish_denoiser;
  return recipe;
}

/// For drawings of 32 pixels: minutes on two cores.
Recipe tiny_autoencoder() {
  Recipe recipe = autoencoder_recipe("autoencoder-tiny",
                                     "a small autoencoder for the embedded drawings: minutes on two cores",
                                     ldm_tiny().autoencoder, [](Json& config) {
                                       config["loss"]["perceptual"] = 0.0;
                                       config["loss"]["adversarial"] = 0.0;
                                       config["loss"]["learn_logvar"] = false;
                                       config["loss"]["l2"] = 1.0;
                                       config["loss"]["kl"] = 1e-2;
                                       config["data"]["batch_size"] = 16;
                                       config["data"]["val_batch_size"] = 16;
                                       config["optimizer"]["lr"] = 3e-3;
                                       config["schedule"]["name"] = "onecycle";
                                       config["trainer"]["max_steps"] = 4000;
                                       config["trainer"]["validate_every_steps"] = 1000;
                                     });
  recipe.data = "captions,size=32";
  return recipe;
}

/// Stable Diffusion's, with the losses of Rombach et al. 2022: Adam 4.5e-6 for each picture of a batch.
Recipe kl_autoencoder() {
  return autoencoder_recipe("autoencoder-kl", "the autoencoder of Stable Diffusion 1, Rombach et al. 2022",
                            AutoencoderOptions(), [](Json& config) {
                              config["data"]["transform"]["size"] = {256, 256};
                              config["data"]["transform"]["crop"] = "random";
                              config["data"]["transform"]["flip"] = 0.5;
                              config["data"]["batch_size"] = 12;
                              config["optimizer"]["lr"] = 12 * 4.5e-6;
                              config["optimizer"]["beta1"] = 0.5;
                              config["optimizer"]["beta2"] = 0.9;
                              config["optimizer"]["weight_decay"] = 0.0;
                              config["schedule"]["name"] = "constant";
                              config["trainer"]["clip_norm"] = 0.0;
                            });
}

Recipe tiny_denoiser() {
  Recipe recipe =
      denoiser_recipe("ldm-tiny", "a small latent diffusion for the embedded drawings: minutes on two cores",
                      ldm_tiny(), [](Json& config) {
                        config["model"]["tokenizer_merges"] = 256;
                        config["model"]["train_text_encoder"] = true;
                        config["data"]["batch_size"] = 32;
                        config["data"]["val_batch_size"] = 48;
                        config["data"]["cache_latents"] = "memory";
                        config["data"]["latents"] = "mean";
                        config["optimizer"]["lr"] = 1e-3;
                        config["optimizer"]["beta2"] = 0.99;
                        config["optimizer"]["weight_decay"] = 1e-2;
                        config["schedule"]["name"] = "onecycle";
                        config["schedule"]["peak"] = 0.1;
                        config["trainer"]["ema_decay"] = 0.999;
                        config["trainer"]["max_steps"] = 8000;
                        config["trainer"]["validate_every"] = 0;
                        config["trainer"]["validate_every_steps"] = 2000;
                        config["eval"]["training_samples"] = 96;
                      });
  recipe.data = "captions,size=32";
  return recipe;
}

/// Fine-tuning: AdamW 1e-5, decay 1e-2, averages of 0.9999.
Recipe stable_diffusion() {
  Recipe recipe =
      denoiser_recipe("sd15", "Stable Diffusion 1.5, Rombach et al. 2022", sd15(), [](Json& config) {
        config["data"]["batch_size"] = 4;
        config["data"]["cache_latents"] = "memory";
        config["optimizer"]["lr"] = 1e-5;
        config["optimizer"]["weight_decay"] = 1e-2;
        config["schedule"]["name"] = "constant";
        config["trainer"]["epochs"] = 10;
        config["eval"]["guidance_scale"] = 7.5;
        config["eval"]["steps"] = 50;
        config["eval"]["previews"] = 2;
      });
  recipe.alias = "ldm";
  recipe.recognises = ldm_recognises;
  return recipe;
}

}  // namespace

std::vector<Recipe> ldm_recipes() {
  return {tiny_denoiser(), stable_diffusion(), tiny_autoencoder(), kl_autoencoder(), captions_reader()};
}

}  // namespace zoo
