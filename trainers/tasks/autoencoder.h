#pragma once
#include <functional>
#include <map>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "datasets/captions/captions.h"
#include "models/autoencoder/autoencoder.h"
#include "models/autoencoder/criterion.h"
#include "trainers/metrics/generation.h"
#include "trainers/picture_features.h"
#include "trainers/recipes.h"
#include "trainers/task.h"
#include "trainers/tasks/fused_evaluation.h"
#include "trainers/tasks/latent_cache.h"

namespace zoo {

/// Section `eval` of recipes of autoencoders.
struct AutoencoderEvalOptions {
  int64_t previews = 8;  ///< pictures beside their reconstructions at each validation of a run
  std::string features;  ///< whose features rFID compares: see open_picture_features; empty: null
  GenerationOptions generation;

  void validate() const;
};
NLOHMANN_DEFINE_TYPE_NON_INTRUSIVE(AutoencoderEvalOptions, previews, features, generation)

/// Latent diffusion's first stage: an autoencoder that gives pictures back from small latents. Its sentences are not
/// used.
class AutoencoderTask : public Task {
 public:
  /// Opens what `purpose` needs and builds the model.
  AutoencoderTask(const Json& config, Purpose purpose, const StateDict* weights);

  torch::nn::Module& module() override { return *model_; }
  std::shared_ptr<torch::nn::Module> shared_module() override { return model_.ptr(); }
  std::vector<ParameterGroup> parameter_groups(const OptimizerOptions& options) override;
  std::shared_ptr<LossModule> loss_module() override;
  BatchSource& training_batches() override;
  LossTerms loss(const Batch& batch, torch::Device device) override;
  /// PSNR, SSIM: means over the validation pictures, from the latents' means; rFID where features are given.
  Json evaluate(torch::Device device, const std::function<void(int64_t, int64_t)>& progress) override;
  /// What rFID was computed with; null: it was not.
  Json details() const { return features_ == nullptr ? Json(nullptr) : features_->details(); }
  std::string best_metric() const override { return "PSNR"; }
  /// Pictures above, what became of them below.
  std::vector<Preview> previews(int64_t count, torch::Device device) override;
  /// images -> reconstruction.
  TraceSpec trace_spec() override;
  std::vector<torch::Tensor> example_inputs(int64_t batch_size,
                                            std::pair<int64_t, int64_t> size) const override;
  std::pair<int64_t, int64_t> default_input_size() const override {
    return {transform_.size[0], transform_.size[1]};
  }
  std::map<std::string, std::string> weight_metadata() const override;
  std::vector<std::pair<std::string, std::string>> describe(const Batch& batch) const override;

 private:
  torch::Tensor reconstruct(const torch::Tensor& images, torch::Device device);

  DataOptions data_;
  CaptionTransformOptions transform_;
  AutoencoderLossOptions loss_options_;
  AutoencoderEvalOptions eval_;
  uint64_t seed_ = 0;
  FusedEvaluation fused_;
  std::shared_ptr<CaptionDataset> training_, validation_;
  std::unique_ptr<PictureFeatures> features_;
  Autoencoder model_{nullptr};
  AutoencoderLoss loss_{nullptr};  ///< of a training
  std::unique_ptr<BatchSource> training_batches_;
};

}  // namespace zoo
