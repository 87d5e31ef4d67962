#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <torch/torch.h>

#include <algorithm>
#include <filesystem>

#include "core/error.h"
#include "core/files.h"
#include "core/log.h"
#include "core/text.h"
#include "models/detr/detr.h"
#include "models/weights/layout.h"
#include "models/weights/state_dict.h"
#include "models/weights/weights_follow.h"
#include "tests/support.h"

namespace zoo {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;
using testing::StartsWith;

using test::error_of;

std::string load_error(const std::string& path) {
  return error_of([&] { load_state_dict(path); });
}

/// Same names, element types, shapes and values; the order may differ.
void expect_equal(const StateDict& state, const StateDict& expected) {
  ASSERT_EQ(state.tensors.size(), expected.tensors.size());
  for (const auto& [name, tensor] : state.tensors) {
    const torch::Tensor* other = expected.find(name);
    ASSERT_NE(other, nullptr) << name;
    EXPECT_EQ(tensor.scalar_type(), other->scalar_type()) << name;
    EXPECT_TRUE(tensor.sizes() == other->sizes()) << name;
    EXPECT_TRUE(tensor.is_floating_point() ? tensor.to(torch::kDouble).equal(other->to(torch::kDouble))
                                           : tensor.to(torch::kLong).equal(other->to(torch::kLong)))
        << name;
  }
}

/// Takes the messages meant for a person while it lives.
class Messages {
 public:
  Messages() {
    set_log_sink([this](const std::string& line) { text_ += line + "\n"; });
    set_log_level(LogLevel::quiet);
  }
  ~Messages() {
    set_log_sink(nullptr);
    set_log_level(LogLevel::normal);
  }
  const std::string& text() const { return text_; }

