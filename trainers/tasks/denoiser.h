#pragma once
#include <functional>
#include <map>
#include <memory>
#include <string>
#include <unordered_map>
#include <utility>
#include <vector>

#include "core/clip_tokenizer.h"
#include "datasets/captions/captions.h"
#include "models/diffusion/noise_schedule.h"
#include "models/ldm/ldm.h"
#include "models/ldm/lora.h"
#include "trainers/metrics/generation.h"
#include "trainers/picture_scores.h"
#include "trainers/recipes.h"
#include "trainers/task.h"
#include "trainers/tasks/fused_evaluation.h"
#include "trainers/tasks/latent_cache.h"
#include "trainers/tasks/trait_reading.h"

namespace zoo {

/// Keys of section `model` beside LdmOptions.
struct DenoiserModelOptions {
  /// CLIP's tokenizer: a folder with vocab.json and merges.txt (or tokenizer/ in it), a file of merges, or a weight file
  /// of zoo that keeps one. Empty: the one that the weights keep, else one made of the training sentences.
  std::string tokenizer;
  int64_t tokenizer_merges = 0;     ///< byte pairs of one made of the sentences; 0: none is made
  bool train_text_encoder = false;  ///< with the denoiser; else it stays as it is
  LoraOptions lora;                 ///< with a rank, adapters alone are trained
  std::string
      lora_weights;  ///< file of adapters in any of the usual layouts; merged, or with a rank trained on
  double lora_strength = 1;  ///< how strongly those are merged

  void validate() const;
};
NLOHMANN_DEFINE_TYPE_NON_INTRUSIVE(DenoiserModelOptions, tokenizer, tokenizer_merges, train_text_encoder,
                                   lora, lora_weights, lora_strength)

/// Keys of section `data` beside DataOptions and `transform`.
struct DenoiserDataOptions {
  double caption_dropout = 0.1;  ///< share of training sentences that become empty: what guidance starts from
  /// Encode every training picture once: "memory", or a folder for files that later trainings find again; empty: encode
  /// in every step.
  std::string cache_latents;
  /// Latents to learn from: drawn (as published) | mean of what the autoencoder says; for one with strong KL, whose
  /// draws are mostly noise.
  std::string latents = "drawn";
  int64_t cache_texts =
      2000;  ///< sentences whose states are kept in memory, where the text encoder is not trained

  void validate() const;
};
NLOHMANN_DEFINE_TYPE_NON_INTRUSIVE(DenoiserDataOptions, caption_dropout, cache_latents, latents, cache_texts)

/// Section `loss` of the denoiser: the mean squared error of what it predicts.
struct DenoiserLossOptions {
  double min_snr_gamma = 0;  ///< γ of Hang et al. 2023; 0: all times weigh alike
  double offset_noise = 0;  ///< deviations that a channel's noise is shifted by; 0.05 to 0.1 where it is used

  void validate() const;
};
NLOHMANN_DEFINE_TYPE_NON_INTRUSIVE(DenoiserLossOptions, min_snr_gamma, offset_noise)

/// Section `eval` of the denoiser.
struct DenoiserEvalOptions {
  std::string sampler;           ///< empty: model.scheduler.sampler
  int64_t steps = 20;            ///< of a sample
  double guidance_scale = 3;     ///< 1: none
  int64_t samples = 0;           ///< validation sentences that `zoo eval` draws pictures of; 0: all
  int64_t training_samples = 0;  ///< the same in the validations of a run; 0: none
  int64_t previews = 8;          ///< pictures of the sheet drawn at each validation of a run
  int64_t seed = 0;              ///< of samples
  /// Run of captions-reader that says what samples show: `both_right` and its like; empty: null.
  std::string reader;
  /// Whose features FID, KID and IS take: Inception's weights or a run of captions-reader (open_picture_features); empty:
  /// null.
  std::string features;
  /// CLIPModel of transformers that says how well samples fit their sentences; empty: null.
  std::string clip;
  GenerationOptions generation;

