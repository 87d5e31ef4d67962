#include "trainers/tasks/online_action.h"
#include "core/error.h"
#include "models/action_rnn/action_rnn.h"
#include "models/action_rnn/frame_linear.h"
#include "models/oadtr/oadtr.h"
#include "models/testra/testra.h"
#include "models/trn/trn.h"
#include "trainers/recipes/rows.h"

namespace zoo {

namespace {

/// Streams of the published features' size, with as many classes as THUMOS'14 has, ambiguous ones included.
constexpr const char* kWideStreams = "streams,width=3072,classes=20,ambiguous=1";

/// What a family's row needs beside the sections that all its recipes share.
template <class Options>
struct ActionFamily {
  ActionModel (*make)(const Options&);
  /// Options that foreign tensors tell; null: the recipe's own hold.
  Options (*options_of)(const StateDict& state, Options options) = nullptr;
  std::function<bool(const StateDict& state, const Options& options)> recognises;
};

template <class Options>
std::unique_ptr<Task> make_action_task(Json& config, Purpose purpose, const StateDict* weights,
                                       const ActionFamily<Options>& family) {
  const bool foreign = weights != nullptr && weights->metadata.count("zoo.config") == 0;
  if (foreign && purpose != Purpose::training && family.options_of != nullptr)
    config["model"].update(Json(family.options_of(*weights, config.at("model").get<Options>())));
  return std::make_unique<ActionTask>(config, purpose, weights, [&](const Json& model) {
    ActionModel made = family.make(model.get<Options>());
    if (weights != nullptr) {
      require_fit(assign(*made.module, *weights), weights->source,
                  config.at("trainer").at("partial_weights").get<bool>());
    }
    return made;
  });
}

/// Sizes that come from data are 0 so far.
template <class Options>
void validate_action(const Json& config) {
  Json model = config.at("model");
  for (const char* key : {"feature_size", "num_classes"}) {
    if (model.at(key) == 0) model[key] = 2;
  }
  model.get<Options>().validate();
  require_count("model.ambiguous_class", model.at("ambiguous_class").get<int64_t>(), -1, 1'000'000);
  config.at("loss").get<ActionLossOptions>().validate();
  config.at("data").at("sampling").get<ActionSamplingOptions>().validate();
  config.at("eval").get<ActionEvalOptions>().validate();
}

using Change = std::function<void(Json& config)>;

template <class Options>
Recipe action_recipe(const std::string& name, const std::string& family_name, const std::string& description,
                     const Options& options, const ActionFamily<Options>& family, const Change& change) {
  Recipe recipe;
  recipe.name = name;
  recipe.family = family_name;
  recipe.task = "online-action";
  recipe.description = description;
  recipe.data = kWideStreams;
  recipe.defaults = [name, options, change] {
    Json config = base_config();
    config["model"] = model_section(name, options);
    config["model"]["ambiguous_class"] = -1;  // the head's column of ambiguous steps, where it has one
    config["loss"] = ActionLossOptions();
    config["data"]["sampling"] = ActionSamplingOptions();
    config["eval"] = ActionEvalOptions();
    change(config);
    return config;
  };
  recipe.validate = validate_action<Options>;
  recipe.make = [family](Json& config, Purpose purpose, const StateDict* weights) {
    return make_action_task(config, purpose, weights, family);
  };
  if (family.recognises) {
    recipe.recognises = [family, options](const StateDict& state) {
      return family.recognises(state, options);
    };
  }
  recipe.publish = [](const Json&, const StateDict& state, const std::string& layout) {
    require_choice("--layout", layout, {"zoo", "original"});
    return PublishedWeights{state, {}};
  };
  return recipe;
}

/// Of minutes on two cores, for the embedded streams: sizes of data come from the data, and what a training needs is the
/// same for all, so that they can be compared.
template <class Options>
Recipe tiny(const std::string& name, const std::string& family_name, const std::string& description,
            Options options, ActionFamily<Options> family, const Change& change) {
  options.feature_size = 0;
  options.num_classes = 0;
  family.recognises = nullptr;
  Recipe recipe = action_recipe(name, family_name, description, options, family, [change](Json& config) {
    config["data"]["batch_size"] = 32;
    config["data"]["val_batch_size"] = 20;
    config["optimizer"]["lr"] = 1e-3;
    config["optimizer"]["weight_decay"] = 1e-2;
    config["schedule"]["name"] = "onecycle";
    config["trainer"]["clip_norm"] = 1.0;
    config["trainer"]["epochs"] = 8;
    config["trainer"]["validate_every"] = 4;
    change(config);
  });
  recipe.data = "streams";
  return recipe;
}

const ActionFamily<OadTrOptions> kOadTr = {
    make_oadtr, oadtr_options_of,
    [](const StateDict& state, const OadTrOptions&) { return oadtr_recognises(state); }};
const ActionFamily<TrnOptions> kTrn = {
    make_trn, trn_options_of,
    [](const StateDict& state, const TrnOptions&) { return trn_recognises(state); }};
const ActionFamily<TestraOptions> kTestra = {
    make_testra, testra_options_of,
    [](const StateDict& state, const TestraOptions&) { return testra_recognises(state); }};
const ActionFamily<ActionRnnOptions> kActionRnn = {make_action_rnn, action_rnn_options_of,
                                                   action_rnn_recognises};
const ActionFamily<FrameLinearOptions> kFrameLinear = {make_frame_linear};

/// AdamW 1e-4, batches of 128 windows, five epochs, a tenth of the step size after each.
Recipe published_oadtr() {
  return action_recipe("oadtr", "oadtr", "OadTR, Wang et al. 2021: a Transformer over the last 64 steps",
                       OadTrOptions(), kOadTr, [](Json& config) {
                         config["data"]["batch_size"] = 128;
                         config["data"]["sampling"]["start"] = "skip";
                         config["data"]["sampling"]["tail"] = 9;
                         config["data"]["sampling"]["skip_ambiguous"] = true;
                         config["loss"]["future_weight"] = 0.5;
                         config["schedule"]["step"] = 0.2;
                         config["trainer"]["epochs"] = 5;
                         config["trainer"]["clip_norm"] = 1.0;
                         config["eval"]["protocol"]["ambiguous_future"] = true;
                       });
}

/// Adam 5e-4, 32 sequences of 64 steps, 21 epochs.
Recipe published_trn() {
  return action_recipe("trn", "trn", "TRN, Xu et al. 2019: an LSTM with a decoder that looks ahead",
                       TrnOptions(), kTrn, [](Json& config) {
                         config["data"]["batch_size"] = 32;
                         config["data"]["sampling"]["stride"] = 64;
                         config["data"]["sampling"]["start"] = "skip";
                         config["optimizer"]["lr"] = 5e-4;
                         config["optimizer"]["weight_decay"] = 5e-4;
                         config["schedule"]["name"] = "constant";
                         config["trainer"]["epochs"] = 21;
                         config["trainer"]["clip_norm"] = 0.0;
                         config["eval"]["protocol"]["clamp_future"] = true;
                       });
}

/// Adam 7e-5, batches of 16 windows, 25 epochs, ten of them of a growing step size.
Recipe published_testra() {
  return action_recipe("testra", "testra",
                       "TeSTra, Zhao and Krähenbühl 2022: an endless memory at a constant cost",
                       TestraOptions(), kTestra, [](Json& config) {
                         config["data"]["batch_size"] = 16;
                         config["data"]["sampling"]["stride"] = 32;
                         config["data"]["sampling"]["start"] = "skip";
                         config["optimizer"]["lr"] = 7e-5;
                         config["optimizer"]["weight_decay"] = 5e-5;
                         config["schedule"]["name"] = "cosine";
                         config["schedule"]["warmup"] = 0.4;
                         config["schedule"]["warmup_factor"] = 0.3;
                         config["trainer"]["epochs"] = 25;
                         config["trainer"]["clip_norm"] = 0.0;
                       });
}

/// AdamW 1e-4, batches of 16 windows of 128 steps, a loss on the last of them.
Recipe published_rnn(const std::string& cell, const std::string& description) {
  ActionRnnOptions options;
  options.cell = cell;
  return action_recipe("oad-" + cell, "oad-rnn", description, options, kActionRnn, [](Json& config) {
    config["data"]["batch_size"] = 16;
    config["data"]["sampling"]["stride"] = 4;
    config["data"]["sampling"]["start"] = "zero";
    config["loss"]["normalise_targets"] = true;
    config["loss"]["last_step_only"] = true;
    config["optimizer"]["weight_decay"] = 0.05;
    config["schedule"]["name"] = "constant";
    config["trainer"]["epochs"] = 10;
    config["trainer"]["clip_norm"] = 0.0;
  });
}

/// A window's steps all have a loss, so that windows need not overlap much.
void sequences(Json& config) {
  config["data"]["sampling"]["stride"] = 8;
}

Recipe tiny_oadtr() {
  OadTrOptions options;
  options.hidden_dim = options.feedforward = 96;
  options.encoder_layers = 2;
  options.decoder_layers = 2;
  options.encoder_heads = options.decoder_heads = 4;
  return tiny("oadtr-tiny", "oadtr", "a small OadTR for the embedded streams: minutes on two cores", options,
              kOadTr, [](Json& config) {
                config["data"]["sampling"]["stride"] = 4;
                config["loss"]["future_weight"] = 0.5;
              });
}

Recipe tiny_trn() {
  TrnOptions options;
  options.hidden_dim = 128;
  return tiny("trn-tiny", "trn", "a small TRN for the embedded streams", options, kTrn, [](Json& config) {
    sequences(config);
    config["optimizer"]["lr"] = 2e-3;  // its weights start near 0
  });
}

Recipe tiny_testra() {
  TestraOptions options;
  options.hidden_dim = options.feedforward = 96;
  options.heads = 4;
  options.window = 32;
  options.memory = 128;
  options.memory_rate = 1;
  options.horizons = 8;
  options.dropout = 0.1;
  return tiny("testra-tiny", "testra", "a small TeSTra for the embedded streams", options, kTestra,
              sequences);
}

Recipe tiny_rnn(const std::string& cell, const std::string& description) {
  ActionRnnOptions options;
  options.cell = cell;
  options.projection = options.hidden_dim = 128;
  options.window = 64;
  options.horizons = 8;
  return tiny("oad-" + cell + "-tiny", "oad-rnn", description, options, kActionRnn, sequences);
}

Recipe frame_linear() {
  FrameLinearOptions options;
  options.horizons = 8;
  return tiny("oad-linear", "oad-linear", "what a single step tells, by a linear classifier", options,
              kFrameLinear, sequences);
}

}  // namespace

std::vector<Recipe> action_recipes() {
  return {
      tiny_oadtr(),
      published_oadtr(),
      tiny_trn(),
      published_trn(),
      tiny_testra(),
      published_testra(),
      tiny_rnn("gru", "a small GRU for the embedded streams"),
      tiny_rnn("lstm", "a small LSTM for the embedded streams"),
      tiny_rnn("rnn", "a small plain recurrent network for the embedded streams"),
      published_rnn("gru", "MiniROAD, An et al. 2023: a GRU"),
      published_rnn("lstm", "MiniROAD's form with an LSTM"),
      published_rnn("rnn", "MiniROAD's form with a plain recurrent cell"),
      frame_linear(),
  };
}

}  // namespace zoo
