#include "trainers/picture_scores.h"

#include <torch/torch.h>

#include "trainers/metrics/figure.h"

namespace zoo {

void PictureScores::add_real(const torch::Tensor& pictures) {
  const torch::NoGradGuard no_grad;
  if (features_ != nullptr) real_.push_back(features_->rows(pictures, device_).features);
}

void PictureScores::add_made(const torch::Tensor& pictures, const std::vector<std::string>& texts) {
  const torch::NoGradGuard no_grad;
  if (features_ != nullptr) {
    PictureRows rows = features_->rows(pictures, device_);
    made_.push_back(rows.features);
    if (rows.classes.defined()) classes_.push_back(rows.classes);
  }
  if (clip_ != nullptr && !texts.empty()) clip_scores_.push_back(clip_->scores(pictures, texts, device_));
}

void PictureScores::write(const GenerationOptions& options, const std::string& source, Json& metrics) const {
  metrics.update({{"FID", nullptr}, {"KID", nullptr}, {"IS", nullptr}, {"CLIP", nullptr}});
  if (!real_.empty() && !made_.empty())
    metrics.update(generation_json(torch::cat(real_), torch::cat(made_), options, source));
  if (!classes_.empty()) {
    const torch::Tensor classes = torch::cat(classes_);
    if (classes.size(0) >= options.is_splits)
      metrics["IS"] = figure(inception_score(classes, options, source).mean);
  }
  if (!clip_scores_.empty()) metrics["CLIP"] = figure(torch::cat(clip_scores_).mean().item<double>());
}

Json PictureScores::details() const {
  Json details = features_ == nullptr ? Json{{"features", nullptr}} : features_->details();
  details["clip"] = clip_ == nullptr ? Json(nullptr) : Json(clip_->source());
  return details;
}

torch::Tensor as_saved(const torch::Tensor& pictures) {
  return pictures.to(torch::kCPU, torch::kFloat).add(1).mul(127.5).round().clamp(0, 255).div(127.5).sub(1);
}

std::string missing_networks(const std::string& features, const std::string& clip) {
  std::string message;
  if (features.empty()) {
    message =
        "FID, KID and IS are null without eval.features=FILE, pytorch-fid's "
        "pt_inception-2015-12-05-6726825d.pth "
        "(or a run of captions-reader, for drawings)";
  }
  if (clip.empty()) {
    message += message.empty() ? "" : "; ";
    message += "CLIP is null without eval.clip=FOLDER, a CLIPModel of transformers";
  }
  return message;
}

}  // namespace zoo
