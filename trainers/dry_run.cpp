#include <ATen/Parallel.h>

#include <algorithm>
#include <chrono>

#include "core/error.h"
#include "core/text.h"
#include "trainers/policy.h"
#include "trainers/trainer.h"
#include "trainers/training_step.h"

namespace zoo {

namespace {

constexpr int64_t kTimedSteps = 3;
using Clock = std::chrono::steady_clock;

int64_t count_elements(const NamedTensors& tensors, bool only_trainable) {
  int64_t count = 0;
  for (const auto& item : tensors)
    count += !only_trainable || item.second.requires_grad() ? item.second.numel() : 0;
  return count;
}

int64_t bytes_of(const NamedTensors& tensors) {
  int64_t bytes = 0;
  for (const auto& item : tensors) bytes += static_cast<int64_t>(item.second.nbytes());
  return bytes;
}

std::vector<std::unique_ptr<Batch>> first_batches(BatchSource& source, int64_t count) {
  source.start_epoch(0);
  std::vector<std::unique_ptr<Batch>> batches;
  while (static_cast<int64_t>(batches.size()) < count) {
    std::unique_ptr<Batch> batch = source.next();
    if (batch == nullptr) break;
    batches.push_back(std::move(batch));
  }
  if (batches.empty()) throw Error("the training data gives no batch");
  return batches;
}

/// Seconds of the fastest step: the first ones fill caches and memory pools.
double time_steps(TrainingStep& step, const std::vector<std::unique_ptr<Batch>>& batches) {
  double fastest = 0;
  for (int64_t i = 0; i < kTimedSteps; ++i) {
    const Clock::time_point begin = Clock::now();
    step.run(batches, 1.0);
    const double seconds = std::chrono::duration<double>(Clock::now() - begin).count();
    fastest = i == 0 ? seconds : std::min(fastest, seconds);
  }
  return fastest;
}

}  // namespace

DryRun dry_run(Task& task, const Json& config) {
  const auto options = config.at("trainer").get<TrainerOptions>();
  DryRun dry;
  const torch::Device device = resolve_device(options.device);
  dry.device = device.str();
  dry.precision = options.precision;
  task.module().to(device);
  task.module().train();
  TrainingStep step(task, config, device);
  BatchSource& source = task.training_batches();
  dry.samples = source.samples();
  dry.batches_per_epoch = source.batches_per_epoch();
  dry.total_steps = total_steps(options, steps_per_epoch(dry.batches_per_epoch, options.accumulate));
  const auto batches = first_batches(source, options.accumulate);
  dry.batch = task.describe(*batches.front());
  dry.seconds_per_step = time_steps(step, batches);
  dry.projected_seconds = dry.seconds_per_step * static_cast<double>(dry.total_steps);
  dry.memory_bytes = peak_resident_memory();
  const ModelTensors& tensors = step.tensors();
  const int64_t own = count_elements(tensors.own_weights, false);
  dry.parameters = count_elements(tensors.parameters, false) + own;
  dry.trainable_parameters = count_elements(tensors.parameters, true) + own;
  for (const NamedTensors* list :
       {&tensors.parameters, &tensors.buffers, &tensors.own_weights, &tensors.own_state}) {
    dry.checkpoint_bytes += bytes_of(*list);
  }
  dry.checkpoint_bytes += bytes_of(step.optimizer().state());
  if (options.ema_decay > 0) dry.checkpoint_bytes += bytes_of(tensors.parameters) + bytes_of(tensors.buffers);
  return dry;
}

Json DryRun::to_json() const {
  Json shapes = Json::object();
  for (const auto& [name, shape] : batch) shapes[name] = shape;
  return {{"device", device},
          {"precision", precision},
          {"threads", at::get_num_threads()},
          {"parameters", parameters},
          {"trainable_parameters", trainable_parameters},
          {"samples", samples},
          {"batches_per_epoch", batches_per_epoch},
          {"steps", total_steps},
          {"batch", shapes},
          {"seconds_per_step", seconds_per_step},
          {"projected_seconds", projected_seconds},
          {"peak_memory_bytes", memory_bytes},
          {"checkpoint_bytes", checkpoint_bytes}};
}

std::string DryRun::str() const {
  Table table({"what", "value"});
  table.add(
      {"device", format("%s, %s, %d threads", device.c_str(), precision.c_str(), at::get_num_threads())});
  table.add(
      {"parameters", with_thousands(parameters) + " (" + with_thousands(trainable_parameters) + " trained)"});
  table.add({"training data", with_thousands(samples) + " samples, " + with_thousands(batches_per_epoch) +
                                  " batches an epoch"});
  for (const auto& [name, shape] : batch) table.add({"batch " + name, shape});
  table.add({"optimiser step", format("%.3f s", seconds_per_step)});
  table.add(
      {"whole run", format("%s steps, about %s and the validations", with_thousands(total_steps).c_str(),
                           human_seconds(projected_seconds).c_str())});
  table.add({"memory", human_bytes(static_cast<double>(memory_bytes))});
  table.add({"checkpoint", human_bytes(static_cast<double>(checkpoint_bytes))});
  return table.str();
}

}  // namespace zoo
