#include "trainers/checkpoint.h"

#include <algorithm>
#include <filesystem>
#include <system_error>

#include "core/error.h"
#include "core/files.h"
#include "core/log.h"
#include "core/text.h"

namespace zoo {
namespace fs = std::filesystem;

namespace {

constexpr const char* kStateKey = "zoo.trainer";
constexpr const char* kLast = "last.ckpt";
constexpr const char* kEnding = ".ckpt";

/// Steps of the files STEP.ckpt in a run, newest first.
std::vector<int64_t> kept_steps(const std::string& run) {
  std::vector<int64_t> steps;
  for (const std::string& name : list_folder(run)) {
    int64_t step = 0;
    if (ends_with(name, kEnding) &&
        parse_int(name.substr(0, name.size() - std::string(kEnding).size()), step)) {
      steps.push_back(step);
    }
  }
  std::sort(steps.rbegin(), steps.rend());
  return steps;
}

std::string kept_path(const std::string& run, int64_t step) {
  return join_path(run, std::to_string(step) + kEnding);
}

Checkpoint read_checkpoint(const std::string& path) {
  Checkpoint checkpoint;
  checkpoint.path = path;
  checkpoint.tensors = load_tensors(path);
  const auto found = checkpoint.tensors.metadata.find(kStateKey);
  if (found == checkpoint.tensors.metadata.end())
    throw Error(path + ": is no checkpoint of a run (no zoo.trainer)");
  try {
    checkpoint.state = Json::parse(found->second).get<TrainerState>();
  } catch (const Json::exception& error) {
    throw Error(path + ": its zoo.trainer is not what this version of zoo writes: " + error.what());
  }
  return checkpoint;
}

/// Gives the checkpoint of an earlier step a second name, so that the new one can replace it in one move.
void keep_previous(const std::string& run, const std::string& path, int64_t step) {
  int64_t previous = 0;
  try {
    previous = read_checkpoint(path).state.step;
  } catch (const Error&) {
    return;  // damaged: not worth keeping
  }
  if (previous == step) return;
  const std::string kept = kept_path(run, previous);
  std::error_code code;
  fs::remove(kept, code);
  fs::create_hard_link(path, kept, code);
  if (code) fs::copy_file(path, kept, code);  // file systems without links
  if (code) throw Error("cannot write " + kept + ": " + code.message());
}

void remove_old(const std::string& run, int64_t step, int64_t keep) {
  int64_t left = keep - 1;
  for (const int64_t kept : kept_steps(run)) {
    if (kept < step && left-- > 0) continue;
    std::error_code code;
    fs::remove(kept_path(run, kept), code);
  }
}

/// Nothing where there is no file; `damage` tells of the first that could not be read. Throws Error where
/// none could.
std::optional<Checkpoint> newest_whole(const std::string& run, std::string& damage) {
  std::vector<std::string> paths;
  if (file_exists(join_path(run, kLast))) paths.push_back(join_path(run, kLast));
  for (const int64_t step : kept_steps(run)) paths.push_back(kept_path(run, step));
  for (const std::string& path : paths) {
    try {
      return read_checkpoint(path);
    } catch (const Error& error) {
      if (damage.empty()) damage = error.what();
    }
  }
  if (damage.empty()) return std::nullopt;
  throw Error(damage + ", and no earlier checkpoint is whole (trainer.keep_checkpoints=2 keeps one)",
              "start anew with another --output; best.safetensors, where it is there, serves as --weights");
}

}  // namespace

void save_checkpoint(const std::string& run, const TrainerState& state, StateDict tensors, int64_t keep) {
  const std::string path = join_path(run, kLast);
  tensors.metadata[kStateKey] = Json(state).dump(-1, ' ', false, Json::error_handler_t::replace);
  if (keep > 1 && file_exists(path)) keep_previous(run, path, state.step);
  save_safetensors(path, tensors);
  remove_old(run, state.step, keep);
}

std::optional<Checkpoint> load_checkpoint(const std::string& run) {
  std::string damage;
  std::optional<Checkpoint> checkpoint = newest_whole(run, damage);
  if (!damage.empty()) log_warning(damage + "; using the checkpoint before it, " + checkpoint->path);
  return checkpoint;
}

std::optional<TrainerState> load_trainer_state(const std::string& run) {
  std::string damage;
  std::optional<Checkpoint> checkpoint = newest_whole(run, damage);
  if (!checkpoint) return std::nullopt;
  return std::move(checkpoint->state);
}

}  // namespace zoo
