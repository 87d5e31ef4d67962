#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <torch/torch.h>

#include <set>

#include "core/formats/byte_reader.h"
#include "models/deepface/deepface.h"
#include "models/deepid/deepid.h"
#include "models/export/torchscript.h"
#include "models/faces/face_model.h"
#include "models/iresnet/iresnet.h"
#include "models/mobilefacenet/mbf.h"
#include "models/mobilefacenet/mobilefacenet.h"
#include "models/precision.h"
#include "models/runtime/cpu_features.h"
#include "models/runtime/runtime.h"
#include "models/summary.h"
#include "tests/support.h"

namespace zoo {
namespace {

using test::error_of;
using testing::HasSubstr;
using Shape = std::vector<int64_t>;

int64_t values(const std::vector<torch::Tensor>& tensors, bool trainable_only = false) {
  int64_t count = 0;
  for (const torch::Tensor& tensor : tensors) {
    if (!trainable_only || tensor.requires_grad()) count += tensor.numel();
  }
  return count;
}

Shape shape_of(const StateDict& state, const std::string& name) {
  const torch::Tensor* tensor = state.find(name);
  return tensor == nullptr ? Shape{-1} : tensor->sizes().vec();
}

std::set<std::string> names_and_shapes(const StateDict& state) {
  std::set<std::string> result;
  for (const auto& [name, tensor] : state.tensors) {
    result.insert(name + " " + shape_text(tensor.sizes().data(), tensor.sizes().size()));
  }
  return result;
}

IResNetOptions narrow() {
  IResNetOptions options;
  options.blocks = {2, 1, 3};
  options.widths = {8, 12, 16};
  options.embedding_size = 24;
  options.input_size = {40, 36};
  return options;
}

MobileFaceNetOptions small_mobilefacenet() {
  MobileFaceNetOptions options;
  options.embedding_size = 32;
  options.input_size = {48, 32};
  return options;
}

MbfOptions small_mbf() {
  MbfOptions options;
  options.blocks = {2, 1, 1, 2};
  options.scale = 1;
  options.embedding_size = 32;
  options.input_size = {48, 32};
  return options;
}

DeepFaceOptions small_deepface() {
  DeepFaceOptions options;
  options.embedding_size = 64;
  options.input_size = {72, 76};
  return options;
}

struct Small {
  std::string name;
  FaceModel model;
  Shape images;  // of one
};

/// Every architecture, as small as it goes.
std::vector<Small> small_models() {
  torch::manual_seed(5);
  IResNetOptions strided = narrow();
  strided.stem_stride = 2;
  DeepIdOptions grey = deepid_square();
  grey.channels = 1;
  return {{"iresnet", make_iresnet(narrow()), {3, 40, 36}},
          {"strided", make_iresnet(strided), {3, 40, 36}},
          {"mobilefacenet", make_mobilefacenet(small_mobilefacenet()), {3, 48, 32}},
          {"mbf", make_mbf(small_mbf()), {3, 48, 32}},
          {"deepface", make_deepface(small_deepface()), {3, 72, 76}},
          {"deepid", make_deepid({}), {3, 39, 31}},
          {"grey", make_deepid(grey), {1, 31, 31}}};
}

torch::Tensor images_of(const Small& small, int64_t batch) {
  return torch::randn({batch, small.images[0], small.images[1], small.images[2]});
}

/// In training mode, so that batch norms do not start at the identity.
void see_some_faces(const Small& small) {
  const torch::NoGradGuard no_grad;
  for (int i = 0; i < 3; ++i) small.model.embed(images_of(small, 6));
  small.model.module->eval();
}

TEST(FaceModels, IResNetsHaveThePublishedSizes) {
  struct Row {
    IResNetOptions options;
    int64_t parameters;
    size_t tensors;
  };
  for (const Row& row :
       {Row{iresnet18(), 24025600, 187}, Row{iresnet34(), 34139328, 331}, Row{iresnet50(), 43590848, 475},
        Row{iresnet100(), 65156160, 925}, Row{iresnet200(), 118833920, 1807}}) {
    IResNet net(row.options);
    EXPECT_EQ(values(net->parameters()), row.parameters);
    EXPECT_EQ(values(net->parameters(), /*trainable_only=*/true), row.parameters - 512);
    const StateDict state = module_state(*net);
    EXPECT_EQ(state.tensors.size(), row.tensors);
    EXPECT_EQ(nlohmann::json(iresnet_options_of(state)), nlohmann::json(row.options));
    EXPECT_TRUE(iresnet_recognises(state, row.options));
    EXPECT_EQ(iresnet_recognises(state, iresnet50()), row.options.blocks == iresnet50().blocks);
  }
}

TEST(FaceModels, IResNetHasThePublishedNames) {
  const StateDict state = module_state(*IResNet(iresnet18()));
  EXPECT_EQ(shape_of(state, "conv1.weight"), (Shape{64, 3, 3, 3}));
  EXPECT_EQ(shape_of(state, "layer1.0.downsample.0.weight"), (Shape{64, 64, 1, 1}));
  EXPECT_EQ(shape_of(state, "layer2.0.conv1.weight"), (Shape{128, 64, 3, 3}));
  EXPECT_EQ(shape_of(state, "layer2.0.bn1.weight"), (Shape{64}));
  EXPECT_EQ(shape_of(state, "layer2.0.prelu.weight"), (Shape{128}));
  EXPECT_EQ(shape_of(state, "layer2.0.downsample.0.weight"), (Shape{128, 64, 1, 1}));
  EXPECT_EQ(shape_of(state, "layer2.0.downsample.1.running_var"), (Shape{128}));
  EXPECT_EQ(shape_of(state, "layer2.1.downsample.0.weight"), (Shape{-1}));
  EXPECT_EQ(shape_of(state, "layer4.1.bn3.num_batches_tracked"), (Shape{}));
  EXPECT_EQ(shape_of(state, "bn2.weight"), (Shape{512}));
  EXPECT_EQ(shape_of(state, "fc.weight"), (Shape{512, 25088}));
  EXPECT_EQ(shape_of(state, "features.bias"), (Shape{512}));
}

TEST(FaceModels, IResNetStartsAsPublished) {
  torch::manual_seed(3);
  const StateDict state = module_state(*IResNet(iresnet18()));
  const auto deviation = [&](const char* name) { return state.find(name)->std().item<double>(); };
  EXPECT_NEAR(deviation("layer3.0.conv2.weight"), 0.1, 1e-3);
  EXPECT_NEAR(deviation("layer3.0.downsample.0.weight"), 0.1, 2e-3);
  EXPECT_NEAR(deviation("fc.weight"), 1 / std::sqrt(3.0 * 25088), 1e-5);
  EXPECT_TRUE((*state.find("layer2.0.prelu.weight") == 0.25).all().item<bool>());
  EXPECT_TRUE((*state.find("features.weight") == 1).all().item<bool>());
  EXPECT_FALSE(state.find("features.weight")->requires_grad());
}

TEST(FaceModels, MobileFaceNetsHaveThePublishedSizes) {
  const StateDict state = module_state(*MobileFaceNet());
  EXPECT_EQ(state.tensors.size(), 307);
  int64_t count = 0;
  for (const auto& item : state.tensors) count += item.second.numel();
  EXPECT_EQ(count, 1019699);  // what the published file holds
  EXPECT_TRUE(mobilefacenet_recognises(state));
  EXPECT_FALSE(mbf_recognises(state));
  Mbf plain(mbf()), large(mbf_large());
  EXPECT_EQ(values(plain->parameters()), 2059520);
  EXPECT_EQ(module_state(*plain).tensors.size(), 333);
  EXPECT_EQ(values(large->parameters()), 6314880);
  EXPECT_EQ(module_state(*large).tensors.size(), 606);
  EXPECT_FALSE(mbf_recognises(module_state(*large)));
  EXPECT_TRUE(mbf_recognises(module_state(*large), mbf_large()));
  EXPECT_FALSE(mobilefacenet_recognises(module_state(*plain)));
}

TEST(FaceModels, WorkOfAFaceIsThePublished) {
  const auto macs = [](const FaceModel& model) {
    model.module->eval();
    return summarize(*model.module, [&] { model.embed(torch::zeros({1, 3, 112, 112})); }).macs;
  };
  EXPECT_NEAR(macs(make_iresnet(iresnet18())), 2.61e9, 0.01e9);
  EXPECT_NEAR(macs(make_mbf(mbf())), 0.4375e9, 0.005e9);
}

TEST(FaceModels, DeepFaceHasThePapersTable) {
  DeepFaceOptions options;
  options.num_classes = 4030;
  DeepFace net(options);
  const StateDict state = module_state(*net);
  const auto of_layer = [&](const std::string& layer) {
    return state.find(layer + ".weight")->numel() + state.find(layer + ".bias")->numel();
  };
  const std::vector<std::pair<std::string, int64_t>> table = {
      {"C1", 11648},   {"C3", 41488},    {"L4", 62774800}, {"L5", 7850000},
      {"L6", 2829456}, {"F7", 28905472}, {"F8", 16510910}};
  for (const auto& [layer, parameters] : table) EXPECT_EQ(of_layer(layer), parameters) << layer;
  EXPECT_EQ(values(net->parameters()), 118923774);
  EXPECT_EQ(options.map_sizes(),
            (std::vector<MapSize>{{152, 152}, {142, 142}, {71, 71}, {63, 63}, {55, 55}, {25, 25}, {21, 21}}));
  EXPECT_NEAR(state.find("L5.weight")->std().item<double>(), 0.01, 1e-4);
  EXPECT_NEAR(state.find("F7.weight")->std().item<double>(), 0.01, 1e-4);
  EXPECT_TRUE((*state.find("L5.bias") == 0.5).all().item<bool>());
  net->eval();
  const torch::NoGradGuard no_grad;
  const torch::Tensor embeddings = net->forward(torch::randn({2, 3, 152, 152}));
  EXPECT_EQ(embeddings.sizes().vec(), (Shape{2, 4096}));
  EXPECT_GE(embeddings.min().item<double>(), 0);
  EXPECT_EQ(net->classify(embeddings).sizes().vec(), (Shape{2, 4030}));
  EXPECT_TRUE(deepface_recognises(state));
  EXPECT_FALSE(deepid_recognises(state));
}

TEST(FaceModels, DeepIdHasThePapersTable) {
  EXPECT_EQ(deepid_rectangle().map_sizes(),
            (std::vector<MapSize>{{39, 31}, {36, 28}, {18, 14}, {16, 12}, {8, 6}, {6, 4}, {3, 2}, {2, 1}}));
  EXPECT_EQ(deepid_square().map_sizes(),
            (std::vector<MapSize>{{31, 31}, {28, 28}, {14, 14}, {12, 12}, {6, 6}, {4, 4}, {2, 2}, {1, 1}}));
  const StateDict rectangle = module_state(*DeepId(deepid_rectangle()));
  EXPECT_EQ(shape_of(rectangle, "conv3.weight"), (Shape{6 * 60, 40, 3, 3}));  // six blocks
  EXPECT_EQ(shape_of(rectangle, "conv4.weight"), (Shape{2, 80, 2 * 2 * 60}));
  EXPECT_EQ(shape_of(rectangle, "deepid.weight"), (Shape{160, 60 * 6 + 80 * 2}));
  EXPECT_EQ(shape_of(rectangle, "deepid.bias"), (Shape{160}));
  EXPECT_EQ(shape_of(module_state(*DeepId(deepid_square())), "conv3.weight"), (Shape{4 * 60, 40, 3, 3}));
  EXPECT_TRUE(deepid_recognises(rectangle));
  DeepIdOptions larger;
  larger.input_size = {55, 47};
  EXPECT_EQ(DeepId(larger)->forward(torch::zeros({2, 3, 55, 47})).sizes().vec(), (Shape{2, 160}));
}

TEST(FaceModels, ANewDeepIdStillTellsPicturesApart) {
  torch::manual_seed(3);
  DeepId net;
  const torch::Tensor embeddings = net->forward(torch::randn({64, 3, 39, 31}));
  const double spread = embeddings.std(0).mean().item<double>();  // 0.01 with torch's own first weights
  EXPECT_GT(spread, 0.3);
  EXPECT_LT(spread, 3.0);
}

TEST(FaceModels, AGreyDeepIdTakesTheMeanOfThreeChannels) {
  DeepIdOptions options = deepid_square();
  options.channels = 1;
  DeepId net(options);
  const torch::Tensor grey = torch::randn({2, 1, 31, 31});
  const torch::Tensor colour = torch::cat({grey + 1, grey - 2, grey + 1}, 1);
  EXPECT_LE((net->forward(colour) - net->forward(grey)).abs().max().item<double>(), 1e-5);
}

TEST(FaceModels, SavedWeightsAreReadBack) {
  IResNet written(narrow());
  const std::string file = test::scratch_dir("iresnet") + "/backbone.pth";
  written->train();
  written->forward(torch::randn({3, 3, 40, 36}));
  save_pth(file, module_state(*written));
  const StateDict state = load_state_dict(file);
  EXPECT_EQ(names_and_shapes(state), names_and_shapes(module_state(*written)));
  EXPECT_EQ(state.find("layer1.1.bn2.num_batches_tracked")->item<int64_t>(), 1);
  IResNetOptions expected = narrow();
  expected.input_size = {40, 40};  // only the number of cells, 5x5, is told
  const IResNetOptions inferred = iresnet_options_of(state);
  EXPECT_EQ(nlohmann::json(inferred), nlohmann::json(expected));
  IResNet read(iresnet_options_of(state, narrow()));
  EXPECT_TRUE(assign(*read, state).fits());
  for (const auto& [name, tensor] : module_state(*written).tensors) {
    EXPECT_TRUE(tensor.equal(*module_state(*read).find(name))) << name;
  }
}

TEST(FaceModels, OptionsAreToldByTheTensors) {
  const MobileFaceNetOptions mobile =
      mobilefacenet_options_of(module_state(*MobileFaceNet(small_mobilefacenet())));
  EXPECT_EQ(nlohmann::json(mobile), nlohmann::json(small_mobilefacenet()));
  const StateDict state = module_state(*Mbf(small_mbf()));
  EXPECT_EQ(nlohmann::json(mbf_options_of(state)), nlohmann::json(small_mbf()));
  EXPECT_EQ(mbf_options_of(module_state(*Mbf(mbf()))).blocks, mbf().blocks);
  StateDict foreign = module_state(*DeepId());
  foreign.source = "FILE";
  EXPECT_THAT(error_of([&] { iresnet_options_of(foreign); }), HasSubstr("FILE: the names of its tensors"));
  EXPECT_THAT(error_of([&] { mbf_options_of(foreign); }), HasSubstr("FILE: the names of its tensors"));
  EXPECT_THAT(error_of([&] { mobilefacenet_options_of(foreign); }),
              HasSubstr("FILE: the names of its tensors"));
  EXPECT_FALSE(iresnet_recognises(foreign, iresnet18()));
  EXPECT_FALSE(deepface_recognises(foreign));
}

TEST(FaceModels, GradientsReachEveryParameter) {
  for (const Small& small : small_models()) {
    small.model.module->train();
    const torch::Tensor embeddings = small.model.embed(images_of(small, 4));
    EXPECT_EQ(embeddings.sizes().vec(), (Shape{4, small.model.embedding_size})) << small.name;
    (embeddings * torch::randn_like(embeddings)).sum().backward();
    for (const auto& item : small.model.module->named_parameters()) {
      if (!item.value().requires_grad()) continue;
      ASSERT_TRUE(item.value().grad().defined()) << small.name << " " << item.key();
      EXPECT_GT(item.value().grad().abs().max().item<double>(), 0) << small.name << " " << item.key();
    }
  }
}

TEST(FaceModels, EmbeddingsStayInFloatUnderAutocast) {
  for (const Small& small : small_models()) {
    see_some_faces(small);
    const torch::NoGradGuard no_grad;
    const torch::Tensor images = images_of(small, 3), exact = small.model.embed(images);
    const AutocastGuard autocast(torch::kCPU, torch::kBFloat16);
    const torch::Tensor rounded = small.model.embed(images);
    EXPECT_EQ(rounded.scalar_type(), torch::kFloat) << small.name;
    EXPECT_LE((rounded - exact).abs().max().item<double>(), 0.1 * exact.abs().max().item<double>())
        << small.name;
  }
}

TraceSpec spec_of(const Small& small) {
  TraceSpec spec;
  spec.module = small.model.module;
  spec.forward = [&small](const std::vector<torch::Tensor>& inputs) {
    return std::vector<torch::Tensor>{small.model.embed(inputs[0])};
  };
  spec.example = [&small](int i) {
    return std::vector<torch::Tensor>{images_of(small, Shape{2, 1, 3, 7}[i])};
  };
  return spec;
}

TEST(FaceModels, TraceHoldsForOtherBatches) {
  const torch::NoGradGuard no_grad;
  const std::string folder = test::scratch_dir("faces");
  for (const Small& small : small_models()) {
    see_some_faces(small);
    EXPECT_LE(export_torchscript(spec_of(small), folder + "/" + small.name + ".pt", "{}"),
              1e-4);  // or throws
  }
}

TEST(FaceModels, TheRuntimeFusesThem) {
  const torch::NoGradGuard no_grad;
  for (const Small& small : small_models()) {
    see_some_faces(small);
    for (const std::string precision : {"fp32", "bf16"}) {
      if (precision == "bf16" && !cpu_has_bf16()) continue;
      Runtime runtime(spec_of(small), {precision});
      for (const int64_t batch : {2, 5}) runtime.run({images_of(small, batch)});
      EXPECT_EQ(runtime.fallback(), "") << small.name << " " << precision;
    }
  }
}

TEST(FaceModels, OtherShapesAreRefused) {
  IResNet net(narrow());
  EXPECT_EQ(error_of([&] {
              net->forward(torch::zeros({2, 3, 36, 40}));
            }),
            "images have shape [2, 3, 36, 40], expected [B, 3, 40, 36] (model.input_size)");
  EXPECT_THAT(error_of([&] { net->forward(torch::zeros({1, 3, 40, 36})); }), HasSubstr("at least 2"));
  net->eval();
  EXPECT_EQ(error_of([&] { net->forward(torch::zeros({1, 3, 40, 36})); }), "");
}

TEST(FaceModels, OptionsOutOfRangeAreNamed) {
  IResNetOptions uneven = iresnet18();
  uneven.widths = {8, 8};
  EXPECT_EQ(error_of([&] { uneven.validate(); }),
            "model.widths: 2 values, expected 4, one for each of model.blocks");
  DeepIdOptions odd;
  odd.input_size = {41, 31};
  EXPECT_EQ(error_of([&] { odd.validate(); }), "");  // poolings round down to the same maps
  odd.input_size = {43, 31};
  EXPECT_THAT(error_of([&] { odd.validate(); }),
              HasSubstr("model.input_size: 43x31 gives conv3 7x4 outputs"));
  odd.input_size = {39, 31};
  odd.channels = 2;
  EXPECT_THAT(error_of([&] { odd.validate(); }),
              HasSubstr("model.channels: 2, expected 1 (grey) or 3 (colour)"));
  DeepFaceOptions tiny;
  tiny.input_size = {71, 152};
  EXPECT_THAT(error_of([&] { tiny.validate(); }), HasSubstr("model.input_size: 71"));
  tiny.input_size = {72, 72};
  EXPECT_EQ(tiny.map_sizes().back(), (MapSize{1, 1}));
  DeepFaceOptions below = tiny;
  below.input_size = {69, 69};
  EXPECT_LT(below.map_sizes().back()[0], 1);
}

}  // namespace
}  // namespace zoo
