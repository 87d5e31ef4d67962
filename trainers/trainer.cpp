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
#include "trainers/report.h"
#include "trainers/row_cuts.h"
#include "trainers/schedules.h"
#include "trainers/signals.h"
#include "trainers/training_step.h"

namespace zoo {

namespace {

constexpr int64_t kPreviews = 8;
// Seconds: before a longer validation a checkpoint is written, and again after it.
constexpr double kShortValidation = 10;
constexpr const char* kOptimizerPrefix = "trainer.optimizer.";
constexpr const char* kOwnStatePrefix = "trainer.optimizer.momentum_buffer.";
constexpr const char* kAveragePrefix = "trainer.average.";
constexpr const char* kRandomPrefix = "trainer.random.";

using Clock = std::chrono::steady_clock;
double seconds_since(Clock::time_point begin) {
  return std::chrono::duration<double>(Clock::now() - begin).count();
}

class Trainer {
 public:
  Trainer(Task& task, const Json& config, const std::string& run, std::optional<Checkpoint> checkpoint,
          const std::shared_ptr<ProcessGroup>& group);
  TrainResult run();

 private:
  bool attend();
  void take_step();
  std::vector<std::unique_ptr<Batch>> next_batches();
  void end_epoch();
  void leave_out(const StepResult& result, const std::vector<std::unique_ptr<Batch>>& batches);
  std::string report_incident(const StepResult& result, const std::vector<std::unique_ptr<Batch>>& batches);
  bool stop_wanted();
  void warn(const std::string& message) const;

  Position position() const;
  void write_line();
  void validate();
  std::optional<bool> judge_weights();
  std::optional<bool> spread(std::optional<bool> best);
  Json evaluate();
  void save();
  StateDict weights() const;
  void save_weights(const std::string& name);
  RandomStates randomness() const;
  [[noreturn]] void interrupt();

  void begin();
  void seed_randomness() const;
  void restore(Checkpoint& checkpoint);
  void restore_random(const StateDict& tensors);
  void make_average();
  void adopt_data_size();
  int64_t steps_in_all() const { return total_steps(options_, state_.steps_per_epoch); }
  double lr_factor(int64_t step) const { return schedule_factor(step, steps_in_all(), schedule_); }
  int64_t rank() const { return group_ == nullptr ? 0 : group_->rank(); }

