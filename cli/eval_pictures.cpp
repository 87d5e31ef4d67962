#include <torch/torch.h>

#include <algorithm>
#include <functional>
#include <map>
#include <memory>
#include <utility>

#include "cli/eval.h"
#include "core/error.h"
#include "core/files.h"
#include "core/log.h"
#include "core/text.h"
#include "datasets/captions/captions.h"
#include "datasets/image.h"
#include "datasets/spec.h"
#include "trainers/picture_scores.h"
#include "trainers/progress.h"
#include "trainers/tasks/denoiser.h"

namespace zoo {

namespace {

/// At most so many pictures of one size go through the networks at once.
constexpr size_t kScoredAtOnce = 16;

/// Pictures of a folder or of a set, with sentences as far as they are known.
struct ScoredPictures {
  std::vector<std::string> names;
  std::vector<std::string> sentences;  ///< one each; empty: not known
  std::function<cv::Mat(size_t)> picture;
};

ScoredPictures pictures_of_set(const std::shared_ptr<CaptionDataset>& set) {
  ScoredPictures pictures;
  for (int64_t i = 0; i < set->size(); ++i) {
    pictures.names.push_back(set->name(i));
    pictures.sentences.push_back(set->captions(i)[0]);
  }
  pictures.picture = [set](size_t i) { return set->picture(static_cast<int64_t>(i)); };
  return pictures;
}

/// What `zoo predict` wrote tells its pictures and their prompts; other pictures of the folder are previews.
void take_predictions(const std::string& path, ScoredPictures& pictures) {
  const Json rows = read_json(path);
  pictures.names.clear();
  try {
    for (const Json& row : rows) {
      pictures.names.push_back(row.at("file_name").get<std::string>());
      pictures.sentences.push_back(row.at("prompt").get<std::string>());
    }
  } catch (const Json::exception&) {
    throw Error(path + ": no list of pictures, expected file_name and prompt of each");
  }
}

ScoredPictures pictures_of_folder(const std::string& folder) {
  const std::vector<std::string> files = list_folder(folder);
  const auto has = [&](const std::string& name) {
    return std::binary_search(files.begin(), files.end(), name);
  };
  ScoredPictures pictures;
  std::copy_if(files.begin(), files.end(), std::back_inserter(pictures.names), has_image_ending);
  const bool told = !pictures.names.empty() &&
                    std::all_of(pictures.names.begin(), pictures.names.end(),
                                [&](const std::string& name) { return has(file_stem(name) + ".txt"); });
  if (told || has("metadata.jsonl") || has("captions.jsonl"))
    return pictures_of_set(open_caption_dataset({"captions", folder, {}, folder}, "val"));
  if (has("predictions.json")) take_predictions(join_path(folder, "predictions.json"), pictures);
  if (pictures.names.empty()) throw Error(folder + ": holds no pictures, expected files like 0001.png");
  pictures.picture = [folder, names = pictures.names](size_t i) {
    return read_image(join_path(folder, names[i]));
  };
  return pictures;
}

ScoredPictures real_pictures(const std::string& data) {
  if (is_directory(data)) return pictures_of_folder(data);
  const DataSpec spec = parse_data_spec(data);
  if (spec.kind != "captions")
    throw UsageError("--data " + data + ": expected captions, captions:PATH or a folder of pictures");
  return pictures_of_set(open_caption_dataset(spec, "val"));
}

/// Sentences of the real pictures of the same names, where every made one has such a namesake.
void take_sentences_by_name(const ScoredPictures& real, ScoredPictures& made) {
  if (!made.sentences.empty() || real.sentences.empty()) return;
  std::map<std::string, std::string> by_name;
  for (size_t i = 0; i < real.names.size(); ++i) by_name[file_stem(real.names[i])] = real.sentences[i];
  std::vector<std::string> sentences;
  for (const std::string& name : made.names) {
    const auto found = by_name.find(file_stem(name));
    if (found == by_name.end()) return;
    sentences.push_back(found->second);
  }
  made.sentences = std::move(sentences);
}

/// Calls back with batches [B,3,H,W] of neighbours of one size, and the first one's number.
void each_batch(const ScoredPictures& pictures, ProgressLine& line,
                const std::function<void(const torch::Tensor& batch, size_t first)>& use) {
  std::vector<torch::Tensor> waiting;
  size_t first = 0;
  const auto flush = [&](size_t next) {
    if (!waiting.empty()) use(torch::stack(waiting), first);
    waiting.clear();
    first = next;
  };
  for (size_t i = 0; i < pictures.names.size(); ++i) {
    const torch::Tensor picture = picture_tensor(pictures.picture(i));
    const bool joins =
        waiting.empty() || (waiting.size() < kScoredAtOnce && waiting[0].sizes() == picture.sizes());
    if (!joins) flush(i);
    waiting.push_back(picture);
    line.update(static_cast<int64_t>(i + 1), static_cast<int64_t>(pictures.names.size()));
  }
  flush(pictures.names.size());
}

void score_both(const ScoredPictures& real, const ScoredPictures& made, PictureScores& scores) {
  ProgressLine real_line("real pictures");
  each_batch(real, real_line, [&](const torch::Tensor& batch, size_t) { scores.add_real(batch); });
  real_line.finish();
  ProgressLine made_line("made pictures");
  each_batch(made, made_line, [&](const torch::Tensor& batch, size_t first) {
    std::vector<std::string> texts;
    for (size_t i = first; i < first + static_cast<size_t>(batch.size(0)) && !made.sentences.empty(); ++i)
      texts.push_back(made.sentences[i]);
    scores.add_made(batch, texts);
  });
  made_line.finish();
}

}  // namespace

int score_picture_folder(const EvalFlags& flags, const DenoiserEvalOptions& options, torch::Device device) {
  if (flags.data.size() != 1)
    throw UsageError(
        "--predictions " + flags.predictions +
        " is a folder of pictures: expected one --data, the real ones: captions:PATH or a folder");
  ScoredPictures made = pictures_of_folder(flags.predictions);
  const ScoredPictures real = real_pictures(flags.data[0]);
  take_sentences_by_name(real, made);
  const std::string missing = missing_networks(options.features, options.clip);
  if (!missing.empty()) log_info(missing);
  if (!options.clip.empty() && made.sentences.empty())
    log_warning(flags.predictions +
                ": nothing tells what its pictures should show, CLIP is null: expected metadata.jsonl, zoo's "
                "predictions.json, or the names of the pictures of --data");
  std::unique_ptr<PictureFeatures> features;
  if (!options.features.empty())
    features = open_picture_features(options.features, options.generation.resize);
  std::unique_ptr<ClipScorer> clip;
  if (!options.clip.empty()) clip = std::make_unique<ClipScorer>(options.clip);
  PictureScores scores(features.get(), clip.get(), device);
  if (features != nullptr || clip != nullptr) score_both(real, made, scores);
  Json metrics = Json::object(), details = scores.details();
  scores.write(options.generation, flags.predictions, metrics);
  details["real"] = real.names.size();
  details["fake"] = made.names.size();
  report_results(flags, nullptr, {{flags.data[0], metrics, details}}, {});
  return 0;
}

}  // namespace zoo
