#pragma once
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include <torch/types.h>

#include "core/clip_tokenizer.h"
#include "datasets/captions/captions.h"
#include "models/ldm/ldm.h"
#include "models/weights/state_dict.h"
#include "trainers/picture_scores.h"
#include "trainers/recipes.h"
#include "trainers/tasks/denoiser.h"
#include "trainers/tasks/latent_cache.h"
#include "trainers/tasks/trait_reading.h"

namespace zoo {

// What the denoiser's task is put together from.

bool has_tokenizer(const StateDict& weights);
/// model.tokenizer, else the weights', else one made of the sentences of `data` (may be null). Throws Error where there
/// is none.
std::unique_ptr<ClipTokenizer> find_tokenizer(const DenoiserModelOptions& options, const StateDict* weights,
                                              const CaptionDataset* data);
/// [B,length] int64.
torch::Tensor token_ids(const ClipTokenizer& tokenizer, const std::vector<std::string>& texts,
                        int64_t length);

/// The tensors of model.autoencoder_weights in a training, whose options are written into `model`; null where none are
/// named.
std::unique_ptr<StateDict> stored_autoencoder(Json& model, Purpose purpose);
void assign_autoencoder(AutoencoderImpl& autoencoder, const StateDict& weights);
/// The autoencoder is never trained here, the text encoder where asked; with adapters nothing else.
void freeze_parts(LdmImpl& model, const DenoiserModelOptions& options);
/// Whether tensors of zoo's own are those of a training of adapters.
bool holds_adapters(const StateDict& weights);

/// Gaussian noise like `latents` [B,…], row i always the same for a record, whatever the batch.
torch::Tensor noise_of_records(const std::vector<int64_t>& records, const torch::Tensor& latents);

/// `source`, with `prepare` called before its first epoch.
std::unique_ptr<BatchSource> prepared_batches(std::function<void()> prepare,
                                              std::unique_ptr<BatchSource> source);

/// What networks say of samples beside the validation pictures of the same records.
class SampleScores {
 public:
  /// Either may be null.
  SampleScores(LoadedTraitReader* reader, PictureScores* compared) : reader_(reader), compared_(compared) {}

  /// pictures [B,3,H,W] drawn of the first sentences of `records`.
  void add(const torch::Tensor& pictures, const CaptionDataset& data, const std::vector<int64_t>& records,
           const CaptionTransformOptions& transform);
  /// Into `metrics`, names of the first kind with `suffix`: both_right, NAME_right; FID, KID, IS, CLIP.
  void write(const std::string& suffix, const GenerationOptions& options, Json& metrics) const;

 private:
  void read(const torch::Tensor& pictures, const CaptionDataset& data, const std::vector<int64_t>& records);

  LoadedTraitReader* reader_;
  PictureScores* compared_;
  std::vector<torch::Tensor> right_;  ///< [B,K] bool each
};
/// All names that SampleScores and the task write, as null.
Json sample_figures(const std::vector<CaptionTrait>& traits);

}  // namespace zoo
