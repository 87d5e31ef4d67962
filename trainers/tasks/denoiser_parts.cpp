#include "trainers/tasks/denoiser_parts.h"

#include <torch/torch.h>

#include <algorithm>

#include "core/error.h"
#include "core/files.h"
#include "core/text.h"
#include "models/diffusion/noise_source.h"
#include "models/ldm/lora.h"
#include "models/ldm/weights.h"
#include "trainers/metrics/figure.h"

namespace zoo {

namespace {

/// Of a set, sentences of so many pictures make a tokenizer.
constexpr int64_t kSentencePictures = 20'000;

std::unique_ptr<ClipTokenizer> stored_tokenizer(const StateDict& weights) {
  const Json document =
      Json::parse(weights.metadata.at(kLdmTokenizerKey), nullptr, /*allow_exceptions=*/false);
  if (document.is_discarded()) throw Error(weights.source + ": " + kLdmTokenizerKey + " is no JSON");
  return std::make_unique<ClipTokenizer>(ClipTokenizer::from_json(document));
}

/// A folder of CLIP's files (transformers 5 writes tokenizer.json alone) or of a diffusers model, a run, a weight file, or a file of merges.
std::unique_ptr<ClipTokenizer> named_tokenizer(const std::string& path) {
  for (const std::string& folder : {join_path(path, "tokenizer"), path}) {
    if (file_exists(join_path(folder, "vocab.json")) || file_exists(join_path(folder, "tokenizer.json")))
      return std::make_unique<ClipTokenizer>(ClipTokenizer::from_folder(folder));
  }
  if (!is_directory(path) && !ends_with(path, ".safetensors"))
    return std::make_unique<ClipTokenizer>(ClipTokenizer::from_merges(path));
  const StateDict weights = load_state_dict(path);
  if (has_tokenizer(weights)) return stored_tokenizer(weights);
  throw Error(path +
              ": keeps no tokenizer, expected vocab.json and merges.txt, tokenizer.json or weights of a "
              "denoiser of zoo");
}

std::unique_ptr<ClipTokenizer> tokenizer_of_sentences(const CaptionDataset& data, int64_t merges) {
  std::vector<std::string> sentences;
  for (int64_t i = 0; i < std::min(data.size(), kSentencePictures); ++i) {
    for (std::string& caption : data.captions(i)) sentences.push_back(std::move(caption));
  }
  return std::make_unique<ClipTokenizer>(ClipTokenizer::train(sentences, merges));
}

/// Calls back before its first epoch.
class PreparedBatches : public BatchSource {
 public:
  PreparedBatches(std::function<void()> prepare, std::unique_ptr<BatchSource> source)
      : prepare_(std::move(prepare)), source_(std::move(source)) {}

  int64_t batches_per_epoch() const override { return source_->batches_per_epoch(); }
  int64_t samples() const override { return source_->samples(); }
  void start_epoch(int64_t epoch, int64_t first_batch) override {
    if (prepare_) prepare_();
    prepare_ = nullptr;
    source_->start_epoch(epoch, first_batch);
  }
  std::unique_ptr<Batch> next() override { return source_->next(); }
  int64_t skipped() const override { return source_->skipped(); }