  void validate() const;
};
NLOHMANN_DEFINE_TYPE_NON_INTRUSIVE(DenoiserEvalOptions, sampler, steps, guidance_scale, samples,
                                   training_samples, previews, seed, reader, features, clip, generation)

/// Latent diffusion's second stage: the denoiser, and where asked the text encoder, over a trained autoencoder that stays
/// as it is.
class LdmTask : public Task {
 public:
  /// Opens what `purpose` needs and builds the model. Writes into `config` what foreign weights, the autoencoder's and the
  /// tokenizer tell, and a scaling factor that was measured.
  LdmTask(Json& config, Purpose purpose, const StateDict* weights);

  torch::nn::Module& module() override { return *model_; }
  std::shared_ptr<torch::nn::Module> shared_module() override { return model_.ptr(); }
  std::vector<ParameterGroup> parameter_groups(const OptimizerOptions& options) override;
  BatchSource& training_batches() override;
  LossTerms loss(const Batch& batch, torch::Device device) override;
  /// `loss` on the validation set with fixed noise, and figures of samples as far as their reader is given.
  Json evaluate(torch::Device device, const std::function<void(int64_t, int64_t)>& progress) override;
  std::string best_metric() const override { return "-loss"; }
  /// A sheet of samples of validation sentences.
  std::vector<Preview> previews(int64_t count, torch::Device device) override;
  /// unet(latents, timesteps, states) -> prediction.
  TraceSpec trace_spec() override;
  /// text_encoder, unet, vae_encoder, vae_decoder: see ldm_trace_specs.
  std::vector<std::pair<std::string, std::vector<TraceSpec>>> exported_files() override;
  std::vector<torch::Tensor> example_inputs(int64_t batch_size,
                                            std::pair<int64_t, int64_t> size) const override;
  /// Of latents.
  std::pair<int64_t, int64_t> default_input_size() const override;
  std::map<std::string, std::string> weight_metadata() const override;
  std::vector<std::pair<std::string, std::string>> describe(const Batch& batch) const override;

  /// What figures of samples were computed with.
  Json details() const;
  Ldm model() const { return model_; }
  const ClipTokenizer& tokenizer() const { return *tokenizer_; }
  const SchedulerOptions& scheduler() const { return model_->options.scheduler; }

  /// Pictures [B,3,H,W] in −1…1 of sentences, picture i from eval.seed + first + i; size of data.transform.
  torch::Tensor draw(const std::vector<std::string>& texts, int64_t first, double guidance_scale,
                     torch::Device device);

 private:
  void open_data(Purpose purpose);
  void choose_tokenizer(Json& config, const StateDict* weights);
  void measure_scale(Json& config);
  void put_weights(const StateDict* weights, bool partial);
  torch::Tensor ids_of(const std::vector<std::string>& texts, torch::Device device) const;  ///< [B,L]
  torch::Tensor states_of(const std::vector<std::string>& texts, torch::Device device);     ///< [B,L,W]
  torch::Tensor encoded(const CaptionBatch& batch, torch::Device device);
  torch::Tensor latents_from(const torch::Tensor& encoded, const torch::Tensor& noise) const;
  torch::Tensor errors(const torch::Tensor& latents, const torch::Tensor& noise, const torch::Tensor& times,
                       const torch::Tensor& states);
  double validation_loss(torch::Device device, const std::function<void(int64_t)>& progress);
  void score_samples(int64_t count, torch::Device device, const std::function<void(int64_t)>& progress,
                     Json& metrics);
  void tell_missing() const;

  Purpose purpose_;
  DataOptions data_;
  CaptionTransformOptions transform_;
  DenoiserDataOptions inputs_;
  DenoiserModelOptions parts_;
  DenoiserLossOptions loss_;
  DenoiserEvalOptions eval_;
  uint64_t seed_ = 0;
  FusedEvaluation fused_;  ///< layout and precision
  std::shared_ptr<CaptionDataset> training_, validation_;
  std::unique_ptr<ClipTokenizer> tokenizer_;
  Ldm model_{nullptr};
  std::unique_ptr<NoiseSchedule> schedule_;
  std::unique_ptr<LatentCache> cache_;  ///< null: none
  std::unique_ptr<BatchSource> training_batches_;
  std::unordered_map<std::string, torch::Tensor>
      states_;  ///< [L,W] of sentences met, where nothing trains them
  std::unique_ptr<LoadedTraitReader> reader_;
  std::unique_ptr<PictureFeatures> features_;
  std::unique_ptr<ClipScorer> clip_;
};

}  // namespace zoo
