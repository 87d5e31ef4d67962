#include <torch/torch.h>

#include <algorithm>
#include <fstream>
#include <memory>
#include <tuple>

#include "cli/predict.h"
#include "core/clip_tokenizer.h"
#include "core/error.h"
#include "core/files.h"
#include "core/log.h"
#include "core/text.h"
#include "datasets/captions/captions.h"
#include "datasets/image.h"
#include "models/ldm/pipeline.h"
#include "models/precision.h"
#include "models/weights/state_dict.h"
#include "trainers/progress.h"
#include "trainers/signals.h"
#include "trainers/tasks/denoiser.h"

namespace zoo {

namespace {

constexpr const char* kLatents = "latents";
/// Steps from which on fused programs pay for being made.
constexpr int64_t kStepsToFuseFor = 16, kStepsToFuseForBf16 = 2;

/// 0 where the flag was not given.
int64_t given_count(const std::string& flag, const std::string& text) {
  return text.empty() ? 0 : parse_flag_int(flag, text, 0, 1 << 20);
}

/// Everything that `predict` makes pictures of and with.
class PictureMaker {
 public:
  PictureMaker(const PredictFlags& flags, const LoadedModel& loaded, LdmTask& task)
      : flags_(flags),
        loaded_(loaded),
        model_(task.model()),
        tokenizer_(task.tokenizer()),
        options_(picture_options(flags, loaded.config.at("eval"))),
        prompts_(read_prompts(flags.inputs)),
        tile_(given_count("--tile", flags.pictures.tile)),
        preview_steps_(given_count("--previews", flags.pictures.previews)) {
    if (options_.sampler.empty()) options_.sampler = model_->options.scheduler.sampler;
    read_latents();
    choose_size();
    read_pictures();
    choose_engine();
  }

  void run() {
    const int64_t batch = batch_size();
    tell_memory();
    ProgressLine progress("painting");
    for (int64_t begin = 0; begin < count() && !stop_requested(); begin += batch)
      paint(begin, std::min(begin + batch, count()), progress);
    if (fused_ != nullptr && !fused_->fallback().empty())
      log_warning("ran slower than it could: " + fused_->fallback());
    if (latent_output() && !made_.empty()) {
      StateDict file;
      file.tensors = {{kLatents, torch::cat(made_)}};
      save_safetensors(join_path(flags_.output, "latents.safetensors"), file);
    }
    write_file(join_path(flags_.output, "predictions.json"), dump_json(predictions_) + "\n");
  }

  const Json& predictions() const { return predictions_; }

 private:
  int64_t count() const { return static_cast<int64_t>(prompts_.size()); }
  int64_t factor() const { return model_->options.autoencoder.factor(); }
  bool latent_output() const { return flags_.pictures.output_type == "latent"; }

  /// Start noise of a file: one row a prompt, one for all prompts, or several of one prompt.
  void read_latents() {
    const std::string& path = flags_.pictures.latents;
    if (path.empty()) return;
    const StateDict file = load_tensors(path);
    const torch::Tensor* found = file.find(kLatents);
    const int64_t channels = model_->options.autoencoder.latent_channels;
    if (found == nullptr || found->dim() != 4 || !found->is_floating_point() || found->size(1) != channels)
      throw Error(format("%s: expected one tensor 'latents' [B,%lld,H/%lld,W/%lld] of floats", path.c_str(),
                         static_cast<long long>(channels), static_cast<long long>(factor()),
                         static_cast<long long>(factor())));
    latents_ = found->to(torch::kFloat);
    if (count() == 1)
      prompts_.assign(static_cast<size_t>(std::max<int64_t>(latents_.size(0), 1)), prompts_[0]);
    if (latents_.size(0) != count() && latents_.size(0) != 1)
      throw Error(format("%s: %lld latents for %lld prompts, expected one each or one for all", path.c_str(),
                         static_cast<long long>(latents_.size(0)), static_cast<long long>(count())));
  }

