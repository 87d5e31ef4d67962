#include "trainers/metrics/online_action.h"

#include <ATen/Parallel.h>
#include <torch/torch.h>

#include <algorithm>
#include <cmath>
#include <map>

#include "core/error.h"
#include "core/numbers.h"
#include "core/text.h"
#include "trainers/metrics/figure.h"

namespace zoo {

namespace {

constexpr int64_t kTenthSets = 11;  // set 0 are all positives, set d+1 those of tenth d

/// Rows of all videos, a class in one piece: scores [C,n] double, sets [C,n] of average_precisions (as int16).
struct RankTable {
  torch::Tensor scores, sets;
};

/// n rows' steps of a video that take part, and where their labels stand.
struct Rows {
  torch::Tensor from, to;  ///< [n] int64
};

torch::Tensor flags(const torch::Tensor& given, int64_t steps, bool otherwise) {
  return given.defined() ? given : torch::full({steps}, otherwise, torch::kBool);
}

Rows current_rows(const ActionVideoScores& video, const ActionProtocol& protocol) {
  const int64_t steps = video.current.size(0);
  torch::Tensor keep = flags(video.predicted, steps, true);
  if (!protocol.ambiguous) keep = keep.logical_and(flags(video.ambiguous, steps, false).logical_not());
  const torch::Tensor rows = keep.nonzero().flatten();
  return {rows, rows};
}

Rows future_rows(const ActionVideoScores& video, const ActionProtocol& protocol, int64_t offset) {
  const int64_t steps = video.current.size(0);
  const torch::Tensor from = torch::arange(steps), to = from + offset;
  const torch::Tensor there = to.clamp_max(steps - 1);
  torch::Tensor keep = flags(video.predicted, steps, true);
  if (!protocol.clamp_future) keep = keep.logical_and(to < steps);
  if (!protocol.ambiguous_future) {
    keep = keep.logical_and(flags(video.ambiguous, steps, false).index_select(0, there).logical_not());
  }
  return {from.masked_select(keep), there.masked_select(keep)};
}

/// Calls each(first, last) for every run of positives of a column, `last` included.
template <class Each>
void for_runs(const int16_t* sets, int64_t size, const Each& each) {
  for (int64_t i = 0; i < size; ++i) {
    if (sets[i] == 0) continue;
    const int64_t first = i;
    while (i + 1 < size && sets[i + 1] != 0) ++i;
    each(first, i);
  }
}

void mark_tenths(int16_t* sets, int64_t size) {
  for_runs(sets, size, [&](int64_t first, int64_t last) {
    const int64_t count = last - first + 1;
    for (int64_t j = 0; j < count; ++j)
      sets[first + j] = static_cast<int16_t>(sets[first + j] | 2 << (10 * j / count));
  });
}

/// As LSTR's code has it, i/10 in double.
void mark_perstage(int16_t* sets, int64_t size) {
  for_runs(sets, size, [&](int64_t first, int64_t last) {
    const auto count = static_cast<double>(last - first);
    for (int i = 0; i < 10; ++i) {
      const auto begin = first + static_cast<int64_t>(count * (i / 10.0));
      const auto end = std::max(begin + 1, first + static_cast<int64_t>(count * ((i + 1) / 10.0)));
      for (int64_t step = begin; step < end; ++step) sets[step] = static_cast<int16_t>(sets[step] | 2 << i);
    }
  });
}

/// Calls mark(sets, n) for every class of [C,n].
template <class Mark>
void for_classes(const torch::Tensor& sets, const Mark& mark) {
  for (int64_t c = 0; c < sets.size(0); ++c) mark(sets.data_ptr<int16_t>() + c * sets.size(1), sets.size(1));
}

/// [C,L] int16: 1 where the class is there.
torch::Tensor class_sets(const ActionVideoScores& video) {
  return video.labels.ne(0).t().to(torch::kShort).contiguous();
}

RankTable join(const std::vector<torch::Tensor>& scores, const std::vector<torch::Tensor>& sets) {
  return {torch::cat(scores).t().to(torch::kDouble).contiguous(), torch::cat(sets, 1).contiguous()};
}

RankTable current_table(const std::vector<ActionVideoScores>& videos, const ActionProtocol& protocol) {
  std::vector<torch::Tensor> scores, sets;
  for (const ActionVideoScores& video : videos) {
    const torch::Tensor rows = current_rows(video, protocol).from;
    torch::Tensor all = class_sets(video);
    if (protocol.deciles == "steps") for_classes(all, mark_tenths);
    scores.push_back(video.current.index_select(0, rows));
    sets.push_back(all.index_select(1, rows));
  }
  RankTable table = join(scores, sets);
  if (protocol.deciles == "lstr") for_classes(table.sets, mark_perstage);
  return table;
}

RankTable future_table(const std::vector<ActionVideoScores>& videos, const ActionProtocol& protocol,
                       int64_t horizon, int64_t offset) {
  std::vector<torch::Tensor> scores, sets;
  for (const ActionVideoScores& video : videos) {
    const Rows rows = future_rows(video, protocol, offset);
    scores.push_back(video.future.select(1, horizon).index_select(0, rows.from));
    sets.push_back(class_sets(video).index_select(1, rows.to));
  }
  return join(scores, sets);
}

/// By class 1 … C-1, by set.
std::vector<std::vector<ClassPrecision>> rank_classes(const RankTable& table, int64_t sets,
                                                      const ActionProtocol& protocol,
                                                      const std::string& source) {
  const int64_t classes = table.scores.size(0), size = table.scores.size(1);
  if (table.scores.isnan().any().item<bool>()) throw Error(source + ": a score is not a number");
  std::vector<std::vector<ClassPrecision>> results(static_cast<size_t>(classes - 1));
  at::parallel_for(1, classes, 1, [&](int64_t begin, int64_t end) {
    for (int64_t c = begin; c < end; ++c) {
      results[static_cast<size_t>(c - 1)] = average_precisions(
          table.scores.const_data_ptr<double>() + c * size,
          reinterpret_cast<const uint16_t*>(table.sets.const_data_ptr<int16_t>()) + c * size, size, sets,
          protocol.ties == "together");
    }
  });
  return results;
}

ActionMeans means_of(const std::vector<std::vector<ClassPrecision>>& classes, size_t set) {
  ActionMeans sum;
  double count = 0;
  for (const std::vector<ClassPrecision>& one : classes) {
    if (one[set].positives == 0) continue;
    sum.map += one[set].ap;
    sum.calibrated += one[set].calibrated;
    ++count;
  }
  const double share = count > 0 ? 1 / count : kNaN;
  return {sum.map * share, sum.calibrated * share};
}

void require_fit(const std::vector<ActionVideoScores>& videos, const std::string& source) {
  if (videos.empty()) throw Error(source + ": no video, expected at least one");
  const int64_t classes = videos[0].current.dim() == 2 ? videos[0].current.size(1) : 0;
  const int64_t horizons = videos[0].future.defined() ? videos[0].future.size(1) : 0;
  for (const ActionVideoScores& video : videos) {
    const int64_t steps = video.current.size(0);
    const auto per_step = [&](const torch::Tensor& tensor) {
      return !tensor.defined() ||
             (tensor.dim() == 1 && tensor.size(0) == steps && tensor.scalar_type() == torch::kBool);
    };
    const bool good = video.current.dim() == 2 && video.current.is_floating_point() &&
                      video.current.size(1) == classes && classes >= 2 &&
                      video.labels.sizes() == video.current.sizes() && per_step(video.ambiguous) &&
                      per_step(video.predicted) && video.future.defined() == (horizons > 0);
    const bool good_future =
        horizons == 0 || video.future.sizes() == at::IntArrayRef({steps, horizons, classes});
    if (!good || !good_future) {
      throw Error(source +
                  ": expected scores [L,C] and labels [L,C] of background and other classes, flags "
                  "[L] of bool and future scores [L,K,C]");
    }
  }
}

std::vector<std::string> class_keys(const ActionNaming& naming, size_t classes) {
  std::map<std::string, int> uses;
  std::vector<std::string> keys;
  for (size_t c = 1; c <= classes; ++c) {
    keys.push_back(c < naming.classes.size() ? naming.classes[c] : "class " + std::to_string(c));
    ++uses[keys.back()];
  }
  for (size_t i = 0; i < keys.size(); ++i) {
    if (uses[keys[i]] > 1) keys[i] += " (" + std::to_string(i + 1) + ")";
  }
  return keys;
}

std::string seconds_text(const ActionNaming& naming, size_t horizon) {
  return format("%g", static_cast<double>(naming.first_horizon + static_cast<int64_t>(horizon)) /
                          naming.steps_per_second);
}

std::string protocol_text(const ActionProtocol& protocol, const ActionNaming& naming) {
  std::string text = protocol.ambiguous ? "all steps" : "all steps but ambiguous ones";
  if (!naming.scores.empty()) text += "; " + naming.scores;
  text += "; background left out; all videos in one ranking; equal scores ";
  text += protocol.ties == "together" ? "as one step" : "one by one";
  text += format("; predictions from %s s on, ", seconds_text(naming, 0).c_str());
  text += protocol.clamp_future ? "those beyond the end held against the last step"
                                : "those beyond the end left out";
  text += protocol.ambiguous_future ? ", ambiguous ones are negatives" : ", ambiguous ones left out";
  return text;
}

double mean_map(const std::vector<ActionMeans>& means) {
  double sum = 0;
  for (const ActionMeans& one : means) sum += one.map;
  return sum / static_cast<double>(means.size());  // 0/0 without horizons
}

}  // namespace

void ActionProtocol::validate() const {
  require_choice("eval.protocol.ties", ties, {"together", "each"});
  require_choice("eval.protocol.deciles", deciles, {"steps", "lstr"});
}

OnlineActionMetrics online_action_metrics(const std::vector<ActionVideoScores>& videos,
                                          const ActionProtocol& protocol, int64_t first_horizon,
                                          const std::string& source) {
  protocol.validate();
  require_fit(videos, source);
  const torch::NoGradGuard no_grad;
  OnlineActionMetrics metrics;
  for (const ActionVideoScores& video : videos) {
    metrics.steps += video.current.size(0);
    if (video.ambiguous.defined()) metrics.ambiguous += video.ambiguous.sum().item<int64_t>();
  }
  const RankTable current = current_table(videos, protocol);
  metrics.scored = current.scores.size(1);
  const auto classes = rank_classes(current, kTenthSets, protocol, source);
  metrics.all = means_of(classes, 0);
  for (const auto& sets : classes) metrics.per_class.push_back(sets[0]);
  for (size_t tenth = 0; tenth < 10; ++tenth) metrics.deciles[tenth] = means_of(classes, tenth + 1);
  const int64_t horizons = videos[0].future.defined() ? videos[0].future.size(1) : 0;
  for (int64_t k = 0; k < horizons; ++k) {
    const RankTable future = future_table(videos, protocol, k, first_horizon + k);
    metrics.anticipation.push_back(means_of(rank_classes(future, 1, protocol, source), 0));
  }
  return metrics;
}

ActionVideoScores listed_action_scores(const torch::Tensor& scores, const torch::Tensor& labels,
                                       const torch::Tensor& ambiguous, const std::string& source) {
  if (scores.dim() != 2 || !scores.is_floating_point() || scores.size(0) == 0 || scores.size(1) < 2)
    throw Error(source + ": scores: expected a matrix [N,C] of floats, column 0 background");
  if (labels.is_floating_point() || labels.sizes() != scores.sizes())
    throw Error(source + ": labels: expected integers of the shape of scores");
  if (ambiguous.defined() &&
      (ambiguous.is_floating_point() || ambiguous.dim() != 1 || ambiguous.size(0) != scores.size(0)))
    throw Error(source + format(": ambiguous: expected a list of %lld integers",
                                static_cast<long long>(scores.size(0))));
  ActionVideoScores video;
  video.current = scores;
  video.labels = labels.ne(0).to(torch::kByte);
  if (ambiguous.defined()) video.ambiguous = ambiguous.ne(0);
  return video;
}

Json online_action_json(const OnlineActionMetrics& metrics, const ActionNaming& naming) {
  Json document = {{"mAP", figure(metrics.all.map)},
                   {"mcAP", figure(metrics.all.calibrated)},
                   {"anticipation", Json::object()},
                   {"per_class", Json::object()}};
  for (size_t k = 0; k < metrics.anticipation.size(); ++k)
    document["anticipation"][seconds_text(naming, k)] = figure(metrics.anticipation[k].map);
  const std::vector<std::string> keys = class_keys(naming, metrics.per_class.size());
  for (size_t c = 0; c < keys.size(); ++c) document["per_class"][keys[c]] = figure(metrics.per_class[c].ap);
  return document;
}

Json online_action_details(const OnlineActionMetrics& metrics, const ActionProtocol& protocol,
                           const ActionNaming& naming) {
  const std::vector<std::string> keys = class_keys(naming, metrics.per_class.size());
  Json details = {{"protocol", protocol_text(protocol, naming)},
                  {"steps", metrics.steps},
                  {"scored_steps", metrics.scored},
                  {"ambiguous_steps", metrics.ambiguous},
                  {"per_class_calibrated", Json::object()},
                  {"positives", Json::object()},
                  {"classes_without_positives", Json::array()},
                  {"anticipation_mean", figure(mean_map(metrics.anticipation))},
                  {"anticipation_calibrated", Json::object()},
                  {"deciles", {{"rule", protocol.deciles}, {"mAP", Json::array()}, {"mcAP", Json::array()}}}};
  for (size_t c = 0; c < keys.size(); ++c) {
    details["per_class_calibrated"][keys[c]] = figure(metrics.per_class[c].calibrated);
    details["positives"][keys[c]] = metrics.per_class[c].positives;
    if (metrics.per_class[c].positives == 0) details["classes_without_positives"].push_back(keys[c]);
  }
  for (size_t k = 0; k < metrics.anticipation.size(); ++k) {
    details["anticipation_calibrated"][seconds_text(naming, k)] = figure(metrics.anticipation[k].calibrated);
  }
  for (const ActionMeans& means : metrics.deciles) {
    details["deciles"]["mAP"].push_back(figure(means.map));
    details["deciles"]["mcAP"].push_back(figure(means.calibrated));
  }
  return details;
}

}  // namespace zoo
