#include "models/clip_vision/clip.h"

#include <torch/torch.h>

#include <algorithm>

#include "core/error.h"
#include "core/files.h"
#include "models/ldm/config.h"
#include "models/shape_text.h"
#include "models/weights/state_dict.h"
#include "models/weights/weights_follow.h"

namespace zoo {

namespace {

/// `defaults` with what the file says of its keys.
template <class Options>
Options known_keys(const Json& config, const Options& defaults, const std::string& source) {
  Json document = defaults, given = Json::object();
  for (const auto& item : document.items()) {
    const auto found = config.find(item.key());
    if (found != config.end() && !found->is_null()) given[item.key()] = *found;
  }
  overlay(document, given, source);
  return document.get<Options>();
}

ClipOptions clip_from_config(const std::string& path) {
  const Json config = read_json(path);
  const bool both = config.is_object() && config.contains("vision_config") &&
                    config.contains("text_config") && config["vision_config"].is_object() &&
                    config["text_config"].is_object();
  if (!both) throw Error(path + ": has no text_config and vision_config, expected that of a CLIPModel");
  ClipOptions options;
  options.text_config = clip_text_from_config(config, path);
  try {
    options.vision_config = known_keys(config["vision_config"], ClipVisionOptions(), path);
    const Json width = config.value("projection_dim", Json(options.projection_dim));
    if (!width.is_number_integer())
      throw UsageError(path + ": projection_dim is " + width.dump() + ", expected an integer");
    options.projection_dim = width.get<int64_t>();
    options.validate();
  } catch (const UsageError& error) {
    throw Error(path + ": " + error.what());
  }
  return options;
}

torch::Tensor channel_values(std::vector<float> values, const torch::Tensor& like) {
  return torch::tensor(values, like.options()).view({1, 3, 1, 1});
}

}  // namespace

void ClipOptions::validate() const {
  text_config.validate("text_config.");
  vision_config.validate("vision_config.");
  require_count("projection_dim", projection_dim, 1);
}

ClipImpl::ClipImpl(const ClipOptions& options) : options(options) {
  options.validate();
  text_model = register_module("text_model", ClipText(options.text_config));
  vision_model = register_module("vision_model", ClipVision(options.vision_config));
  const auto projection = [&](int64_t width) {
    return torch::nn::Linear(torch::nn::LinearOptions(width, options.projection_dim).bias(false));
  };
  visual_projection = register_module("visual_projection", projection(options.vision_config.hidden_size));
  text_projection = register_module("text_projection", projection(options.text_config.hidden_size));
  logit_scale = register_parameter("logit_scale", torch::tensor(2.6592F));  // ln(1 / 0.07)
}

torch::Tensor ClipImpl::text_features(const torch::Tensor& ids, int64_t end_token) {
  const torch::Tensor states = text_model->forward(ids);                   // [B,L,W]
  const torch::Tensor ends = ids.eq(end_token).to(torch::kInt).argmax(1);  // the first of equals
  const torch::Tensor rows = torch::arange(ids.size(0), ends.options());
  return text_projection(states.index({rows, ends}));
}

torch::Tensor ClipImpl::picture_features(const torch::Tensor& pixels) {
  return visual_projection(vision_model->forward(pixels));
}

torch::Tensor clip_pixels(const torch::Tensor& rgb, int64_t side) {
  if (rgb.dim() != 4 || rgb.size(1) != 3 || rgb.numel() == 0 || rgb.scalar_type() != torch::kByte)
    throw Error("pictures of shape " + shape_text(rgb) + ", expected bytes [B,3,H,W]");
  const int64_t shorter = std::min(rgb.size(2), rgb.size(3));
  const int64_t height = side * rgb.size(2) / shorter, width = side * rgb.size(3) / shorter;
  torch::Tensor resized = rgb;
  if (shorter != side)  // along rows, rounded to bytes, then along columns: as Pillow and torchvision do
    resized = at::_upsample_bicubic2d_aa(rgb.contiguous(), {height, width}, /*align_corners=*/false);
  const torch::Tensor cut =
      resized.narrow(2, (height - side) / 2, side).narrow(3, (width - side) / 2, side).to(torch::kFloat);
  return (cut / 255 - channel_values({0.48145466F, 0.4578275F, 0.40821073F}, cut)) /
         channel_values({0.26862954F, 0.26130258F, 0.27577711F}, cut);
}

LoadedClip load_clip(const std::string& path) {
  const std::string folder = is_directory(path) ? path : parent_folder(path);
  const std::string config = join_path(folder, "config.json");
  if (!file_exists(config))
    throw Error(path + ": no config.json there, expected a folder that transformers wrote for a CLIPModel");
  const ClipOptions options = clip_from_config(config);
  const StateDict weights = load_state_dict(path);
  LoadedClip loaded{Clip(nullptr), ClipTokenizer::from_folder(folder)};
  if (loaded.tokenizer.vocab_size() > options.text_config.vocab_size) {
    throw Error(config + ": vocab_size is " + std::to_string(options.text_config.vocab_size) + ", expected " +
                std::to_string(loaded.tokenizer.vocab_size()) + " or more by the tokenizer beside it");
  }
  const WeightsFollowScope follow;
  loaded.model = Clip(options);
  // Old files keep their numbers 0, 1, …, as `embeddings.position_ids`.
  require_fit(assign(*loaded.model, weights,
                     {"text_model.embeddings.position_ids", "vision_model.embeddings.position_ids"}),
              weights.source, false);
  loaded.model->eval();
  return loaded;
}

}  // namespace zoo