 private:
  std::string text_;
};

StateDict sample_state() {
  StateDict state;
  const torch::Tensor base = torch::arange(6, torch::kFloat).reshape({2, 3});
  state.tensors = {{"arange", base},
                   {"turned", base.t()},
                   {"half", base.to(torch::kHalf)},
                   {"brain", base.to(torch::kBFloat16)},
                   {"double", base.to(torch::kDouble)},
                   {"flags", base > 2},
                   {"bytes", base.to(torch::kByte)},
                   {"small", -base.to(torch::kChar)},
                   {"short", base.to(torch::kShort)},
                   {"int", base.to(torch::kInt)},
                   {"unsigned", base.to(torch::kUInt32)},
                   {"scalar", torch::tensor(int64_t{42})},
                   {"empty", torch::empty({0, 3})},
                   {"part", base.slice(1, 1, 3)},
                   {"é \"quoted\"", torch::ones({1}).set_requires_grad(true)}};
  state.metadata = {{"zoo.config", "{\"model\": {\"name\": \"détr\"}}\n\x01"}};
  return state;
}

TEST(Weights, ReadWhatPythonWrites) {
  ZOO_NEEDS_PYTHON();
  const std::string folder = test::scratch_dir("weights");
  test::run_python("weights.py", {"write", folder});
  const Messages messages;
  int cases = 0;
  for (const std::string& name : list_folder(folder)) {
    if (!ends_with(name, ".pth")) continue;
    SCOPED_TRACE(name);
    expect_equal(load_state_dict(join_path(folder, name)),
                 load_state_dict(join_path(folder, file_stem(name) + ".expected.safetensors")));
    ++cases;
  }
  EXPECT_EQ(cases, 10);
  EXPECT_THAT(messages.text(),
              HasSubstr("left alone beside the weights: optimizer (dict), lr_scheduler (dict), epoch "
                        "(int), best (numpy._core.multiarray.scalar), rng (tuple), "
                        "args (argparse.Namespace)"));
  const StateDict zip = load_state_dict(folder + "/zip.pth");
  EXPECT_EQ(zip.find("turned")->stride(1), 6);  // a view, no copy
  EXPECT_EQ((*zip.find("part"))[1][2].item<float>(), 16);
  EXPECT_EQ(zip.tensors.front().first, "kind.bool");
  expect_equal(load_state_dict(folder + "/sharded"), load_state_dict(folder + "/zip.expected.safetensors"));
}

TEST(Weights, RefuseWhatIsNoStateDict) {
  ZOO_NEEDS_PYTHON();
  const std::string folder = test::scratch_dir("refused");
  test::run_python("weights.py", {"write", folder});
  EXPECT_THAT(load_error(folder + "/script.refused"),
              HasSubstr("is a TorchScript archive, expected weights"));
  EXPECT_THAT(load_error(folder + "/module.refused"),
              HasSubstr("holds a torch.nn.modules.container.Sequential, expected"));
  EXPECT_THAT(load_error(folder + "/sparse.refused"),
              HasSubstr("w: is what torch._utils._rebuild_sparse_tensor makes"));
  EXPECT_THAT(load_error(folder + "/complex.refused"), HasSubstr("torch.ComplexFloatStorage"));
  EXPECT_THAT(load_error(folder + "/list.refused"), HasSubstr("holds a list, expected a state dict"));
  EXPECT_THAT(load_error(folder + "/arrays.refused"), HasSubstr("is a NumPy archive"));
}

TEST(Weights, PublishedFilesEqualTorchLoad) {
  ZOO_NEEDS_PYTHON();
  ZOO_NEEDS_SHARED_DATA();
  const std::string folder = test::scratch_dir("published");
  for (const std::string name : {"mobilefacenet/mobilefacenet.pt", "lpips/vgg.pth", "lpips/squeeze.pth"}) {
    SCOPED_TRACE(name);
    const std::string file = join_path(test::shared_data(), name),
                      expected = folder + "/expected.safetensors";
    test::run_python("weights.py", {"expect", file, expected});
    expect_equal(load_state_dict(file), load_state_dict(expected));
  }
}

TEST(Weights, PythonReadsWhatZooWrites) {
  ZOO_NEEDS_PYTHON();
  const std::string folder = test::scratch_dir("written");
  const StateDict state = sample_state();
  save_safetensors(folder + "/ours.safetensors", state);
  save_pth(folder + "/ours.pth", state);
  test::run_python("weights.py", {"check", folder});
  EXPECT_EQ(read_file(folder + "/ours.safetensors"), read_file(folder + "/reference.safetensors"));
}

TEST(Weights, RoundTripInBothFormats) {
  const std::string folder = test::scratch_dir("round");
  const StateDict state = sample_state();
  save_safetensors(folder + "/a", state);
  save_pth(folder + "/b", state);
  const StateDict first = load_state_dict(folder + "/a"), second = load_state_dict(folder + "/b");
  expect_equal(first, state);
  expect_equal(second, state);
  EXPECT_EQ(first.metadata, state.metadata);
  EXPECT_EQ(first.source, folder + "/a");
  for (size_t i = 0; i < state.tensors.size(); ++i)
    EXPECT_EQ(second.tensors[i].first, state.tensors[i].first);
}

TEST(Weights, TensorsOutliveTheirFileAndStateDict) {
  const std::string file = test::scratch_dir("alive") + "/w.safetensors";
  save_safetensors(file, sample_state());
  torch::Tensor tensor;
  {
    const StateDict state = load_state_dict(file);
    tensor = *state.find("turned");
  }
  std::filesystem::remove(file);
  EXPECT_EQ(tensor[2][1].item<float>(), 5);
}

TEST(Weights, BooleansOtherThan0And1AreTrue) {
  const std::string file = test::scratch_dir("bool") + "/w";
  const std::string header = R"({"b":{"dtype":"BOOL","shape":[3],"data_offsets":[0,3]}}  )";
  const uint64_t length = header.size();
  write_file(file,
             std::string(reinterpret_cast<const char*>(&length), 8) + header + std::string("\0\1\7", 3));
  EXPECT_EQ(load_state_dict(file).tensors.at(0).second.sum().item<int64_t>(), 2);
}

TEST(Weights, TheTrainersStateIsLeftOut) {
  const std::string file = test::scratch_dir("checkpoint") + "/last.ckpt";
  StateDict state;
  state.tensors = {{"w", torch::ones({2})}, {"trainer.optimizer.w.exp_avg", torch::ones({2})}};
  save_safetensors(file, state);
  EXPECT_EQ(load_state_dict(file).tensors.size(), 1u);
  EXPECT_EQ(load_tensors(file).tensors.size(), 2u);
}

TEST(Weights, WrapperPrefixesComeOffPickles) {
  const std::string folder = test::scratch_dir("prefix");
  StateDict state;
  state.tensors = {{"module._orig_mod.a", torch::ones({2})}, {"module._orig_mod.module.b", torch::ones({2})}};
  save_pth(folder + "/a.pth", state);
  const StateDict loaded = load_state_dict(folder + "/a.pth");
  EXPECT_EQ(loaded.tensors[0].first, "a");
  EXPECT_EQ(loaded.tensors[1].first, "module.b");
  state.tensors.push_back({"other", torch::ones({1})});
  save_pth(folder + "/b.pth", state);
  EXPECT_EQ(load_state_dict(folder + "/b.pth").tensors[0].first, "module._orig_mod.a");
}

TEST(Weights, FoldersSayWhichFileTheyGave) {
  const std::string folder = test::scratch_dir("run");
  const Messages messages;
  EXPECT_THAT(load_error(folder), HasSubstr("holds no weight file, expected a run"));
  StateDict state;
  const auto put = [&](const std::string& name, float value) {
    state.tensors = {{"w", torch::full({1}, value)}};
    save_safetensors(join_path(folder, name), state);
  };
  const auto value = [&] { return load_state_dict(folder).tensors.at(0).second.item<float>(); };
  write_file(folder + "/config.json", "{}");
  put("first.bin", 1);
  EXPECT_EQ(value(), 1);
  put("second.bin", 2);
  EXPECT_THAT(load_error(folder), HasSubstr("holds first.bin, second.bin, expected a run"));
  put("model.safetensors", 3);
  EXPECT_EQ(value(), 3);
  put("last.safetensors", 4);
  EXPECT_EQ(value(), 4);
  put("best.safetensors", 5);
  EXPECT_EQ(value(), 5);
  EXPECT_THAT(messages.text(), HasSubstr("weights: " + folder + "/best.safetensors\n"));
  EXPECT_THAT(load_error(folder + "/none"), HasSubstr("none: No such file"));
}

TEST(Weights, ShardsStayInTheirFolder) {
  const std::string folder = test::scratch_dir("shards");
  const std::string index = folder + "/model.safetensors.index.json";
  StateDict state;
  state.tensors = {{"a", torch::ones({2})}};
  save_safetensors(folder + "/one", state);
  save_safetensors(folder + "/two", state);
  const auto error_with = [&](const std::string& json) {
    write_file(index, json);
    return load_error(index);
  };
  EXPECT_EQ(error_with(R"({"weight_map": {"a": "one"}})"), "");
  EXPECT_THAT(error_with(R"({"weight_map": {"a": "../one"}})"),
              HasSubstr("weight_map: a: '../one' is no file beside"));
  EXPECT_THAT(error_with(R"({"weight_map": {"a": "x/../../one"}})"), HasSubstr("no file beside the index"));
  EXPECT_THAT(error_with(R"({"weight_map": {"a": "/etc/passwd"}})"), HasSubstr("no file beside the index"));
  EXPECT_THAT(error_with(R"({"weight_map": {"a": 3}})"), HasSubstr("no file beside the index"));
  EXPECT_THAT(error_with(R"({"weight_map": {"b": "one"}})"), HasSubstr("b is not in one, expected it there"));
  EXPECT_THAT(error_with(R"({"weight_map": {"a": "one", "b": "two"}})"), HasSubstr("a is in one and in two"));
  EXPECT_THAT(error_with(R"({"weight_map": {"a": "three"}})"), HasSubstr("three"));
  EXPECT_THAT(error_with(R"({"model": 1})"), HasSubstr("JSON without a weight_map"));
  EXPECT_THAT(error_with("{"), HasSubstr("not JSON"));
}

TEST(Weights, AssignCopiesWhatFitsAndNamesTheRest) {
  torch::nn::Sequential module(torch::nn::Linear(3, 2), torch::nn::BatchNorm1d(2));
  StateDict state;
  state.tensors = {{"0.weight", torch::arange(6, torch::kDouble).reshape({2, 3})},
                   {"0.bias", torch::zeros({3})},
                   {"1.running_mean", torch::full({2}, 4.0)},
                   {"1.running_var", torch::ones({2})},
                   {"1.weight", torch::ones({2})},
                   {"0.num_batches_tracked", torch::tensor(3)},
                   {"loss.weight", torch::zeros({7})},
                   {"head.bias", torch::tensor(1.0)}};
  const FitReport report = assign(*module, state, {"loss."});
  EXPECT_THAT(report.missing, ElementsAre("1.bias [2]"));
  EXPECT_THAT(report.extra, ElementsAre("head.bias []"));
  EXPECT_THAT(report.misshapen, ElementsAre("0.bias [3], expected [2]"));
  EXPECT_EQ(
      report.message("FILE"),
      "FILE: 1 missing, 1 extra, 1 misshapen tensors (first missing: 1.bias [2]; first extra: head.bias []; "
      "first misshapen: 0.bias [3], expected [2])");
  const StateDict after = module_state(*module);
  EXPECT_EQ((*after.find("0.weight"))[1][2].item<float>(), 5);
  EXPECT_EQ(after.find("0.weight")->scalar_type(), torch::kFloat);
  EXPECT_EQ((*after.find("1.running_mean"))[0].item<float>(), 4);
  EXPECT_TRUE(after.find("0.weight")->requires_grad());
}

TEST(WeightsFollow, AssignGivesTheTensorsThemselves) {
  StateDict state;
  state.tensors = {{"0.weight", torch::arange(6, torch::kFloat).reshape({2, 3})},
                   {"0.bias", torch::full({2}, 5, torch::kDouble)},
                   {"1.running_mean", torch::full({2}, 4.0F)},
                   {"1.weight", torch::ones({2, 2}).select(1, 0)}};
  torch::nn::Sequential module;
  {
    const WeightsFollowScope scope;
    EXPECT_TRUE(WeightsFollowScope::active());
    module = torch::nn::Sequential(torch::nn::Linear(3, 2), torch::nn::BatchNorm1d(2));
    EXPECT_TRUE(scope.incomplete());
    EXPECT_THAT(assign(*module, state).missing, ElementsAre("1.bias [2]", "1.running_var [2]"));
    EXPECT_FALSE(scope.incomplete());  // what is missing has values: ones and zeros
  }
  EXPECT_FALSE(WeightsFollowScope::active());
  const StateDict after = module_state(*module);
  for (const char* name : {"0.weight", "1.running_mean"}) {
    EXPECT_EQ(after.find(name)->data_ptr(), state.find(name)->data_ptr()) << name;
  }
  EXPECT_TRUE(after.find("0.weight")->requires_grad());
  EXPECT_TRUE(module->at<torch::nn::LinearImpl>(0).weight.is_same(*after.find("0.weight")));
  EXPECT_EQ(after.find("0.bias")->scalar_type(), torch::kFloat);
  EXPECT_EQ((*after.find("0.bias"))[1].item<float>(), 5);
  EXPECT_TRUE(after.find("1.weight")->is_contiguous());
  EXPECT_EQ((*after.find("1.bias"))[0].item<float>(), 0);
  EXPECT_EQ((*after.find("1.running_var"))[1].item<float>(), 1);
}

// Whatever the recipe: each drawn tensor must come from the file, and one that does not is noticed.
TEST(WeightsFollow, OneMissingTensorIsNoticed) {
  DetrOptions options = detr_tiny();
  options.num_classes = 3;
  options.position = "learned";
  const Detr original(options);
  const StateDict all = module_state(*original);
  for (const char* left_out : {"", "class_embed.weight", "backbone.1.row_embed.weight",
                               "transformer.decoder.layers.0.self_attn.in_proj_weight"}) {
    StateDict state = all;
    const auto gone = std::remove_if(state.tensors.begin(), state.tensors.end(),
                                     [&](const auto& named) { return named.first == left_out; });
    state.tensors.erase(gone, state.tensors.end());
    const WeightsFollowScope scope;
    Detr detr(options);
    assign(*detr, state);
    EXPECT_EQ(scope.incomplete(), *left_out != 0) << left_out;
    for (const auto& [name, tensor] : module_state(*detr).tensors) {
      EXPECT_EQ(tensor.data_ptr() == all.find(name)->data_ptr(), name != left_out) << name;
    }
  }
}

TEST(WeightsFollow, DrawingGoesOnAfterwards) {
  torch::manual_seed(3);
  const torch::Tensor expected = torch::nn::Linear(5, 4)->weight;
  torch::manual_seed(3);
  {
    const WeightsFollowScope scope;
    const torch::nn::Linear undrawn(7, 9);
  }
  EXPECT_TRUE(torch::nn::Linear(5, 4)->weight.equal(expected));
}

TEST(Weights, RequireFitThrowsOrWarns) {
  torch::nn::Linear module(3, 2);
  StateDict state = module_state(*module);
  EXPECT_TRUE(assign(*module, state).fits());
  EXPECT_NO_THROW(require_fit(assign(*module, state), "FILE", false));
  state.tensors.pop_back();
  const FitReport report = assign(*module, state);
  EXPECT_EQ(error_of([&] { require_fit(report, "FILE", false); }),
            "FILE: 1 missing, 0 extra, 0 misshapen tensors (first missing: bias [2])");
  const Messages messages;
  require_fit(report, "FILE", true);
  EXPECT_THAT(messages.text(), StartsWith("warning: FILE: 1 missing"));
}

TEST(Weights, WritersRefuseWhatHasNoPlace) {
  const std::string folder = test::scratch_dir("unwritable");
  StateDict state;
  state.tensors = {{"a", torch::ones({1})}, {"a", torch::ones({1})}};
  EXPECT_THAT(error_of([&] { save_safetensors(folder + "/w", state); }), HasSubstr("two tensors named a"));
  state.tensors = {{"c", torch::ones({1}, torch::kComplexFloat)}};
  EXPECT_THAT(error_of([&] { save_pth(folder + "/w", state); }),
              HasSubstr("cannot write c: elements of type ComplexFloat"));
  EXPECT_TRUE(list_folder(folder).empty());
}

Layout attention_layout() {
  Layout layout;
  layout.name = "test";
  for (int part = 0; part < 3; ++part) {
    const std::string letter(1, "qkv"[part]);
    layout.rules.push_back({R"(model\.layers\.(\d+)\.)" + letter + R"(_proj\.(weight|bias))",
                            "layers.$1.in_proj_$2", R"(layers\.(\d+)\.in_proj_(weight|bias))",
                            "model.layers.$1." + letter + "_proj.$2", part, 3});
  }
  layout.rules.push_back({R"(model\.layers\.(\d+)\.o_proj\.(.*))", "layers.$1.out_proj.$2", "", ""});
  layout.rules.push_back({R"(model\.layers\.(\d+)\.out_proj\.(.*))", "layers.$1.out_proj.$2",
                          R"(layers\.(\d+)\.out_proj\.(.*))", "model.layers.$1.out_proj.$2"});
  layout.ignored = {"*.num_batches_tracked"};
  return layout;
}

TEST(Layout, JoinsAndSplits) {
  StateDict ours;
  ours.source = "FILE";
  ours.tensors = {{"layers.10.in_proj_weight", torch::arange(12, torch::kFloat).reshape({6, 2})},
                  {"layers.10.in_proj_bias", torch::arange(6, torch::kFloat)},
                  {"layers.10.out_proj.weight", torch::ones({2, 2})},
                  {"other", torch::ones({1})}};
  const StateDict theirs = to_layout(ours, attention_layout());
  ASSERT_EQ(theirs.tensors.size(), 8u);
  EXPECT_TRUE(theirs.find("model.layers.10.k_proj.weight")->equal(torch::tensor({{4.f, 5.f}, {6.f, 7.f}})));
  EXPECT_TRUE(theirs.find("model.layers.10.v_proj.bias")->equal(torch::tensor({4.f, 5.f})));
  EXPECT_NE(theirs.find("model.layers.10.out_proj.weight"), nullptr);
  EXPECT_NE(theirs.find("other"), nullptr);
  expect_equal(from_layout(theirs, attention_layout()), ours);
}

TEST(Layout, SecondSpellingsIgnoredNamesAndMissingParts) {
  StateDict theirs;
  theirs.tensors = {{"model.layers.0.q_proj.bias", torch::ones({2})},
                    {"model.layers.0.v_proj.bias", torch::ones({2})},
                    {"model.layers.0.o_proj.bias", torch::ones({2})},
                    {"bn.num_batches_tracked", torch::tensor(1)}};
  const StateDict ours = from_layout(theirs, attention_layout());
  ASSERT_EQ(ours.tensors.size(), 3u);
  EXPECT_NE(ours.find("layers.0.out_proj.bias"), nullptr);
  EXPECT_NE(ours.find("model.layers.0.q_proj.bias"), nullptr);  // reported as extra, in_proj_bias as missing
}

TEST(Layout, RefusesCollisionsAndUnequalParts) {
  StateDict theirs;
  theirs.source = "FILE";
  theirs.tensors = {{"model.layers.0.o_proj.bias", torch::ones({2})},
                    {"model.layers.0.out_proj.bias", torch::ones({2})}};
  EXPECT_EQ(
      error_of([&] { from_layout(theirs, attention_layout()); }),
      "FILE: model.layers.0.o_proj.bias and model.layers.0.out_proj.bias are both layers.0.out_proj.bias");
  theirs.tensors = {{"model.layers.0.q_proj.bias", torch::ones({2})},
                    {"model.layers.0.k_proj.bias", torch::ones({3})},
                    {"model.layers.0.v_proj.bias", torch::ones({2})}};
  EXPECT_THAT(error_of([&] { from_layout(theirs, attention_layout()); }), HasSubstr("k_proj.bias [3] and"));
  StateDict ours;
  ours.source = "FILE";
  ours.tensors = {{"layers.0.in_proj_bias", torch::ones({7})}};
  EXPECT_THAT(error_of([&] { to_layout(ours, attention_layout()); }),
              HasSubstr("[7] cannot be split into 3 equal parts"));
}

}  // namespace
}  // namespace zoo
