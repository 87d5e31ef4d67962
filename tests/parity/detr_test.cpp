#include "models/detr/detr.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <torch/torch.h>

#include <set>

#include "core/error.h"
#include "core/files.h"
#include "core/formats/byte_reader.h"
#include "core/options.h"
#include "core/text.h"
#include "models/detr/weights.h"
#include "tests/support.h"

namespace zoo {
namespace {

struct DetrVariant {
  std::string name;
  DetrOptions options;
};

/// Weights, pictures and outputs of transformers (tests/parity/detr.py), made once for each variant.
const std::string& reference(const DetrVariant& variant) {
  static std::map<std::string, std::string> folders;
  std::string& folder = folders[variant.name];
  if (folder.empty()) {
    folder = test::scratch_dir(variant.name);
    std::vector<std::string> arguments = {"write", folder, "--backbone", variant.options.backbone};
    if (variant.options.dilation) arguments.push_back("--dilation");
    test::run_python("detr.py", arguments);
  }
  return folder;
}

constexpr int kDetrCases = 2;

class DetrParity : public testing::TestWithParam<DetrVariant> {
 protected:
  void SetUp() override {
    ZOO_NEEDS_PYTHON();
    folder_ = reference(GetParam());
    if (HasFatalFailure()) return;
    cases_ = load_tensors(folder_ + "/cases.safetensors");
    DetrOptions options = GetParam().options;
    options.dropout = 0;
    detr_ = Detr(options);
    load_detr_weights(*detr_, load_state_dict(folder_ + "/model.safetensors"), /*partial=*/false);
    detr_->eval();
  }

  torch::Tensor of_case(int i, const std::string& name) {
    return *cases_.find(std::to_string(i) + "." + name);
  }

  void expect_near(const torch::Tensor& ours, int i, const std::string& name, double tolerance) {
    const torch::Tensor theirs = of_case(i, name);
    ASSERT_TRUE(ours.sizes() == theirs.sizes()) << name;
    EXPECT_LE((ours - theirs).abs().max().item<double>(), tolerance) << "case " << i << " " << name;
  }

  /// All cases, tensor by tensor in the order of the network.
  void expect_outputs(torch::Dtype dtype, double tolerance) {
    detr_->to(dtype);
    for (int i = 0; i < kDetrCases; ++i) {
      const torch::Tensor pixels = of_case(i, "pixels").to(dtype), mask = of_case(i, "mask");
      const DetrFeatures features = detr_->encode(pixels, mask);
      expect_near(features.projected, i, "projected", tolerance);
      expect_near(features.memory, i, "memory", tolerance);
      const DetrOutput output = detr_->forward(pixels, mask);
      ASSERT_EQ(output.logits.size(0), 1);
      expect_near(output.logits[0], i, "logits", tolerance);
      expect_near(output.boxes[0], i, "boxes", tolerance);
    }
  }

  torch::NoGradGuard no_grad_;
  std::string folder_;
  StateDict cases_;
  Detr detr_{nullptr};
};

TEST_P(DetrParity, ReferenceReactsToQueriesPositionsAndMask) {
  for (const char* what : {"queries", "positions", "mask"}) {
    for (const char* name : {"logits", "boxes"}) {
      const std::string reaction = format("reaction.%s.%s", what, name);
      EXPECT_GT(of_case(0, reaction).item<double>(), 100 * 1e-4) << reaction;
    }
  }
}

TEST_P(DetrParity, OutputsEqualTransformers) {
  expect_outputs(torch::kFloat, 1e-4);
}

/// In double precision nothing is left to rounding but that the outputs are float32.
TEST_P(DetrParity, OutputsEqualTransformersInDoublePrecision) {
  expect_outputs(torch::kDouble, 2e-6);
}

TEST_P(DetrParity, TrainingGivesTheOutputsOfEveryLayer) {
  detr_->train();
  const DetrOutput output = detr_->forward(of_case(0, "pixels"), of_case(0, "mask"));
  expect_near(output.logits, 0, "all_logits", 1e-4);
  expect_near(output.boxes, 0, "all_boxes", 1e-4);
}

INSTANTIATE_TEST_SUITE_P(Variants, DetrParity,
                         testing::Values(DetrVariant{"resnet50", detr_resnet50()},
                                         DetrVariant{"resnet50_dc5", detr_resnet50_dc5()},
                                         DetrVariant{"resnet101", detr_resnet101()},
                                         DetrVariant{"resnet101_dc5", detr_resnet101_dc5()}),
                         [](const auto& info) { return info.param.name; });

const DetrVariant kResNet50 = {"resnet50", detr_resnet50()};

std::set<std::string> names_and_shapes(const StateDict& state) {
  std::set<std::string> result;
  for (const auto& [name, tensor] : state.tensors) {
    result.insert(name + " " + shape_text(tensor.sizes().data(), tensor.sizes().size()));
  }
  return result;
}

TEST(DetrWeightsParity, TransformersLoadsWhatZooWrites) {
  ZOO_NEEDS_PYTHON();
  const std::string theirs = reference(kResNet50), ours = test::scratch_dir("zoo-detr");
  Detr detr(kResNet50.options);
  load_detr_weights(*detr, load_state_dict(theirs), false);
  save_safetensors(ours + "/model.safetensors", detr_to_layout(module_state(*detr), "hf"));
  write_file(ours + "/config.json",
             detr_hf_config(kResNet50.options, "hf", R"([{"id": 3, "index": 3, "name": "car"}])"));
  test::run_python("detr.py", {"check", ours, theirs});
}

TEST(DetrWeightsParity, TimmNamesAreThoseOfTheHub) {
  ZOO_NEEDS_PYTHON();
  const std::string theirs = reference(kResNet50),
                    expected = test::scratch_dir("names") + "/names.safetensors";
  test::run_python("detr.py", {"names", theirs, expected});
  const StateDict published = load_state_dict(expected);
  EXPECT_EQ(published.tensors.size(), 530);
  EXPECT_EQ(recognise_detr_layout(published), "hf-timm");
  const StateDict ours = detr_from_layout(published);
  EXPECT_EQ(names_and_shapes(detr_to_layout(ours, "hf-timm")), names_and_shapes(published));
  Detr detr(kResNet50.options);
  load_detr_weights(*detr, published, false);
  const StateDict native = load_state_dict(theirs);
  EXPECT_EQ(names_and_shapes(detr_to_layout(module_state(*detr), "hf")), names_and_shapes(native));
}

TEST(SinePositionParity, EqualsNumpy) {
  ZOO_NEEDS_PYTHON();
  const std::string file = test::scratch_dir("sine") + "/sine.safetensors";
  test::run_python("detr.py", {"sine", file});
  const StateDict expected = load_tensors(file);
  const torch::Tensor position = sine_position_encoding(*expected.find("valid"), 32);
  EXPECT_LE((position - *expected.find("position")).abs().max().item<double>(), 2e-6);
}

}  // namespace
}  // namespace zoo