 private:
  std::function<void()> prepare_;
  std::unique_ptr<BatchSource> source_;
};

/// Share of rows whose columns are all true.
double share_right(const torch::Tensor& right) {
  return right.all(1).to(torch::kDouble).mean().item<double>();
}

}  // namespace

bool has_tokenizer(const StateDict& weights) {
  return weights.metadata.count(kLdmTokenizerKey) > 0;
}

std::unique_ptr<ClipTokenizer> find_tokenizer(const DenoiserModelOptions& options, const StateDict* weights,
                                              const CaptionDataset* data) {
  if (!options.tokenizer.empty()) return named_tokenizer(options.tokenizer);
  if (weights != nullptr && has_tokenizer(*weights)) return stored_tokenizer(*weights);
  if (data != nullptr && options.tokenizer_merges > 0)
    return tokenizer_of_sentences(*data, options.tokenizer_merges);
  if (data == nullptr && weights == nullptr)  // nobody will ask it: a summary, a benchmark
    return std::make_unique<ClipTokenizer>(ClipTokenizer::train({}, 0));
  throw Error(
      "no tokenizer is known, expected model.tokenizer=FOLDER with CLIP's vocab.json and merges.txt, or "
      "=FILE, "
      "OpenAI's bpe_simple_vocab_16e6.txt.gz");
}

torch::Tensor token_ids(const ClipTokenizer& tokenizer, const std::vector<std::string>& texts,
                        int64_t length) {
  std::vector<int64_t> ids;
  for (const std::string& text : texts) {
    const std::vector<int64_t> row = tokenizer.encode(text, length);
    ids.insert(ids.end(), row.begin(), row.end());
  }
  return torch::tensor(ids, torch::kLong).view({static_cast<int64_t>(texts.size()), length});
}

std::unique_ptr<StateDict> stored_autoencoder(Json& model, Purpose purpose) {
  const auto path = model.at("autoencoder_weights").get<std::string>();
  if (path.empty() || purpose != Purpose::training) return nullptr;
  auto weights = std::make_unique<StateDict>(read_autoencoder(path));
  Json stored = Json::parse(weights->metadata.at(kAutoencoderOptionsKey));
  if (stored.at("scaling_factor") == 0) stored.erase("scaling_factor");  // not measured yet, or only here
  model.at("autoencoder").update(stored);
  return weights;
}

void assign_autoencoder(AutoencoderImpl& autoencoder, const StateDict& weights) {
  require_fit(assign(autoencoder, weights, {"loss."}), weights.source, false);
}

void freeze_parts(LdmImpl& model, const DenoiserModelOptions& options) {
  if (options.lora.rank > 0) return freeze_all_but_adapters(model);
  for (torch::Tensor& parameter : model.vae->parameters()) parameter.set_requires_grad(false);
  if (options.train_text_encoder) return;
  for (torch::Tensor& parameter : model.text_encoder->parameters()) parameter.set_requires_grad(false);
}

bool holds_adapters(const StateDict& weights) {
  return std::any_of(weights.tensors.begin(), weights.tensors.end(),
                     [](const auto& item) { return ends_with(item.first, ".lora_A.weight"); });
}

torch::Tensor noise_of_records(const std::vector<int64_t>& records, const torch::Tensor& latents) {
  std::vector<torch::Tensor> rows;
  for (const int64_t record : records)
    rows.push_back(NoiseSource(static_cast<uint64_t>(record), 1).draw(latents.sizes().slice(1).vec()));
  return torch::cat(rows).to(latents.options());
}

std::unique_ptr<BatchSource> prepared_batches(std::function<void()> prepare,
                                              std::unique_ptr<BatchSource> source) {
  return std::make_unique<PreparedBatches>(std::move(prepare), std::move(source));
}

void SampleScores::add(const torch::Tensor& pictures, const CaptionDataset& data,
                       const std::vector<int64_t>& records, const CaptionTransformOptions& transform) {
  const torch::NoGradGuard no_grad;
  const torch::Tensor shown = as_saved(pictures);
  if (reader_ != nullptr) read(shown, data, records);
  if (compared_ == nullptr) return;
  std::vector<torch::Tensor> real;
  std::vector<std::string> texts;
  for (const int64_t record : records) {
    real.push_back(
        picture_tensor(covering_picture(data.picture(record), transform.size[0], transform.size[1])));
    texts.push_back(data.captions(record)[0]);
  }
  compared_->add_real(torch::stack(real));
  compared_->add_made(shown, texts);
}

void SampleScores::read(const torch::Tensor& pictures, const CaptionDataset& data,
                        const std::vector<int64_t>& records) {
  const std::vector<CaptionTrait>& traits = data.trait_list();
  const bool same =
      traits.size() == reader_->traits.size() &&
      std::equal(traits.begin(), traits.end(), reader_->traits.begin(),
                 [](const auto& a, const auto& b) { return a.name == b.name && a.values == b.values; });
  if (!same)
    throw Error(reader_->source + ": reads other traits than " + data.description() +
                " tells, expected the same");
  const std::vector<torch::Tensor> logits = reader_->reader->forward(pictures);
  torch::Tensor right = torch::empty({pictures.size(0), static_cast<int64_t>(logits.size())}, torch::kBool);
  for (size_t i = 0; i < records.size(); ++i) {
    const std::vector<int64_t> truth = data.traits(records[i]);
    for (size_t t = 0; t < logits.size(); ++t) {
      const auto row = static_cast<int64_t>(i), column = static_cast<int64_t>(t);
      right[row][column] = logits[t][row].argmax().item<int64_t>() == truth[t];
    }
  }
  right_.push_back(right);
}

void SampleScores::write(const std::string& suffix, const GenerationOptions& options, Json& metrics) const {
  if (!right_.empty()) {
    const torch::Tensor right = torch::cat(right_);
    metrics["both_right" + suffix] = figure(share_right(right));
    for (size_t t = 0; t < reader_->traits.size(); ++t) {
      metrics[reader_->traits[t].name + "_right" + suffix] =
          figure(share_right(right.narrow(1, static_cast<int64_t>(t), 1)));
    }
  }
  if (compared_ != nullptr) compared_->write(options, "samples", metrics);
}

Json sample_figures(const std::vector<CaptionTrait>& traits) {
  Json metrics = {{"loss", nullptr}, {"FID", nullptr}, {"KID", nullptr}, {"IS", nullptr}, {"CLIP", nullptr}};
  double chance = 1;
  for (const CaptionTrait& trait : traits) chance /= static_cast<double>(trait.values.size());
  metrics["both_right_chance"] = traits.empty() ? Json(nullptr) : Json(chance);
  for (const char* suffix : {"", "_unguided"}) {
    metrics[std::string("both_right") + suffix] = nullptr;
    for (const CaptionTrait& trait : traits) metrics[trait.name + "_right" + suffix] = nullptr;
  }
  return metrics;
}

}  // namespace zoo