  Task& task_;
  const Json& config_;
  const std::string run_;
  const std::shared_ptr<ProcessGroup> group_;  ///< null: the only process
  TrainerOptions options_;
  ScheduleOptions schedule_;
  torch::Device device_;
  BatchSource& source_;
  TrainingStep step_;
  RowCuts cuts_;
  std::unique_ptr<WeightAverage> average_;  ///< null: none
  TrainerState state_;
  std::unique_ptr<TrainingReport> report_;  ///< of rank 0
  int64_t saved_step_ = -1;
  double validation_seconds_ = std::numeric_limits<double>::infinity();  ///< of the last one
  bool source_ready_ = false, source_over_ = false;
};

torch::Device placed(Task& task, const TrainerOptions& options, bool alone) {
  const torch::Device device = resolve_device(options.device);
  if (!alone && !device.is_cpu()) {
    throw UsageError("trainer.device=" + options.device + ": is " + device.str() +
                     " here, expected cpu where several processes train together");
  }
  task.module().to(device);
  return device;
}

/// Throws Error where processes would not train the same model on the same data.
void require_same(ProcessGroup& group, Json config, BatchSource& source) {
  config["trainer"].erase("threads");
  config["data"].erase("workers");
  config["samples"] = source.samples();
  const std::vector<std::string> all =
      gather_texts(group, config.dump(-1, ' ', false, Json::error_handler_t::replace));
  for (size_t rank = 1; rank < all.size(); ++rank) {
    if (all[rank] == all[0]) continue;
    throw Error(
        format("rank %zu has another configuration than rank 0 or other data, expected the same command "
               "in all processes",
               rank));
  }
}

Trainer::Trainer(Task& task, const Json& config, const std::string& run, std::optional<Checkpoint> checkpoint,
                 const std::shared_ptr<ProcessGroup>& group)
    : task_(task),
      config_(config),
      run_(run),
      group_(group),
      options_(config.at("trainer").get<TrainerOptions>()),
      schedule_(config.at("schedule").get<ScheduleOptions>()),
      device_(placed(task, options_, group == nullptr)),
      source_(task.training_batches()),
      step_(task, config, device_, group),
      cuts_(step_.tensors().shard, group),
      state_(checkpoint ? checkpoint->state : TrainerState()) {
  if (group_ != nullptr) require_same(*group_, config, source_);
  if (rank() == 0) report_ = std::make_unique<TrainingReport>(run, state_);
  const std::string best_metric = options_.best_metric.empty() ? task.best_metric() : options_.best_metric;
  if (state_.best_metric != best_metric) state_.best = nullptr;
  state_.best_metric = best_metric;
  checkpoint ? restore(*checkpoint) : begin();
}

void Trainer::begin() {
  seed_randomness();
  if (group_ != nullptr) {
    for (const NamedTensors* list : {&step_.tensors().parameters, &step_.tensors().buffers}) {
      for (const auto& [name, tensor] : *list) {
        if (!cuts_.contains(name, tensor)) group_->broadcast(tensor);
      }
    }
  }
  make_average();
  adopt_data_size();
}

/// Numbers of the training, dropout for example, do not depend on how many the first values of the weights
/// took, and are others in each process.
void Trainer::seed_randomness() const {
  const auto seed = static_cast<uint64_t>(options_.seed);
  seed_torch(rank() == 0 ? RandomStream({seed, 1}).next()
                         : RandomStream({seed, 1, static_cast<uint64_t>(rank())}).next());
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
    warn(format(
        "an epoch has %lld batches, it had %lld: the run goes on, but not as if it had not been stopped",
        static_cast<long long>(batches), static_cast<long long>(before)));
  }
  state_.batches_per_epoch = batches;
  state_.steps_per_epoch = steps_per_epoch(batches, options_.accumulate);
}

TrainResult Trainer::run() {
  task_.module().train();
  while (attend()) take_step();
  return {state_.metrics, state_.step, false};
}

/// What is due between two steps; false at the end of the run.
bool Trainer::attend() {
  if (line_due(state_, options_)) write_line();
  if (stop_wanted()) interrupt();
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

/// Of any process, so that all end at the same step.
bool Trainer::stop_wanted() {
  if (group_ == nullptr) return stop_requested();
  const torch::Tensor wanted = torch::full({}, stop_requested() ? 1 : 0, torch::kLong);
  group_->maximum(wanted);
  return wanted.item<int64_t>() != 0;
}

/// Once, not once a process.
void Trainer::warn(const std::string& message) const {
  if (rank() == 0) log_warning(message);
}

void Trainer::take_step() {
  const Clock::time_point begin = Clock::now();
  const std::vector<std::unique_ptr<Batch>> batches = next_batches();
  if (!batches.empty()) {
    const StepResult result = step_.run(batches, lr_factor(state_.step));
    ++state_.step;
    state_.batch += static_cast<int64_t>(batches.size());
    if (!result.finite) leave_out(result, batches);
    if (result.finite && average_) average_->update();
    const double seconds = seconds_since(begin);
    state_.seconds += seconds;
    if (report_ != nullptr) report_->add_step(result, seconds);
  }
  if (source_over_ || state_.batch >= state_.batches_per_epoch) end_epoch();
  if (report_ != nullptr && report_->progress().due()) report_->show_progress(position());
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

/// Stops the run, or leaves the step out where that is asked for and not too often.
void Trainer::leave_out(const StepResult& result, const std::vector<std::unique_ptr<Batch>>& batches) {
  ++state_.skipped_steps;
  const std::string what = report_incident(result, batches);
  const auto skipped = static_cast<long long>(state_.skipped_steps);
  const auto limit = static_cast<long long>(options_.nonfinite_limit);
  if (options_.nonfinite == "stop") {
    throw Error(what + " (all of it in " + join_path(run_, "nonfinite.json") + ")",
                "a smaller --lr or trainer.clip_norm may help; trainer.nonfinite=skip leaves such steps out");
  }
  if (skipped > limit)
    throw Error(what + format(", after trainer.nonfinite_limit=%lld steps that were left out", limit));
  warn(what + format(": step left out (%lld of at most %lld)", skipped, limit));
}

/// Writes down what is known of a step that is not finite, with samples of all processes.
std::string Trainer::report_incident(const StepResult& result,
                                     const std::vector<std::unique_ptr<Batch>>& batches) {
  std::vector<std::string> ids = suspected_samples(result, batches);
  if (group_ != nullptr) ids = split(join(gather_texts(*group_, join(ids, "\n")), "\n"), '\n');
  if (report_ != nullptr) return report_->write_incident(position(), result, ids);
  return format("the loss or gradient is not finite in step %lld", static_cast<long long>(state_.step));
}

Position Trainer::position() const {
  const double share = static_cast<double>(state_.batch) / static_cast<double>(state_.batches_per_epoch);
  Position position{state_.step, steps_in_all(), static_cast<double>(state_.epoch) + share,
                    step_.optimizer().learning_rates()};
  for (auto& rate : position.learning_rates) rate.second *= lr_factor(std::max<int64_t>(0, state_.step - 1));
  return position;
}

void Trainer::write_line() {
  if (report_ != nullptr) {
    report_->write_line(position(), state_.seconds, at_epoch_end(state_) || validation_due(state_, options_));
  }
  state_.logged_step = state_.step;
}

/// Rank 0 validates, the others wait.
void Trainer::validate() {
  std::optional<bool> best;
  if (rank() == 0) best = judge_weights();
  if (group_ != nullptr) best = spread(best);
  if (!best) interrupt();
  if (*best) save_weights("best.safetensors");
  if (report_ != nullptr) {
    report_->write_validation(position(), state_.metrics, state_.best_metric, *best, validation_seconds_);
  }
}

/// Whether the weights are the best so far, with metrics and verdict in state_; nothing where a signal came.
std::optional<bool> Trainer::judge_weights() {
  const Clock::time_point begin = Clock::now();
  Json metrics;
  try {
    metrics = evaluate();
  } catch (const Interrupted&) {
    return std::nullopt;
  }
  const bool best = judge(state_, metric_score(metrics, state_.best_metric));
  state_.metrics = metrics;
  state_.validated_step = state_.step;
  validation_seconds_ = seconds_since(begin);
  state_.seconds += validation_seconds_;
  return best;
}

/// Gives rank 0's verdict and state to the others.
std::optional<bool> Trainer::spread(std::optional<bool> best) {
  const Json verdict =
      best ? Json{{"best", *best}, {"seconds", validation_seconds_}, {"state", state_}} : Json();
  const Json told =
      Json::parse(broadcast_text(*group_, verdict.dump(-1, ' ', false, Json::error_handler_t::replace)));
  if (told.is_null()) return std::nullopt;
  if (rank() != 0) {
    state_ = told.at("state").get<TrainerState>();
    validation_seconds_ = told.at("seconds").get<double>();
  }
  return told.at("best").get<bool>();
}

/// Metrics and pictures of the (averaged) weights; leaves the model as it was.
Json Trainer::evaluate() {
  const torch::NoGradGuard no_grad;
  const RandomStateGuard randomness(device_);
  const AveragedWeights averaged(average_.get());
  ProgressLine& progress = report_->progress();
  task_.module().eval();
  progress.relabel("validating");
  Json metrics = task_.evaluate(device_, [&](int64_t done, int64_t all) {
    if (stop_requested()) throw Interrupted("interrupted in a validation");
    progress.update(done, all);
  });
  report_->writer().add_predictions(task_.previews(kPreviews, device_), state_.step);
  report_->writer().add_figures(task_.figures(device_), state_.step);
  progress.relabel("training");
  task_.module().train();
  return metrics;
}

void Trainer::save() {
  state_.threads = at::get_num_threads();
  state_.average_updates = average_ ? average_->updates() : 0;
  if (report_ != nullptr) state_.window = report_->means().to_json();
  StateDict checkpoint = weights();
  const auto add = [&](const std::string& prefix, const NamedTensors& tensors) {
    for (const auto& [name, tensor] : tensors)
      checkpoint.tensors.emplace_back(prefix + name, cuts_.whole(name, tensor));
  };
  add(kOptimizerPrefix, step_.optimizer().state());
  add(kOwnStatePrefix, step_.tensors().own_state);
  if (average_) add(kAveragePrefix, average_->state());
  add(kRandomPrefix, randomness());
  if (rank() == 0) save_checkpoint(run_, state_, std::move(checkpoint), options_.keep_checkpoints);
  saved_step_ = state_.step;
}

/// States of the generators; those of rank r > 0 have `.r` after their names.
RandomStates Trainer::randomness() const {
  RandomStates states = random_states(device_);
  if (group_ == nullptr) return states;
  RandomStates all;
  for (const auto& [name, state] : states) {
    const torch::Tensor rows = group_->gather(state.unsqueeze(0));
    for (int64_t rank = 0; rank < group_->count(); ++rank) {
      all.emplace_back(rank == 0 ? name : name + "." + std::to_string(rank), rows[rank]);
    }
  }
  return all;
}

/// The model's tensors as they are now, whole at rank 0, and what a weight file says beside them.
StateDict Trainer::weights() const {
  StateDict weights;
  weights.tensors = step_.tensors().parameters;
  for (const NamedTensors* more : {&step_.tensors().buffers, &step_.tensors().own_weights}) {
    weights.tensors.insert(weights.tensors.end(), more->begin(), more->end());
  }
  for (auto& [name, tensor] : weights.tensors) tensor = cuts_.whole(name, tensor);
  weights.metadata = task_.weight_metadata();
  weights.metadata["zoo.config"] = config_.dump(-1, ' ', false, Json::error_handler_t::replace);
  return weights;
}

void Trainer::save_weights(const std::string& name) {
  const AveragedWeights averaged(average_.get());
  const StateDict state = weights();
  if (rank() == 0) save_safetensors(join_path(run_, name), state);
}

void Trainer::interrupt() {
  if (saved_step_ != state_.step) save();
  throw Interrupted(
      format("interrupted after step %lld, a checkpoint is written", static_cast<long long>(state_.step)),
      "zoo train --resume " + run_ + " goes on");
}

void Trainer::restore(Checkpoint& checkpoint) {
  cuts_.cut(checkpoint.tensors);
  const StateDict& tensors = checkpoint.tensors;
  const ModelTensors& own = step_.tensors();
  for (const NamedTensors* list : {&own.parameters, &own.buffers, &own.own_weights}) {
    for (const auto& [name, tensor] : *list) restore_tensor(tensors, name, tensor);
  }
  for (const auto& [name, tensor] : own.own_state) restore_tensor(tensors, kOwnStatePrefix + name, tensor);
  const int64_t fresh = step_.optimizer().load_state(tensors, kOptimizerPrefix);
  if (fresh > 0 && state_.step > 0) {
    warn(format("the optimizer's state of %lld parameters is not in %s: it starts afresh",
                static_cast<long long>(fresh), checkpoint.path.c_str()));
  }
  make_average();
  if (average_ && tensors.contains_prefix(kAveragePrefix)) {
    average_->load_state(tensors, kAveragePrefix, state_.average_updates);
  }
  restore_random(tensors);
  adopt_data_size();
  saved_step_ = state_.step;
  if (state_.threads != at::get_num_threads()) {
    warn(format("%d threads, the run had %lld: sums may differ in the last bit", at::get_num_threads(),
                static_cast<long long>(state_.threads)));
  }
  log_info(format("resume: going on from step %lld, %s", static_cast<long long>(state_.step),
                  checkpoint.path.c_str()));
}

void Trainer::restore_random(const StateDict& tensors) {
  if (rank() > 0) seed_randomness();  // where the run had fewer processes
  RandomStates states = random_states(device_);
  for (auto& [name, state] : states) {
    const std::string own = rank() == 0 ? name : name + "." + std::to_string(rank());
    const torch::Tensor* stored = tensors.find(kRandomPrefix + own);
    if (stored != nullptr) state = stored->clone();
  }
  restore_random_states(device_, states);
}

}  // namespace

TrainResult train(Task& task, const Json& config, const std::string& run, bool resume,
                  const std::shared_ptr<ProcessGroup>& group) {
  install_signal_handlers();
  std::optional<Checkpoint> checkpoint;
  if (resume) {
    checkpoint = load_checkpoint(run);
    if (!checkpoint) log_info("resume: " + run + " has no checkpoint yet, starting from step 0");
  }
  if (checkpoint && is_finished(checkpoint->state, config.at("trainer").get<TrainerOptions>())) {
    return {checkpoint->state.metrics, checkpoint->state.step, true};
  }
  return Trainer(task, config, run, std::move(checkpoint), group).run();
}

}  // namespace zoo
