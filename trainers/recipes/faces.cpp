#include "trainers/tasks/faces.h"
#include "core/error.h"
#include "core/text.h"
#include "models/deepface/deepface.h"
#include "models/deepid/deepid_ensemble.h"
#include "models/iresnet/iresnet.h"
#include "models/mobilefacenet/mbf.h"
#include "models/mobilefacenet/mobilefacenet.h"
#include "trainers/recipes/rows.h"

namespace zoo {

namespace {

/// What a family's row needs beside the sections that all face recipes share.
template <class Options>
struct FaceFamily {
  FaceModel (*make)(const Options&);
  /// Options that foreign tensors tell; null: the recipe's own hold.
  Options (*options_of)(const StateDict& state, Options options) = nullptr;
  std::function<bool(const StateDict& state, const Options& options)> recognises;
  /// Lists of `model` whose length is fixed.
  std::vector<std::string> fixed_lists = {"input_size"};
};

std::string size_text(const Json& size) {
  return format("%lldx%lld", static_cast<long long>(size.at(0).get<int64_t>()),
                static_cast<long long>(size.at(1).get<int64_t>()));
}

/// The pictures' size is the model's. Throws UsageError where data.transform.input_size was set to another.
void follow_input_size(Json& config, const Json& usual) {
  const Json& wanted = config.at("model").at("input_size");
  Json& size = config.at("data").at("transform").at("input_size");
  if (size == wanted) return;
  if (size != usual) {
    throw UsageError("data.transform.input_size is " + size_text(size) + ", model.input_size " +
                     size_text(wanted) + ": expected the same");
  }
  size = wanted;
}

/// Tensors of a loss are no part of the network.
void load_network(torch::nn::Module& module, const StateDict& weights, bool partial) {
  require_fit(assign(module, weights, {"loss."}), weights.source, partial);
}

template <class Options>
std::unique_ptr<Task> make_face_task(Json& config, Purpose purpose, const StateDict* weights,
                                     const FaceFamily<Options>& family, const Json& usual_size) {
  auto options = config.at("model").get<Options>();
  const bool foreign = weights != nullptr && weights->metadata.count("zoo.config") == 0;
  if (foreign && purpose != Purpose::training && family.options_of != nullptr) {
    options = family.options_of(*weights, options);
    config["model"].update(Json(options));
  }
  follow_input_size(config, usual_size);
  return std::make_unique<FaceTask>(config, purpose, weights, [&] {
    FaceModel model = family.make(options);
    if (weights != nullptr)
      load_network(*model.module, *weights, config.at("trainer").at("partial_weights").get<bool>());
    return model;
  });
}

/// Throws UsageError for a list of `model` with more or fewer numbers than the recipe's.
void require_lengths(const Json& model, const Json& usual, const std::vector<std::string>& keys) {
  for (const std::string& key : keys) {
    const size_t found = model.at(key).size(), expected = usual.at(key).size();
    if (found == expected) continue;
    throw UsageError(format("model.%s: %zu numbers, expected %zu", key.c_str(), found, expected));
  }
}

template <class Options>
void validate_faces(const Json& config, const FaceFamily<Options>& family, const Json& usual_model) {
  require_lengths(config.at("model"), usual_model, family.fixed_lists);
  config.at("model").get<Options>().validate();
  config.at("loss").get<FaceLossOptions>().validate();
  config.at("data").at("transform").get<FaceTransformOptions>().validate();
  config.at("eval").get<FaceEvalOptions>().validate();
  config.at("verify").get<VerifyOptions>().validate();
  Json sizes = config;
  follow_input_size(sizes, usual_model.at("input_size"));
}

/// Names are the published ones; a loss belongs to a run.
PublishedWeights publish_faces(const StateDict& state, const std::string& layout,
                               const std::vector<std::string>& layouts) {
  require_choice("--layout", layout, layouts);
  PublishedWeights published{{{}, state.metadata, state.source}, {}};
  for (const auto& tensor : state.tensors) {
    if (!starts_with(tensor.first, "loss.")) published.state.tensors.push_back(tensor);
  }
  return published;
}

/// Sections that face recipes share: arcface_torch's SGD and linear decay, its step size of 0.1 for 1024
/// pictures scaled to the batch.
Json face_config(const std::string& name, const Json& model) {
  Json config = base_config();
  config["model"] = model_section(name, model);
  config["loss"] = FaceLossOptions();
  config["data"]["transform"] = FaceTransformOptions();
  config["data"]["transform"]["input_size"] = model.at("input_size");
  config["data"]["batch_size"] = 128;
  config["optimizer"]["name"] = "sgd";
  config["optimizer"]["lr"] = 0.0125;
  config["optimizer"]["weight_decay"] = 5e-4;
  config["schedule"]["name"] = "polynomial";
  config["trainer"]["epochs"] = 20;
  config["trainer"]["clip_norm"] = 5.0;
  config["eval"] = FaceEvalOptions();
  config["verify"] = VerifyOptions();
  return config;
}

template <class Options>
Recipe face_recipe(const std::string& name, const std::string& family_name, const std::string& description,
                   const Options& options, const FaceFamily<Options>& family,
                   const std::vector<std::string>& layouts) {
  const Json model = options;
  const Json usual_size = model.at("input_size");
  Recipe recipe;
  recipe.name = name;
  recipe.family = family_name;
  recipe.task = "verification";
  recipe.description = description;
  recipe.data = "faces";
  recipe.defaults = [name, model] { return face_config(name, model); };
  recipe.validate = [family, model](const Json& config) { validate_faces(config, family, model); };
  recipe.make = [family, usual_size](Json& config, Purpose purpose, const StateDict* weights) {
    return make_face_task(config, purpose, weights, family, usual_size);
  };
  if (family.recognises) {
    recipe.recognises = [family, options](const StateDict& state) {
      return family.recognises(state, options);
    };
  }
  recipe.publish = [layouts](const Json&, const StateDict& state, const std::string& layout) {
    return publish_faces(state, layout, layouts);
  };
  return recipe;
}

/// Defaults of a recipe, changed.
Recipe with_config(Recipe recipe, const std::function<void(Json& config)>& change) {
  recipe.defaults = [defaults = recipe.defaults, change] {
    Json config = defaults();
    change(config);
    return config;
  };
  return recipe;
}

const FaceFamily<IResNetOptions> kIResNet = {make_iresnet, iresnet_options_of, iresnet_recognises};

Recipe iresnet(const std::string& depth, const IResNetOptions& options) {
  return face_recipe("iresnet" + depth, "iresnet",
                     "ArcFace's improved ResNet-" + depth + ", insightface's layout", options, kIResNet,
                     {"zoo", "original", "insightface"});
}

/// One block a stage at 64x64: minutes on two cores.
Recipe tiny_iresnet() {
  IResNetOptions options;
  options.blocks = {1, 1, 1};
  options.widths = {32, 64, 128};
  options.stem_stride = 2;
  options.embedding_size = 128;
  options.input_size = {64, 64};
  Recipe recipe =
      face_recipe("iresnet-tiny", "iresnet", "a small IResNet for the embedded faces: minutes on two cores",
                  options, FaceFamily<IResNetOptions>{make_iresnet, iresnet_options_of, nullptr},
                  {"zoo", "original", "insightface"});
  recipe.data = "faces,identities=1600";
  return with_config(recipe, [](Json& config) {
    config["data"]["transform"]["flip"] = 0.0;  // drawn faces are not symmetric
    config["data"]["transform"]["shift"] = 3;
    config["optimizer"]["lr"] = 0.1;
    config["schedule"]["name"] = "cosine";
    config["loss"]["name"] = "cosface";
    config["loss"]["cosface"]["scale"] = 16.0;
    config["loss"]["cosface"]["margin"] = 0.2;
    config["trainer"]["epochs"] = 8;
    config["trainer"]["validate_every"] = 2;
  });
}

Recipe mobile_face_net() {
  const FaceFamily<MobileFaceNetOptions> family = {
      make_mobilefacenet, mobilefacenet_options_of,
      [](const StateDict& state, const MobileFaceNetOptions&) { return mobilefacenet_recognises(state); }};
  Recipe recipe =
      face_recipe("mobilefacenet", "mobilefacenet", "MobileFaceNet, Chen et al. 2018, foamliu's layout",
                  MobileFaceNetOptions(), family, {"zoo", "original"});
  return with_config(recipe, [](Json& config) {  // its weights were trained so
    config["data"]["transform"]["mean"] = {0.485 * 255, 0.456 * 255, 0.406 * 255};
    config["data"]["transform"]["std"] = {0.229 * 255, 0.224 * 255, 0.225 * 255};
  });
}

Recipe mbf_recipe() {
  const FaceFamily<MbfOptions> family = {make_mbf, mbf_options_of, mbf_recognises, {"input_size", "blocks"}};
  return face_recipe("mbf", "mobilefacenet", "insightface's MobileFaceNet, 512 values", MbfOptions(), family,
                     {"zoo", "original", "insightface"});
}

Recipe deepface_recipe() {
  const FaceFamily<DeepFaceOptions> family = {
      make_deepface, nullptr,
      [](const StateDict& state, const DeepFaceOptions&) { return deepface_recognises(state); }};
  Recipe recipe =
      face_recipe("deepface", "deepface", "DeepFace, Taigman et al. 2014: locally connected layers",
                  DeepFaceOptions(), family, {"zoo", "original"});
  return with_config(recipe, [](Json& config) {  // section 3.2; pixels in 0..1
    config["data"]["transform"]["mean"] = {0.0, 0.0, 0.0};
    config["data"]["transform"]["std"] = {255.0, 255.0, 255.0};
    config["loss"]["name"] = "softmax";
    config["optimizer"]["lr"] = 0.01;
    config["schedule"]["name"] = "multistep";
    config["trainer"]["epochs"] = 15;
  });
}

Recipe deepid_recipe() {
  const FaceFamily<DeepIdEnsembleOptions> family = {make_deepid_ensemble, nullptr, nullptr};
  Recipe recipe = face_recipe("deepid", "deepid", "DeepID, Sun et al. 2014: 60 nets on patches of the face",
                              DeepIdEnsembleOptions(), family, {"zoo"});
  return with_config(recipe, [](Json& config) {
    config["loss"]["name"] = "softmax";
    config["optimizer"]["lr"] = 0.05;
  });
}

}  // namespace

std::vector<Recipe> face_recipes() {
  std::vector<Recipe> rows = {
      tiny_iresnet(),
      iresnet("18", iresnet18()),
      iresnet("34", iresnet34()),
      iresnet("50", iresnet50()),
      iresnet("100", iresnet100()),
      iresnet("200", iresnet200()),
      mobile_face_net(),
      mbf_recipe(),
      deepface_recipe(),
      deepid_recipe(),
  };
  rows[3].alias = "iresnet";
  return rows;
}

}  // namespace zoo
