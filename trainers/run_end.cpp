#include <optional>

#include "core/error.h"
#include "core/text.h"
#include "trainers/checkpoint.h"
#include "trainers/policy.h"
#include "trainers/schedules.h"
#include "trainers/trainer.h"

namespace zoo {

bool is_finished(const std::string& run, const Json& config) {
  const std::optional<TrainerState> state = load_trainer_state(run);
  return state && is_finished(*state, config.at("trainer").get<TrainerOptions>());
}

TrainResult finished_result(const std::string& run) {
  const std::optional<TrainerState> state = load_trainer_state(run);
  if (!state) throw Error(run + ": has no checkpoint yet");
  return {state->metrics, state->step, true};
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
