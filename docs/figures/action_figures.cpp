#include <iostream>
#include <string>
#include <utility>
#include <vector>

#include <torch/torch.h>

#include "core/error.h"
#include "core/text.h"
#include "datasets/actions/actions.h"
#include "datasets/image.h"
#include "models/oadtr/oadtr.h"
#include "models/weights/state_dict.h"
#include "trainers/canvas.h"

namespace zoo {
namespace {

/// An OadTR of a run, and the data that it was validated on.
struct TrainedOadTr {
  OadTr net{nullptr};
  DataOptions data;
};

TrainedOadTr load(const std::string& run) {
  const StateDict state = load_state_dict(run);
  const auto found = state.metadata.find("zoo.config");
  if (found == state.metadata.end())
    throw Error(state.source + ": has no zoo.config, expected a run of oadtr-tiny");
  const Json config = Json::parse(found->second);
  TrainedOadTr trained{OadTr(config.at("model").get<OadTrOptions>()), config.at("data").get<DataOptions>()};
  require_fit(assign(*trained.net, state), state.source, /*partial=*/false);
  trained.net->eval();
  return trained;
}

/// Mean cosine [T] over all validation windows of what stands for the window in the classifier and what the encoder
/// makes of each step.
torch::Tensor similarities(TrainedOadTr trained) {
  const torch::NoGradGuard no_grad;
  ActionWindowOptions window;
  window.steps = trained.net->options.window;
  window.horizons = trained.net->options.horizons;
  const auto batches =
      action_batches(open_action_validation(trained.data, 0), trained.data, window, false, 0);
  batches->start_epoch(0);
  torch::Tensor sum = torch::zeros({window.steps}, torch::kDouble);
  int64_t windows = 0;
  while (const auto batch = batches->next()) {
    const OadTrEncoding encoding = trained.net->encode(dynamic_cast<const ActionBatch&>(*batch).features);
    sum += torch::cosine_similarity(encoding.task.unsqueeze(1), encoding.steps, 2).to(torch::kDouble).sum(0);
    windows += batch->size();
  }
  return sum / windows;
}

constexpr int kWidth = 900, kHeight = 460;
const cv::Rect2d kFrame(84, 84, 780, 304);

/// Where a similarity of -1 … 1 lies, `back` steps before the current one of `steps`.
cv::Point2d place(double back, double similarity, double low, double steps) {
  return {kFrame.x + kFrame.width * (1 - back / (steps - 1)),
          kFrame.y + kFrame.height * (1 - (similarity - low) / (1 - low))};
}

void draw_axes(Canvas& canvas, double low, double steps) {
  const double right = kFrame.x + kFrame.width, bottom = kFrame.y + kFrame.height;
  for (const double tick : linear_ticks(low, 1, 5)) {
    const double y = place(0, tick, low, steps).y;
    canvas.line({kFrame.x, y}, {right, y}, kGrid, 1);
    canvas.text(tick_label(tick), {kFrame.x - 10, y + 5}, 10, kQuietInk, 1);
  }
  for (const double tick : linear_ticks(0, steps - 1, 8)) {
    const double x = place(tick, 1, low, steps).x;
    canvas.text(tick == 0 ? "now" : "-" + tick_label(tick), {x, bottom + 22}, 10, kQuietInk, 0.5);
  }
  canvas.line({kFrame.x, bottom}, {right, bottom}, kQuietInk, 1.2);
  canvas.text("step of the window", {right, bottom + 48}, 10, kQuietInk, 1);
  canvas.text("cosine", {kFrame.x, kFrame.y - 14}, 10, kQuietInk);
}

/// One line a model, the step over it.
void draw(const std::string& png, const std::vector<std::pair<std::string, torch::Tensor>>& lines) {
  Canvas canvas(kWidth, kHeight);
  canvas.text("What OadTR's classifier is given, beside each step of the window", {kFrame.x, 40}, 15, kInk);
  double low = 0, steps = 2;
  for (const auto& item : lines) {
    low = std::min(low, item.second.min().item<double>());
    steps = std::max(steps, static_cast<double>(item.second.numel()));
  }
  draw_axes(canvas, low, steps);
  double x = kFrame.x + kFrame.width;
  for (size_t i = 0; i < lines.size(); ++i) {
    const auto& [name, values] = lines[i];
    std::vector<cv::Point2d> path;
    for (int64_t t = 0; t < values.numel(); ++t)
      path.push_back(
          place(static_cast<double>(values.numel() - 1 - t), values[t].item<double>(), low, steps));
    canvas.polyline(path, kFrame, kLineColors[i], 2.4);
    x -= canvas.text_width(name, 11);
    canvas.text(name, {x, kFrame.y - 14}, 11, kInk);
    canvas.line({x - 28, kFrame.y - 18}, {x - 8, kFrame.y - 18}, kLineColors[i], 3);
    x -= 48;
  }
  write_image(png, canvas.finished());
}

void run(const std::vector<std::string>& arguments) {
  if (arguments.size() != 3) throw UsageError("action_figures: expected OUT.png RUN_WITH_TOKEN RUN_WITHOUT");
  std::vector<std::pair<std::string, torch::Tensor>> lines;
  for (const size_t i : {1, 2}) {
    const char* name = i == 1 ? "task token" : "last step in its place";
    lines.emplace_back(name, similarities(load(arguments[i])));
    const auto& values = lines.back().second;
    std::cout << format("%s: mean %.3f, now %.3f, least %.3f", name, values.mean().item<double>(),
                        values[-1].item<double>(), values.min().item<double>())
              << std::endl;
  }
  draw(arguments[0], lines);
}

}  // namespace
}  // namespace zoo

int main(int argc, char** argv) {
  try {
    zoo::run({argv + 1, argv + argc});
    return 0;
  } catch (const zoo::Error& error) {
    std::cerr << "error: " << error.what() << std::endl;
    return error.exit_code();
  }
}
