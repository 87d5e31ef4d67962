#include "trainers/tasks/autoencoder.h"

#include <torch/torch.h>

#include <algorithm>

#include "core/error.h"
#include "core/text.h"
#include "datasets/draw.h"
#include "models/precision.h"
#include "models/shape_text.h"
#include "trainers/metrics/figure.h"
#include "trainers/metrics/image_quality.h"

namespace zoo {

void AutoencoderEvalOptions::validate() const {
  require_count("eval.previews", previews, 0, 1000);
  generation.validate();
}

AutoencoderTask::AutoencoderTask(const Json& config, Purpose purpose, const StateDict* weights)
    : data_(config.at("data").get<DataOptions>()),
      transform_(config.at("data").at("transform").get<CaptionTransformOptions>()),
      loss_options_(config.at("loss").get<AutoencoderLossOptions>()),
      eval_(config.at("eval").get<AutoencoderEvalOptions>()),
      seed_(config.at("trainer").at("seed").get<uint64_t>()),
      fused_(config, purpose) {
  const auto options = config.at("model").get<AutoencoderOptions>();
  require_latent_multiples(transform_.size, options.factor());
  if (purpose == Purpose::training) training_ = open_caption_training(data_, seed_);
  if (purpose != Purpose::inference) validation_ = open_caption_validation(data_, seed_);
  if (purpose != Purpose::inference && !eval_.features.empty())
    features_ = open_picture_features(eval_.features, eval_.generation.resize);
  model_ = Autoencoder(options);
  if (purpose == Purpose::training) loss_ = AutoencoderLoss(loss_options_, options.out_channels);
  if (weights != nullptr) {
    require_fit(assign(*model_, *weights, {"loss."}), weights->source,
                config.at("trainer").at("partial_weights").get<bool>());
  }
}

std::vector<ParameterGroup> AutoencoderTask::parameter_groups(const OptimizerOptions& options) {
  ParameterGroup network{"autoencoder", {}, options.lr, options.weight_decay};
  ParameterGroup head{"loss", {}, options.lr, options.weight_decay};
  for (const auto& item : model_->named_parameters())
    network.parameters.emplace_back(item.key(), item.value());
  for (const auto& item : loss_->named_parameters()) {
    if (item.value().requires_grad()) head.parameters.emplace_back("loss." + item.key(), item.value());
  }
  if (head.parameters.empty()) return {network};
  return {network, head};
}

std::shared_ptr<LossModule> AutoencoderTask::loss_module() {
  return loss_.is_empty() ? nullptr : loss_.ptr();
}

BatchSource& AutoencoderTask::training_batches() {
  if (training_batches_ == nullptr)
    training_batches_ = caption_batches(training_, data_, transform_, true, seed_, batch_part());
  return *training_batches_;
}

LossTerms AutoencoderTask::loss(const Batch& batch, torch::Device device) {
  return loss_->forward(*model_, dynamic_cast<const CaptionBatch&>(batch).images.to(device));
}

torch::Tensor AutoencoderTask::reconstruct(const torch::Tensor& images, torch::Device device) {
  if (fused_.running()) return fused_.run({images}).front().to(torch::kFloat).cpu();
  fused_.lay_out(*model_, device);
  const AutocastGuard autocast(device, fused_.precision());
  return model_->decode(model_->latents_of(images.to(device))).to(torch::kFloat).cpu();
}

Json AutoencoderTask::evaluate(torch::Device device, const std::function<void(int64_t, int64_t)>& progress) {
  const torch::NoGradGuard no_grad;
  const std::unique_ptr<BatchSource> batches = caption_batches(validation_, data_, transform_, false, seed_);
  fused_.start(trace_spec(), batches->batches_per_epoch(), device);
  batches->start_epoch(0);
  std::vector<torch::Tensor> signal, structure, real, fake;
  int64_t done = 0;
  while (const std::unique_ptr<Batch> batch = batches->next()) {
    const torch::Tensor images = dynamic_cast<const CaptionBatch&>(*batch).images,
                        made = reconstruct(images, device);
    signal.push_back(psnr(made, images, validation_->description()));
    structure.push_back(ssim(made, images, validation_->description()));
    if (features_ != nullptr) {
      real.push_back(features_->rows(images, device).features);
      fake.push_back(features_->rows(made, device).features);
    }
    if (progress) progress(++done, batches->batches_per_epoch());
  }
  fused_.stop();
  Json metrics = {{"PSNR", figure(torch::cat(signal).mean().item<double>())},
                  {"SSIM", figure(torch::cat(structure).mean().item<double>())},
                  {"rFID", nullptr}};
  if (!real.empty())
    metrics["rFID"] =
        figure(frechet_distance(torch::cat(real), torch::cat(fake), validation_->description()));
  return metrics;
}

std::vector<Preview> AutoencoderTask::previews(int64_t count, torch::Device device) {
  const torch::NoGradGuard no_grad;
  const int64_t shown = std::min({count, eval_.previews, validation_->size()});
  std::vector<CaptionedTile> above, below;
  for (int64_t i = 0; i < shown; ++i) {
    const cv::Mat rgb = covering_picture(validation_->picture(i), transform_.size[0], transform_.size[1]);
    const torch::Tensor image = picture_tensor(rgb).unsqueeze(0), made = reconstruct(image, device);
    CaptionedTile original, reconstruction;
    original.rgb = rgb;
    original.words = validation_->name(i);
    reconstruction.rgb = tensor_picture(made[0]);
    reconstruction.words = format("%.1f dB", psnr(made, image, "preview").item<double>());
    above.push_back(original);
    below.push_back(reconstruction);
  }
  if (shown == 0) return {};
  above.insert(above.end(), below.begin(), below.end());
  return {{"reconstructions", caption_sheet(above, shown, "")}};
}

TraceSpec AutoencoderTask::trace_spec() {
  TraceSpec spec;
  spec.module = model_.ptr();
  spec.forward = [model = model_](const std::vector<torch::Tensor>& inputs) mutable {
    return std::vector<torch::Tensor>{model->decode(model->latents_of(inputs[0]))};
  };
  spec.example = [this](int variant) {
    constexpr int64_t kBatches[] = {2, 1, 3, 2}, kMore[] = {0, 2, 0, 1};
    const int64_t factor = model_->options.factor();
    return example_inputs(kBatches[variant % 4],
                          {transform_.size[0] + kMore[variant % 4] * factor, transform_.size[1]});
  };
  spec.inputs = {"images"};
  spec.outputs = {"reconstruction"};
  return spec;
}

std::vector<torch::Tensor> AutoencoderTask::example_inputs(int64_t batch_size,
                                                           std::pair<int64_t, int64_t> size) const {
  return {torch::randn({batch_size, model_->options.in_channels, size.first, size.second})};
}

std::map<std::string, std::string> AutoencoderTask::weight_metadata() const {
  return {{"zoo.preprocessing", Json(transform_).dump()}};
}

std::vector<std::pair<std::string, std::string>> AutoencoderTask::describe(const Batch& batch) const {
  const auto& pictures = dynamic_cast<const CaptionBatch&>(batch);
  const int64_t factor = model_->options.factor();
  return {{"images", shape_text(pictures.images) + " float32"},
          {"latents", format("[%lld, %lld, %lld, %lld]", static_cast<long long>(batch.size()),
                             static_cast<long long>(model_->options.latent_channels),
                             static_cast<long long>(transform_.size[0] / factor),
                             static_cast<long long>(transform_.size[1] / factor))}};
}

}  // namespace zoo
