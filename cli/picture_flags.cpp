#include <iostream>
#include <iterator>
#include <limits>
#include <tuple>

#include "cli/predict.h"
#include "core/clip_tokenizer.h"
#include "core/error.h"
#include "core/files.h"
#include "core/text.h"
#include "models/diffusion/sampler.h"
#include "models/ldm/weights.h"
#include "models/weights/state_dict.h"

namespace zoo {

namespace {

constexpr double kImageStrength = 0.8;  // of image-to-image; inpainting does all steps

double number_of(const std::string& flag, const std::string& text, double fallback, double low, double high) {
  return text.empty() ? fallback : parse_flag_double(flag, text, low, high);
}

int64_t count_of(const std::string& flag, const std::string& text, int64_t fallback, int64_t low,
                 int64_t high) {
  return text.empty() ? fallback : parse_flag_int(flag, text, low, high);
}

/// What a dry run needs of weights.
struct DryParts {
  ClipTokenizer tokenizer;
  SchedulerOptions scheduler;
  int64_t tokens = 0;  ///< that the text encoder takes
  Json eval = Json::object();

  std::vector<int64_t> ids(const std::string& prompt) const { return tokenizer.encode(prompt, tokens); }
};

/// What the text encoder's configuration says; CLIP's where it is not there.
int64_t tokens_of_folder(const std::string& folder) {
  const std::string path = join_path(folder, "text_encoder/config.json");
  const Json text = file_exists(path) ? read_json(path) : Json::object();
  const Json& inner = text.contains("text_config") ? text.at("text_config") : text;
  const Json tokens = inner.is_object() ? inner.value("max_position_embeddings",
                                                      Json(ClipTextOptions().max_position_embeddings))
                                        : Json();
  if (tokens.is_number_integer() && tokens >= 2) return tokens.get<int64_t>();
  throw Error(path + ": max_position_embeddings: expected a number of tokens, 2 or more");
}

DryParts parts_of_folder(const std::string& folder) {
  const std::string scheduler = join_path(folder, "scheduler/scheduler_config.json");
  if (!file_exists(scheduler)) throw Error(folder + ": has no scheduler/scheduler_config.json");
  return {ClipTokenizer::from_folder(join_path(folder, "tokenizer")),
          scheduler_from_diffusers(read_json(scheduler), scheduler), tokens_of_folder(folder)};
}

/// zoo's own weights; nothing of a tensor is touched.
DryParts parts_of_weights(const std::string& path) {
  const StateDict state = load_state_dict(path);
  const auto tokenizer = state.metadata.find(kLdmTokenizerKey), stored = state.metadata.find("zoo.config");
  if (tokenizer == state.metadata.end() || stored == state.metadata.end())
    throw Error(path +
                ": keeps no tokenizer and configuration, expected a diffusers folder or weights of zoo");
  const Json config = Json::parse(stored->second, nullptr, false);
  const Json::json_pointer key("/model/scheduler"), tokens("/model/text_encoder/max_position_embeddings");
  if (!config.is_object() || !config.contains(key) || !config.contains(tokens))
    throw Error(path + ": its zoo.config has no model.scheduler or model.text_encoder");
  return {ClipTokenizer::from_json(Json::parse(tokenizer->second, nullptr, false)),
          config.at(key).get<SchedulerOptions>(), config.at(tokens).get<int64_t>(),
          config.value("eval", Json::object())};
}

SchedulerOptions edited_scheduler(const SchedulerOptions& scheduler, const ConfigFlags& configuration) {
  Json document = {{"model", {{"scheduler", scheduler}}}};
  for (const Edit& edit : configuration.edits()) {
    if (starts_with(edit.key, "model.scheduler.")) set_key(document, edit.key, edit.value, edit.source);
  }
  return document.at("model").at("scheduler").get<SchedulerOptions>();
}

}  // namespace

std::vector<std::string> read_prompts(const std::vector<std::string>& inputs) {
  std::vector<std::string> prompts;
  const auto add_lines = [&](const std::string& text) {
    for (const std::string& line : split(text, '\n')) {
      if (!trim(line).empty()) prompts.push_back(trim(line));
    }
  };
  for (const std::string& input : inputs) {
    if (input == "-") {
      add_lines({std::istreambuf_iterator<char>(std::cin), {}});
    } else if (ends_with(input, ".txt")) {
      add_lines(read_file(input));
    } else {
      prompts.push_back(input);
    }
  }
  if (prompts.empty()) throw Error("the INPUTs hold no prompt, expected one a line");
  return prompts;
}

PictureOptions picture_options(const PredictFlags& flags, const Json& eval) {
  const PictureFlags& given = flags.pictures;
  PictureOptions options;
  options.sampler = given.sampler.empty() ? eval.value("sampler", std::string()) : given.sampler;
  options.steps = count_of("--steps", given.steps, eval.value("steps", options.steps), 1, 1 << 20);
  options.guidance_scale = number_of("--guidance-scale", given.guidance_scale,
                                     eval.value("guidance_scale", options.guidance_scale), 0, 1000);
  options.guidance_rescale = number_of("--guidance-rescale", given.guidance_rescale, 0, 0, 1);
  options.seed = static_cast<uint64_t>(
      count_of("--seed", given.seed, eval.value("seed", int64_t{0}), 0, std::numeric_limits<int64_t>::max()));
  options.strength = number_of("--strength", given.strength, given.mask.empty() ? kImageStrength : 1, 0, 1);
  options.clip_skip = count_of("--clip-skip", given.clip_skip, 0, 0, 100);
  if (!given.size.empty()) std::tie(options.height, options.width) = parse_size("--size", given.size);
  return options;
}

std::vector<std::string> PictureFlags::given() const {
  std::vector<std::string> names;
  const std::vector<std::pair<const char*, const std::string*>> all = {
      {"--sampler", &sampler},
      {"--steps", &steps},
      {"--guidance-scale", &guidance_scale},
      {"--guidance-rescale", &guidance_rescale},
      {"--negative-prompt", &negative_prompt},
      {"--size", &size},
      {"--seed", &seed},
      {"--latents", &latents},
      {"--init-image", &init_image},
      {"--strength", &strength},
      {"--mask", &mask},
      {"--output-type", &output_type},
      {"--clip-skip", &clip_skip},
      {"--tile", &tile},
      {"--previews", &previews}};
  for (const auto& [name, value] : all) {
    if (!value->empty()) names.emplace_back(name);
  }
  if (dry_run) names.emplace_back("--dry-run");
  return names;
}

void add_picture_flags(CLI::App& app, PictureFlags& flags) {
  const std::string group = "Latent diffusion";
  const auto add = [&](const char* name, std::string& value, const char* metavar, const char* help) {
    add_text(app, name, value, metavar, help)->group(group);
  };
  add("--sampler", flags.sampler, "NAME", "zoo list samplers shows them (the scheduler's)");
  add("--steps", flags.steps, "N", "Steps of the sampler (eval.steps)");
  add("--guidance-scale", flags.guidance_scale, "X", "How strictly the prompt is kept; 1: no guidance");
  add("--guidance-rescale", flags.guidance_rescale, "X", "0 to 1: lead guided deviations back (0)");
  add("--negative-prompt", flags.negative_prompt, "TEXT", "What guidance leads away from");
  add("--size", flags.size, "HxW", "Of the pictures, multiples of 8 (the model's)");
  add("--seed", flags.seed, "N", "Picture i is drawn from seed N + i (0)");
  add("--latents", flags.latents, "FILE", "Start noise: safetensors with one tensor latents [B,4,H/8,W/8]");
  add("--init-image", flags.init_image, "FILE", "Start from a picture");
  add("--strength", flags.strength, "X",
      "Share of the steps that is done from a picture (0.8; with a mask 1)");
  add("--mask", flags.mask, "FILE", "Paint only where this picture is white");
  add("--output-type", flags.output_type, "image|latent", "PNG, or latents.safetensors (image)");
  add("--clip-skip", flags.clip_skip, "N", "Leave out the text encoder's last N layers (0)");
  add("--tile", flags.tile, "N", "Decode in squares of N latents, for large pictures (0: whole)");
  add("--previews", flags.previews, "N", "Write preview-*.png every N steps (0: none)");
  app.add_flag("--dry-run", flags.dry_run, "Print token ids, times and levels; load no network")
      ->group(group);
}

void check_picture_flags(const PredictFlags& flags) {
  const PictureFlags& given = flags.pictures;
  if (!given.sampler.empty()) {
    std::vector<std::string> names;
    for (const SamplerInfo& info : samplers()) names.push_back(info.name);
    require_choice("--sampler", given.sampler, names);
  }
  if (!given.output_type.empty()) require_choice("--output-type", given.output_type, {"image", "latent"});
  if (given.init_image.empty() && !given.mask.empty())
    throw UsageError("--mask: there is no picture to paint into, expected --init-image");
  if (given.init_image.empty() && !given.strength.empty())
    throw UsageError("--strength: there is no picture to start from, expected --init-image");
  picture_options(flags, Json::object());
}

void dry_run_pictures(const PredictFlags& flags, const ConfigFlags& configuration) {
  if (flags.weights.empty())
    throw UsageError("no weights: expected --weights FILE, a run directory or a folder");
  const DryParts parts =
      is_diffusers_folder(flags.weights) ? parts_of_folder(flags.weights) : parts_of_weights(flags.weights);
  const SchedulerOptions scheduler = edited_scheduler(parts.scheduler, configuration);
  PictureOptions options = picture_options(flags, parts.eval);
  if (options.sampler.empty()) options.sampler = scheduler.sampler;
  const auto sampler = make_sampler(options.sampler, scheduler, options.steps,
                                    flags.pictures.init_image.empty() ? 1 : options.strength);
  std::vector<std::vector<int64_t>> ids;
  for (const std::string& prompt : read_prompts(flags.inputs)) ids.push_back(parts.ids(prompt));
  Json document = {{"command", "predict"},
                   {"model", nullptr},
                   {"data", nullptr},
                   {"metrics", Json::object()},
                   {"sampler", options.sampler},
                   {"steps", options.steps},
                   {"token_ids", ids.size() == 1 ? Json(ids.front()) : Json(ids)},
                   {"negative_token_ids", parts.ids(flags.pictures.negative_prompt)},
                   {"timesteps", sampler->timesteps()},
                   {"sigmas", sampler->sigmas().empty() ? Json(nullptr) : Json(sampler->sigmas())},
                   {"start_factor", sampler->start_factor()}};
  if (flags.json) return print_json(document);
  Table table({"call", "time", "sigma"});
  for (size_t i = 0; i < sampler->timesteps().size(); ++i)
    table.add({std::to_string(i), format("%.3f", sampler->timesteps()[i]),
               sampler->sigmas().empty() ? "" : format("%.4f", sampler->sigmas()[i])});
  print_text(table.str());
  for (const auto& row : ids) print_text("token ids " + Json(row).dump() + "\n");
}

}  // namespace zoo
