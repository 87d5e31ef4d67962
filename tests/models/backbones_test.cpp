#include <gtest/gtest.h>
#include <torch/torch.h>

#include <map>
#include <memory>

#include "models/backbones/resnet.h"
#include "models/backbones/tiny.h"
#include "models/backbones/vgg.h"
#include "models/export/traced_graph.h"
#include "models/layers/batch_norm.h"

namespace zoo {
namespace {

int64_t values(const std::vector<torch::Tensor>& tensors) {
  int64_t count = 0;
  for (const torch::Tensor& tensor : tensors) count += tensor.numel();
  return count;
}

std::vector<std::vector<int64_t>> shapes(const std::vector<torch::Tensor>& tensors) {
  std::vector<std::vector<int64_t>> result;
  for (const torch::Tensor& tensor : tensors) result.push_back(tensor.sizes().vec());
  return result;
}

using Shapes = std::vector<std::vector<int64_t>>;

/// Values that the running statistics of a trained norm could have.
void spread(BatchNorm2dImpl& norm) {
  const torch::NoGradGuard no_grad;
  norm.weight.uniform_(0.5, 2);
  norm.bias.normal_();
  norm.running_mean.normal_();
  norm.running_var.uniform_(0.2, 3);
}

double distance(const torch::Tensor& a, const torch::Tensor& b) {
  return (a - b).abs().max().item<double>();
}

// In training a frozen norm is multiplied into the weight; the plain way is convolution, then norm.
TEST(Backbones, AFrozenNormInTheWeightGivesTheSameNumbersAndGradients) {
  torch::manual_seed(4);
  torch::nn::Conv2d conv(
      torch::nn::Conv2dOptions(4, 6, 3).stride(2).padding(2).dilation(2).groups(2).bias(false));
  BatchNorm2d norm(6, /*frozen=*/true);
  spread(*norm);
  norm->train();
  const torch::Tensor x = torch::randn({2, 4, 9, 11}), gradient = torch::randn({2, 6, 5, 6});
  const auto weight_gradient = [&](const torch::Tensor& y) {
    conv->zero_grad();
    (y * gradient).sum().backward();
    return conv->weight.grad().clone();
  };
  const torch::Tensor plain = norm->forward(conv(x)), folded = norm->after(*conv, x);
  EXPECT_LE(distance(plain, folded), 1e-5);
  const torch::Tensor expected = weight_gradient(plain);
  EXPECT_LE(distance(weight_gradient(folded), expected), 1e-4);
  EXPECT_GT(expected.abs().max().item<double>(), 0.1);
}

TEST(Backbones, NormsInEvalModeGiveTheSameNumbersInTheWeightAndWithActivations) {
  torch::manual_seed(5);
  torch::nn::Conv2d conv(torch::nn::Conv2dOptions(4, 6, 3).padding(1).bias(false));
  for (const bool frozen : {false, true}) {
    BatchNorm2d norm(6, frozen);
    spread(*norm);
    norm->eval();
    for (const int64_t side : {2, 20}) {  // a map smaller and one larger than the weight
      for (const auto format : {torch::MemoryFormat::Contiguous, torch::MemoryFormat::ChannelsLast}) {
        for (const bool gradients : {false, true}) {
          const torch::AutoGradMode mode(gradients);
          const torch::Tensor x = torch::randn({2, 4, side, side}).contiguous(format);
          const torch::Tensor addend = torch::randn({2, 6, side, side}).contiguous(format);
          const torch::Tensor plain = norm->forward(conv(x)), sum = (plain + addend).relu();
          EXPECT_LE(distance(norm->after(*conv, x), plain), 1e-5);
          EXPECT_LE(distance(norm->relu_after(*conv, x), plain.relu()), 1e-5);
          EXPECT_LE(distance(norm->add_relu_after(*conv, x, addend.clone()), sum), 1e-5);
          EXPECT_EQ(norm->relu_after(*conv, x).requires_grad(), gradients);
        }
      }
    }
  }
}

TEST(Backbones, ATraceKeepsNormsAndActivationsApart) {
  const torch::NoGradGuard no_grad;
  ResNetOptions options;
  options.blocks = {2, 1, 1, 1};
  const auto net = std::make_shared<ResNetImpl>(options);
  net->eval();
  const TraceSpec spec{net, [&](const std::vector<torch::Tensor>& x) { return net->stages(x[0]); }};
  const torch::Tensor pixels = torch::rand({1, 3, 64, 64}).contiguous(torch::MemoryFormat::ChannelsLast);
  const auto graph = trace_graph(spec, {pixels});
  std::map<std::string, int> counts;
  for (const torch::jit::Node* node : graph->nodes()) ++counts[node->kind().toQualString()];
  EXPECT_EQ(counts["aten::batch_norm"], 20);  // stem, three in each of five blocks, four shortcuts
  EXPECT_EQ(counts["aten::relu"], 16);
  EXPECT_EQ(counts["aten::add"], 5);
  EXPECT_EQ(counts["mkldnn::_convolution_pointwise"] + counts["mkldnn::_convolution_pointwise_"], 0);
}

TEST(Backbones, StagesAreTheSameWithAndWithoutGradients) {
  torch::manual_seed(6);
  ResNetOptions options;
  options.blocks = {2, 2, 1, 1};
  options.frozen_norm = true;
  ResNet net(options);
  for (const auto& module : net->modules()) {
    if (auto* norm = module->as<BatchNorm2dImpl>()) spread(*norm);
  }
  net->eval();
  const torch::Tensor pixels = torch::randn({1, 3, 160, 192}).contiguous(torch::MemoryFormat::ChannelsLast);
  const auto expected = net->stages(pixels);
  const torch::NoGradGuard no_grad;
  const auto stages = net->stages(pixels);
  for (size_t i = 0; i < stages.size(); ++i) {
    EXPECT_LE(distance(stages[i], expected[i]), 1e-5 * expected[i].abs().max().item<double>()) << i;
  }
}

TEST(Backbones, ParameterCountsAreTorchvisions) {
  EXPECT_EQ(values(ResNetClassifier(resnet50())->parameters()), 25557032);
  EXPECT_EQ(values(ResNetClassifier(resnet101())->parameters()), 44549160);
  EXPECT_EQ(values(Vgg(VggOptions())->parameters()), 138357544);
}

TEST(Backbones, ClassifiersGiveLogits) {
  const torch::NoGradGuard no_grad;
  ResNetOptions options = resnet50();
  options.num_classes = 7;
  EXPECT_EQ(ResNetClassifier(options)->forward(torch::zeros({2, 3, 64, 64})).sizes().vec(),
            (std::vector<int64_t>{2, 7}));
  VggOptions vgg;
  vgg.num_classes = 7;
  Vgg net(vgg);
  EXPECT_EQ(net->forward(torch::zeros({2, 3, 96, 64})).sizes().vec(), (std::vector<int64_t>{2, 7}));
  EXPECT_EQ(net->features(torch::zeros({1, 3, 96, 64})).sizes().vec(), (std::vector<int64_t>{1, 512, 3, 2}));
}

TEST(Backbones, StagesRoundSizesUp) {
  const torch::NoGradGuard no_grad;
  const torch::Tensor pixels = torch::zeros({1, 3, 97, 130});
  EXPECT_EQ(shapes(ResNet(resnet50())->stages(pixels)),
            (Shapes{{1, 256, 25, 33}, {1, 512, 13, 17}, {1, 1024, 7, 9}, {1, 2048, 4, 5}}));
  EXPECT_EQ(shapes(TinyBackbone()->stages(pixels)),
            (Shapes{{1, 32, 25, 33}, {1, 64, 13, 17}, {1, 128, 7, 9}}));
  ResNetOptions dilated = resnet50();
  dilated.dilate_last = true;
  EXPECT_EQ(ResNet(dilated)->features(pixels).sizes().vec(), (std::vector<int64_t>{1, 2048, 7, 9}));
}

/// torchvision's rule for DC5: (stride, dilation, padding) of the 3x3 convolutions of the last stage.
TEST(Backbones, DilationBeginsAtTheSecondBlock) {
  ResNetOptions options = resnet50();
  options.dilate_last = true;
  ResNet net(options);
  for (const auto& item : net->named_modules()) {
    if (item.key().rfind("layer4.", 0) != 0 || item.key().find("conv2") == std::string::npos) continue;
    const auto& conv = item.value()->as<torch::nn::Conv2dImpl>()->options;
    const int64_t dilation = item.key() == "layer4.0.conv2" ? 1 : 2;
    EXPECT_EQ(conv.stride()->front(), 1) << item.key();
    EXPECT_EQ(conv.dilation()->front(), dilation) << item.key();
    EXPECT_EQ(std::get<torch::ExpandingArray<2>>(conv.padding())->front(), dilation) << item.key();
  }
}

TEST(Backbones, FrozenNormsAreBuffersThatNothingUpdates) {
  BatchNorm2d norm(3, /*frozen=*/true);
  EXPECT_TRUE(norm->parameters().empty());
  EXPECT_EQ(norm->buffers().size(), 4);
  norm->weight.copy_(torch::tensor({1.0, 2.0, -1.0}));
  norm->bias.copy_(torch::tensor({0.5, 0.0, 1.0}));
  norm->running_mean.copy_(torch::tensor({0.1, -0.2, 0.3}));
  norm->running_var.copy_(torch::tensor({0.5, 1.5, 1e-6}));
  const torch::Tensor x = torch::randn({2, 3, 4, 5});
  const auto per_channel = [](const torch::Tensor& v) { return v.view({1, 3, 1, 1}).to(torch::kDouble); };
  const torch::Tensor expected = (x - per_channel(norm->running_mean)) /
                                     (per_channel(norm->running_var) + 1e-5).sqrt() *
                                     per_channel(norm->weight) +
                                 per_channel(norm->bias);
  norm->train();
  EXPECT_LE((norm(x) - expected).abs().max().item<double>(),
            1e-3);  // the third channel is of the order of 1000
  EXPECT_EQ(norm->running_mean[0].item<float>(), 0.1f);
}

TEST(Backbones, LearningNormsUpdateInTraining) {
  BatchNorm2d norm(3);
  EXPECT_EQ(norm->parameters().size(), 2);
  const torch::Tensor y = norm(torch::randn({8, 3, 4, 4}) * 3 + 5);
  EXPECT_LE(y.mean().abs().item<double>(), 1e-5);
  EXPECT_NEAR(norm->running_mean[0].item<double>(), 0.5, 0.2);
}

TEST(Backbones, RandomWeightsWithFrozenNormsKeepTheSignalsSize) {
  const torch::NoGradGuard no_grad;
  torch::manual_seed(0);
  for (ResNetOptions options : {resnet50(), resnet101()}) {
    options.frozen_norm = true;
    const double deviation = ResNet(options)->features(torch::randn({1, 3, 128, 128})).std().item<double>();
    EXPECT_GT(deviation, 0.1);
    EXPECT_LT(deviation, 10);
  }
}

}  // namespace
}  // namespace zoo
