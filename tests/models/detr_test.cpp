#include "models/detr/detr.h"

#include <ATen/autocast_mode.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <torch/torch.h>

#include <algorithm>
#include <cmath>
#include <regex>

#include "core/error.h"
#include "core/text.h"
#include "models/detr/weights.h"
#include "models/export/torchscript.h"
#include "tests/support.h"

namespace zoo {
namespace {

using testing::HasSubstr;

int64_t values(const std::vector<torch::Tensor>& tensors, bool trainable_only = false) {
  int64_t count = 0;
  for (const torch::Tensor& tensor : tensors) {
    if (!trainable_only || tensor.requires_grad()) count += tensor.numel();
  }
  return count;
}

DetrOptions small(const std::string& position = "sine", bool pre_norm = false) {
  DetrOptions options = detr_tiny();
  options.num_classes = 6;
  options.position = position;
  options.pre_norm = pre_norm;
  options.positions_in_values = false;  // the paper's DETR, but small
  options.reference_points = false;
  return options;
}

/// Weights with which outputs depend on queries, positions and mask; those of a fresh model hardly do.
void randomise(DetrImpl& detr) {
  const torch::NoGradGuard no_grad;
  torch::manual_seed(7);
  for (auto& item : detr.named_parameters()) {
    torch::Tensor& value = item.value();
    const double fan_in = value.dim() > 1 ? static_cast<double>(value[0].numel()) : 0;
    if (item.key() == "query_embed.weight") {
      value.normal_();
    } else if (starts_with(item.key(), "transformer.") && value.dim() > 1) {
      value.normal_(0, 2 / std::sqrt(fan_in));
    } else if (value.dim() > 1) {
      value.normal_(0, 1 / std::sqrt(fan_in));
    } else if (starts_with(item.key(), "transformer.")) {
      value.add_(torch::randn_like(value), 0.1);
    }
  }
}

torch::Tensor mask_of(std::vector<int64_t> batch, const std::vector<std::pair<int64_t, int64_t>>& sizes) {
  torch::Tensor mask = torch::zeros({static_cast<int64_t>(sizes.size()), batch[0], batch[1]}, torch::kBool);
  for (size_t i = 0; i < sizes.size(); ++i) {
    mask[static_cast<int64_t>(i)].slice(0, 0, sizes[i].first).slice(1, 0, sizes[i].second).fill_(true);
  }
  return mask;
}

torch::Tensor pixels_of(const torch::Tensor& mask) {
  torch::manual_seed(3);
  const torch::Tensor coarse = torch::randn({mask.size(0), 3, 5, 5});
  return torch::upsample_bilinear2d(coarse, {mask.size(1), mask.size(2)}, false) * mask.unsqueeze(1);
}

double difference(const DetrOutput& a, const DetrOutput& b) {
  return std::max((a.logits - b.logits).abs().max().item<double>(),
                  (a.boxes - b.boxes).abs().max().item<double>());
}

using test::error_of;

struct Counts {
  DetrOptions options;
  int64_t parameters, frozen_values, tensors, trainable;
};

/// detr.md section 1.1; FrozenBatchNorm's values are buffers.
TEST(Detr, CountsAreThePublishedOnes) {
  for (const Counts& expected : std::vector<Counts>{
           {detr_resnet50(), 41524768, 106240, 458, 41302368},
           {detr_resnet50_dc5(), 41524768, 106240, 458, 41302368},
           {detr_resnet101(), 60464672, 210688, 713, 60242272},
           {detr_resnet101_dc5(), 60464672, 210688, 713, 60242272},
       }) {
    const Detr detr(expected.options);
    EXPECT_EQ(values(detr->parameters()), expected.parameters);
    EXPECT_EQ(values(detr->buffers()), expected.frozen_values);
    EXPECT_EQ(detr->parameters().size() + detr->buffers().size(), static_cast<size_t>(expected.tensors));
    EXPECT_EQ(values(detr->parameters(), true), expected.trainable);
  }
}

TEST(Detr, TrainableStagesCountFromTheEnd) {
  const auto trainable = [](int64_t stages) {
    DetrOptions options = detr_resnet50();
    options.trainable_stages = stages;
    std::set<std::string> names;
    for (const auto& item : Detr(options)->named_parameters()) {
      if (starts_with(item.key(), "backbone.") && item.value().requires_grad())
        names.insert(item.key().substr(16, 6));
    }
    return names;
  };
  EXPECT_EQ(trainable(0), std::set<std::string>());
  EXPECT_EQ(trainable(3), (std::set<std::string>{"layer2", "layer3", "layer4"}));
  EXPECT_EQ(trainable(4).count("conv1."), 0);
  EXPECT_EQ(trainable(5).count("conv1."), 1);
}

TEST(Detr, OptionsOutOfRangeAreNamed) {
  const auto message = [](const std::function<void(DetrOptions&)>& change) {
    DetrOptions options;
    change(options);
    return error_of([&] { options.validate(); });
  };
  EXPECT_EQ(message([](DetrOptions&) {}), "");
  EXPECT_THAT(message([](DetrOptions& o) { o.backbone = "resnet5"; }), HasSubstr("model.backbone"));
  EXPECT_THAT(message([](DetrOptions& o) { o.position = "sin"; }), HasSubstr("model.position"));
  EXPECT_THAT(message([](DetrOptions& o) { o.num_queries = 0; }), HasSubstr("model.num_queries"));
  EXPECT_THAT(message([](DetrOptions& o) { o.num_classes = -1; }), HasSubstr("model.num_classes"));
  EXPECT_THAT(message([](DetrOptions& o) { o.dropout = 1.5; }), HasSubstr("model.dropout"));
  EXPECT_THAT(message([](DetrOptions& o) { o.trainable_stages = 6; }), HasSubstr("model.trainable_stages"));
  EXPECT_THAT(message([](DetrOptions& o) { o.hidden_dim = 100; }), HasSubstr("model.hidden_dim: 100"));
  EXPECT_THAT(message([](DetrOptions& o) { o.backbone = "tiny", o.dilation = true; }),
              HasSubstr("model.dilation"));
  EXPECT_THAT(error_of([] { Detr detr(detr_tiny()); }), HasSubstr("model.num_classes"));
}

TEST(Detr, ShapesAtTheDoorAreNamed) {
  Detr detr(small());
  const torch::Tensor pixels = torch::zeros({2, 3, 64, 64});
  EXPECT_THAT(error_of([&] { detr->forward(torch::zeros({2, 1, 64, 64})); }), HasSubstr("[2, 1, 64, 64]"));
  EXPECT_THAT(error_of([&] {
                detr->forward(pixels, torch::ones({2, 64, 60}, torch::kBool));
              }),
              HasSubstr("[2, 64, 60]"));
  EXPECT_THAT(error_of([&] { detr->forward(pixels, torch::ones({2, 64, 64})); }), HasSubstr("booleans"));
}

TEST(Detr, OutputsOfAllLayersInTrainingAndOfTheLastOtherwise) {
  Detr detr(small());
  const torch::Tensor pixels = torch::zeros({2, 3, 64, 96});
  const DetrOutput training = detr->forward(pixels);
  EXPECT_EQ(training.logits.sizes().vec(), (std::vector<int64_t>{3, 2, 25, 7}));
  EXPECT_EQ(training.boxes.sizes().vec(), (std::vector<int64_t>{3, 2, 25, 4}));
  detr->options.aux_loss = false;
  EXPECT_EQ(detr->forward(pixels).logits.size(0), 1);
  detr->options.aux_loss = true;
  detr->eval();
  EXPECT_EQ(detr->forward(pixels).boxes.sizes().vec(), (std::vector<int64_t>{1, 2, 25, 4}));
}

/// Evaluation leaves out what it knows of the first layer; training, without dropout, does not.
TEST(Detr, ShortcutsOfEvaluationChangeNothing) {
  const torch::NoGradGuard no_grad;
  const torch::Tensor mask = mask_of({96, 128}, {{96, 100}, {70, 128}});
  for (const bool pre_norm : {false, true}) {
    DetrOptions options = small("sine", pre_norm);
    Detr detr(options);
    randomise(*detr);
    detr->eval();
    const DetrOutput evaluated = detr->forward(pixels_of(mask), mask);
    detr->train();
    detr->backbone->eval();  // its batch norms would use the batch
    const DetrOutput trained = detr->forward(pixels_of(mask), mask);
    EXPECT_LE(difference(evaluated, {trained.logits.slice(0, -1), trained.boxes.slice(0, -1)}), 1e-5);
  }
}

TEST(Detr, MorePaddingChangesNothing) {
  const torch::NoGradGuard no_grad;
  for (const bool pre_norm : {false, true}) {
    Detr detr(small("sine", pre_norm));
    randomise(*detr);
    detr->eval();
    // 48 pixels of padding are beyond what the convolutions see from the last real pixel.
    const torch::Tensor mask = mask_of({144, 160}, {{96, 112}, {80, 96}});
    const torch::Tensor pixels = pixels_of(mask);
    const DetrOutput few = detr->forward(pixels, mask);
    const DetrOutput many = detr->forward(torch::constant_pad_nd(pixels, {0, 96, 0, 64}),
                                          torch::constant_pad_nd(mask, {0, 96, 0, 64}));
    EXPECT_LE(difference(few, many), 1e-4);
    const DetrOutput unmasked = detr->forward(pixels);
    EXPECT_GT(difference(few, unmasked), 1e-2) << "the mask has no effect";
  }
}

TEST(Detr, MaskWithoutPaddingIsNoMask) {
  const torch::NoGradGuard no_grad;
  for (const char* position : {"sine", "learned"}) {
    Detr detr(small(position));
    randomise(*detr);
    detr->eval();
    const torch::Tensor mask = torch::ones({2, 96, 128}, torch::kBool);
    EXPECT_EQ(difference(detr->forward(pixels_of(mask), mask), detr->forward(pixels_of(mask))), 0);
  }
}

TEST(Detr, LearnedPositionsHaveAnEnd) {
  Detr detr(small("learned"));
  detr->eval();
  EXPECT_THAT(error_of([&] { detr->forward(torch::zeros({1, 3, 64, 816})); }), HasSubstr("4x51 cells"));
  EXPECT_EQ(detr->forward(torch::zeros({1, 3, 64, 800})).logits.size(0), 1);
}

TEST(Detr, ReferencePointsSpreadTheFirstBoxes) {
  const torch::NoGradGuard no_grad;
  DetrOptions options = detr_tiny();
  options.num_classes = 6;
  Detr detr(options);
  detr->eval();
  const torch::Tensor mask = mask_of({96, 128}, {{96, 128}, {64, 96}});
  const DetrFeatures features = detr->encode(pixels_of(mask), mask);
  // Bases 2 and 3, hand-worked; the size is σ(-1.5).
  const torch::Tensor first =
      torch::tensor({{1 / 2., 1 / 3.}, {1 / 4., 2 / 3.}, {3 / 4., 1 / 9.}, {1 / 8., 4 / 9.}});
  const torch::Tensor boxes = detr->predict(detr->decode(features)).boxes[0];  // [B,Q,4]
  for (int64_t image = 0; image < 2; ++image) {
    EXPECT_LE((boxes[image].slice(0, 0, 4).slice(1, 0, 2) - first).abs().max().item<double>(), 1e-5);
    EXPECT_LE((boxes[image].slice(1, 2) - 0.182426).abs().max().item<double>(), 1e-5);
  }
  // The second picture has 4x6 real cells: centres at (i + 1/2) / 6 and (j + 1/2) / 4.
  const torch::Tensor cells = detr->predict_cells(features).boxes[0].unflatten(1, {6, 8});  // [B,h,w,4]
  EXPECT_NEAR(cells[0][2][3][0].item<double>(), 3.5 / 8, 1e-5);
  EXPECT_NEAR(cells[0][2][3][1].item<double>(), 2.5 / 6, 1e-5);
  EXPECT_NEAR(cells[1][2][3][0].item<double>(), 3.5 / 6, 1e-5);
  EXPECT_NEAR(cells[1][2][3][1].item<double>(), 2.5 / 4, 1e-5);
}

TEST(Detr, ReferencePointsMoveTheirOwnBoxOnly) {
  const torch::NoGradGuard no_grad;
  DetrOptions options = small();
  options.reference_points = true;
  Detr detr(options);
  randomise(*detr);
  detr->eval();
  const torch::Tensor pixels = pixels_of(torch::ones({1, 96, 128}, torch::kBool));
  const torch::Tensor before = detr->forward(pixels).boxes[0][0].logit();
  detr->reference_points[3][1] += 0.5;
  const torch::Tensor moved = detr->forward(pixels).boxes[0][0].logit() - before;  // [Q,4]
  EXPECT_NEAR(moved[3][1].item<double>(), 0.5, 1e-4);
  EXPECT_NEAR(moved.abs().sum().item<double>(), 0.5, 1e-2);
}

TEST(Detr, PositionsInValuesReachTheMemory) {
  const torch::NoGradGuard no_grad;
  DetrOptions options = small();
  options.encoder_layers = 0;
  options.positions_in_values = true;
  Detr detr(options);
  detr->eval();
  const DetrFeatures features = detr->encode(torch::zeros({1, 3, 64, 64}), {});
  EXPECT_LE((features.memory - features.projected.flatten(2).transpose(1, 2) - features.position)
                .abs()
                .max()
                .item<double>(),
            1e-6);
}

void expect_gradients(Detr detr, const torch::Tensor& pixels) {
  randomise(*detr);  // at first the biases are 0, and with them what the first self-attention gives
  torch::manual_seed(0);
  const DetrOutput output = detr->forward(pixels);
  ((output.logits * torch::randn_like(output.logits)).sum() +
   (output.boxes * torch::randn_like(output.boxes)).sum())
      .backward();
  for (const auto& item : detr->named_parameters()) {
    if (!item.value().requires_grad()) {
      EXPECT_TRUE(starts_with(item.key(), "backbone.")) << item.key();
      EXPECT_FALSE(item.value().grad().defined()) << item.key();
      continue;
    }
    ASSERT_TRUE(item.value().grad().defined()) << item.key();
    EXPECT_TRUE(torch::isfinite(item.value().grad()).all().item<bool>()) << item.key();
    // With pre-norm this gain multiplies zeros, which go into the decoder.
    if (detr->options.pre_norm && item.key() == "transformer.decoder.layers.0.norm1.weight") continue;
    EXPECT_GT(item.value().grad().abs().max().item<double>(), 0) << item.key();
  }
}

TEST(Detr, GradientsReachAllTrainableParameters) {
  for (const char* position : {"sine", "learned"}) {
    for (const bool pre_norm : {false, true}) {
      DetrOptions options = small(position, pre_norm);
      options.dropout =
          0.1;  // without it the first self-attention, all of whose values are equal, learns no weights
      expect_gradients(Detr(options), torch::randn({2, 3, 96, 64}));
    }
  }
  expect_gradients(Detr(detr_resnet50()), torch::randn({2, 3, 96, 64}));
}

TEST(Detr, BfloatAutocastKeepsOutputsInFloat) {
  Detr detr(small());
  randomise(*detr);
  detr->eval();
  const torch::NoGradGuard no_grad;
  const torch::Tensor mask = mask_of({96, 128}, {{96, 100}, {70, 128}});
  const DetrOutput exact = detr->forward(pixels_of(mask), mask);
  at::autocast::set_autocast_enabled(at::kCPU, true);
  at::autocast::set_autocast_dtype(at::kCPU, at::kBFloat16);
  const DetrOutput rounded = detr->forward(pixels_of(mask), mask);
  at::autocast::clear_cache();
  at::autocast::set_autocast_enabled(at::kCPU, false);
  EXPECT_EQ(rounded.logits.scalar_type(), torch::kFloat);
  EXPECT_EQ(rounded.boxes.scalar_type(), torch::kFloat);
  EXPECT_LE((rounded.boxes - exact.boxes).abs().mean().item<double>(), 0.05);
}

TEST(Detr, TraceHoldsForOtherSizesBatchesAndPadding) {
  const torch::NoGradGuard no_grad;
  DetrOptions dilated = detr_resnet50_dc5();
  dilated.encoder_layers = dilated.decoder_layers = 2;
  dilated.feedforward = 64;
  // The first is traced, the others are run.
  const std::vector<torch::Tensor> masks = {mask_of({64, 96}, {{64, 70}}), mask_of({64, 96}, {{50, 96}}),
                                            mask_of({100, 75}, {{100, 75}, {64, 33}}),
                                            mask_of({131, 96}, {{131, 96}, {131, 96}, {20, 40}})};
  for (const DetrOptions& options : {small(), small("learned"), small("sine", true), dilated}) {
    Detr detr(options);
    randomise(*detr);
    detr->eval();
    TraceSpec spec;
    spec.module = detr.ptr();
    spec.forward = [&](const std::vector<torch::Tensor>& inputs) -> std::vector<torch::Tensor> {
      const DetrOutput output = detr->forward(inputs[0], inputs[1]);
      return {output.logits[0], output.boxes[0]};
    };
    spec.example = [&](int i) -> std::vector<torch::Tensor> {
      const torch::Tensor& mask = masks[static_cast<size_t>(i)];
      return {pixels_of(mask), mask};
    };
    spec.variants = static_cast<int>(masks.size());
    const std::string file = test::scratch_dir("detr") + "/detr.pt";
    EXPECT_LE(export_torchscript(spec, file, "{}"), 1e-4);  // throws where an output differs
  }
}

StateDict renamed(const StateDict& state,
                  const std::vector<std::pair<std::string, std::string>>& replacements) {
  StateDict result;
  for (const auto& [name, tensor] : state.tensors) {
    std::string text = name;
    for (const auto& [pattern, to] : replacements) text = std::regex_replace(text, std::regex(pattern), to);
    result.tensors.emplace_back(text, tensor);
  }
  return result;
}

void expect_same_weights(const DetrImpl& a, const DetrImpl& b) {
  const StateDict expected = module_state(b);
  for (const auto& [name, tensor] : module_state(a).tensors)
    EXPECT_TRUE(tensor.equal(*expected.find(name))) << name;
}

TEST(DetrWeights, EveryLayoutIsReadBack) {
  DetrOptions options = detr_resnet50();
  options.num_classes = 4;
  options.num_queries = 11;
  options.hidden_dim = 64;
  options.feedforward = 96;
  options.encoder_layers = 1;
  options.decoder_layers = 2;
  options.position = "learned";
  Detr written(options);
  randomise(*written);
  for (const std::string& layout : detr_layouts()) {
    const StateDict state = detr_to_layout(module_state(*written), layout);
    EXPECT_EQ(recognise_detr_layout(state), layout);
    const DetrOptions inferred = detr_options_of(state);
    EXPECT_EQ(nlohmann::json(inferred), nlohmann::json(options)) << layout;
    // transformers 5 has other names in memory than in its files.
    for (const StateDict& spelling :
         {state, renamed(state, {{"backbone\\.conv_encoder", "backbone"},
                                 {"(model\\..*attn)\\.out_proj", "$1.o_proj"},
                                 {"(layers\\.\\d+)\\.(fc\\d)", "$1.mlp.$2"},
                                 {"model\\.position_embedding", "model.backbone.position_embedding"}})}) {
      Detr read(options);
      load_detr_weights(*read, spelling, /*partial=*/false);
      expect_same_weights(*read, *written);
      EXPECT_TRUE(detr_recognises(spelling, detr_resnet50()));
      EXPECT_FALSE(detr_recognises(spelling, detr_resnet101()));
    }
  }
}

TEST(DetrWeights, StrayCountersOfPublishedFilesAreLeftOut) {
  Detr detr(detr_resnet50());
  StateDict state = detr_to_layout(module_state(*detr), "hf-timm");
  EXPECT_EQ(state.tensors.size(), 530);
  for (const char* stage : {"1", "2", "3", "4"}) {
    state.tensors.emplace_back(
        format("model.backbone.conv_encoder.model.layer%s.0.downsample.1.num_batches_tracked", stage),
        torch::tensor(1));
  }
  load_detr_weights(*detr, state, /*partial=*/false);
}

TEST(DetrWeights, MisfitsAreNamed) {
  Detr detr(small());
  StateDict state = module_state(*detr);
  state.source = "FILE";
  state.tensors.emplace_back("query_extra.weight", torch::zeros({2}));
  for (auto& [name, tensor] : state.tensors) {
    if (name == "class_embed.weight") tensor = torch::zeros({9, 128});
  }
  EXPECT_EQ(error_of([&] {
              load_detr_weights(*detr, state, false);
            }).rfind("FILE: 0 missing, 1 extra, 1 misshapen", 0),
            0);
  load_detr_weights(*detr, state, /*partial=*/true);
}

TEST(DetrWeights, LayoutsSayWhatTheyCannotHold) {
  const StateDict tiny = module_state(*Detr(small()));
  EXPECT_THAT(error_of([&] { detr_to_layout(tiny, "hf"); }), HasSubstr("tiny"));
  EXPECT_THAT(error_of([&] { detr_to_layout(tiny, "diffusers"); }), HasSubstr("diffusers"));
  EXPECT_EQ(detr_to_layout(tiny, "zoo").tensors.size(), tiny.tensors.size());
  StateDict pre_norm;
  pre_norm.tensors.emplace_back("transformer.encoder.norm.weight", torch::zeros({2}));
  EXPECT_THAT(error_of([&] { detr_to_layout(pre_norm, "hf"); }), HasSubstr("pre_norm"));
  EXPECT_THAT(error_of([] { detr_hf_config(detr_resnet50_dc5(), "hf", "[]"); }), HasSubstr("dilation"));
}

TEST(DetrWeights, NamesOfOtherModelsAreNotRecognised) {
  StateDict state;
  state.source = "FILE";
  state.tensors.emplace_back("conv1.weight", torch::zeros({64, 3, 7, 7}));
  EXPECT_EQ(recognise_detr_layout(state), "");
  EXPECT_FALSE(detr_recognises(state, detr_resnet50()));
  EXPECT_THAT(error_of([&] { detr_options_of(state); }), HasSubstr("FILE"));
  EXPECT_THAT(error_of([&] { load_detr_weights(*Detr(small()), state, false); }), HasSubstr("FILE: "));
}

TEST(DetrWeights, BackboneAloneFromAClassifier) {
  ResNetClassifier classifier(resnet50());
  StateDict state = module_state(*classifier);
  Detr detr(detr_resnet50());
  load_detr_backbone(*detr, state, /*partial=*/false);
  const StateDict loaded = module_state(*detr);
  for (const char* name : {"conv1.weight", "layer1.0.downsample.1.running_var", "layer4.2.bn3.bias"}) {
    EXPECT_TRUE(loaded.find(std::string("backbone.0.body.") + name)->equal(*state.find(name))) << name;
  }
  // and from a whole detector
  Detr other(detr_resnet50());
  load_detr_backbone(*other, detr_to_layout(loaded, "hf"), /*partial=*/false);
  EXPECT_TRUE(module_state(*other)
                  .find("backbone.0.body.layer3.5.conv2.weight")
                  ->equal(*state.find("layer3.5.conv2.weight")));
  const auto drop = [&](const std::string& name) {
    auto& tensors = state.tensors;
    tensors.erase(
        std::find_if(tensors.begin(), tensors.end(), [&](const auto& item) { return item.first == name; }));
  };
  drop("fc.bias");
  load_detr_backbone(*detr, state, /*partial=*/false);
  drop("conv1.weight");
  EXPECT_THAT(error_of([&] { load_detr_backbone(*detr, state, false); }), HasSubstr("1 missing"));
}

TEST(DetrWeights, ConfigurationForTransformers) {
  DetrOptions options = detr_resnet101_dc5();
  options.num_classes = 3;
  const Json config =
      Json::parse(detr_hf_config(options, "hf-timm", R"([{"id": 7, "index": 1, "name": "cat"}])"));
  EXPECT_EQ(config.at("backbone"), "resnet101");
  EXPECT_EQ(config.at("dilation"), true);
  EXPECT_EQ(config.at("id2label"), Json({{"0", "N/A"}, {"1", "cat"}, {"2", "N/A"}}));
  EXPECT_EQ(config.at("label2id").at("cat"), 1);
  const Json native = Json::parse(detr_hf_config(detr_resnet101(), "hf", "[]"));
  EXPECT_EQ(native.at("backbone_config").at("depths"), Json({3, 4, 23, 3}));
  EXPECT_EQ(native.at("id2label").at("90"), "LABEL_90");
}

}  // namespace
}  // namespace zoo
