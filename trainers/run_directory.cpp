#include "trainers/run_directory.h"

#include <fcntl.h>
#include <sys/file.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <ctime>
#include <filesystem>
#include <system_error>

#include "core/error.h"
#include "core/files.h"
#include "core/log.h"
#include "core/text.h"
#include "datasets/image.h"
#include "trainers/curves.h"

namespace zoo {
namespace fs = std::filesystem;

namespace {

constexpr const char* kConfig = "config.json";
constexpr const char* kMetrics = "metrics.jsonl";
constexpr const char* kLog = "log.txt";
constexpr const char* kPredictions = "predictions";

int open_for_appending(const std::string& path) {
  const int descriptor = ::open(path.c_str(), O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0644);
  if (descriptor < 0) throw Error("cannot write " + path + ": " + std::strerror(errno));
  return descriptor;
}

/// NAME.tmp.PID, which AtomicFile removes unless the process is killed.
bool is_leftover(const std::string& name) {
  const size_t at = name.rfind(".tmp.");
  int64_t pid = 0;
  return at != std::string::npos && parse_int(name.substr(at + 5), pid);
}

void remove_leftovers(const std::string& folder) {
  if (!is_directory(folder)) return;
  for (const std::string& name : list_folder(folder)) {
    std::error_code code;
    if (is_leftover(name)) fs::remove(join_path(folder, name), code);
  }
}

/// Whether a line of metrics.jsonl was written before the checkpoint with that state.
bool belongs(const std::string& text, const TrainerState& state) {
  const Json line = Json::parse(text, nullptr, false);
  if (!line.is_object() || !line.contains("step") || !line.at("step").is_number_integer()) return false;
  const auto step = line.at("step").get<int64_t>();
  return step <= (line.value("kind", "") == "validation" ? state.validated_step : state.logged_step);
}

/// The log, locked by this process until it is closed.
int open_log(const std::string& run) {
  const int log = open_for_appending(join_path(run, kLog));
  if (::flock(log, LOCK_EX | LOCK_NB) != 0 && errno == EWOULDBLOCK) {  // other failures: a disk without locks
    ::close(log);
    throw Error(run + ": another process is training in this run, expected it to end first");
  }
  return log;
}

/// metrics.jsonl without what was written after the checkpoint, half a line too.
int open_metrics(const std::string& run, const TrainerState& state) {
  const std::string path = join_path(run, kMetrics);
  const std::string text = file_exists(path) ? read_file(path) : "";
  std::string kept;
  for (const std::string& line : split(text, '\n')) {
    if (!line.empty() && belongs(line, state)) kept += line + "\n";
  }
  if (kept != text) write_file(path, kept);
  return open_for_appending(path);
}

std::string time_stamp() {
  const std::time_t now = std::time(nullptr);
  std::tm local{};
  localtime_r(&now, &local);
  char text[32];
  std::strftime(text, sizeof text, "%Y-%m-%d %H:%M:%S ", &local);
  return text;
}

/// Every line set in by four blanks: Markdown shows it as it is.
std::string indented(const std::string& text) {
  std::string result = "    ";
  for (const char c : text) {
    result += c;
    if (c == '\n') result += "    ";
  }
  return result;
}

/// The numbers of a line of metrics.jsonl under TensorBoard's tags: `train/loss`, `terms/loss_ce`,
/// `validation/AP`.
std::vector<std::pair<std::string, double>> figures(const Json& line) {
  std::vector<std::pair<std::string, double>> result;
  const auto kind = line.at("kind").get<std::string>();
  for (const auto& item : line.items()) {
    if (item.value().is_number() && item.key() != "step") {
      result.emplace_back(kind + "/" + item.key(), item.value().get<double>());
    } else if (item.value().is_object()) {
      const std::string group = item.key() == "metrics" ? kind : item.key();
      for (const auto& part : item.value().items()) {
        if (part.value().is_number())
          result.emplace_back(group + "/" + part.key(), part.value().get<double>());
      }
    }
  }
  return result;
}

}  // namespace

void require_no_run(const std::string& run) {
  if (file_exists(run) && !is_directory(run))
    throw Error("cannot write into " + run + ": it is a file, expected a folder");
  if (file_exists(join_path(run, kConfig)) || has_checkpoint(run)) {
    throw Error(run + " already holds a run, expected another --output, or --resume " + run +
                " to go on with it");
  }
}

void create_run(const std::string& run, const Json& config) {
  require_no_run(run);
  make_folders(run);
  update_run_config(run, config);
}

Json read_run_config(const std::string& run) {
  if (!file_exists(run)) throw Error(run + ": there is no such run directory");
  const std::string path = join_path(run, kConfig);
  if (!is_directory(run) || !file_exists(path)) {
    throw Error(run + " is no run directory (it has no config.json), expected one that zoo train wrote");
  }
  Json config = read_json(path);
  for (const char* section :
       {"model", "data", "loss", "optimizer", "schedule", "trainer", "eval", "verify"}) {
    if (!config.is_object() || !config.contains(section) || !config.at(section).is_object()) {
      throw Error(path + ": has no section '" + section + "', expected the config.json that zoo train wrote");
    }
  }
  return config;
}

void update_run_config(const std::string& run, const Json& config) {
  write_file(join_path(run, kConfig), dump_json(config) + "\n");
}

bool has_checkpoint(const std::string& run) {
  if (!is_directory(run)) return false;
  for (const std::string& name : list_folder(run)) {
    if (ends_with(name, ".ckpt")) return true;
  }
  return false;
}

Descriptor::~Descriptor() {
  if (value_ >= 0) ::close(value_);
}

RunWriter::RunWriter(const std::string& run, const TrainerState& state)
    : run_(run), log_(open_log(run)), metrics_(open_metrics(run, state)) {
  remove_leftovers(run);
  remove_leftovers(path(kPredictions));
  events_ = std::make_unique<EventWriter>(run, state.step == 0 ? 0 : state.step + 1);
  if (state.step == 0) events_->add_text("config", indented(read_file(path(kConfig))), 0);
  set_log_sink([this](const std::string& message) {
    const std::string line = time_stamp() + message + "\n";
    if (::write(log_.get(), line.data(), line.size()) < 0)
      return;  // the metrics and checkpoints tell of a full disk
  });
}

RunWriter::~RunWriter() {
  set_log_sink(nullptr);
}

std::string RunWriter::path(const std::string& name) const {
  return join_path(run_, name);
}

void RunWriter::add_metrics(const Json& line) {
  const std::string text = line.dump(-1, ' ', false, Json::error_handler_t::replace) + "\n";
  const ssize_t written = ::write(metrics_.get(), text.data(), text.size());
  if (written != static_cast<ssize_t>(text.size())) {
    throw Error("cannot write " + path(kMetrics) + ": " +
                (written < 0 ? std::strerror(errno) : "the disk is full"));
  }
  const auto step = line.at("step").get<int64_t>();
  for (const auto& [tag, value] : figures(line)) events_->add_scalar(tag, value, step);
  events_->flush();
}

void RunWriter::add_predictions(const std::vector<Preview>& previews, int64_t step) {
  if (previews.empty()) return;
  make_folders(path(kPredictions));
  for (const Preview& preview : previews) {
    write_image(join_path(path(kPredictions), preview.name + ".png"), preview.rgb);
    events_->add_image("predictions/" + preview.name, encode_png(preview.rgb), step);
  }
}

void RunWriter::add_figures(const std::vector<Preview>& figures, int64_t step) {
  for (const Preview& figure : figures) {
    write_image(path(figure.name + ".png"), figure.rgb);
    events_->add_image(figure.name, encode_png(figure.rgb), step);
  }
}

void RunWriter::draw(const std::string& best_metric) {
  draw_curves(path(kMetrics), path("curves.png"), best_metric);
  events_->flush();
}

}  // namespace zoo
