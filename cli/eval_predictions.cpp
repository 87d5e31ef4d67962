#include <algorithm>
#include <thread>

#include <torch/torch.h>

#include "cli/eval.h"
#include "cli/setup.h"
#include "core/error.h"
#include "core/files.h"
#include "core/formats/safetensors.h"
#include "core/text.h"
#include "models/weights/state_dict.h"
#include "trainers/metrics/generation.h"
#include "trainers/tasks/denoiser.h"
#include "trainers/tasks/detection_predictions.h"
#include "trainers/tasks/face_scores.h"
#include "trainers/tasks/online_action.h"

namespace zoo {

namespace {

int score_detections(const EvalFlags& flags) {
  if (flags.data.empty())
    throw UsageError("--predictions FILE of detections needs the ground truth: expected --data coco:PATH");
  if (flags.data.size() > 1)
    throw UsageError("--predictions FILE belongs to one data set, expected one --data");
  const CocoGroundTruth truth = read_ground_truth(parse_data_spec(flags.data.front()));
  const CocoMetrics metrics =
      evaluate_coco(truth, read_coco_results(flags.predictions),
                    static_cast<int>(std::max(1u, std::thread::hardware_concurrency())));
  report_results(flags, nullptr, {{flags.data.front(), coco_metrics_json(metrics, truth)}}, {});
  return 0;
}

/// Tensors of a file of predictions, checked as they are asked for.
class PredictionFile {
 public:
  explicit PredictionFile(const std::string& path) : state_(load_tensors(path)), path_(path) {}

  bool has(const char* name) const { return state_.find(name) != nullptr; }
  const torch::Tensor& tensor(const char* name) const {
    const torch::Tensor* found = state_.find(name);
    if (found == nullptr) throw Error(path_ + ": has no tensor '" + std::string(name) + "'");
    return *found;
  }
  /// [N,D] of a float type.
  torch::Tensor matrix(const char* name) const {
    const torch::Tensor& found = tensor(name);
    if (found.dim() != 2 || !found.is_floating_point() || found.size(1) == 0)
      fail(name, "is no matrix of floats");
    return found;
  }
  /// [N] of an integer type or bool, as int64.
  torch::Tensor labels(const char* name, int64_t count) const {
    const torch::Tensor& found = tensor(name);
    if (found.dim() != 1 || found.size(0) != count || found.is_floating_point())
      fail(name, format("is no list of %lld integers", static_cast<long long>(count)));
    return found.to(torch::kLong).contiguous();
  }
  [[noreturn]] void fail(const char* name, const std::string& what) const {
    throw Error(path_ + ": tensor '" + name + "' " + what);
  }

