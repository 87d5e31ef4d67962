#include "cli/command.h"
#include "core/error.h"
#include "core/text.h"
#include "datasets/spec.h"
#include "models/diffusion/sampler.h"
#include "models/face_losses/face_loss.h"
#include "trainers/recipes.h"

namespace zoo {

namespace {

/// A row of `zoo list`.
struct Listed {
  std::string name, detail, description;
};
using Lists = std::vector<std::pair<std::string, std::vector<Listed>>>;

std::vector<Listed> listed_models() {
  std::vector<Listed> rows;
  for (const Recipe& recipe : recipes()) {
    rows.push_back({recipe.name, recipe.alias.empty() ? recipe.task : recipe.task + ", alias " + recipe.alias,
                    recipe.description});
  }
  for (const Architecture& architecture : architectures()) {
    rows.push_back({architecture.name, "summary only", architecture.description});
  }
  return rows;
}

std::vector<Listed> listed_data() {
  std::vector<Listed> rows;
  for (const DataKind& kind : data_kinds()) {
    rows.push_back({kind.embedded ? kind.name : kind.name + ":", kind.task, kind.description});
  }
  return rows;
}

std::vector<Listed> listed_losses() {
  std::vector<Listed> rows = {
      {"detr", "detection", "set matching: cross-entropy, L1 and GIoU after every decoder layer"}};
  for (const FaceLossInfo& loss : face_losses())
    rows.push_back({loss.name, "verification", loss.description});
  rows.push_back(
      {"softmax", "online-action", "cross-entropy of current and future steps, ambiguous ones left out"});
  rows.push_back({"bce", "online-action", "the same for labels that do not exclude each other"});
  return rows;
}

std::vector<Listed> listed_metrics() {
  return {
      {"AP", "detection", "COCO's twelve numbers: AP AP50 AP75 APs APm APl AR1 AR10 AR100 ARs ARm ARl"},
      {"accuracy", "verification", "LFW's ten folds: accuracy accuracy_std threshold auc eer tar_at_far"},
      {"rank1", "identification", "one gallery, many probes: rank1 rank5 cmc"},
      {"mAP", "online-action",
       "every step ranked by class: mAP mcAP, mAP of each anticipated time, per_class"},
      {"FID", "generation", "pictures against real ones by features of both: FID KID IS"},
      {"PSNR", "generation", "pictures against their originals: PSNR SSIM"},
      {"cosine", "verify.metric", "cosine of two embeddings"},
      {"euclidean", "verify.metric", "distance of two embeddings with their lengths"},
      {"chi_square", "verify.metric", "DeepFace's weighted chi-square, fitted"},
      {"siamese", "verify.metric", "DeepFace's weighted differences, fitted"},
      {"joint_bayesian", "verify.metric", "PCA and Joint Bayesian, fitted (DeepID)"},
  };
}

std::vector<Listed> listed_samplers() {
  std::vector<Listed> rows;
  for (const SamplerInfo& info : samplers()) rows.push_back({info.name, "generation", info.description});
  return rows;
}

Lists all_lists() {
  return {{"models", listed_models()},
          {"datasets", listed_data()},
          {"losses", listed_losses()},
          {"metrics", listed_metrics()},
          {"schedules",
           {{"constant", "", "the step size stays"},
            {"step", "", "times gamma every `step`"},
            {"multistep", "", "times gamma at each of `milestones`"},
            {"cosine", "", "half a cosine down to min_factor"},
            {"polynomial", "", "(1 - done)^power: linear with schedule.power=1"},
            {"onecycle", "", "up to the peak, then down to nothing"}}},
          {"samplers", listed_samplers()},
          {"activations",
           {{"relu", "", "max(x, 0)"}, {"gelu", "", "x times the normal distribution function of x"}}}};
}

int list(const std::string& what, bool json) {
  const Lists lists = all_lists();
  std::vector<std::string> names;
  for (const auto& item : lists) names.push_back(item.first);
  if (!what.empty()) require_choice("zoo list", what, names);
  Json document = {{"command", "list"}};
  std::string text;
  for (const auto& [name, rows] : lists) {
    if (!what.empty() && name != what) continue;
    document[name] = Json::array();
    Table table({name, "", ""});
    for (const Listed& row : rows) {
      document[name].push_back(
          {{"name", row.name}, {"detail", row.detail}, {"description", row.description}});
      table.add({row.name, row.detail, row.description});
    }
    if (!rows.empty()) text += (text.empty() ? "" : "\n") + table.str();
  }
  if (json) {
    print_json(document);
  } else {
    print_text(text);
  }
  return 0;
}

}  // namespace

Command list_command(CLI::App& parent) {
  CLI::App* app =
      parent.add_subcommand("list", "Models, datasets, losses, metrics, schedules, samplers, activations");
  auto what = std::make_shared<std::string>();
  auto json = std::make_shared<bool>(false);
  app->add_option("WHAT", *what, "One of the lists; default: all")->type_name("");
  app->add_flag("--json", *json, "Print one JSON document");
  return {app, [what, json] { return list(*what, *json); }};
}

}  // namespace zoo
