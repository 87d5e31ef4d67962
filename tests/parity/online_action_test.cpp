#include <gtest/gtest.h>
#include <torch/torch.h>

#include "models/action_rnn/action_rnn.h"
#include "models/action_rnn/frame_linear.h"
#include "models/oadtr/oadtr.h"
#include "models/testra/testra.h"
#include "models/trn/trn.h"
#include "models/weights/state_dict.h"
#include "tests/support.h"

namespace zoo {
namespace {

/// A network of tests/parity/online_action.py with the same sizes.
struct ActionVariant {
  std::string title;
  ActionModel (*make)();
};

OadTrOptions oadtr_wide() {
  OadTrOptions options;
  options.feature_size = 9;
  options.num_classes = 4;
  options.window = 11;
  options.hidden_dim = 24;
  options.encoder_heads = 2;
  options.decoder_layers = 2;
  options.feedforward = 16;
  options.horizons = 4;
  return options;
}

ActionModel make_small_oadtr() {
  OadTrOptions options;
  options.feature_size = 12;
  options.num_classes = 5;
  options.window = 7;
  options.hidden_dim = 16;
  options.encoder_layers = 2;
  options.encoder_heads = 4;
  options.decoder_layers = 3;
  options.decoder_heads = 2;
  options.feedforward = 24;
  options.horizons = 3;
  return make_oadtr(options);
}

ActionModel make_wide_oadtr() {
  return make_oadtr(oadtr_wide());
}

ActionModel make_oadtr_without_token() {
  OadTrOptions options = oadtr_wide();
  options.encoder_layers = 2;
  options.task_token = false;
  return make_oadtr(options);
}

ActionModel make_sized_trn(int64_t features, int64_t classes, int64_t hidden, int64_t horizons) {
  TrnOptions options;
  options.feature_size = features;
  options.num_classes = classes;
  options.hidden_dim = hidden;
  options.horizons = horizons;
  return make_trn(options);
}

ActionModel make_sized_rnn(const char* cell, std::vector<int64_t> sizes) {
  ActionRnnOptions options;
  options.cell = cell;
  options.feature_size = sizes[0];
  options.num_classes = sizes[1];
  options.projection = sizes[2];
  options.hidden_dim = sizes[3];
  options.horizons = sizes[4];
  return make_action_rnn(options);
}

ActionModel make_small_linear() {
  FrameLinearOptions options;
  options.feature_size = 6;
  options.num_classes = 5;
  options.horizons = 2;
  return make_frame_linear(options);
}

ActionModel make_small_testra() {
  TestraOptions options;
  options.feature_size = 12;
  options.num_classes = 5;
  options.window = 8;
  options.memory = 24;
  options.queries = 4;
  options.compressed = 6;
  options.hidden_dim = 16;
  options.heads = 4;
  options.feedforward = 24;
  return make_testra(options);
}

TestraOptions testra_wide() {
  TestraOptions options;
  options.feature_size = 10;
  options.num_classes = 4;
  options.window = 6;
  options.memory = 24;
  options.decay = 0.5;
  options.queries = 3;
  options.compressed = 5;
  options.hidden_dim = 24;
  options.heads = 2;
  options.feedforward = 16;
  options.horizons = 3;
  return options;
}

ActionModel make_future_testra() {
  return make_testra(testra_wide());
}

ActionModel make_box_testra() {
  TestraOptions options = testra_wide();
  options.memory = 9;
  options.decay = 1;
  options.compression_layers = options.decoder_layers = 1;
  options.horizons = 0;
  return make_testra(options);
}

const std::vector<ActionVariant>& action_variants() {
  static const std::vector<ActionVariant> all = {{"oadtr", make_small_oadtr},
                                                 {"oadtr_wide", make_wide_oadtr},
                                                 {"oadtr_without_token", make_oadtr_without_token},
                                                 {"trn", [] { return make_sized_trn(10, 5, 16, 3); }},
                                                 {"trn_wide", [] { return make_sized_trn(7, 4, 24, 4); }},
                                                 {"gru",
                                                  [] {
                                                    return make_sized_rnn("gru", {12, 5, 16, 20, 0});
                                                  }},
                                                 {"gru_future",
                                                  [] {
                                                    return make_sized_rnn("gru", {10, 4, 24, 16, 3});
                                                  }},
                                                 {"lstm",
                                                  [] {
                                                    return make_sized_rnn("lstm", {12, 5, 16, 20, 2});
                                                  }},
                                                 {"lstm_wide",
                                                  [] {
                                                    return make_sized_rnn("lstm", {8, 4, 20, 28, 0});
                                                  }},
                                                 {"rnn",
                                                  [] {
                                                    return make_sized_rnn("rnn", {12, 5, 16, 20, 2});
                                                  }},
                                                 {"rnn_wide",
                                                  [] {
                                                    return make_sized_rnn("rnn", {8, 4, 20, 28, 0});
                                                  }},
                                                 {"linear", make_small_linear},
                                                 {"testra", make_small_testra},
                                                 {"testra_future", make_future_testra},
                                                 {"testra_box", make_box_testra}};
  return all;
}

/// Runs online_action.py with all titles after its other arguments.
void run_networks(std::vector<std::string> arguments) {
  for (const ActionVariant& variant : action_variants()) arguments.push_back(variant.title);
  test::run_python("online_action.py", arguments);
}

/// A folder for every network with weights, inputs and logits of the reference, made once.
const std::string& networks() {
  static std::string folder;
  if (folder.empty()) {
    folder = test::scratch_dir("online_action");
    run_networks({"write", folder});
  }
  return folder;
}

ActionModel load_network(const ActionVariant& variant, const std::string& file) {
  const ActionModel model = variant.make();
  const std::string path = networks() + "/" + variant.title + "/" + file;
  require_fit(assign(*model.module, load_state_dict(path)), path, /*partial=*/false);
  model.module->eval();
  return model;
}

void expect_logits(const torch::Tensor& found, const torch::Tensor* expected) {
  ASSERT_EQ(found.defined(), expected != nullptr);
  if (expected == nullptr) return;
  ASSERT_EQ(found.sizes(), expected->sizes());
  EXPECT_LE((found - *expected).abs().max().item<double>(), 1e-5);
  EXPECT_GT(expected->std().item<double>(), 0.1);
  if (expected->size(0) == 1) return;
  EXPECT_GT(((*expected)[0] - (*expected)[1]).abs().max().item<double>(), 1e-3) << "the inputs do not matter";
}

constexpr int kActionCases = 2;

class OnlineActionParity : public testing::TestWithParam<ActionVariant> {};

TEST_P(OnlineActionParity, LogitsEqualTheReference) {
  ZOO_NEEDS_PYTHON();
  const torch::NoGradGuard no_grad;
  const StateDict cases = load_tensors(networks() + "/" + GetParam().title + "/cases.safetensors");
  const ActionModel model = load_network(GetParam(), "model.safetensors");
  for (int i = 0; i < kActionCases; ++i) {
    const auto find = [&](const std::string& name) { return cases.find(std::to_string(i) + "." + name); };
    ActionInput input{*find("features"), {}, {}};
    if (model.memory > 0) input.memory = *find("memory"), input.memory_mask = *find("memory_mask");
    const ActionScores scores = model.forward(input);
    expect_logits(scores.current, find("current"));
    expect_logits(scores.future, find("future"));
  }
}

TEST_P(OnlineActionParity, CheckpointsOfTrainingProgramsAreRead) {
  ZOO_NEEDS_PYTHON();
  const StateDict expected = module_state(*load_network(GetParam(), "model.safetensors").module);
  for (const char* file : {"epoch.pth", "model.pth"}) {
    const StateDict found = module_state(*load_network(GetParam(), file).module);
    for (size_t i = 0; i < expected.tensors.size(); ++i) {
      EXPECT_TRUE(found.tensors[i].second.equal(expected.tensors[i].second)) << expected.tensors[i].first;
    }
  }
}

INSTANTIATE_TEST_SUITE_P(Variants, OnlineActionParity, testing::ValuesIn(action_variants()),
                         [](const auto& info) { return info.param.title; });

TEST(OnlineActionParityWeights, PyTorchLoadsWhatZooWrites) {
  ZOO_NEEDS_PYTHON();
  const std::string ours = test::scratch_dir("online_action_ours");
  for (const ActionVariant& variant : action_variants()) {
    const ActionModel model = load_network(variant, "model.safetensors");
    save_pth(ours + "/" + variant.title + ".pth", module_state(*model.module));
  }
  run_networks({"check", ours, networks()});
}

}  // namespace
}  // namespace zoo
