#include "trainers/report.h"

#include <algorithm>
#include <cmath>

#include "core/files.h"
#include "core/log.h"
#include "core/text.h"
#include "trainers/device.h"

namespace zoo {

namespace {

constexpr size_t kShownTerms = 4;
constexpr size_t kShownIds = 16;

/// The first of many names.
std::string shown_ids(std::vector<std::string> ids) {
  const size_t all = ids.size();
  if (all > kShownIds) ids.resize(kShownIds);
  return join(ids, ", ") + (all > kShownIds ? format(" and %zu more", all - kShownIds) : "");
}

bool losses_are_finite(const StepResult& result) {
  return std::all_of(result.losses.begin(), result.losses.end(),
                     [](double loss) { return std::isfinite(loss); });
}

/// Whether a batch may be to blame for a step that is not finite.
bool suspected(const StepResult& result, size_t batch) {
  return losses_are_finite(result) || !std::isfinite(result.losses[batch]);
}

/// What nonfinite.json tells of a step.
Json incident_of(const Position& position, const StepResult& result, const std::vector<std::string>& ids) {
  Json terms = Json::object();
  for (size_t i = 0; i < result.terms.size(); ++i) {
    if (!suspected(result, i)) continue;
    for (const auto& [name, value] : result.terms[i].terms) terms[name].push_back(value.item<double>());
  }
  return {{"what", losses_are_finite(result) ? "gradient" : "loss"},
          {"step", position.step},
          {"epoch", position.epochs},
          {"ids", ids},
          {"losses", result.losses},
          {"terms", terms},
          {"gradient_norm", result.gradient_norm}};
}

std::string shown_value(const Json& value) {
  return value.is_number() ? format("%.4f", value.get<double>()) : "n/a";
}

}  // namespace

std::vector<std::string> suspected_samples(const StepResult& result,
                                           const std::vector<std::unique_ptr<Batch>>& batches) {
  std::vector<std::string> ids;
  for (size_t i = 0; i < batches.size(); ++i) {
    if (suspected(result, i)) ids.insert(ids.end(), batches[i]->ids.begin(), batches[i]->ids.end());
  }
  return ids;
}

TrainingReport::TrainingReport(const std::string& run, const TrainerState& state) : writer_(run, state) {
  means_.from_json(state.window);
}

void TrainingReport::add_step(const StepResult& result, double seconds) {
  pace_.add(seconds, result.samples);
  seconds_ += seconds;
  samples_ += result.samples;
  if (!result.finite) return;
  for (const LossTerms& loss : result.terms) {
    auto values = loss.terms;
    values.emplace_back("loss", loss.total);
    means_.add(values);
  }
  last_ = result.terms.back();
  gradient_norm_ = result.gradient_norm;
}

void TrainingReport::write_line(const Position& position, double run_seconds, bool shown) {
  const auto means = means_.means();
  Json line = {
      {"kind", "train"}, {"step", position.step}, {"epoch", position.epochs}, {"terms", Json::object()}};
  for (const auto& [name, mean] : means) (name == "loss" ? line["loss"] : line["terms"][name]) = mean;
  for (const auto& [name, rate] : position.learning_rates) line["lr"][name] = rate;
  line["gradient_norm"] = gradient_norm_;
  line["samples_per_second"] = seconds_ > 0 ? static_cast<double>(samples_) / seconds_ : 0;
  line["memory_bytes"] = resident_memory();
  line["seconds"] = run_seconds;
  writer_.add_metrics(line);
  const std::string text =
      format("epoch %.2f  step %lld/%lld  ", position.epochs, static_cast<long long>(position.step),
             static_cast<long long>(position.total_steps)) +
      summary(position, means);
  shown && !progress_.active() ? log_info(text) : log_verbose(text);
  means_.clear();
  samples_ = 0;
  seconds_ = 0;
}

void TrainingReport::show_progress(const Position& position) {
  if (!last_.total.defined()) return;
  std::vector<std::pair<std::string, double>> scalars = {{"loss", last_.total.item<double>()}};
  for (const auto& [name, value] : last_.terms) scalars.emplace_back(name, value.item<double>());
  progress_.update(position.step, position.total_steps,
                   format("epoch %.2f  ", position.epochs) + summary(position, scalars));
}

/// Loss, its first terms, step size, pace, memory and time left.
std::string TrainingReport::summary(const Position& position,
                                    const std::vector<std::pair<std::string, double>>& scalars) const {
  std::string loss;
  std::vector<std::string> terms;
  for (const auto& [name, value] : scalars) {
    if (name == "loss") {
      loss = format("loss %.4g", value);
    } else if (terms.size() < kShownTerms) {
      terms.push_back(format("%s %.3g", name.c_str(), value));
    }
  }
  if (!terms.empty()) loss += " (" + join(terms, ", ") + ")";
  return loss + format("  lr %.3g  %.3g samples/s  %s  eta %s", position.learning_rates.front().second,
                       pace_.samples_per_second(),
                       human_bytes(static_cast<double>(resident_memory())).c_str(),
                       human_seconds(pace_.seconds_of(position.total_steps - position.step)).c_str());
}

void TrainingReport::write_validation(const Position& position, const Json& metrics,
                                      const std::string& best_metric, bool best, double seconds) {
  writer_.add_metrics({{"kind", "validation"},
                       {"step", position.step},
                       {"epoch", position.epochs},
                       {"metrics", metrics},
                       {"best", best},
                       {"seconds", seconds}});
  const std::string name = best_metric.substr(starts_with(best_metric, "-") ? 1 : 0);
  log_info(format("validation  step %lld  %s %s%s  in %s", static_cast<long long>(position.step),
                  name.c_str(), shown_value(metrics.at(name)).c_str(), best ? " (best so far)" : "",
                  human_seconds(seconds).c_str()));
  writer_.draw(best_metric);
}

std::string TrainingReport::write_incident(const Position& position, const StepResult& result,
                                           const std::vector<std::string>& ids) {
  const Json incident = incident_of(position, result, ids);
  incidents_.push_back(incident);
  write_file(writer_.path("nonfinite.json"), dump_json(incidents_) + "\n");
  return format("the %s is not finite in step %lld, samples ", incident.at("what").get<std::string>().c_str(),
                static_cast<long long>(position.step)) +
         shown_ids(incident.at("ids"));
}

}  // namespace zoo
