#include "trainers/tasks/trait_reading.h"

#include <torch/torch.h>

#include <algorithm>

#include "core/error.h"
#include "core/text.h"
#include "datasets/draw.h"
#include "models/precision.h"
#include "models/shape_text.h"
#include "trainers/metrics/figure.h"

namespace zoo {

namespace {

constexpr const char* kTraitsKey = "zoo.traits";  ///< metadata of weights: [{"name", "values"}]

Json traits_json(const std::vector<CaptionTrait>& traits) {
  Json list = Json::array();
  for (const CaptionTrait& trait : traits) list.push_back({{"name", trait.name}, {"values", trait.values}});
  return list;
}

std::vector<CaptionTrait> stored_traits(const StateDict& weights) {
  const auto found = weights.metadata.find(kTraitsKey);
  if (found == weights.metadata.end()) return {};
  std::vector<CaptionTrait> traits;
  try {
    for (const Json& one : Json::parse(found->second))
      traits.push_back({one.at("name").get<std::string>(), one.at("values").get<std::vector<std::string>>()});
  } catch (const Json::exception&) {
    throw Error(weights.source + ": " + kTraitsKey + " is malformed, expected a list of names and values");
  }
  return traits;
}

std::vector<int64_t> sizes_of(const std::vector<CaptionTrait>& traits) {
  std::vector<int64_t> sizes;
  for (const CaptionTrait& trait : traits) sizes.push_back(static_cast<int64_t>(trait.values.size()));
  return sizes;
}

/// Right, wrong and missed answers of one trait by value: [values,values], rows the truth.
double macro_f1(const torch::Tensor& confusion) {
  const torch::Tensor right = confusion.diagonal(), said = confusion.sum(0), there = confusion.sum(1);
  const torch::Tensor f1 = 2 * right / (said + there);  // NaN for a value that neither is
  return f1.nanmean().item<double>();
}

}  // namespace

void TraitEvalOptions::validate() const {
  require_count("eval.previews", previews, 0, 1000);
}

bool holds_trait_reader(const StateDict& weights) {
  return weights.metadata.count(kTraitsKey) > 0;
}

LoadedTraitReader load_trait_reader(const std::string& path) {
  const StateDict weights = load_state_dict(path);
  LoadedTraitReader loaded;
  loaded.source = path;
  loaded.traits = stored_traits(weights);
  const auto config = weights.metadata.find("zoo.config");
  if (loaded.traits.empty() || config == weights.metadata.end())
    throw Error(path + ": no reader of traits, expected a run of captions-reader");
  TraitReaderOptions options;
  try {
    const Json document = Json::parse(config->second);
    options = document.at("model").get<TraitReaderOptions>();
    const Json& size = document.at("data").at("transform").at("size");
    loaded.height = size.at(0).get<int64_t>();
    loaded.width = size.at(1).get<int64_t>();
  } catch (const Json::exception&) {
    throw Error(path + ": its configuration is no trait reader's, expected a run of captions-reader");
  }
  loaded.reader = TraitReader(options);
  require_fit(assign(*loaded.reader, weights), path, false);
  loaded.reader->eval();
  return loaded;
}

TraitReadingTask::TraitReadingTask(Json& config, Purpose purpose, const StateDict* weights)
    : data_(config.at("data").get<DataOptions>()),
      transform_(config.at("data").at("transform").get<CaptionTransformOptions>()),
      eval_(config.at("eval").get<TraitEvalOptions>()),
      seed_(config.at("trainer").at("seed").get<uint64_t>()),
      fused_(config, purpose) {
  if (purpose == Purpose::training) training_ = open_caption_training(data_, seed_);
  const bool told = !config.at("model").at("trait_sizes").empty();
  if (purpose != Purpose::inference || !told) validation_ = open_caption_validation(data_, seed_);
  adopt_traits(config.at("model"), weights);
  reader_ = TraitReader(config.at("model").get<TraitReaderOptions>());
  if (weights != nullptr) {
    require_fit(assign(*reader_, *weights), weights->source,
                config.at("trainer").at("partial_weights").get<bool>());
  }
}

void TraitReadingTask::adopt_traits(Json& model, const StateDict* weights) {
  Json& sizes = model.at("trait_sizes");
  for (const CaptionDataset* data : {training_.get(), validation_.get()}) {
    if (data == nullptr) continue;
    traits_ = data->trait_list();
    if (traits_.empty()) {
      throw Error(data->description() +
                  ": tells no traits of its pictures, expected the embedded set captions");
    }
    if (sizes.empty()) sizes = sizes_of(traits_);
    if (sizes.get<std::vector<int64_t>>() != sizes_of(traits_)) {
      throw Error(data->description() + ": its traits have other values than model.trait_sizes=" +
                  sizes.dump() + ", expected " + Json(sizes_of(traits_)).dump());
    }
  }
  if (traits_.empty() && weights != nullptr) traits_ = stored_traits(*weights);
  for (size_t t = traits_.size(); t < sizes.size(); ++t) {
    CaptionTrait unnamed{"trait_" + std::to_string(t), {}};
    for (int64_t v = 0; v < sizes[t].get<int64_t>(); ++v) unnamed.values.push_back(std::to_string(v));
    traits_.push_back(unnamed);
  }
}

std::vector<ParameterGroup> TraitReadingTask::parameter_groups(const OptimizerOptions& options) {
  ParameterGroup all{"network", {}, options.lr, options.weight_decay};
  for (const auto& item : reader_->named_parameters()) all.parameters.emplace_back(item.key(), item.value());
  return {all};
}

BatchSource& TraitReadingTask::training_batches() {
  if (training_batches_ == nullptr)
    training_batches_ = caption_batches(training_, data_, transform_, true, seed_, batch_part());
  return *training_batches_;
}

LossTerms TraitReadingTask::loss(const Batch& batch, torch::Device device) {
  const auto& pictures = dynamic_cast<const CaptionBatch&>(batch);
  const std::vector<torch::Tensor> logits = reader_->forward(pictures.images.to(device));
  const torch::Tensor truth = pictures.traits.to(device);  // [B,K]
  LossTerms terms;
  for (size_t t = 0; t < logits.size(); ++t) {
    const torch::Tensor term = torch::nn::functional::cross_entropy(logits[t].to(torch::kFloat),
                                                                    truth.select(1, static_cast<int64_t>(t)));
    terms.total = terms.total.defined() ? terms.total + term : term;
    terms.terms.emplace_back(traits_[t].name, term.detach());
  }
  return terms;
}

std::vector<torch::Tensor> TraitReadingTask::read(const torch::Tensor& images, torch::Device device) {
  fused_.count_pass([this] { return trace_spec(); }, device);
  if (fused_.running()) return fused_.run({images});
  fused_.lay_out(*reader_, device);
  const AutocastGuard autocast(device, fused_.precision());
  return reader_->forward(images.to(device));
}

Json TraitReadingTask::evaluate(torch::Device device, const std::function<void(int64_t, int64_t)>& progress) {
  const torch::NoGradGuard no_grad;
  const std::unique_ptr<BatchSource> batches = caption_batches(validation_, data_, transform_, false, seed_);
  fused_.start(trace_spec(), batches->batches_per_epoch(), device);
  batches->start_epoch(0);
  std::vector<torch::Tensor> confusions;
  for (const int64_t size : sizes_of(traits_))
    confusions.push_back(torch::zeros({size, size}, torch::kDouble));
  int64_t done = 0, all_right = 0, pictures = 0;
  while (const std::unique_ptr<Batch> batch = batches->next()) {
    const auto& shown = dynamic_cast<const CaptionBatch&>(*batch);
    const std::vector<torch::Tensor> logits = read(shown.images, device);
    torch::Tensor right = torch::ones({batch->size()}, torch::kBool);
    for (size_t t = 0; t < logits.size(); ++t) {
      const torch::Tensor said = logits[t].argmax(1).cpu(),
                          truth = shown.traits.select(1, static_cast<int64_t>(t));
      confusions[t].index_put_({truth, said}, torch::ones({batch->size()}, torch::kDouble),
                               /*accumulate=*/true);
      right.logical_and_(said.eq(truth));
    }
    all_right += right.sum().item<int64_t>();
    pictures += batch->size();
    if (progress) progress(++done, batches->batches_per_epoch());
  }
  fused_.stop();
  const auto count = static_cast<double>(pictures);
  Json metrics;
  double micro = 0, macro = 0;
  for (size_t t = 0; t < traits_.size(); ++t) {
    const double accuracy = confusions[t].trace().item<double>() / count;
    metrics["accuracy_" + traits_[t].name] = figure(accuracy);
    micro += accuracy / static_cast<double>(traits_.size());
    macro += macro_f1(confusions[t]) / static_cast<double>(traits_.size());
  }
  metrics["accuracy"] = figure(static_cast<double>(all_right) / count);
  metrics["f1_micro"] = figure(micro);
  metrics["f1_macro"] = figure(macro);
  return metrics;
}

std::vector<Preview> TraitReadingTask::previews(int64_t count, torch::Device device) {
  const torch::NoGradGuard no_grad;
  const int64_t shown = std::min({count, eval_.previews, validation_->size()});
  std::vector<CaptionedTile> tiles;
  for (int64_t i = 0; i < shown; ++i) {
    const cv::Mat rgb = covering_picture(validation_->picture(i), transform_.size[0], transform_.size[1]);
    std::vector<std::string> words;
    const std::vector<torch::Tensor> logits = read(picture_tensor(rgb).unsqueeze(0), device);
    for (size_t t = 0; t < logits.size(); ++t)
      words.push_back(traits_[t].values[static_cast<size_t>(logits[t].argmax(1).item<int64_t>())]);
    tiles.push_back({rgb, zoo::join(words, ", ")});
  }
  if (tiles.empty()) return {};
  return {{"read", caption_sheet(tiles, std::max<int64_t>(4, shown), "")}};
}

TraceSpec TraitReadingTask::trace_spec() {
  TraceSpec spec;
  spec.module = reader_.ptr();
  spec.forward = [reader = reader_](const std::vector<torch::Tensor>& inputs) mutable {
    return reader->forward(inputs[0]);
  };
  spec.example = [height = transform_.size[0], width = transform_.size[1]](int variant) {
    const int64_t batches[] = {2, 1, 3, 5}, extra[] = {0, 16, 0, 8};
    return std::vector<torch::Tensor>{
        torch::randn({batches[variant % 4], 3, height + extra[variant % 4], width})};
  };
  spec.inputs = {"images"};
  for (const CaptionTrait& trait : traits_) spec.outputs.push_back(trait.name);
  return spec;
}

std::vector<torch::Tensor> TraitReadingTask::example_inputs(int64_t batch_size,
                                                            std::pair<int64_t, int64_t> size) const {
  return {torch::randn({batch_size, 3, size.first, size.second})};
}

std::map<std::string, std::string> TraitReadingTask::weight_metadata() const {
  return {{kTraitsKey, traits_json(traits_).dump()}, {"zoo.preprocessing", Json(transform_).dump()}};
}

std::vector<std::pair<std::string, std::string>> TraitReadingTask::describe(const Batch& batch) const {
  const auto& pictures = dynamic_cast<const CaptionBatch&>(batch);
  return {{"images", shape_text(pictures.images) + " float32"},
          {"traits", shape_text(pictures.traits) + " int64"}};
}

}  // namespace zoo
