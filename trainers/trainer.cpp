#include "trainers/trainer.h"

#include <ATen/Parallel.h>

#include <algorithm>
#include <chrono>
#include <cmath>
#include <limits>
#include <memory>
#include <optional>

#include "core/error.h"
#include "core/files.h"
#include "core/log.h"
#include "core/random.h"
#include "core/text.h"
#include "trainers/averaging.h"
#include "trainers/checkpoint.h"
#include "trainers/policy.h"
#include "trainers/progress.h"
#include "trainers/run_directory.h"
#include "trainers/running_means.h"
#include "trainers/schedules.h"
#include "trainers/signals.h"
#include "trainers/training_step.h"

namespace zoo {

namespace {

constexpr int64_t kPreviews = 8;
constexpr size_t kShownIds = 16;
constexpr double kShortValidation =
    10;  // seconds: before a longer one a checkpoint is written, and again after it
constexpr const char* kOptimizerPrefix = "trainer.optimizer.";
constexpr const char* kAveragePrefix = "trainer.average.";
constexpr const char* kRandomPrefix = "trainer.random.";

using Clock = std::chrono::steady_clock;
double seconds_since(Clock::time_point begin) {
  return std::chrono::duration<double>(Clock::now() - begin).count();
}

/// The first of many names.
std::string shown_ids(std::vector<std::string> ids) {
  const size_t all = ids.size();
  if (all > kShownIds) ids.resize(kShownIds);
  return join(ids, ", ") + (all > kShownIds ? format(" and %zu more", all - kShownIds) : "");
}

/// What nonfinite.json tells of a step: samples of the batches whose loss is not finite, of all batches where
/// only the gradient is not.
Json incident_of(const TrainerState& state, const StepResult& result,
                 const std::vector<std::unique_ptr<Batch>>& batches) {
  const bool loss_is_finite = std::all_of(result.losses.begin(), result.losses.end(),
                                          [](double loss) { return std::isfinite(loss); });
  std::vector<std::string> ids;
  Json terms = Json::object();
  for (size_t i = 0; i < batches.size(); ++i) {
    if (!loss_is_finite && std::isfinite(result.losses[i])) continue;
    ids.insert(ids.end(), batches[i]->ids.begin(), batches[i]->ids.end());
    for (const auto& [name, value] : result.terms[i].terms) terms[name].push_back(value.item<double>());
  }
  return {{"what", loss_is_finite ? "gradient" : "loss"},
          {"step", state.step},
          {"epoch", state.epoch},
          {"ids", ids},
          {"losses", result.losses},
          {"terms", terms},
          {"gradient_norm", result.gradient_norm}};
}

class Trainer {
 public:
  Trainer(Task& task, const Json& config, const std::string& run, std::optional<Checkpoint> checkpoint);
  TrainResult run();

 private:
  bool attend();
  void take_step();
  std::vector<std::unique_ptr<Batch>> next_batches();
  void end_epoch();
  void record(const StepResult& result);
  void report_nonfinite(const StepResult& result, const std::vector<std::unique_ptr<Batch>>& batches);

  void write_line();
  std::string summary(const std::vector<std::pair<std::string, double>>& means) const;
  void show_progress();
  void validate();
  Json evaluate();
  void save();
  StateDict weights() const;
  void save_weights(const std::string& name);
  [[noreturn]] void interrupt();

  void begin();
  void restore(const Checkpoint& checkpoint);
  void restore_random(const StateDict& tensors);
  void make_average();
  void adopt_data_size();
  int64_t steps_in_all() const { return total_steps(options_, state_.steps_per_epoch); }
  double lr_factor(int64_t step) const { return schedule_factor(step, steps_in_all(), schedule_); }
  double epochs_done() const;
  double samples_per_second() const {
    return window_seconds_ > 0 ? static_cast<double>(window_samples_) / window_seconds_ : 0;
  }

  Task& task_;
  const Json& config_;
  const std::string run_;
  TrainerOptions options_;
  ScheduleOptions schedule_;
  torch::Device device_;
  BatchSource& source_;
  TrainingStep step_;
  std::unique_ptr<WeightAverage> average_;  ///< null: none
  TrainerState state_;
  RunWriter writer_;
  ProgressLine progress_{"training"};

