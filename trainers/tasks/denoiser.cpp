#include "trainers/tasks/denoiser.h"

#include <torch/torch.h>

#include <algorithm>
#include <cmath>

#include "core/error.h"
#include "core/files.h"
#include "core/log.h"
#include "core/text.h"
#include "datasets/draw.h"
#include "models/diffusion/sampler.h"
#include "models/ldm/pipeline.h"
#include "models/ldm/traces.h"
#include "models/ldm/weights.h"
#include "models/precision.h"
#include "models/shape_text.h"
#include "trainers/metrics/figure.h"
#include "trainers/tasks/denoiser_parts.h"

namespace zoo {

namespace {

/// Times of validation samples, spread over 0…N−1 whatever the number of samples: the golden ratio's multiples.
torch::Tensor spread_times(const std::vector<int64_t>& records, int64_t count) {
  constexpr double kGolden = 0.6180339887498949;
  std::vector<int64_t> times;
  for (const int64_t record : records) {
    const double place = kGolden * static_cast<double>(record + 1);
    times.push_back(
        std::min(count - 1, static_cast<int64_t>((place - std::floor(place)) * static_cast<double>(count))));
  }
  return torch::tensor(times, torch::kLong);
}

/// `count` of 0…all−1, spread.
std::vector<int64_t> spread_records(int64_t all, int64_t count) {
  std::vector<int64_t> records;
  for (int64_t i = 0; i < count; ++i) records.push_back(i * all / count);
  return records;
}

}  // namespace

void DenoiserModelOptions::validate() const {
  require_count("model.tokenizer_merges", tokenizer_merges, 0, 1'000'000);
  require_range("model.lora_strength", lora_strength, -100, 100);
  lora.validate();
}

void DenoiserDataOptions::validate() const {
  require_range("data.caption_dropout", caption_dropout, 0, 1);
  require_choice("data.latents", latents, {"drawn", "mean"});
  require_count("data.cache_texts", cache_texts, 0, 100'000'000);
}

void DenoiserLossOptions::validate() const {
  require_range("loss.min_snr_gamma", min_snr_gamma, 0, 1e6);
  require_range("loss.offset_noise", offset_noise, 0, 10);
}

void DenoiserEvalOptions::validate() const {
  if (!sampler.empty()) {
    std::vector<std::string> names;
    for (const SamplerInfo& info : samplers()) names.push_back(info.name);
    require_choice("eval.sampler", sampler, names);
  }
  require_count("eval.steps", steps, 1, 1000);
  require_range("eval.guidance_scale", guidance_scale, 0, 1000);
  require_count("eval.samples", samples, 0, 100'000'000);
  require_count("eval.training_samples", training_samples, 0, 100'000'000);
  require_count("eval.previews", previews, 0, 1000);
  require_count("eval.seed", seed, 0);
  generation.validate();
}

LdmTask::LdmTask(Json& config, Purpose purpose, const StateDict* weights)
    : purpose_(purpose),
      data_(config.at("data").get<DataOptions>()),
      transform_(config.at("data").at("transform").get<CaptionTransformOptions>()),
      inputs_(config.at("data").get<DenoiserDataOptions>()),
      parts_(config.at("model").get<DenoiserModelOptions>()),
      loss_(config.at("loss").get<DenoiserLossOptions>()),
      eval_(config.at("eval").get<DenoiserEvalOptions>()),
      seed_(config.at("trainer").at("seed").get<uint64_t>()),
      fused_(config, purpose) {
  open_data(purpose);
  choose_tokenizer(config, weights);
  const std::unique_ptr<StateDict> autoencoder = stored_autoencoder(config.at("model"), purpose);
  const auto options = config.at("model").get<LdmOptions>();
  require_latent_multiples(transform_.size, options.autoencoder.factor());
  if (training_ != nullptr && options.unet.in_channels != options.autoencoder.latent_channels)
    throw UsageError(
        "model.unet.in_channels: a denoiser for inpainting is not trained, expected that of its latents");
  model_ = Ldm(options);
  put_weights(weights, config.at("trainer").at("partial_weights").get<bool>());
  if (autoencoder != nullptr) assign_autoencoder(*model_->vae, *autoencoder);
  if (training_ != nullptr && weights == nullptr && autoencoder == nullptr &&
      options.autoencoder.scaling_factor == 0)
    log_warning(
        "the autoencoder has random weights, pictures will be noise: model.autoencoder_weights=RUN takes a "
        "trained one (zoo train --model autoencoder-tiny)");
  schedule_ = std::make_unique<NoiseSchedule>(options.scheduler);
  freeze_parts(*model_, parts_);
  if (training_ != nullptr && options.autoencoder.scaling_factor == 0) measure_scale(config);
}

/// Adapters are there before weights that hold some, and else lie over them.
void LdmTask::put_weights(const StateDict* weights, bool partial) {
  const bool adapted = weights != nullptr && holds_adapters(*weights);
  if (adapted && parts_.lora.rank > 0) add_adapters(*model_, parts_.lora);
  if (weights != nullptr) load_ldm_weights(*model_, *weights, partial);
  if (!adapted && parts_.lora.rank > 0) add_adapters(*model_, parts_.lora);
  if (parts_.lora_weights.empty()) return;
  const std::vector<LoraPair> pairs = read_lora(load_state_dict(parts_.lora_weights), *model_);
  parts_.lora.rank > 0 ? load_adapters(*model_, pairs) : merge_lora(*model_, pairs, parts_.lora_strength);
}

void LdmTask::open_data(Purpose purpose) {
  if (purpose == Purpose::inference) return;
  if (purpose == Purpose::training) training_ = open_caption_training(data_, seed_);
  validation_ = open_caption_validation(data_, seed_);
  if (!eval_.reader.empty()) reader_ = std::make_unique<LoadedTraitReader>(load_trait_reader(eval_.reader));
  if (!eval_.features.empty()) features_ = open_picture_features(eval_.features, eval_.generation.resize);
  if (!eval_.clip.empty()) clip_ = std::make_unique<ClipScorer>(eval_.clip);
}

void LdmTask::choose_tokenizer(Json& config, const StateDict* weights) {
  Json& model = config.at("model");
  tokenizer_ = find_tokenizer(parts_, weights, training_ != nullptr ? training_.get() : validation_.get());
  if (parts_.tokenizer.empty() && weights != nullptr && has_tokenizer(*weights))
    model["tokenizer"] = weights->source;  // where --resume finds it
  Json& size = model.at("text_encoder").at("vocab_size");
  if (size == 0) size = tokenizer_->vocab_size();
  if (size.get<int64_t>() < tokenizer_->vocab_size()) {
    throw Error(format(
        "the tokenizer has %lld tokens, model.text_encoder.vocab_size is %lld: expected as many or more",
        static_cast<long long>(tokenizer_->vocab_size()), static_cast<long long>(size.get<int64_t>())));
  }
}

/// 1 / deviation of the latents of the first batch (Rombach et al. 2022, appendix G).
void LdmTask::measure_scale(Json& config) {
  const torch::NoGradGuard no_grad;
  const std::unique_ptr<BatchSource> batches = caption_batches(training_, data_, transform_, true, seed_);
  batches->start_epoch(0);
  const std::unique_ptr<Batch> batch = batches->next();
  model_->vae->eval();
  const torch::Tensor latents =
      model_->vae->latents_of(dynamic_cast<const CaptionBatch&>(*batch).images).to(torch::kFloat);
  const double factor = 1 / std::max(1e-6, latents.std().item<double>());
  model_->set_scaling_factor(factor);
  config.at("model").at("autoencoder").at("scaling_factor") = factor;
  log_info(
      format("the latents' deviation is %.3f: model.autoencoder.scaling_factor=%.5f", 1 / factor, factor));
}

std::vector<ParameterGroup> LdmTask::parameter_groups(const OptimizerOptions& options) {
  ParameterGroup all{"denoiser", {}, options.lr, options.weight_decay};
  for (const auto& item : model_->named_parameters()) {
    if (item.value().requires_grad()) all.parameters.emplace_back(item.key(), item.value());
  }
  return {all};
}

BatchSource& LdmTask::training_batches() {
  if (training_batches_ != nullptr) return *training_batches_;
  if (inputs_.cache_latents.empty()) {
    training_batches_ = caption_batches(training_, data_, transform_, true, seed_, batch_part());
    return *training_batches_;
  }
  cache_ = std::make_unique<LatentCache>(inputs_.cache_latents, training_, data_, transform_);
  // The autoencoder has its weights when the first epoch starts, also where they come from a checkpoint.
  training_batches_ =
      prepared_batches([this] { cache_->fill(*model_->vae, model_->parameters().front().device()); },
                       caption_text_batches(training_, data_, transform_, true, seed_, batch_part(),
                                            [this](int64_t record) { cache_->require(record); }));
  return *training_batches_;
}

torch::Tensor LdmTask::ids_of(const std::vector<std::string>& texts, torch::Device device) const {
  return token_ids(*tokenizer_, texts, model_->options.text_encoder.max_position_embeddings).to(device);
}

torch::Tensor LdmTask::states_of(const std::vector<std::string>& texts, torch::Device device) {
  const bool trained = parts_.train_text_encoder || (parts_.lora.rank > 0 && parts_.lora.text_encoder);
  if (trained || inputs_.cache_texts == 0) return model_->encode_text(ids_of(texts, device));
  const torch::NoGradGuard no_grad;
  std::vector<std::string> fresh;
  for (const std::string& text : texts) {
    if (states_.count(text) == 0 && std::find(fresh.begin(), fresh.end(), text) == fresh.end())
      fresh.push_back(text);
  }
  std::unordered_map<std::string, torch::Tensor> now;
  if (!fresh.empty()) {
    const torch::Tensor states = model_->encode_text(ids_of(fresh, device));
    for (size_t i = 0; i < fresh.size(); ++i) now[fresh[i]] = states[static_cast<int64_t>(i)];
  }
  std::vector<torch::Tensor> rows;
  for (const std::string& text : texts) rows.push_back(now.count(text) > 0 ? now[text] : states_[text]);
  for (const std::string& text : fresh) {
    if (static_cast<int64_t>(states_.size()) < inputs_.cache_texts) states_[text] = now[text].clone();
  }
  return torch::stack(rows);
}

torch::Tensor LdmTask::encoded(const CaptionBatch& batch, torch::Device device) {
  const torch::NoGradGuard no_grad;
  if (!batch.images.defined()) return cache_->rows(batch.records).to(device);
  return model_->vae->encode(batch.images.to(device)).to(torch::kFloat);
}

torch::Tensor LdmTask::latents_from(const torch::Tensor& encoded, const torch::Tensor& noise) const {
  const torch::Tensor latents =
      model_->options.autoencoder.kind == "kl" ? posterior_sample(encoded, noise) : encoded;
  return latents * model_->scaling_factor();
}

/// Squared errors of what the denoiser predicts, a mean for each picture: [B].
torch::Tensor LdmTask::errors(const torch::Tensor& latents, const torch::Tensor& noise,
                              const torch::Tensor& times, const torch::Tensor& states) {
  const torch::Tensor noised = schedule_->add_noise(latents, noise, times);
  const torch::Tensor predicted = model_->unet->forward(noised, times.to(torch::kFloat), states);
  const torch::Tensor difference = predicted.to(torch::kFloat) - schedule_->target(latents, noise, times);
  return difference.square().flatten(1).mean(1);
}

LossTerms LdmTask::loss(const Batch& batch, torch::Device device) {
  const auto& captions = dynamic_cast<const CaptionBatch&>(batch);
  model_->vae->eval();
  const torch::Tensor moments = encoded(captions, device);
  torch::Tensor draw;
  if (inputs_.latents == "drawn")
    draw = torch::randn_like(moments.narrow(1, 0, model_->options.autoencoder.latent_channels));
  const torch::Tensor latents = latents_from(moments, draw);
  const torch::Tensor noise = training_noise(latents, loss_.offset_noise);
  const torch::Tensor times =
      torch::randint(0, model_->options.scheduler.num_train_timesteps, {batch.size()}, torch::kLong)
          .to(device);
  const torch::Tensor dropped = torch::rand({batch.size()}).lt(inputs_.caption_dropout);
  std::vector<std::string> texts = captions.texts;
  for (size_t i = 0; i < texts.size(); ++i) {
    if (dropped.data_ptr<bool>()[i]) texts[i].clear();
  }
  const torch::Tensor each = errors(latents, noise, times, states_of(texts, device));
  LossTerms terms;
  terms.total = (each * schedule_->loss_weights(times, loss_.min_snr_gamma)).mean();
  terms.terms = {{"mse", each.mean().detach()}};
  return terms;
}

double LdmTask::validation_loss(torch::Device device, const std::function<void(int64_t)>& progress) {
  fused_.lay_out(*model_, device);
  const AutocastGuard autocast(device, fused_.precision());
  const std::unique_ptr<BatchSource> batches = caption_batches(validation_, data_, transform_, false, seed_);
  batches->start_epoch(0);
  double sum = 0;
  int64_t pictures = 0, done = 0;
  while (const std::unique_ptr<Batch> batch = batches->next()) {
    const auto& captions = dynamic_cast<const CaptionBatch&>(*batch);
    const torch::Tensor latents = latents_from(encoded(captions, device), {});
    const torch::Tensor noise = noise_of_records(captions.records, latents);
    const torch::Tensor times =
        spread_times(captions.records, model_->options.scheduler.num_train_timesteps).to(device);
    sum += errors(latents, noise, times, states_of(captions.texts, device)).sum().item<double>();
    pictures += batch->size();
    progress(++done);
  }
  return sum / static_cast<double>(pictures);
}

torch::Tensor LdmTask::draw(const std::vector<std::string>& texts, int64_t first, double guidance_scale,
                            torch::Device device) {
  const torch::NoGradGuard no_grad;
  fused_.lay_out(*model_, device);
  const AutocastGuard autocast(device, fused_.precision());
  PictureRequest request;
  request.prompts = ids_of(texts, device);
  request.negatives = ids_of(std::vector<std::string>(texts.size()), device);
  PictureOptions options;
  options.sampler = eval_.sampler;
  options.steps = eval_.steps;
  options.guidance_scale = guidance_scale;
  options.height = transform_.size[0];
  options.width = transform_.size[1];
  options.seed = static_cast<uint64_t>(eval_.seed + first);
  return model_->decode(make_latents(*model_, request, options)).to(torch::kFloat).clamp(-1, 1);
}

/// Draws pictures of `count` validation sentences, with guidance and without, and asks the readers about them.
void LdmTask::score_samples(int64_t count, torch::Device device, const std::function<void(int64_t)>& progress,
                            Json& metrics) {
  const std::vector<int64_t> records = spread_records(validation_->size(), count);
  const int64_t size = data_.val_batch_size > 0 ? data_.val_batch_size : data_.batch_size;
  PictureScores compared(features_.get(), clip_.get(), device);
  SampleScores guided_scores(reader_.get(), &compared), plain_scores(reader_.get(), nullptr);
  for (int64_t begin = 0; begin < count; begin += size) {
    const std::vector<int64_t> part(records.begin() + begin, records.begin() + std::min(count, begin + size));
    std::vector<std::string> texts;
    for (const int64_t record : part) texts.push_back(validation_->captions(record)[0]);
    const torch::Tensor guided_pictures = draw(texts, begin, eval_.guidance_scale, device);
    guided_scores.add(guided_pictures, *validation_, part, transform_);
    if (reader_ != nullptr) plain_scores.add(draw(texts, begin, 1, device), *validation_, part, transform_);
    progress(begin / size + 1);
  }
  guided_scores.write("", eval_.generation, metrics);
  plain_scores.write("_unguided", eval_.generation, metrics);
}

Json LdmTask::evaluate(torch::Device device, const std::function<void(int64_t, int64_t)>& progress) {
  const torch::NoGradGuard no_grad;
  states_.clear();
  const int64_t wanted = purpose_ == Purpose::training ? eval_.training_samples
                         : eval_.samples == 0          ? validation_->size()
                                                       : eval_.samples;
  const bool judged = reader_ != nullptr || features_ != nullptr || clip_ != nullptr;
  const int64_t count = judged ? std::min(wanted, validation_->size()) : 0;
  const int64_t size = data_.val_batch_size > 0 ? data_.val_batch_size : data_.batch_size;
  const int64_t passes = (validation_->size() + size - 1) / size, draws = (count + size - 1) / size;
  Json metrics = sample_figures(reader_ != nullptr ? reader_->traits : validation_->trait_list());
  metrics["loss"] = figure(validation_loss(device, [&](int64_t done) {
    if (progress) progress(done, passes + draws);
  }));
  if (count > 0) {
    score_samples(
        count, device,
        [&](int64_t done) {
          if (progress) progress(passes + done, passes + draws);
        },
        metrics);
  }
  if (purpose_ == Purpose::evaluation) tell_missing();
  return metrics;
}

/// What to pass for figures that are null.
void LdmTask::tell_missing() const {
  std::string message = missing_networks(eval_.features, eval_.clip);
  if (reader_ == nullptr && !validation_->trait_list().empty()) {
    message += message.empty() ? "" : "; ";
    message += "both_right is null without eval.reader=RUN, a run of captions-reader";
  }
  if (!message.empty()) log_info(message);
}

Json LdmTask::details() const {
  return PictureScores(features_.get(), clip_.get(), torch::kCPU).details();
}

std::vector<Preview> LdmTask::previews(int64_t count, torch::Device device) {
  const int64_t shown = std::min({count, eval_.previews, validation_->size()});
  if (shown == 0) return {};
  std::vector<std::string> texts;
  for (const int64_t record : spread_records(validation_->size(), shown))
    texts.push_back(validation_->captions(record)[0]);
  std::vector<CaptionedTile> tiles;
  for (const double guidance : {eval_.guidance_scale, 1.0}) {
    const torch::Tensor pictures = draw(texts, 0, guidance, device);
    for (int64_t i = 0; i < shown; ++i) {
      CaptionedTile tile;
      tile.rgb = tensor_picture(pictures[i]);
      tile.words = guidance > 1 ? texts[static_cast<size_t>(i)] : "without guidance";
      tiles.push_back(tile);
    }
  }
  return {{"samples", caption_sheet(tiles, shown, "")}};
}

TraceSpec LdmTask::trace_spec() {
  for (auto& [name, spec] : ldm_trace_specs(model_)) {
    if (name == "unet") return std::move(spec);
  }
  throw std::logic_error("ldm_trace_specs has no unet");
}

std::vector<std::pair<std::string, std::vector<TraceSpec>>> LdmTask::exported_files() {
  std::vector<std::pair<std::string, std::vector<TraceSpec>>> files;
  for (auto& [name, spec] : ldm_trace_specs(model_)) files.push_back({name, {std::move(spec)}});
  return files;
}

std::vector<torch::Tensor> LdmTask::example_inputs(int64_t batch_size,
                                                   std::pair<int64_t, int64_t> size) const {
  const LdmOptions& options = model_->options;
  return {torch::randn({batch_size, options.unet.in_channels, size.first, size.second}),
          torch::linspace(0, 999, batch_size),
          torch::randn(
              {batch_size, options.text_encoder.max_position_embeddings, options.unet.cross_attention_dim})};
}

std::pair<int64_t, int64_t> LdmTask::default_input_size() const {
  const int64_t factor = model_->options.autoencoder.factor();
  return {transform_.size[0] / factor, transform_.size[1] / factor};
}

std::map<std::string, std::string> LdmTask::weight_metadata() const {
  return {{kLdmTokenizerKey, tokenizer_->to_json().dump(-1, ' ', false, Json::error_handler_t::replace)},
          {"zoo.preprocessing", Json(transform_).dump()}};
}

std::vector<std::pair<std::string, std::string>> LdmTask::describe(const Batch& batch) const {
  const auto& captions = dynamic_cast<const CaptionBatch&>(batch);
  std::vector<std::pair<std::string, std::string>> lines;
  if (captions.images.defined()) lines.emplace_back("images", shape_text(captions.images) + " float32");
  lines.emplace_back("texts", format("%zu, \"%s\" …", captions.texts.size(), captions.texts[0].c_str()));
  const auto [height, width] = default_input_size();
  lines.emplace_back("latents",
                     format("[%lld, %lld, %lld, %lld], %s", static_cast<long long>(batch.size()),
                            static_cast<long long>(model_->options.autoencoder.latent_channels),
                            static_cast<long long>(height), static_cast<long long>(width),
                            inputs_.cache_latents.empty() ? "encoded in every step" : "encoded once"));
  return lines;
}

}  // namespace zoo
