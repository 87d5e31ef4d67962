#include <sys/stat.h>

#include <algorithm>
#include <iostream>

#include <torch/torch.h>

#include "cli/predict.h"
#include "core/error.h"
#include "core/files.h"
#include "core/log.h"
#include "core/text.h"
#include "datasets/actions/frame_reader.h"
#include "datasets/image.h"
#include "models/runtime/memory_pool.h"
#include "models/weights/state_dict.h"
#include "trainers/action_timeline.h"
#include "trainers/signals.h"
#include "trainers/tasks/online_action.h"
#include "trainers/video_features.h"

namespace zoo {

namespace {

constexpr const char* kStepsKey = "zoo.steps";

/// `features:PATH`, PATH or "-": the path alone.
std::string stream_path(const std::string& input) {
  return starts_with(input, "features:") ? parse_data_spec(input).path : input;
}

bool is_video(const std::string& input) {
  return starts_with(input, "video:");
}

/// The videos of an INPUT.
std::shared_ptr<ActionDataset> open_input(const std::string& input, const ActionTask& task) {
  const bool is_path = input.find(':') == std::string::npos && file_exists(input);
  const DataSpec spec = parse_data_spec(is_path ? "features:" + input : input);
  return spec.kind == "video" ? open_videos(spec, task.steps_per_second(), stop_requested)
                              : open_action_dataset(spec, "val");
}

void require_width(const ActionTask& task, int64_t width, const std::string& what) {
  if (width == task.model().feature_size) return;
  throw Error(format("%s: %lld numbers a step, the model takes %lld", what.c_str(),
                     static_cast<long long>(width), static_cast<long long>(task.model().feature_size)));
}

/// A stream's state between two calls.
struct StreamState {
  ActionState tensors;
  int64_t steps = 0;  ///< so far
};

StreamState load_stream(const std::string& path, const ActionTask& task) {
  const StateDict file = load_tensors(path);
  StreamState state{task.model().start(1, torch::kCPU), 0};
  const auto& names = task.model().state_names;
  for (size_t i = 0; i < names.size(); ++i) {
    const torch::Tensor* found = file.find(names[i]);
    torch::Tensor& own = state.tensors[i];
    if (found == nullptr || found->sizes() != own.sizes() || found->dtype() != own.dtype()) {
      throw Error(path + ": " + (found == nullptr ? "has no tensor '" : "another size of tensor '") +
                  names[i] + "', expected the state of a stream of these weights");
    }
    own = found->clone();
  }
  const auto steps = file.metadata.find(kStepsKey);
  if (steps == file.metadata.end() || !parse_int(steps->second, state.steps))
    throw Error(path + ": says no number of steps (" + kStepsKey + "), expected what --save-state wrote");
  return state;
}

void save_stream(const std::string& path, const StreamState& state, const ActionTask& task) {
  StateDict file;
  for (size_t i = 0; i < state.tensors.size(); ++i)
    file.tensors.emplace_back(task.model().state_names[i], state.tensors[i]);
  file.metadata[kStepsKey] = std::to_string(state.steps);
  make_folders(parent_folder(path));
  save_safetensors(path, file);
}

/// {name: probability} of a row [C].
Json named_scores(const ActionTask& task, const torch::Tensor& row) {
  Json scores = Json::object();
  const auto& names = task.class_names();
  for (size_t c = 0; c < names.size(); ++c) scores[names[c]] = row[static_cast<int64_t>(c)].item<float>();
  return scores;
}

std::string line_of(const ActionTask& task, const ActionStep& step, int64_t number) {
  const double rate = task.steps_per_second();
  const int64_t best = step.current[0].argmax().item<int64_t>();
  Json line = {{"step", number},
               {"seconds", static_cast<double>(number) / rate},
               {"action", task.class_names()[static_cast<size_t>(best)]},
               {"scores", named_scores(task, step.current[0])}};
  if (step.future.defined()) {
    line["future"] = Json::array();
    for (int64_t k = 0; k < step.future.size(1); ++k) {
      line["future"].push_back({{"seconds", static_cast<double>(task.model().first_horizon + k) / rate},
                                {"scores", named_scores(task, step.future[0][k])}});
    }
  }
  return line.dump(-1, ' ', false, Json::error_handler_t::replace) + "\n";
}

/// Hands the steps of a stream to `use` while they arrive.
void for_each_arriving(const std::string& input, const LoadedModel& loaded, const ActionTask& task,
                       const std::function<void(const torch::Tensor& features)>& use) {
  if (is_video(input)) {
    const DataSpec spec = parse_data_spec(input);
    const std::vector<std::string> sources = video_sources(spec);
    if (sources.size() != 1) throw UsageError("--stream: expected one video, '" + input + "' names more");
    VideoFeatures seen(spec, task.steps_per_second());
    require_width(task, VideoFeatures::kWidth, input);
    seen.for_each_step(
        sources.front(), [&](const torch::Tensor& row) { use(row.unsqueeze(0)); }, stop_requested);
    return;
  }
  FrameReader reader(stream_path(input), task.model().feature_size,
                     loaded.config.at("eval").at("stall_seconds").get<double>());
  const torch::Tensor features = torch::empty({1, task.model().feature_size});
  while (!stop_requested() && reader.next(features.mutable_data_ptr<float>())) use(features);
}

/// One JSON line a step, while steps arrive.
void predict_stream(const PredictFlags& flags, const LoadedModel& loaded, ActionTask& task) {
  if (flags.inputs.size() != 1)
    throw UsageError("--stream: expected one INPUT, features:PATH, video:PATH or -");
  const torch::NoGradGuard no_grad;
  const MemoryPoolScope pool;
  StreamState state{task.model().start(1, loaded.device), 0};
  if (!flags.load_state.empty()) state = load_stream(flags.load_state, task);
  for (torch::Tensor& tensor : state.tensors) tensor = tensor.to(loaded.device);
  for_each_arriving(flags.inputs.front(), loaded, task, [&](const torch::Tensor& features) {
    ActionStep step = task.step(features, state.tensors, loaded.device);
    state.tensors = std::move(step.state);
    std::cout << line_of(task, step, state.steps++) << std::flush;
    if (!std::cout) throw Error("cannot write to stdout: its reader has gone");
  });
  if (!flags.save_state.empty()) save_stream(flags.save_state, state, task);
}

/// Stretches of steps of one best class, background left out.
Json segments_of(const ActionTask& task, const std::string& video, const torch::Tensor& scores) {
  Json segments = Json::array();
  const torch::Tensor best = scores.argmax(-1).contiguous();
  const auto* classes = best.const_data_ptr<int64_t>();
  for (int64_t start = 0, end = 0; start < best.numel(); start = end) {
    while (end < best.numel() && classes[end] == classes[start]) ++end;
    if (classes[start] == task.model().background) continue;
    segments.push_back(
        {{"video", video},
         {"action", task.class_names()[static_cast<size_t>(classes[start])]},
         {"start", static_cast<double>(start) / task.steps_per_second()},
         {"end", static_cast<double>(end) / task.steps_per_second()},
         {"score", scores.slice(0, start, end).select(1, classes[start]).mean().item<double>()}});
  }
  return segments;
}

/// Videos of a set: segments, scores and a picture each.
Json predict_videos(const PredictFlags& flags, const LoadedModel& loaded, ActionTask& task,
                    const ActionDataset& videos, StateDict& scores) {
  require_width(task, videos.feature_size(), videos.description());
  Json segments = Json::array();
  const std::vector<ActionVideoScores> found = task.stream(videos, loaded.device, nullptr);
  for (int64_t i = 0; i < videos.size(); ++i) {
    const std::string name = videos.name(i);
    const torch::Tensor& current = found[static_cast<size_t>(i)].current;
    scores.tensors.emplace_back(name, current);
    for (Json& segment : segments_of(task, name, current)) segments.push_back(std::move(segment));
    if (flags.no_images) continue;
    ActionTimeline timeline{name, task.class_names(), current, {}, {}, task.steps_per_second()};
    if (videos.labelled() && videos.class_names().size() == task.class_names().size())
      timeline.labels = videos.labels(i).tensor();
    write_image(join_path(flags.output, file_stem(name) + ".png"), draw_action_timeline(timeline));
  }
  return segments;
}

void report(const PredictFlags& flags, const LoadedModel& loaded, const Json& segments, size_t videos) {
  if (flags.json) {
    print_json({{"command", "predict"},
                {"model", loaded.recipe->name},
                {"data", nullptr},
                {"output", flags.output},
                {"metrics", {{"videos", videos}, {"segments", segments.size()}}},
                {"predictions", segments}});
    return;
  }
  Table table({"video", "action", "start", "end", "score"});
  for (const Json& segment : segments) {
    table.add({segment.at("video").get<std::string>(), segment.at("action").get<std::string>(),
               format("%.2f", segment.at("start").get<double>()),
               format("%.2f", segment.at("end").get<double>()),
               format("%.3f", segment.at("score").get<double>())});
  }
  print_text(table.str());
  log_info(format("%zu actions in %zu videos, in %s", segments.size(), videos, flags.output.c_str()));
}

}  // namespace

std::vector<std::string> predict_actions(const PredictFlags& flags, const LoadedModel& loaded,
                                         ActionTask& task) {
  if (flags.stream) {
    predict_stream(flags, loaded, task);
    return {};
  }
  if (!flags.save_state.empty() || !flags.load_state.empty())
    throw UsageError("--save-state and --load-state belong to --stream");
  make_folders(flags.output);
  const MemoryPoolScope pool;
  StateDict scores;
  Json segments = Json::array();
  std::vector<std::string> failures;
  for (const std::string& input : flags.inputs) {
    try {
      const auto videos = open_input(input, task);
      for (Json& segment : predict_videos(flags, loaded, task, *videos, scores))
        segments.push_back(std::move(segment));
    } catch (const UsageError&) {
      throw;
    } catch (const Interrupted&) {
      break;  // what is done is written
    } catch (const Error& error) {
      failures.emplace_back(error.what());
    }
  }
  save_safetensors(join_path(flags.output, "scores.safetensors"), scores);
  write_file(join_path(flags.output, "predictions.json"), dump_json(segments) + "\n");
  report(flags, loaded, segments, scores.tensors.size());
  return failures;
}

}  // namespace zoo