 private:
  StateDict state_;
  std::string path_;
};

std::vector<int64_t> numbers(const torch::Tensor& labels) {
  const auto* values = labels.const_data_ptr<int64_t>();
  return {values, values + labels.numel()};
}

void require_no_data(const EvalFlags& flags) {
  if (!flags.data.empty())
    throw UsageError("--predictions " + flags.predictions + " holds the labels itself, expected no --data");
}

/// Rows 0…P-1 are those of `a`, P…2P-1 those of `b`.
PairList listed_pairs(const PredictionFile& file, int64_t count) {
  PairList pairs;
  for (const int64_t same : numbers(file.labels("same", count))) {
    if (same != 0 && same != 1) file.fail("same", "holds a number that is neither 0 nor 1");
    pairs.first.push_back(static_cast<int64_t>(pairs.size()));
    pairs.second.push_back(count + static_cast<int64_t>(pairs.size()));
    pairs.same.push_back(static_cast<uint8_t>(same));
  }
  pairs.folds = file.has("fold") ? numbered_folds(numbers(file.labels("fold", count))) : equal_folds(count);
  return pairs;
}

int score_pairs_of_file(const EvalFlags& flags, const PredictionFile& file, const VerifyOptions& options) {
  require_no_data(flags);
  if (options.fit != "folds")
    throw UsageError("verify.fit=" + options.fit + " needs a model, expected folds with --predictions");
  const torch::Tensor a = file.matrix("a"), b = file.matrix("b");
  if (a.sizes() != b.sizes()) file.fail("b", "has another shape than 'a'");
  if (a.size(0) == 0) file.fail("a", "has no rows");
  const PairList pairs = listed_pairs(file, a.size(0));
  const ScoredPairs scored = score_pairs(torch::cat({a, b}), pairs, options, nullptr, flags.predictions);
  const Roc roc(scored.own_scores(), scored.same);
  Json details = verification_details(scored, options);
  details.erase("flip");  // the file does not tell
  report_results(flags, nullptr, {{"", verification_json(verification_metrics(scored, roc)), details}},
                 {{file_name(flags.predictions), roc}});
  return 0;
}

int score_gallery(const EvalFlags& flags, const PredictionFile& file, const VerifyOptions& options) {
  require_no_data(flags);
  const torch::Tensor gallery = file.matrix("gallery"), probes = file.matrix("probes");
  const Gallery entries(gallery, file.labels("gallery_labels", gallery.size(0)), flags.predictions);
  const IdentificationMetrics metrics = identification_metrics(
      entries.ranks(probes, file.labels("probe_labels", probes.size(0)), flags.predictions),
      options.cmc_ranks);
  report_results(
      flags, nullptr,
      {{"", identification_json(metrics), identification_details(metrics, gallery.size(0), probes.size(0))}},
      {});
  return 0;
}

int score_templates(const EvalFlags& flags, const PredictionFile& file, const VerifyOptions& options) {
  const DataSpec spec =
      flags.data.size() == 1 ? parse_data_spec(flags.data.front()) : DataSpec{"", "", {}, ""};
  if (spec.kind != "ijb")
    throw UsageError("--predictions " + flags.predictions +
                     " holds embeddings of single pictures, expected one --data ijb:PATH");
  const Roc roc = compare_templates(file.matrix("embeddings"), open_face_templates(spec), options.templates,
                                    flags.predictions);
  Json details = template_details(roc, options);
  details.erase("flip");
  report_results(flags, nullptr, {{flags.data.front(), template_metrics_json(roc), details}},
                 {{flags.data.front(), roc}});
  return 0;
}

/// A section as --config, --set and defaults give it; keys of other sections do not matter here.
template <class Options>
Options section_options(const ConfigFlags& configuration, const std::string& section) {
  Json config = {{section, Options()}};
  if (!configuration.config_file().empty()) {
    const Json given = read_json(configuration.config_file());
    if (given.is_object() && given.contains(section))
      overlay(config, {{section, given.at(section)}}, configuration.config_file());
  }
  for (const Edit& edit : configuration.edits()) {
    if (starts_with(edit.key, section + ".")) set_key(config, edit.key, edit.value, edit.source);
  }
  const auto options = config.at(section).get<Options>();
  options.validate();
  return options;
}

/// Column 0 is background; the file does not tell the steps' order or time.
int score_actions(const EvalFlags& flags, const PredictionFile& file, const ActionProtocol& protocol) {
  require_no_data(flags);
  const auto tensor = [&](const char* name) { return file.has(name) ? file.tensor(name) : torch::Tensor(); };
  const OnlineActionMetrics metrics =
      online_action_metrics({listed_action_scores(file.tensor("scores"), file.tensor("labels"),
                                                  tensor("ambiguous"), flags.predictions)},
                            protocol, 1, flags.predictions);
  const ActionNaming naming;
  report_results(
      flags, nullptr,
      {{"", online_action_json(metrics, naming), online_action_details(metrics, protocol, naming)}}, {});
  return 0;
}

/// Features of real and of generated pictures.
int score_features(const EvalFlags& flags, const PredictionFile& file, const GenerationOptions& options) {
  require_no_data(flags);
  const torch::Tensor real = file.matrix("real"), fake = file.matrix("fake");
  const Json details = {{"real", real.size(0)}, {"fake", fake.size(0)}, {"features", real.size(1)}};
  report_results(flags, nullptr, {{"", generation_json(real, fake, options, flags.predictions), details}},
                 {});
  return 0;
}

bool holds_tensors(const std::string& path) {
  const MappedFile file(path);
  return is_safetensors(file.data(), file.size());
}

}  // namespace

int evaluate_predictions(const EvalFlags& flags, const ConfigFlags& configuration) {
  if (!flags.weights.empty()) throw UsageError("--predictions and --weights exclude each other");
  if (is_directory(flags.predictions) && (flags.task.empty() || flags.task == "generation"))
    return score_picture_folder(
        flags, section_options<DenoiserEvalOptions>(configuration, "eval"),
        prepare_torch({{"trainer", section_options<TrainerOptions>(configuration, "trainer")}}));
  const auto options = section_options<VerifyOptions>(configuration, "verify");
  const bool tensors = !flags.task.empty() && flags.task != "detection";
  if (!tensors && (flags.task == "detection" || !holds_tensors(flags.predictions)))
    return score_detections(flags);
  const PredictionFile file(flags.predictions);
  if (flags.task == "identification" || (flags.task.empty() && file.has("gallery")))
    return score_gallery(flags, file, options);
  if (flags.task == "online-action" || (flags.task.empty() && file.has("scores")))
    return score_actions(flags, file, section_options<ActionEvalOptions>(configuration, "eval").protocol);
  if (flags.task == "generation" || (flags.task.empty() && file.has("fake")))
    return score_features(flags, file,
                          section_options<DenoiserEvalOptions>(configuration, "eval").generation);
  if (file.has("embeddings")) return score_templates(flags, file, options);
  if (flags.task.empty() && !file.has("a"))
    throw Error(
        flags.predictions +
        ": its tensors tell no task, expected a b same (verification) or gallery gallery_labels probes "
        "probe_labels (identification) or scores labels (online-action) or real fake (generation)");
  return score_pairs_of_file(flags, file, options);
}

}  // namespace zoo
