#include "trainers/tasks/online_action.h"

#include <torch/torch.h>

#include <algorithm>
#include <numeric>

#include "core/error.h"
#include "core/text.h"
#include "models/online_action/action_trace.h"
#include "models/precision.h"
#include "models/shape_text.h"
#include "trainers/action_timeline.h"
#include "trainers/tasks/category_map.h"

namespace zoo {

namespace {

constexpr const char* kStreamKey = "zoo.stream";  ///< metadata of weights: {"steps_per_second"}
/// Steps of a stream that are read at once.
constexpr int64_t kStepsRead = 128;

/// Class names of weights, by column.
std::vector<std::string> stored_names(const StateDict& weights, int64_t num_classes) {
  const CategoryMap map = CategoryMap::from_json(weights.metadata.at("zoo.categories"), num_classes);
  std::vector<std::string> names;
  for (int64_t c = 0; c < num_classes; ++c) {
    const Category* category = map.category(c);
    names.push_back(category == nullptr ? "class " + std::to_string(c) : category->name);
  }
  return names;
}

/// Videos of a set from the longest to the shortest, in groups of `size`.
std::vector<std::vector<int64_t>> groups_by_length(const ActionDataset& videos, int64_t size) {
  std::vector<int64_t> order(static_cast<size_t>(videos.size()));
  std::iota(order.begin(), order.end(), 0);
  std::stable_sort(order.begin(), order.end(),
                   [&](int64_t a, int64_t b) { return videos.steps(a) > videos.steps(b); });
  std::vector<std::vector<int64_t>> groups;
  for (size_t i = 0; i < order.size(); ++i) {
    if (i % static_cast<size_t>(size) == 0) groups.emplace_back();
    groups.back().push_back(order[i]);
  }
  return groups;
}

/// Those of the first `count` streams.
ActionState first_streams(const ActionState& state, int64_t count) {
  ActionState kept;
  for (const torch::Tensor& tensor : state) kept.push_back(tensor.narrow(0, 0, count));
  return kept;
}

}  // namespace

void ActionSamplingOptions::validate() const {
  require_count("data.sampling.stride", stride, 1, 1'000'000);
  require_choice("data.sampling.start", start, {"repeat", "zero", "skip"});
  require_count("data.sampling.tail", tail, 0, 1'000'000);
}

void ActionEvalOptions::validate() const {
  require_count("eval.previews", previews, 0, 1000);
  require_range("eval.stall_seconds", stall_seconds, 0, 1e6);
  protocol.validate();
}

ActionTask::ActionTask(Json& config, Purpose purpose, const StateDict* weights, const MakeActionModel& make)
    : data_(config.at("data").get<DataOptions>()),
      sampling_(config.at("data").at("sampling").get<ActionSamplingOptions>()),
      eval_(config.at("eval").get<ActionEvalOptions>()),
      loss_(config.at("loss").get<ActionLossOptions>()),
      seed_(config.at("trainer").at("seed").get<uint64_t>()),
      fused_(config, purpose) {
  Json& model = config.at("model");
  const bool from_data = model.at("num_classes") == 0 || model.at("feature_size") == 0;
  open_data(purpose == Purpose::inference && from_data ? Purpose::evaluation : purpose);
  fit_to_data(model, training_ != nullptr ? training_.get() : validation_.get());
  if (training_ != nullptr) fit_to_data(model, validation_.get());
  model_ = make(model);
  name_classes(weights);
}

void ActionTask::open_data(Purpose purpose) {
  if (purpose == Purpose::training) training_ = open_action_training(data_, seed_);
  if (purpose != Purpose::inference) validation_ = open_action_validation(data_, seed_);
}

void ActionTask::fit_to_data(Json& model, const ActionDataset* data) {
  Json &width = model.at("feature_size"), &classes = model.at("num_classes"),
       &ambiguous = model.at("ambiguous_class");
  if (data != nullptr) {
    const auto known = static_cast<int64_t>(data->class_names().size());
    if (width == 0) width = data->feature_size();
    if (classes == 0) classes = known;
    if (width != data->feature_size()) {
      throw Error(data->description() + ": " + std::to_string(data->feature_size()) +
                  " numbers a step, the model takes " + std::to_string(width.get<int64_t>()) +
                  " (model.feature_size=0 makes one for these data)");
    }
    if (data->labelled() && classes != known) {
      if (classes != known + 1 || data->ambiguous_class() < 0) {
        throw Error(data->description() + ": " + std::to_string(known) + " classes, the model has " +
                    std::to_string(classes.get<int64_t>()) +
                    " (model.num_classes=0 makes one for these data)");
      }
      ambiguous = data->ambiguous_class();
    }
    steps_per_second_ = data->steps_per_second();
  }
  ambiguous_class_ = ambiguous.get<int64_t>();
}

void ActionTask::name_classes(const StateDict* weights) {
  const int64_t columns = model_.num_classes - (ambiguous_class_ >= 0 ? 1 : 0);
  const ActionDataset* data = training_ != nullptr ? training_.get() : validation_.get();
  if (data != nullptr && data->labelled()) {
    class_names_ = data->class_names();
  } else if (weights != nullptr && weights->metadata.count("zoo.categories") > 0) {
    class_names_ = stored_names(*weights, columns);
  } else {
    class_names_.emplace_back("background");
    for (int64_t c = 1; c < columns; ++c) class_names_.push_back("class " + std::to_string(c));
  }
  if (data != nullptr || weights == nullptr || weights->metadata.count(kStreamKey) == 0) return;
  const Json stored = Json::parse(weights->metadata.at(kStreamKey), nullptr, false);
  if (stored.is_object() && stored.contains("steps_per_second"))
    steps_per_second_ = stored.at("steps_per_second").get<double>();
}

ActionWindowOptions ActionTask::window() const {
  ActionWindowOptions window;
  window.steps = model_.window;
  window.horizons = model_.horizons;
  window.first_horizon = model_.first_horizon;
  window.memory = model_.memory;
  window.memory_rate = model_.memory_rate;
  window.stride = sampling_.stride;
  window.start = sampling_.start;
  window.tail = sampling_.tail;
  window.skip_ambiguous = sampling_.skip_ambiguous;
  return window;
}

std::vector<ParameterGroup> ActionTask::parameter_groups(const OptimizerOptions& options) {
  ParameterGroup all{"network", {}, options.lr, options.weight_decay};
  for (const auto& item : model_.module->named_parameters()) {
    if (item.value().requires_grad()) all.parameters.emplace_back(item.key(), item.value());
  }
  return {all};
}

BatchSource& ActionTask::training_batches() {
  if (training_batches_ == nullptr)
    training_batches_ = action_batches(training_, data_, window(), true, seed_, batch_part());
  return *training_batches_;
}

LossTerms ActionTask::loss(const Batch& batch, torch::Device device) {
  const auto& windows = dynamic_cast<const ActionBatch&>(batch);
  const auto moved = [&](const torch::Tensor& x) { return x.defined() ? x.to(device) : x; };
  const ActionScores scores = without_class(
      model_.forward({moved(windows.features), moved(windows.memory), moved(windows.memory_mask)}),
      ambiguous_class_);
  const ActionTargets targets{moved(windows.targets), moved(windows.known), model_.window,
                              model_.first_horizon};
  torch::Tensor rows;
  if (ranks() != nullptr) {
    rows = count_action_rows(scores, targets, loss_);
    ranks()->sum(rows);
    rows = rows / static_cast<double>(ranks()->count());
  }
  return action_loss(scores, targets, loss_, rows);
}

torch::Tensor ActionTask::probabilities(const torch::Tensor& logits) const {
  if (!logits.defined()) return logits;
  const torch::Tensor kept =
      without_class({logits.to(torch::kFloat), torch::Tensor()}, ambiguous_class_).current;
  return (loss_.name == "bce" ? kept.sigmoid() : kept.softmax(-1)).cpu();
}

ActionStep ActionTask::step(const torch::Tensor& features, const ActionState& state, torch::Device device) {
  const torch::NoGradGuard no_grad;
  fused_.count_pass([this] { return action_step_spec(model_); }, device);
  ActionStep result;
  if (fused_.running()) {
    std::vector<torch::Tensor> inputs = {features};
    inputs.insert(inputs.end(), state.begin(), state.end());
    std::vector<torch::Tensor> outputs = fused_.run(inputs);
    const size_t scores = model_.horizons > 0 ? 2 : 1;
    result.current = outputs[0];
    if (scores == 2) result.future = outputs[1];
    result.state.assign(outputs.begin() + static_cast<std::ptrdiff_t>(scores), outputs.end());
  } else {
    const AutocastGuard autocast(device, fused_.precision());
    result = model_.step(features.to(device), state);
  }
  result.current = probabilities(result.current);
  result.future = probabilities(result.future);
  return result;
}

void ActionTask::stream_group(const ActionDataset& videos, const std::vector<int64_t>& group,
                              torch::Device device, std::vector<ActionVideoScores>& scored,
                              const std::function<void()>& progress) {
  auto alive = static_cast<int64_t>(group.size());
  ActionState state = model_.start(alive, device);
  std::vector<torch::Tensor> blocks(group.size());
  for (int64_t t = 0; t < videos.steps(group.front()); ++t) {
    while (videos.steps(group[static_cast<size_t>(alive - 1)]) <= t) --alive;
    std::vector<torch::Tensor> rows;
    for (size_t i = 0; i < static_cast<size_t>(alive); ++i) {
      if (t % kStepsRead == 0)
        blocks[i] = videos.features(group[i], t, std::min(kStepsRead, videos.steps(group[i]) - t));
      rows.push_back(blocks[i][t % kStepsRead]);
    }
    ActionStep result = step(torch::stack(rows), first_streams(state, alive), device);
    state = std::move(result.state);
    for (int64_t i = 0; i < alive; ++i) {
      ActionVideoScores& own = scored[static_cast<size_t>(group[static_cast<size_t>(i)])];
      own.current[t].copy_(result.current[i]);
      if (model_.horizons > 0) own.future[t].copy_(result.future[i]);
    }
    progress();
  }
}

std::vector<ActionVideoScores> ActionTask::stream(const ActionDataset& videos, torch::Device device,
                                                  const std::function<void(int64_t, int64_t)>& progress) {
  const auto groups =
      groups_by_length(videos, data_.val_batch_size > 0 ? data_.val_batch_size : data_.batch_size);
  int64_t all = 0, done = 0;
  for (const auto& group : groups) all += videos.steps(group.front());
  const auto columns = static_cast<int64_t>(class_names_.size());
  std::vector<ActionVideoScores> scored(static_cast<size_t>(videos.size()));
  for (int64_t i = 0; i < videos.size(); ++i) {
    ActionVideoScores& own = scored[static_cast<size_t>(i)];
    own.current = torch::empty({videos.steps(i), columns});
    if (model_.horizons > 0) own.future = torch::empty({videos.steps(i), model_.horizons, columns});
  }
  fused_.start(action_step_spec(model_), all, device);
  for (const auto& group : groups) {
    stream_group(videos, group, device, scored, [&] {
      ++done;
      if (progress) progress(done, all);
    });
  }
  fused_.stop();
  return scored;
}

Json ActionTask::evaluate(torch::Device device, const std::function<void(int64_t, int64_t)>& progress) {
  const torch::NoGradGuard no_grad;
  scored_ = stream(*validation_, device, progress);
  for (int64_t i = 0; i < validation_->size(); ++i) {
    ActionVideoScores& own = scored_[static_cast<size_t>(i)];
    const LabelTable& labels = validation_->labels(i);
    own.labels = labels.tensor();
    own.ambiguous = labels.ambiguous_tensor();
    const int64_t steps = labels.steps(), first = sampling_.start == "skip" ? model_.window - 1 : 0;
    const torch::Tensor place = torch::arange(steps);
    own.predicted = place.ge(first).logical_and(place.lt(steps - sampling_.tail));
  }
  const OnlineActionMetrics metrics =
      online_action_metrics(scored_, eval_.protocol, model_.first_horizon, validation_->description());
  details_ = online_action_details(metrics, eval_.protocol, naming());
  return online_action_json(metrics, naming());
}

ActionNaming ActionTask::naming() const {
  ActionNaming naming;
  naming.classes = class_names_;
  naming.steps_per_second = steps_per_second_;
  naming.first_horizon = model_.first_horizon;
  naming.scores = (loss_.name == "bce" ? "sigmoid of " : "softmax over ") +
                  std::to_string(class_names_.size()) + " columns, step by step from the video's first";
  return naming;
}

StateDict ActionTask::predictions() const {
  std::vector<torch::Tensor> scores, labels, ambiguous;
  for (const ActionVideoScores& video : scored_) {
    const torch::Tensor predicted = video.predicted;
    scores.push_back(video.current.index({predicted}));
    labels.push_back(video.labels.index({predicted}));
    ambiguous.push_back(video.ambiguous.index({predicted}).to(torch::kByte));
  }
  StateDict state;
  state.tensors = {
      {"scores", torch::cat(scores)}, {"labels", torch::cat(labels)}, {"ambiguous", torch::cat(ambiguous)}};
  return state;
}

std::vector<Preview> ActionTask::previews(int64_t count, torch::Device device) {
  const int64_t shown = std::min({count, eval_.previews, validation_->size()});
  std::vector<int64_t> first(static_cast<size_t>(shown));
  std::iota(first.begin(), first.end(), 0);
  if (shown == 0) return {};
  const std::vector<ActionVideoScores> scored = stream(*subset(validation_, first), device, nullptr);
  std::vector<Preview> previews;
  for (int64_t i = 0; i < shown; ++i) {
    const LabelTable& labels = validation_->labels(i);
    const std::string name = validation_->name(i);
    previews.push_back(
        {name, draw_action_timeline({name, class_names_, scored[static_cast<size_t>(i)].current,
                                     labels.tensor(), labels.ambiguous_tensor(), steps_per_second_})});
  }
  return previews;
}

TraceSpec ActionTask::trace_spec() {
  return action_forward_spec(model_);
}

std::vector<TraceSpec> ActionTask::exported_methods() {
  return {action_forward_spec(model_), action_step_spec(model_)};
}

std::vector<torch::Tensor> ActionTask::example_inputs(int64_t batch_size,
                                                      std::pair<int64_t, int64_t> size) const {
  std::vector<torch::Tensor> inputs = {torch::randn({batch_size, size.first, size.second})};
  if (model_.memory > 0) {
    inputs.push_back(torch::randn({batch_size, model_.memory, size.second}));
    inputs.push_back(torch::ones({batch_size, model_.memory}, torch::kBool));
  }
  return inputs;
}

std::map<std::string, std::string> ActionTask::weight_metadata() const {
  std::vector<Category> categories;
  for (size_t i = 0; i < class_names_.size(); ++i)
    categories.push_back({static_cast<int64_t>(i), class_names_[i]});
  return {{"zoo.categories", CategoryMap(categories, static_cast<int64_t>(class_names_.size())).to_json()},
          {kStreamKey, Json{{"steps_per_second", steps_per_second_}}.dump()}};
}

std::vector<std::pair<std::string, std::string>> ActionTask::describe(const Batch& batch) const {
  const auto& windows = dynamic_cast<const ActionBatch&>(batch);
  std::vector<std::pair<std::string, std::string>> lines = {
      {"features", shape_text(windows.features) + " float32"},
      {"targets", shape_text(windows.targets) + " float32"},
      {"known", shape_text(windows.known) + " bool"}};
  if (windows.memory.defined()) lines.emplace_back("memory", shape_text(windows.memory) + " float32");
  lines.emplace_back("window", format("%lld steps, %.3g s", static_cast<long long>(model_.window),
                                      static_cast<double>(model_.window) / steps_per_second_));
  if (model_.horizons > 0) {
    lines.emplace_back(
        "future",
        format("%lld steps, %.3g to %.3g s ahead", static_cast<long long>(model_.horizons),
               static_cast<double>(model_.first_horizon) / steps_per_second_,
               static_cast<double>(model_.first_horizon + model_.horizons - 1) / steps_per_second_));
  }
  return lines;
}

}  // namespace zoo
