#include "models/deepid/deepid_ensemble.h"

#include <torch/torch.h>

#include <algorithm>
#include <cmath>

#include "core/error.h"

namespace zoo {

namespace {

/// Shares of the face's height and width.
struct Region {
  const char* name;
  double x, y;           ///< centre
  double height, width;  ///< at scale 1
};

// Landmarks are insightface's template of 112x112.
constexpr Region kRegions[] = {
    {"face", 0.5, 0.5, 0.8, 0.8 * 31 / 39},
    {"top", 0.5, 0.35, 0.7, 0.7 * 31 / 39},
    {"bottom", 0.5, 0.65, 0.7, 0.7 * 31 / 39},
    {"left", 0.35, 0.5, 0.7, 0.7 * 31 / 39},
    {"right", 0.65, 0.5, 0.7, 0.7 * 31 / 39},
    {"left_eye", 38.2946 / 112, 51.6963 / 112, 0.4, 0.4},
    {"right_eye", 73.5318 / 112, 51.5014 / 112, 0.4, 0.4},
    {"nose", 56.0252 / 112, 71.7366 / 112, 0.4, 0.4},
    {"left_mouth", 41.5493 / 112, 92.3655 / 112, 0.4, 0.4},
    {"right_mouth", 70.7299 / 112, 92.2041 / 112, 0.4, 0.4},
};
constexpr int kGlobalRegions = 5;  // the first ones

std::vector<std::string> region_names() {
  std::vector<std::string> names;
  for (const Region& region : kRegions) names.emplace_back(region.name);
  return names;
}

size_t region_index(const std::string& name) {
  const std::vector<std::string> names = region_names();
  return static_cast<size_t>(std::find(names.begin(), names.end(), name) - names.begin());
}

/// Begin and end of `length` around `centre` inside [0, size).
std::pair<int64_t, int64_t> span(double centre, double length, int64_t size) {
  const int64_t whole = std::clamp<int64_t>(std::llround(length), 1, size);
  const int64_t begin = std::clamp<int64_t>(std::llround(centre - length / 2), 0, size - whole);
  return {begin, begin + whole};
}

}  // namespace

void DeepIdEnsembleOptions::validate() const {
  for (const int64_t side : input_size) require_count("model.input_size", side, 32, 4096);
  for (const std::string& region : regions) require_choice("model.regions", region, region_names());
  for (const std::string& colour : colours) require_choice("model.colours", colour, {"rgb", "grey"});
  for (const double scale : scales) require_range("model.scales", scale, 0.1, 10);
  if (nets() == 0)
    throw UsageError("model.regions, model.scales and model.colours: expected at least one of each");
  DeepIdOptions net;
  net.widths = widths;
  net.embedding_size = features;
  net.validate();
}

FacePatch face_patch(const std::string& region, double scale, const MapSize& size) {
  require_choice("model.regions", region, region_names());
  const Region& place = kRegions[region_index(region)];
  const auto height = static_cast<double>(size[0]), width = static_cast<double>(size[1]);
  const auto [top, bottom] = span(place.y * height, scale * place.height * height, size[0]);
  const auto [left, right] = span(place.x * width, scale * place.width * width, size[1]);
  return {top, left, bottom, right};
}

DeepIdEnsembleImpl::DeepIdEnsembleImpl(const DeepIdEnsembleOptions& options) : options(options) {
  options.validate();
  torch::nn::ModuleList list;
  for (const std::string& region : options.regions) {
    for (const double scale : options.scales) {
      for (const std::string& colour : options.colours) {
        DeepIdOptions net = region_index(region) < kGlobalRegions ? deepid_rectangle() : deepid_square();
        net.channels = colour == "rgb" ? 3 : 1;
        net.widths = options.widths;
        net.embedding_size = options.features;
        patches_.push_back(face_patch(region, scale, options.input_size));
        nets_.emplace_back(net);
        list->push_back(nets_.back());
      }
    }
  }
  register_module("nets", list);
}

torch::Tensor DeepIdEnsembleImpl::forward(const torch::Tensor& images) {
  require_faces(images, 3, options.input_size, false);
  std::vector<torch::Tensor> features;
  for (size_t i = 0; i < nets_.size(); ++i) {
    const FacePatch& patch = patches_[i];
    const torch::Tensor part = images.slice(2, patch.top, patch.bottom).slice(3, patch.left, patch.right);
    const MapSize& size = nets_[i]->options.input_size;
    features.push_back(nets_[i]->forward(torch::adaptive_avg_pool2d(part, {size[0], size[1]})));
  }
  return torch::cat(features, 1);  // [B, nets·features]
}

FaceModel make_deepid_ensemble(const DeepIdEnsembleOptions& options) {
  return face_model(DeepIdEnsemble(options), options.embedding_size());
}

}  // namespace zoo