  /// --size, else that of the latents, of the picture, or of what the model was trained on.
  void choose_size() {
    std::pair<int64_t, int64_t> size = {options_.height, options_.width};
    if (size.first == 0 && latents_.defined()) {
      size = {latents_.size(2) * factor(), latents_.size(3) * factor()};
    } else if (size.first == 0 && !flags_.pictures.init_image.empty()) {
      const ImageSize picture = image_size(flags_.pictures.init_image);
      size = {std::max<int64_t>(picture.height / factor(), 1) * factor(),
              std::max<int64_t>(picture.width / factor(), 1) * factor()};
    } else if (size.first == 0) {
      size = trained_size();
    }
    std::tie(options_.height, options_.width) = size;
    check_picture_size(options_.height, options_.width, factor());
    if (latents_.defined() &&
        (latents_.size(2) * factor() != options_.height || latents_.size(3) * factor() != options_.width))
      throw UsageError(format("--size: %lldx%lld, but %s is for %lldx%lld",
                              static_cast<long long>(options_.height), static_cast<long long>(options_.width),
                              flags_.pictures.latents.c_str(),
                              static_cast<long long>(latents_.size(2) * factor()),
                              static_cast<long long>(latents_.size(3) * factor())));
  }

  /// The size of the training's pictures where it was changed, else the network's.
  std::pair<int64_t, int64_t> trained_size() const {
    const Json::json_pointer key("/data/transform/size");
    const auto size = loaded_.config.at(key).get<std::vector<int64_t>>();
    if (loaded_.config.at(key) != loaded_.recipe->defaults().at(key)) return {size[0], size[1]};
    const int64_t side = model_->options.unet.sample_size * factor();
    return {side, side};
  }

  void read_pictures() {
    const PictureFlags& given = flags_.pictures;
    const auto read = [&](const std::string& path) {
      return picture_tensor(covering_picture(read_image(path), options_.height, options_.width)).unsqueeze(0);
    };
    if (!given.init_image.empty()) image_ = read(given.init_image);
    if (!given.mask.empty()) mask_ = (read(given.mask).mean(1, true) + 1) / 2;
  }

  std::string precision() const { return loaded_.config.at("trainer").at("precision").get<std::string>(); }

  int64_t batch_size() const {
    return std::min(loaded_.config.at("data").at("batch_size").get<int64_t>(), count());
  }

  /// Fused programs, where there are enough steps to pay for making them and memory for their weights.
  void choose_engine() {
    const int64_t batch = batch_size(), steps = (count() + batch - 1) / batch * options_.steps;
    if (!loaded_.device.is_cpu() || steps < (precision() == "bf16" ? kStepsToFuseForBf16 : kStepsToFuseFor))
      return;
    fused_ = std::make_unique<FusedLdm>(model_, precision());
    const double free = available_memory();
    if (free > 0 && memory().peak() > free) fused_.reset();
  }

  PictureMemory memory() const {
    const double copies = fused_ == nullptr ? 0 : precision() == "bf16" ? 0.5 : 1;
    return picture_memory(*model_, batch_size(), options_, latent_output() ? 1 : tile_, copies);
  }

  /// Before it is taken.
  void tell_memory() const {
    const PictureMemory memory = this->memory();
    log_info(format("memory: about %s for %lldx%lld (weights %s, denoiser %s, decoder %s)",
                    human_bytes(memory.peak()).c_str(), static_cast<long long>(options_.height),
                    static_cast<long long>(options_.width), human_bytes(memory.weights).c_str(),
                    human_bytes(memory.denoiser).c_str(), human_bytes(memory.decoder).c_str()));
    const double free = available_memory();
    if (free > 0 && memory.peak() > free)
      log_warning("that is more than the " + human_bytes(free) +
                  " that are free; a smaller --size or --batch-size, and " +
                  "--tile for the decoder, need less");
  }

  /// Of Linux's own estimate; 0 where there is none.
  static double available_memory() {
    std::ifstream file("/proc/meminfo");
    for (std::string line; std::getline(file, line);) {
      int64_t kilobytes = 0;
      if (starts_with(line, "MemAvailable:") && parse_int(trim(line.substr(13, line.size() - 15)), kilobytes))
        return static_cast<double>(kilobytes) * 1024;
    }
    return 0;
  }

  torch::Tensor ids_of(const std::vector<std::string>& texts) const {
    std::vector<torch::Tensor> rows;
    const int64_t length = model_->options.text_encoder.max_position_embeddings;
    for (const std::string& text : texts) rows.push_back(torch::tensor(tokenizer_.encode(text, length)));
    return torch::stack(rows);
  }

