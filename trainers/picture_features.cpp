#include "trainers/picture_features.h"

#include <torch/torch.h>

#include <vector>

#include "core/error.h"
#include "core/text.h"
#include "models/inception/inception.h"
#include "models/weights/state_dict.h"
#include "trainers/tasks/trait_reading.h"

namespace zoo {

namespace {

class InceptionFeatures : public PictureFeatures {
 public:
  InceptionFeatures(const StateDict& state, std::string path, std::string resize)
      : network_(load_inception(state)), path_(std::move(path)), resize_(std::move(resize)) {}

  PictureRows rows(const torch::Tensor& pictures, torch::Device device) override {
    network_->to(device);
    const torch::Tensor unit = pictures.to(device, torch::kFloat).add(1).div(2);
    const InceptionRows rows = network_->forward(inception_input(unit, resize_));
    // Salimans et al. took the classes without their biases, and so do the published scores.
    return {rows.features.cpu(), (rows.logits - network_->fc->bias).cpu()};
  }

  Json details() const override {
    return {{"features", path_}, {"network", "inception-2015-12-05"}, {"resize", resize_}};
  }

 private:
  Inception network_;
  std::string path_, resize_;
};

class ReaderFeatures : public PictureFeatures {
 public:
  explicit ReaderFeatures(const std::string& path) : loaded_(load_trait_reader(path)) {}

  PictureRows rows(const torch::Tensor& pictures, torch::Device device) override {
    loaded_.reader->to(device);
    torch::Tensor x = pictures.to(device, torch::kFloat);
    if (x.size(2) != loaded_.height || x.size(3) != loaded_.width)
      x = at::_upsample_bilinear2d_aa(x, {loaded_.height, loaded_.width}, /*align_corners=*/false);
    return {loaded_.reader->features(x).cpu(), {}};
  }

  Json details() const override {
    return {{"features", loaded_.source},
            {"network", "captions-reader"},
            {"resize", format("antialiased to %lldx%lld", static_cast<long long>(loaded_.height),
                              static_cast<long long>(loaded_.width))}};
  }

 private:
  LoadedTraitReader loaded_;
};

}  // namespace

std::unique_ptr<PictureFeatures> open_picture_features(const std::string& path, const std::string& resize) {
  const StateDict state = load_state_dict(path);
  if (is_inception(state)) return std::make_unique<InceptionFeatures>(state, path, resize);
  if (holds_trait_reader(state)) return std::make_unique<ReaderFeatures>(path);
  throw Error(path +
              ": gives no features of pictures, expected Inception's weights "
              "(pt_inception-2015-12-05-6726825d.pth of pytorch-fid) or a run of captions-reader");
}

}  // namespace zoo
