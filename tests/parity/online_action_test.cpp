#include <gtest/gtest.h>
#include <torch/torch.h>

#include <functional>

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
  std::function<ActionModel()> make;
};

template <class Options>
ActionVariant variant(const std::string& title, ActionModel (*make)(const Options&),
                      const nlohmann::json& sizes) {
  nlohmann::json options = Options();
  options.update(sizes);
  return {title, [=] { return make(options.get<Options>()); }};
}

nlohmann::json oadtr_sizes(std::vector<int64_t> sizes, bool task_token) {
  return {{"feature_size", sizes[0]},   {"num_classes", sizes[1]},    {"window", sizes[2]},
          {"hidden_dim", sizes[3]},     {"encoder_layers", sizes[4]}, {"encoder_heads", sizes[5]},
          {"decoder_layers", sizes[6]}, {"decoder_heads", sizes[7]},  {"feedforward", sizes[8]},
          {"horizons", sizes[9]},       {"task_token", task_token}};
}

nlohmann::json trn_sizes(std::vector<int64_t> sizes) {
  return {{"feature_size", sizes[0]},
          {"num_classes", sizes[1]},
          {"hidden_dim", sizes[2]},
          {"horizons", sizes[3]}};
}

nlohmann::json rnn_sizes(const std::string& cell, std::vector<int64_t> sizes) {
  return {{"cell", cell},           {"feature_size", sizes[0]}, {"num_classes", sizes[1]},
          {"projection", sizes[2]}, {"hidden_dim", sizes[3]},   {"horizons", sizes[4]}};
}

nlohmann::json testra_sizes(double decay, std::vector<int64_t> sizes) {
  return {{"decay", decay},
          {"feature_size", sizes[0]},
          {"num_classes", sizes[1]},
          {"window", sizes[2]},
          {"memory", sizes[3]},
          {"queries", sizes[4]},
          {"compressed", sizes[5]},
          {"compression_layers", sizes[6]},
          {"decoder_layers", sizes[6]},
          {"hidden_dim", sizes[7]},
          {"heads", sizes[8]},
          {"feedforward", sizes[9]},
          {"horizons", sizes[10]}};
}

const std::vector<ActionVariant>& action_variants() {
  static const std::vector<ActionVariant> all = {
      variant("oadtr", make_oadtr, oadtr_sizes({12, 5, 7, 16, 2, 4, 3, 2, 24, 3}, true)),
      variant("oadtr_wide", make_oadtr, oadtr_sizes({9, 4, 11, 24, 3, 2, 2, 4, 16, 4}, true)),
      variant("oadtr_without_token", make_oadtr, oadtr_sizes({9, 4, 11, 24, 2, 2, 2, 4, 16, 4}, false)),
      variant("trn", make_trn, trn_sizes({10, 5, 16, 3})),
      variant("trn_wide", make_trn, trn_sizes({7, 4, 24, 4})),
      variant("gru", make_action_rnn, rnn_sizes("gru", {12, 5, 16, 20, 0})),
      variant("gru_future", make_action_rnn, rnn_sizes("gru", {10, 4, 24, 16, 3})),
      variant("lstm", make_action_rnn, rnn_sizes("lstm", {12, 5, 16, 20, 2})),
      variant("lstm_wide", make_action_rnn, rnn_sizes("lstm", {8, 4, 20, 28, 0})),
      variant("rnn", make_action_rnn, rnn_sizes("rnn", {12, 5, 16, 20, 2})),
      variant("rnn_wide", make_action_rnn, rnn_sizes("rnn", {8, 4, 20, 28, 0})),
      variant("linear", make_frame_linear, {{"feature_size", 6}, {"num_classes", 5}, {"horizons", 2}}),
      variant("linear_wide", make_frame_linear, {{"feature_size", 9}, {"num_classes", 3}, {"horizons", 4}}),
      variant("testra", make_testra, testra_sizes(0.97, {12, 5, 8, 24, 4, 6, 2, 16, 4, 24, 0})),
      variant("testra_future", make_testra, testra_sizes(0.5, {10, 4, 6, 24, 3, 5, 2, 24, 2, 16, 3})),
      variant("testra_box", make_testra, testra_sizes(1, {10, 4, 6, 9, 3, 5, 1, 24, 2, 16, 0}))};
  return all;
}

/// Runs online_action.py with all titles after its other arguments.
void run_networks(std::vector<std::string> arguments) {
  for (const ActionVariant& each : action_variants()) arguments.push_back(each.title);
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

ActionModel load_network(const ActionVariant& of, const std::string& file) {
  const ActionModel model = of.make();
  const std::string path = networks() + "/" + of.title + "/" + file;
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
  for (const ActionVariant& each : action_variants()) {
    const ActionModel model = load_network(each, "model.safetensors");
    save_pth(ours + "/" + each.title + ".pth", module_state(*model.module));
  }
  run_networks({"check", ours, networks()});
}

}  // namespace
}  // namespace zoo
