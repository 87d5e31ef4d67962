#include "trainers/policy.h"

#include <cmath>
#include <vector>

#include "core/error.h"
#include "core/text.h"

namespace zoo {

int64_t steps_per_epoch(int64_t batches, int64_t accumulate) {
  return (batches + accumulate - 1) / accumulate;
}

int64_t total_steps(const TrainerOptions& options, int64_t steps_per_epoch) {
  return options.max_steps > 0 ? options.max_steps : options.epochs * steps_per_epoch;
}

bool reached_end(const TrainerState& state, const TrainerOptions& options) {
  if (options.early_stop > 0 && state.validations_without_better >= options.early_stop) return true;
  return options.max_steps > 0 ? state.step >= options.max_steps : state.epoch >= options.epochs;
}

bool is_finished(const TrainerState& state, const TrainerOptions& options) {
  return reached_end(state, options) && state.validated_step == state.step;
}

bool at_epoch_end(const TrainerState& state) {
  return state.step > 0 && state.batch == 0;
}

bool validation_due(const TrainerState& state, const TrainerOptions& options) {
  if (state.step == 0 || state.validated_step == state.step) return false;
  if (reached_end(state, options)) return true;
  if (options.validate_every_steps > 0) return state.step % options.validate_every_steps == 0;
  return options.validate_every > 0 && at_epoch_end(state) && state.epoch % options.validate_every == 0;
}

bool checkpoint_due(const TrainerState& state, const TrainerOptions& options) {
  if (state.step == 0) return false;
  if (reached_end(state, options)) return true;
  return options.checkpoint_every > 0 ? state.step % options.checkpoint_every == 0 : at_epoch_end(state);
}

bool line_due(const TrainerState& state, const TrainerOptions& options) {
  if (state.logged_step == state.step) return false;
  return state.step % options.log_every == 0 || at_epoch_end(state) || validation_due(state, options) ||
         reached_end(state, options);
}

double metric_score(const Json& metrics, const std::string& best_metric) {
  const bool less = starts_with(best_metric, "-");
  const std::string name = less ? best_metric.substr(1) : best_metric;
  const auto found = metrics.find(name);
  if (found != metrics.end() && found->is_null()) return std::nan("");
  if (found != metrics.end() && found->is_number())
    return less ? -found->get<double>() : found->get<double>();
  std::vector<std::string> known;
  for (const auto& item : metrics.items()) {
    if (item.value().is_number() || item.value().is_null()) known.push_back(item.key());
  }
  throw Error("trainer.best_metric: the validation gives no '" + name + "'" + did_you_mean(name, known) +
              " (it gives " + join(known, ", ") + ")");
}

bool judge(TrainerState& state, double score) {
  const bool better = std::isfinite(score) && (state.best.is_null() || score > state.best.get<double>());
  state.validations_without_better = better ? 0 : state.validations_without_better + 1;
  if (better) {
    state.best = score;
    state.best_step = state.step;
  }
  return better;
}

}  // namespace zoo