  RunningMeans means_;  ///< since the last line of metrics.jsonl
  int64_t window_samples_ = 0;
  double window_seconds_ = 0;
  LossTerms last_;  ///< of the last batch
  double gradient_norm_ = 0;
  int64_t steps_here_ = 0;  ///< of this process, and the time they took
  double seconds_here_ = 0;
  int64_t saved_step_ = -1;
  double validation_seconds_ = std::numeric_limits<double>::infinity();  ///< of the last one
  bool source_ready_ = false, source_over_ = false;
  Json incidents_ = Json::array();
};

torch::Device placed(Task& task, const TrainerOptions& options) {
  const torch::Device device = resolve_device(options.device);
  task.module().to(device);
  return device;
}

Trainer::Trainer(Task& task, const Json& config, const std::string& run, std::optional<Checkpoint> checkpoint)
    : task_(task),
      config_(config),
      run_(run),
      options_(config.at("trainer").get<TrainerOptions>()),
      schedule_(config.at("schedule").get<ScheduleOptions>()),
      device_(placed(task, options_)),
      source_(task.training_batches()),
      step_(task, config, device_),
      state_(checkpoint ? checkpoint->state : TrainerState()),
      writer_(run, state_) {
  const std::string best_metric = options_.best_metric.empty() ? task.best_metric() : options_.best_metric;
  if (state_.best_metric != best_metric) state_.best = nullptr;
  state_.best_metric = best_metric;
  checkpoint ? restore(*checkpoint) : begin();
}

/// Numbers of the training, dropout for example, do not depend on how many the first values of the weights
/// took.
void Trainer::begin() {
  seed_torch(RandomStream({static_cast<uint64_t>(options_.seed), 1}).next());
  make_average();
  adopt_data_size();
}

void Trainer::make_average() {
  if (options_.ema_decay == 0) return;
  average_ = std::make_unique<WeightAverage>(options_.ema_decay, step_.tensors().parameters,
                                             step_.tensors().buffers);
}

/// Where the data has another number of batches than when the run was stopped, the epoch goes on at the same
/// share.
void Trainer::adopt_data_size() {
  const int64_t batches = source_.batches_per_epoch(), before = state_.batches_per_epoch;
  if (batches <= 0) {
    throw Error(format("the training data gives no batch: it has %lld samples, data.batch_size asks for more",
                       static_cast<long long>(source_.samples())));
  }
  if (before > 0 && batches != before) {
    state_.batch = state_.batch * batches / before;
    log_warning(format(
        "an epoch has %lld batches, it had %lld: the run goes on, but not as if it had not been stopped",
        static_cast<long long>(batches), static_cast<long long>(before)));
  }
  state_.batches_per_epoch = batches;
  state_.steps_per_epoch = steps_per_epoch(batches, options_.accumulate);
}

double Trainer::epochs_done() const {
  return static_cast<double>(state_.epoch) +
         static_cast<double>(state_.batch) / static_cast<double>(state_.batches_per_epoch);
}

TrainResult Trainer::run() {
  task_.module().train();
  while (attend()) take_step();
  progress_.finish();
  return {state_.metrics, state_.step, false};
}

/// What is due between two steps; false at the end of the run.
bool Trainer::attend() {
  if (line_due(state_, options_)) write_line();
  if (stop_requested()) interrupt();
  const bool validating = validation_due(state_, options_);
  const bool saving = checkpoint_due(state_, options_) && saved_step_ != state_.step;
  if (validating) {
    if (saving && validation_seconds_ > kShortValidation) save();  // should it fail, what was learnt is safe
    validate();
  }
  if (validating || saving) {
    save_weights("last.safetensors");
    save();
  }
  return !reached_end(state_, options_);
}

void Trainer::take_step() {
  const Clock::time_point begin = Clock::now();
  const std::vector<std::unique_ptr<Batch>> batches = next_batches();
  if (!batches.empty()) {
    const StepResult result = step_.run(batches, lr_factor(state_.step));
    ++state_.step;
    state_.batch += static_cast<int64_t>(batches.size());
    result.finite ? record(result) : report_nonfinite(result, batches);
    const double seconds = seconds_since(begin);
    state_.seconds += seconds;
    window_seconds_ += seconds;
    seconds_here_ += seconds;
    ++steps_here_;
  }
  if (source_over_ || state_.batch >= state_.batches_per_epoch) end_epoch();
  show_progress();
}

/// The batches of the next optimiser step; fewer at the end of an epoch.
std::vector<std::unique_ptr<Batch>> Trainer::next_batches() {
  if (!source_ready_) source_.start_epoch(state_.epoch, state_.batch);
  source_ready_ = true;
  const int64_t wanted = std::min(options_.accumulate, state_.batches_per_epoch - state_.batch);
  std::vector<std::unique_ptr<Batch>> batches;
  while (static_cast<int64_t>(batches.size()) < wanted) {
    std::unique_ptr<Batch> batch = source_.next();
    source_over_ = batch == nullptr;
    if (source_over_) break;
    batches.push_back(std::move(batch));
  }
  return batches;
}

void Trainer::end_epoch() {
  if (state_.batch == 0)
    throw Error("the training data gave no batch in an epoch, every record was left out");
  ++state_.epoch;
  state_.batch = 0;
  source_ready_ = source_over_ = false;
}

void Trainer::record(const StepResult& result) {
  if (average_) average_->update();
  for (const LossTerms& loss : result.terms) {
    auto values = loss.terms;
    values.emplace_back("loss", loss.total);
    means_.add(values);
  }
  last_ = result.terms.back();
  gradient_norm_ = result.gradient_norm;
  window_samples_ += result.samples;
}

/// Stops the run, or leaves the step out where that is asked for and not too often.
void Trainer::report_nonfinite(const StepResult& result, const std::vector<std::unique_ptr<Batch>>& batches) {
  ++state_.skipped_steps;
  const Json incident = incident_of(state_, result, batches);
  incidents_.push_back(incident);
  write_file(writer_.path("nonfinite.json"), dump_json(incidents_) + "\n");
  const std::string what =
      format("the %s is not finite in step %lld, samples ", incident.at("what").get<std::string>().c_str(),
             static_cast<long long>(state_.step)) +
      shown_ids(incident.at("ids"));
  if (options_.nonfinite == "stop") {
    throw Error(what + " (all of it in " + writer_.path("nonfinite.json") + ")",
                "a smaller --lr or trainer.clip_norm may help; trainer.nonfinite=skip leaves such steps out");
  }
  if (state_.skipped_steps > options_.nonfinite_limit) {
    throw Error(what + format(", after trainer.nonfinite_limit=%lld steps that were left out",
                              static_cast<long long>(options_.nonfinite_limit)));
  }
  log_warning(what + format(": step left out (%lld of at most %lld)",
                            static_cast<long long>(state_.skipped_steps),
                            static_cast<long long>(options_.nonfinite_limit)));
}

void Trainer::write_line() {
  const auto means = means_.means();
  Json line = {{"kind", "train"}, {"step", state_.step}, {"epoch", epochs_done()}};
  Json terms = Json::object();
  for (const auto& [name, mean] : means) (name == "loss" ? line["loss"] : terms[name]) = mean;
  line["terms"] = terms;
  for (const auto& [name, rate] : step_.optimizer().learning_rates())
    line["lr"][name] = rate * lr_factor(state_.step - 1);
  line["gradient_norm"] = gradient_norm_;
  line["samples_per_second"] = samples_per_second();
  line["memory_bytes"] = resident_memory();
  line["seconds"] = state_.seconds;
  writer_.add_metrics(line);
  const std::string text =
      format("epoch %.2f  step %lld/%lld  ", epochs_done(), static_cast<long long>(state_.step),
             static_cast<long long>(steps_in_all())) +
      summary(means);
  const bool shown = at_epoch_end(state_) || validation_due(state_, options_);
  shown && !progress_.active() ? log_info(text) : log_verbose(text);
  state_.logged_step = state_.step;
  window_samples_ = 0;
  window_seconds_ = 0;
  means_.clear();
}

/// Loss, its terms, step size, pace, memory and time left.
std::string Trainer::summary(const std::vector<std::pair<std::string, double>>& means) const {
  std::string loss, terms;
  for (const auto& [name, mean] : means) {
    const std::string text = format("%s %.4g", name.c_str(), mean);
    if (name == "loss") {
      loss = text;
    } else {
      terms += (terms.empty() ? "" : "  ") + text;
    }
  }
  const double rate =
      step_.optimizer().learning_rates().front().second * lr_factor(std::max<int64_t>(0, state_.step - 1));
  return loss + (terms.empty() ? "" : " (" + terms + ")") +
         format("  lr %.3g  %.3g samples/s  %s  eta %s", rate, samples_per_second(),
                human_bytes(static_cast<double>(resident_memory())).c_str(),
                human_seconds(
                    seconds_left(seconds_here_, steps_here_, steps_here_ + steps_in_all() - state_.step))
                    .c_str());
}

void Trainer::show_progress() {
  if (!progress_.due() || !last_.total.defined()) return;
  std::vector<std::pair<std::string, double>> values = {{"loss", last_.total.item<double>()}};
  for (const auto& [name, value] : last_.terms) values.emplace_back(name, value.item<double>());
  progress_.update(state_.step, steps_in_all(), format("epoch %.2f  ", epochs_done()) + summary(values));
}

void Trainer::validate() {
  const Clock::time_point begin = Clock::now();
  Json metrics;
  try {
    metrics = evaluate();
  } catch (const Interrupted&) {
    interrupt();
  }
  const bool best = judge(state_, metric_score(metrics, state_.best_metric));
  state_.metrics = metrics;
  state_.validated_step = state_.step;
  validation_seconds_ = seconds_since(begin);
  state_.seconds += validation_seconds_;
  writer_.add_metrics({{"kind", "validation"},
                       {"step", state_.step},
                       {"epoch", epochs_done()},
                       {"metrics", metrics},
                       {"best", best},
                       {"seconds", validation_seconds_}});
  if (best) save_weights("best.safetensors");
  const std::string name = state_.best_metric.substr(starts_with(state_.best_metric, "-") ? 1 : 0);
  log_info(format("validation  step %lld  %s %s%s  in %s", static_cast<long long>(state_.step), name.c_str(),
                  metrics.at(name).dump().c_str(), best ? " (best so far)" : "",
                  human_seconds(validation_seconds_).c_str()));
  writer_.draw(state_.best_metric);
}

/// Metrics and pictures of the (averaged) weights; leaves the model as it was.
Json Trainer::evaluate() {
  const torch::NoGradGuard no_grad;
  const RandomStateGuard randomness(device_);
  const AveragedWeights averaged(average_.get());
  task_.module().eval();
  progress_.relabel("validating");
  const Json metrics = task_.evaluate(device_, [&](int64_t done, int64_t all) {
    if (stop_requested()) throw Interrupted("interrupted in a validation");
    progress_.update(done, all);
  });
  writer_.add_predictions(task_.previews(kPreviews, device_), state_.step);
  progress_.relabel("training");
  task_.module().train();
  return metrics;
}

void Trainer::save() {
  state_.threads = at::get_num_threads();
  state_.average_updates = average_ ? average_->updates() : 0;
  state_.window = means_.to_json();
  StateDict checkpoint = weights();
  const auto add = [&](const std::string& prefix, const NamedTensors& tensors) {
    for (const auto& [name, tensor] : tensors) checkpoint.tensors.emplace_back(prefix + name, tensor);
  };
  add(kOptimizerPrefix, step_.optimizer().state());
  if (average_) add(kAveragePrefix, average_->state());
  add(kRandomPrefix, random_states(device_));
  save_checkpoint(run_, state_, std::move(checkpoint), options_.keep_checkpoints);
  saved_step_ = state_.step;
}

/// The model's tensors as they are now, and what a weight file says beside them.
StateDict Trainer::weights() const {
  StateDict weights;
  weights.tensors = step_.tensors().parameters;
  weights.tensors.insert(weights.tensors.end(), step_.tensors().buffers.begin(),
                         step_.tensors().buffers.end());
  weights.metadata = task_.weight_metadata();
  weights.metadata["zoo.config"] = config_.dump(-1, ' ', false, Json::error_handler_t::replace);
  return weights;
}

void Trainer::save_weights(const std::string& name) {
  const AveragedWeights averaged(average_.get());
  save_safetensors(writer_.path(name), weights());
}

void Trainer::interrupt() {
  if (saved_step_ != state_.step) save();
  throw Interrupted(
      format("interrupted after step %lld, a checkpoint is written", static_cast<long long>(state_.step)),
      "zoo train --resume " + run_ + " goes on");
}

void Trainer::restore(const Checkpoint& checkpoint) {
  const StateDict& tensors = checkpoint.tensors;
  for (const NamedTensors* list : {&step_.tensors().parameters, &step_.tensors().buffers}) {
    for (const auto& [name, tensor] : *list) restore_tensor(tensors, name, tensor);
  }
  const int64_t fresh = step_.optimizer().load_state(tensors, kOptimizerPrefix);
  if (fresh > 0 && state_.step > 0) {
    log_warning(format("the optimizer's state of %lld parameters is not in %s: it starts afresh",
                       static_cast<long long>(fresh), checkpoint.path.c_str()));
  }
  make_average();
  if (average_ && tensors.contains_prefix(kAveragePrefix)) {
    average_->load_state(tensors, kAveragePrefix, state_.average_updates);
  }
  restore_random(tensors);
  adopt_data_size();
  means_.from_json(state_.window);
  saved_step_ = state_.step;
  if (state_.threads != at::get_num_threads()) {
    log_warning(format("%d threads, the run had %lld: sums may differ in the last bit", at::get_num_threads(),
                       static_cast<long long>(state_.threads)));
  }
  log_info(format("resume: going on from step %lld, %s", static_cast<long long>(state_.step),
                  checkpoint.path.c_str()));
}

void Trainer::restore_random(const StateDict& tensors) {
  RandomStates states = random_states(device_);
  for (auto& [name, state] : states) {
    const torch::Tensor* stored = tensors.find(kRandomPrefix + name);
    if (stored != nullptr) state = stored->clone();
  }
  restore_random_states(device_, states);
}

bool is_finished(const TrainerState& state, const Json& config) {
  return reached_end(state, config.at("trainer").get<TrainerOptions>()) && state.validated_step == state.step;
}

TrainResult result_of(const TrainerState& state) {
  return {state.metrics, state.step, true};
}

}  // namespace

TrainResult train(Task& task, const Json& config, const std::string& run, bool resume) {
  install_signal_handlers();
  std::optional<Checkpoint> checkpoint;
  if (resume) {
    checkpoint = load_checkpoint(run);
    if (!checkpoint) log_info("resume: " + run + " has no checkpoint yet, starting from step 0");
  }
  if (checkpoint && is_finished(checkpoint->state, config)) return result_of(checkpoint->state);
  return Trainer(task, config, run, std::move(checkpoint)).run();
}

bool is_finished(const std::string& run, const Json& config) {
  const std::optional<TrainerState> state = load_trainer_state(run);
  return state && is_finished(*state, config);
}

TrainResult finished_result(const std::string& run) {
  const std::optional<TrainerState> state = load_trainer_state(run);
  if (!state) throw Error(run + ": has no checkpoint yet");
  return result_of(*state);
}

std::vector<std::string> explain_moved_end(const std::string& run, const Json& stored, const Json& config) {
  const auto before = stored.at("trainer").get<TrainerOptions>(),
             after = config.at("trainer").get<TrainerOptions>();
  const std::optional<TrainerState> state = load_trainer_state(run);
  if (!state) return {};  // it starts from step 0, as a new run with that end
  const int64_t old_end = total_steps(before, state->steps_per_epoch),
                end = total_steps(after, state->steps_per_epoch);
  if (old_end == end) return {};
  const auto schedule = config.at("schedule").get<ScheduleOptions>();
  const double old_factor = schedule_factor(state->step, old_end, schedule);
  const double factor = schedule_factor(state->step, end, schedule);
  std::vector<std::string> lines = {format(
      "the end moves from step %lld to step %lld, the run stands at %lld", static_cast<long long>(old_end),
      static_cast<long long>(end), static_cast<long long>(state->step))};
  const std::string name = "schedule.name=" + schedule.name;
  if (old_factor == factor) {
    lines.push_back(name + format(" goes on at %.4g of the base step size", factor));
  } else {
    lines.push_back(name +
                    format(" is laid over the new length: the step size jumps from %.4g to %.4g of the base",
                           old_factor, factor));
  }
  return lines;
}

}  // namespace zoo
