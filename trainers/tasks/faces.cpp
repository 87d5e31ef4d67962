#include "trainers/tasks/faces.h"

#include <torch/torch.h>

#include <algorithm>
#include <unordered_map>

#include "core/error.h"
#include "core/files.h"
#include "core/log.h"
#include "core/text.h"
#include "models/precision.h"
#include "models/shape_text.h"
#include "trainers/tasks/embedding_plane.h"
#include "trainers/tasks/face_pictures.h"

namespace zoo {

namespace {

/// Pairs of a training set that a weighted metric is fitted to.
constexpr int64_t kFittingPairs = 6000;
constexpr const char* kVerificationKey = "zoo.verification";

/// What a run's last validation found; null where the weights tell nothing.
Json stored_verification(const StateDict* weights) {
  if (weights == nullptr) return nullptr;
  const auto found = weights->metadata.find(kVerificationKey);
  if (found == weights->metadata.end()) return nullptr;
  Json document = Json::parse(found->second, nullptr, false);
  return document.is_object() ? document : Json(nullptr);
}

/// Pairs whose pictures were both read.
PairList readable_pairs(const std::vector<FacePair>& pairs, const std::vector<bool>& read,
                        const std::string& description) {
  std::vector<FacePair> kept;
  for (const FacePair& pair : pairs) {
    if (read[static_cast<size_t>(pair.a)] && read[static_cast<size_t>(pair.b)]) kept.push_back(pair);
  }
  if (kept.size() < pairs.size())
    log_warning(description +
                format(": %zu pairs left out, their pictures cannot be read", pairs.size() - kept.size()));
  return pair_list(kept);
}

/// Numbers of the records' identities, by name in a table that grows.
torch::Tensor identity_numbers(const FaceDataset& dataset,
                               std::unordered_map<std::string, int64_t>& numbers) {
  torch::Tensor labels = torch::empty({dataset.size()}, torch::kLong);
  for (int64_t i = 0; i < dataset.size(); ++i) {
    const int64_t identity = dataset.identity(i);
    if (identity < 0)
      throw Error(dataset.description() + ": " + dataset.record(i).name +
                  " has no identity, which an identification needs");
    const std::string& name = dataset.identities()[static_cast<size_t>(identity)];
    labels.mutable_data_ptr<int64_t>()[i] =
        numbers.emplace(name, static_cast<int64_t>(numbers.size())).first->second;
  }
  return labels;
}

/// Some pictures of the first people.
std::vector<int64_t> pictures_to_show(const FaceDataset& dataset) {
  constexpr int64_t kPeople = 10, kPictures = 50;
  std::vector<int64_t> shown, counts(kPeople);
  for (int64_t i = 0; i < dataset.size(); ++i) {
    const int64_t person = dataset.identity(i);
    if (person < 0 || person >= kPeople || counts[static_cast<size_t>(person)]++ >= kPictures) continue;
    shown.push_back(i);
  }
  return shown;
}

/// [C,D]; undefined where the loss has none.
torch::Tensor class_rows(const FaceLossImpl& loss) {
  const auto parameters = loss.named_parameters(), buffers = loss.named_buffers();
  if (parameters.contains("weight")) return parameters["weight"].detach();
  return buffers.contains("weight") ? buffers["weight"] : torch::Tensor();
}

/// The share of embeddings whose own class row is the nearest of all. None where there are no rows, nor where
/// each pass takes a sample of them.
std::optional<double> accuracy_of(FaceLossImpl& loss, const EmbeddingPlane& plane) {
  if (!plane.rows.defined() || !loss.own_weights().empty()) return std::nullopt;
  const torch::Device device = plane.rows.device();
  loss.eval();
  const LossTerms result =
      loss.forward(plane.points.to(device), torch::tensor(plane.people, torch::kLong).to(device));
  loss.train();
  return result.terms.front().second.item<double>();
}

}  // namespace

FaceTask::FaceTask(const Json& config, Purpose purpose, const StateDict* weights,
                   const std::function<FaceModel()>& make)
    : data_(config.at("data").get<DataOptions>()),
      transform_(config.at("data").at("transform").get<FaceTransformOptions>()),
      eval_(config.at("eval").get<FaceEvalOptions>()),
      verify_(config.at("verify").get<VerifyOptions>()),
      seed_(config.at("trainer").at("seed").get<uint64_t>()),
      fused_(config, purpose),
      verification_(stored_verification(weights)) {
  open_data(purpose);
  model_ = make();
  if (purpose != Purpose::training) return;
  loss_options_ = config.at("loss").get<FaceLossOptions>();
}

void FaceTask::join(const SharedRanks& ranks) {
  Task::join(ranks);
  face_loss();
}

FaceLossImpl* FaceTask::face_loss() {
  if (loss_ == nullptr && training_ != nullptr) {
    loss_ = make_face_loss(loss_options_, model_.embedding_size,
                           static_cast<int64_t>(training_->identities().size()), seed_, ranks());
  }
  return loss_.get();
}

std::shared_ptr<LossModule> FaceTask::loss_module() {
  face_loss();
  return loss_;
}

void FaceTask::open_data(Purpose purpose) {
  if (purpose == Purpose::inference) return;
  if (purpose == Purpose::training) training_ = open_face_training(data_, seed_);
  const DataSpec spec = parse_data_spec(data_.val.empty() ? data_.train : data_.val);
  if (spec.kind == "ijb") {
    templates_ = open_face_templates(spec);
  } else if (purpose == Purpose::evaluation && data_.val_fraction == 0) {
    validation_ = open_face_pairs(spec, "val", seed_);  // identities of a training do not matter
  } else {
    validation_ = open_face_validation(data_, seed_);
  }
}

std::vector<ParameterGroup> FaceTask::parameter_groups(const OptimizerOptions& options) {
  ParameterGroup network{"network", {}, options.lr, options.weight_decay};
  ParameterGroup head{"loss", {}, options.lr, options.weight_decay};
  for (const auto& item : model_.module->named_parameters()) {
    if (item.value().requires_grad()) network.parameters.emplace_back(item.key(), item.value());
  }
  if (const FaceLossImpl* loss = face_loss()) {
    for (const auto& item : loss->named_parameters()) {
      if (item.value().requires_grad()) head.parameters.emplace_back("loss." + item.key(), item.value());
    }
  }
  if (head.parameters.empty()) return {network};
  return {network, head};
}

BatchSource& FaceTask::training_batches() {
  if (training_batches_ == nullptr)
    training_batches_ = face_batches(training_, data_, transform_, true, seed_, batch_part());
  return *training_batches_;
}

LossTerms FaceTask::loss(const Batch& batch, torch::Device device) {
  const auto& faces = dynamic_cast<const FaceBatch&>(batch);
  return face_loss()->forward(model_.embed(faces.images.to(device)), faces.labels.to(device));
}

torch::Tensor FaceTask::forward(const torch::Tensor& images, torch::Device device) {
  fused_.count_pass([this] { return trace_spec(); }, device);
  if (fused_.running()) return fused_.run({images}).front();
  fused_.lay_out(*model_.module, device);
  const AutocastGuard autocast(device, fused_.precision());
  return model_.embed(images.to(device));
}

torch::Tensor FaceTask::embed(const torch::Tensor& images, torch::Device device) {
  return embed(images, device, verify_.flip);
}

FaceEmbeddings FaceTask::embed(const std::shared_ptr<FaceDataset>& dataset, torch::Device device,
                               const std::function<void(int64_t, int64_t)>& progress) {
  return embed(dataset, device, verify_.flip, progress);
}

torch::Tensor FaceTask::embed(const torch::Tensor& images, torch::Device device, bool flip) {
  const torch::NoGradGuard no_grad;
  if (!flip) return forward(images, device).to(torch::kFloat).cpu().clone();
  const torch::Tensor both = forward(torch::cat({images, images.flip(3)}), device).to(torch::kFloat).cpu();
  return both.narrow(0, 0, images.size(0)) + both.narrow(0, images.size(0), images.size(0));
}

FaceEmbeddings FaceTask::embed(const std::shared_ptr<FaceDataset>& dataset, torch::Device device, bool flip,
                               const std::function<void(int64_t, int64_t)>& progress) {
  const std::unique_ptr<BatchSource> batches = face_batches(dataset, data_, transform_, false, seed_);
  FaceEmbeddings embeddings{torch::zeros({dataset->size(), model_.embedding_size}),
                            std::vector<bool>(static_cast<size_t>(dataset->size()), false)};
  fused_.start(trace_spec(), batches->batches_per_epoch(), device);
  batches->start_epoch(0);
  int64_t done = 0;
  while (const std::unique_ptr<Batch> batch = batches->next()) {
    const auto& faces = dynamic_cast<const FaceBatch&>(*batch);
    embeddings.rows.index_copy_(0, torch::tensor(faces.indices, torch::kLong),
                                embed(faces.images, device, flip));
    for (const int64_t index : faces.indices) embeddings.read[static_cast<size_t>(index)] = true;
    if (progress) progress(++done, batches->batches_per_epoch());
  }
  fused_.stop();
  return embeddings;
}

/// What verify.fit names; null where verifiers are fitted fold by fold, or need no fitting.
const FittingSample* FaceTask::fitting_sample(torch::Device device) {
  if (!is_fitted(verify_.metric) || !verify_.parameters.empty() || verify_.fit == "folds") return nullptr;
  if (!sample_) {
    const std::shared_ptr<FaceDataset> dataset = open_face_dataset(parse_data_spec(verify_.fit), "train");
    FaceEmbeddings embeddings = embed(dataset, device, nullptr);
    FittingSample sample{embeddings.rows, {}, {}};
    for (int64_t i = 0; i < dataset->size(); ++i)
      sample.identities.push_back(embeddings.read[static_cast<size_t>(i)] ? dataset->identity(i) : -1);
    if (verify_.metric != "joint_bayesian") {
      sample.pairs =
          readable_pairs(draw_face_pairs(*dataset, kFittingPairs, seed_), embeddings.read, verify_.fit);
    }
    sample_ = std::move(sample);
  }
  return &*sample_;
}

Json FaceTask::evaluate_pairs(torch::Device device, const std::function<void(int64_t, int64_t)>& progress) {
  const FaceEmbeddings embeddings = embed(validation_.images, device, progress);
  embeddings_ = embeddings.rows;
  pairs_ = readable_pairs(validation_.pairs, embeddings.read, validation_.description);
  const FittingSample* sample = fitting_sample(device);
  const ScoredPairs scored = score_pairs(embeddings_, pairs_, verify_, sample, validation_.description);
  roc_ = Roc(scored.own_scores(), scored.same);
  details_ = verification_details(scored, verify_);
  details_["mean_norm"] = embeddings_.norm(2, 1).mean().item<double>() / (verify_.flip ? 2 : 1);
  Json metrics = verification_json(verification_metrics(scored, roc_));
  verification_ = {{"metric", verify_.metric},
                   {"threshold", metrics.at("threshold")},
                   {"accuracy", metrics.at("accuracy")}};
  return metrics;
}

Json FaceTask::evaluate_templates(torch::Device device,
                                  const std::function<void(int64_t, int64_t)>& progress) {
  if (verify_.metric != "cosine")
    throw UsageError("verify.metric=" + verify_.metric + ": templates are compared by cosine");
  embeddings_ = embed(templates_->images, device, progress).rows;
  pairs_ = {};
  roc_ = compare_templates(embeddings_, *templates_, verify_.templates, templates_->images->description());
  details_ = template_details(roc_, verify_);
  return template_metrics_json(roc_);
}

Json FaceTask::evaluate(torch::Device device, const std::function<void(int64_t, int64_t)>& progress) {
  const torch::NoGradGuard no_grad;
  return templates_ ? evaluate_templates(device, progress) : evaluate_pairs(device, progress);
}

Json FaceTask::identify(const std::shared_ptr<FaceDataset>& gallery,
                        const std::shared_ptr<FaceDataset>& probes, torch::Device device,
                        const std::function<void(int64_t, int64_t)>& progress) {
  const torch::NoGradGuard no_grad;
  std::unordered_map<std::string, int64_t> numbers;
  const torch::Tensor gallery_labels = identity_numbers(*gallery, numbers);
  const torch::Tensor probe_labels = identity_numbers(*probes, numbers);
  const Gallery entries(embed(gallery, device, progress).rows, gallery_labels, gallery->description());
  const IdentificationMetrics metrics = identification_metrics(
      entries.ranks(embed(probes, device, progress).rows, probe_labels, probes->description()),
      verify_.cmc_ranks);
  details_ = identification_details(metrics, entries.size(), probes->size());
  return identification_json(metrics);
}

std::optional<double> FaceTask::threshold() const {
  const bool told = verification_.is_object() && verification_.value("metric", "") == "cosine" &&
                    verification_.contains("threshold") && verification_.at("threshold").is_number();
  return told ? std::optional<double>(verification_.at("threshold").get<double>()) : std::nullopt;
}

StateDict FaceTask::predictions() const {
  StateDict state;
  if (templates_) {
    state.tensors = {{"embeddings", embeddings_}};
    return state;
  }
  const auto rows = [&](const std::vector<int64_t>& numbers) {
    return embeddings_.index_select(0, torch::tensor(numbers, torch::kLong));
  };
  state.tensors = {{"a", rows(pairs_.first)},
                   {"b", rows(pairs_.second)},
                   {"same", torch::tensor(pairs_.same, torch::kUInt8)},
                   {"fold", torch::tensor(pairs_.folds, torch::kLong)}};
  return state;
}

std::unique_ptr<Verifier> FaceTask::fitted_verifier() {
  if (!is_fitted(verify_.metric) || pairs_.size() == 0) return nullptr;
  return make_verifier(verify_, embeddings_, pairs_, sample_ ? &*sample_ : nullptr);
}

std::vector<Preview> FaceTask::previews(int64_t count, torch::Device device) {
  std::vector<Preview> previews;
  const double limit = threshold().value_or(verify_.threshold);
  const auto pairs = static_cast<int64_t>(validation_.pairs.size());
  const int64_t shown = std::min({count, eval_.previews, pairs});
  for (int64_t i = 0; i < shown; ++i) {
    const FacePair& pair = validation_.pairs[static_cast<size_t>(i * pairs / shown)];
    std::vector<cv::Mat> faces;
    std::vector<torch::Tensor> tensors;
    for (const int64_t index : {pair.a, pair.b}) {
      faces.push_back(aligned_face(validation_.images->image(index),
                                   validation_.images->record(index).landmarks, transform_));
      tensors.push_back(face_tensor(faces.back(), transform_));
    }
    const torch::Tensor both = embed(torch::stack(tensors), device);
    const double score = torch::cosine_similarity(both[0], both[1], 0).item<double>();
    previews.push_back({format("pair-%lld", static_cast<long long>(i)),
                        draw_face_pair(faces[0], faces[1], score, limit, pair.same)});
  }
  return previews;
}

std::vector<Preview> FaceTask::figures(torch::Device device) {
  const bool whole = loss_ != nullptr && ranks() == nullptr;  // rank 0 alone has not all class rows
  if (!whole || model_.embedding_size != 2) return {};
  const std::vector<int64_t> shown = pictures_to_show(*training_);
  const FaceEmbeddings embeddings = embed(subset(training_, shown), device, /*flip=*/false, nullptr);
  std::vector<int64_t> read;
  EmbeddingPlane plane{{}, {}, class_rows(*loss_)};
  for (size_t i = 0; i < shown.size(); ++i) {
    if (!embeddings.read[i]) continue;
    read.push_back(static_cast<int64_t>(i));
    plane.people.push_back(training_->identity(shown[i]));
  }
  if (read.empty()) return {};
  plane.points = embeddings.rows.index_select(0, torch::tensor(read, torch::kLong));
  std::string words = format("%zu training pictures", read.size());
  if (const std::optional<double> accuracy = accuracy_of(*loss_, plane))
    words += format(", accuracy %.3f", *accuracy);
  return {{"embeddings", draw_embedding_plane(plane, loss_options_.name, words)}};
}

TraceSpec FaceTask::trace_spec() {
  TraceSpec spec;
  spec.module = model_.module;
  spec.forward = [embed = model_.embed](const std::vector<torch::Tensor>& inputs) {
    return std::vector<torch::Tensor>{embed(inputs[0])};
  };
  spec.example = [height = transform_.input_size[0], width = transform_.input_size[1]](int64_t variant) {
    constexpr int64_t kBatches[] = {2, 1, 3, 7};
    return std::vector<torch::Tensor>{torch::randn({kBatches[variant % 4], 3, height, width})};
  };
  spec.variants = 4;
  spec.inputs = {"images"};
  spec.outputs = {"embeddings"};
  return spec;
}

std::vector<torch::Tensor> FaceTask::example_inputs(int64_t batch_size,
                                                    std::pair<int64_t, int64_t> size) const {
  return {torch::randn({batch_size, 3, size.first, size.second})};
}

std::map<std::string, std::string> FaceTask::weight_metadata() const {
  std::map<std::string, std::string> metadata = {{"zoo.preprocessing", Json(transform_).dump()}};
  if (verification_.is_object()) metadata[kVerificationKey] = verification_.dump();
  return metadata;
}

std::vector<std::pair<std::string, std::string>> FaceTask::describe(const Batch& batch) const {
  const auto& faces = dynamic_cast<const FaceBatch&>(batch);
  return {{"images", shape_text(faces.images) + " float32"},
          {"labels",
           shape_text(faces.labels) + format(" int64, of %zu identities", training_->identities().size())}};
}

}  // namespace zoo
