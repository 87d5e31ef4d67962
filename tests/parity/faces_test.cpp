#include <gtest/gtest.h>
#include <torch/torch.h>

#include "core/text.h"
#include "models/deepface/deepface.h"
#include "models/deepid/deepid.h"
#include "models/iresnet/iresnet.h"
#include "models/mobilefacenet/mbf.h"
#include "models/mobilefacenet/mobilefacenet.h"
#include "models/weights/state_dict.h"
#include "tests/support.h"

namespace zoo {
namespace {

struct Variant {
  std::string name;  // as tests/parity/faces.py knows it
  MapSize size;
  FaceModel (*make)(const MapSize& size);

  std::string title() const {
    return format("%s_%dx%d", name.c_str(), static_cast<int>(size[0]), static_cast<int>(size[1]));
  }
};

template <class Options>
Options sized(Options options, const MapSize& size) {
  options.input_size = size;
  return options;
}

FaceModel iresnet18_of(const MapSize& size) {
  return make_iresnet(sized(iresnet18(), size));
}
FaceModel narrow_iresnet50_of(const MapSize& size) {
  IResNetOptions options = sized(iresnet50(), size);
  options.widths = {8, 12, 16, 24};
  return make_iresnet(options);
}
FaceModel mobilefacenet_of(const MapSize& size) {
  return make_mobilefacenet(sized(MobileFaceNetOptions(), size));
}
FaceModel mbf_of(const MapSize& size) {
  return make_mbf(sized(mbf(), size));
}
FaceModel mbf_large_of(const MapSize& size) {
  return make_mbf(sized(mbf_large(), size));
}
FaceModel deepface_of(const MapSize& size) {
  return make_deepface(sized(DeepFaceOptions(), size));
}
FaceModel deepid_of(const MapSize& size) {
  return make_deepid(sized(DeepIdOptions(), size));
}

const std::vector<Variant>& variants() {
  static const std::vector<Variant> all = {{"iresnet18", {112, 112}, iresnet18_of},
                                           {"iresnet18", {80, 64}, iresnet18_of},
                                           {"iresnet50_narrow", {112, 112}, narrow_iresnet50_of},
                                           {"iresnet50_narrow", {57, 70}, narrow_iresnet50_of},
                                           {"mobilefacenet", {112, 112}, mobilefacenet_of},
                                           {"mobilefacenet", {63, 90}, mobilefacenet_of},
                                           {"mbf", {112, 112}, mbf_of},
                                           {"mbf", {96, 80}, mbf_of},
                                           {"mbf_large", {64, 64}, mbf_large_of},
                                           {"deepface", {76, 80}, deepface_of},
                                           {"deepface", {86, 72}, deepface_of},
                                           {"deepid", {39, 31}, deepid_of},
                                           {"deepid", {31, 31}, deepid_of}};
  return all;
}

/// Runs faces.py with the titles of some variants after its other arguments.
void run_reference(std::vector<std::string> arguments, const std::vector<Variant>& of) {
  for (const Variant& variant : of) arguments.push_back(variant.title());
  test::run_python("faces.py", arguments);
}

/// A folder for every variant with weights, images and embeddings of the reference, made once.
const std::string& references() {
  static std::string folder;
  if (folder.empty()) {
    folder = test::scratch_dir("faces");
    run_reference({"write", folder}, variants());
  }
  return folder;
}

/// The model of a variant with the reference's weights.
FaceModel model_of(const Variant& variant) {
  const FaceModel model = variant.make(variant.size);
  const std::string file = references() + "/" + variant.title() + "/model.safetensors";
  require_fit(assign(*model.module, load_state_dict(file)), file, /*partial=*/false);
  model.module->eval();
  return model;
}

constexpr int kCases = 2;

class FacesParity : public testing::TestWithParam<Variant> {};

TEST_P(FacesParity, EmbeddingsEqualTheReference) {
  ZOO_NEEDS_PYTHON();
  const torch::NoGradGuard no_grad;
  const std::string folder = references() + "/" + GetParam().title();
  if (HasFatalFailure()) return;
  const FaceModel model = model_of(GetParam());
  const StateDict cases = load_tensors(folder + "/cases.safetensors");
  for (int i = 0; i < kCases; ++i) {
    const torch::Tensor images = *cases.find(std::to_string(i) + ".images");
    const torch::Tensor expected = *cases.find(std::to_string(i) + ".embeddings");
    const torch::Tensor found = model.embed(images);
    ASSERT_EQ(found.sizes(), expected.sizes());
    EXPECT_LE((found - expected).abs().max().item<double>(), 1e-4) << "case " << i;
    EXPECT_GT(expected.std().item<double>(), 0.1);
  }
  const torch::Tensor several = *cases.find("1.embeddings");
  EXPECT_GT((several[0] - several[1]).abs().max().item<double>(), 100 * 1e-4) << "the images do not matter";
}

INSTANTIATE_TEST_SUITE_P(Variants, FacesParity, testing::ValuesIn(variants()),
                         [](const auto& info) { return info.param.title(); });

TEST(FacesWeightsParity, PyTorchLoadsWhatZooWrites) {
  ZOO_NEEDS_PYTHON();
  const std::string theirs = references(), ours = test::scratch_dir("ours");
  if (HasFatalFailure()) return;
  std::vector<Variant> written;
  for (const Variant& variant : variants()) {
    if (variant.name != "iresnet18" && variant.name != "mbf") continue;
    save_pth(ours + "/" + variant.title() + ".pth", module_state(*model_of(variant).module));
    written.push_back(variant);
  }
  run_reference({"check", ours, theirs}, written);
}

TEST(FacesWeightsParity, TheTrainedMobileFaceNetGivesItsEmbeddings) {
  ZOO_NEEDS_PYTHON();
  ZOO_NEEDS_SHARED_DATA();
  const torch::NoGradGuard no_grad;
  const std::string file = test::shared_data() + "/mobilefacenet/mobilefacenet.pt";
  const std::string out = test::scratch_dir("mobilefacenet") + "/embeddings.safetensors";
  test::run_python("faces.py", {"embed", file, out});
  if (HasFatalFailure()) return;
  const StateDict trained = load_state_dict(file), expected = load_tensors(out);
  EXPECT_TRUE(mobilefacenet_recognises(trained));
  const FaceModel model = make_mobilefacenet(mobilefacenet_options_of(trained));
  require_fit(assign(*model.module, trained), file, /*partial=*/false);
  model.module->eval();
  const torch::Tensor embeddings = model.embed(*expected.find("images"));
  EXPECT_LE((embeddings - *expected.find("embeddings")).abs().max().item<double>(), 1e-4);
}

}  // namespace
}  // namespace zoo