  void paint(int64_t begin, int64_t end, ProgressLine& progress) {
    PictureOptions options = options_;
    options.seed += static_cast<uint64_t>(begin);
    PictureRequest request;
    const std::vector<std::string> texts(prompts_.begin() + begin, prompts_.begin() + end);
    request.prompts = ids_of(texts);
    request.negatives = ids_of({flags_.pictures.negative_prompt});
    request.image = image_;
    request.mask = mask_;
    if (latents_.defined())
      request.latents = latents_.size(0) == 1 ? latents_ : latents_.slice(0, begin, end);
    const AutocastGuard autocast(loaded_.device, precision_type(fused_ == nullptr ? precision() : "fp32"));
    const auto after_step = [&](const PictureStep& step) {
      progress.update(begin * step.all + (end - begin) * step.done, count() * step.all);
      if (preview_steps_ > 0 && step.done % preview_steps_ == 0 && step.done < step.all)
        write_pictures(decoded(step.clean()), begin, "preview-");
      return !stop_requested();
    };
    const torch::Tensor latents = make_latents(*model_, request, options, after_step, fused_.get());
    if (!latents.defined()) return;
    keep(latents, begin);
  }

  torch::Tensor decoded(const torch::Tensor& latents) {
    return decode_pictures(*model_, latents, tile_, fused_.get());
  }

  void keep(const torch::Tensor& latents, int64_t begin) {
    if (!latents.isfinite().all().item<bool>())
      throw Error(
          "the latents are not finite: expected --precision fp32, other weights or a smaller "
          "--guidance-scale");
    for (int64_t i = 0; i < latents.size(0); ++i)
      predictions_.push_back(
          {{"prompt", prompts_[static_cast<size_t>(begin + i)]},
           {"negative_prompt", flags_.pictures.negative_prompt},
           {"seed", options_.seed + static_cast<uint64_t>(begin + i)},
           {"sampler", options_.sampler},
           {"steps", options_.steps},
           {"guidance_scale", options_.guidance_scale},
           {"file_name", latent_output() ? "latents.safetensors" : picture_name(begin + i, "")}});
    if (latent_output()) {
      made_.push_back(latents.to(torch::kCPU, torch::kFloat).contiguous());
    } else {
      const torch::Tensor pictures = decoded(latents);
      if (!pictures.isfinite().all().item<bool>())
        throw Error("the picture is not finite: expected --precision fp32 for the autoencoder");
      write_pictures(pictures, begin, "");
    }
  }

  static std::string picture_name(int64_t number, const std::string& prefix) {
    return prefix + format("%04lld.png", static_cast<long long>(number));
  }

  void write_pictures(const torch::Tensor& pictures, int64_t begin, const std::string& prefix) const {
    for (int64_t i = 0; i < pictures.size(0); ++i)
      write_image(join_path(flags_.output, picture_name(begin + i, prefix)),
                  tensor_picture(pictures[i].to(torch::kCPU) * 2 - 1));
  }

  const PredictFlags& flags_;
  const LoadedModel& loaded_;
  Ldm model_;
  const ClipTokenizer& tokenizer_;
  PictureOptions options_;
  std::vector<std::string> prompts_;
  const int64_t tile_, preview_steps_;
  std::unique_ptr<FusedLdm> fused_;
  torch::Tensor latents_, image_, mask_;
  std::vector<torch::Tensor> made_;
  Json predictions_ = Json::array();
};

}  // namespace

std::vector<std::string> predict_pictures(const PredictFlags& flags, const LoadedModel& loaded,
                                          LdmTask& task) {
  const torch::NoGradGuard no_grad;
  PictureMaker maker(flags, loaded, task);
  maker.run();
  const Json& predictions = maker.predictions();
  if (flags.json) {
    print_json({{"command", "predict"},
                {"model", loaded.recipe->name},
                {"data", nullptr},
                {"output", flags.output},
                {"metrics", {{"pictures", predictions.size()}}},
                {"predictions", predictions}});
    return {};
  }
  Table table({"file", "seed", "prompt"});
  for (const Json& row : predictions)
    table.add(
        {row.at("file_name").get<std::string>(), row.at("seed").dump(), row.at("prompt").get<std::string>()});
  print_text(table.str());
  return {};
}

}  // namespace zoo
