#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <torch/script.h>
#include <torch/torch.h>

#include <algorithm>
#include <cmath>

#include "models/action_rnn/action_rnn.h"
#include "models/action_rnn/frame_linear.h"
#include "models/export/torchscript.h"
#include "models/layers/attention.h"
#include "models/layers/recurrent.h"
#include "models/oadtr/oadtr.h"
#include "models/online_action/action_trace.h"
#include "models/online_action/criterion.h"
#include "models/precision.h"
#include "models/testra/decayed_attention.h"
#include "models/testra/testra.h"
#include "models/trn/trn.h"
#include "models/weights/weights_follow.h"
#include "tests/support.h"

namespace zoo {
namespace {

using test::error_of;
using testing::HasSubstr;

/// Options with some values of their own.
template <class Options>
Options action_options(const nlohmann::json& values) {
  nlohmann::json all = Options();
  all.update({{"feature_size", 6}, {"num_classes", 4}});
  all.update(values);
  return all.get<Options>();
}

OadTrOptions small_oadtr() {
  return action_options<OadTrOptions>({{"window", 7},
                                       {"hidden_dim", 16},
                                       {"encoder_layers", 2},
                                       {"encoder_heads", 4},
                                       {"decoder_layers", 2},
                                       {"decoder_heads", 2},
                                       {"feedforward", 24},
                                       {"horizons", 3}});
}

TrnOptions small_trn() {
  return action_options<TrnOptions>({{"hidden_dim", 16}, {"horizons", 3}, {"window", 5}});
}

ActionRnnOptions small_rnn(const std::string& cell, int64_t horizons) {
  return action_options<ActionRnnOptions>(
      {{"projection", 12}, {"hidden_dim", 16}, {"cell", cell}, {"horizons", horizons}, {"window", 9}});
}

FrameLinearOptions small_linear() {
  return action_options<FrameLinearOptions>({{"horizons", 2}, {"window", 3}});
}

TestraOptions small_testra() {
  return action_options<TestraOptions>({{"window", 6},
                                        {"memory", 24},
                                        {"decay", 0.5},
                                        {"queries", 3},
                                        {"compressed", 5},
                                        {"hidden_dim", 16},
                                        {"heads", 4},
                                        {"feedforward", 24},
                                        {"horizons", 2}});
}

/// A stream keeps the samples themselves.
TestraOptions boxed_testra() {
  TestraOptions options = small_testra();
  options.memory = 5;
  options.decay = 1;
  options.memory_rate = 3;
  options.horizons = 0;
  return options;
}

/// Any values but the initial ones: no bias is 0, no gain 1.
void disturb(torch::nn::Module& module) {
  const torch::NoGradGuard no_grad;
  for (torch::Tensor& parameter : module.parameters()) parameter += 0.2 * torch::randn_like(parameter);
}

struct SmallAction {
  std::string name;
  ActionModel model;
};

std::vector<SmallAction> small_actions() {
  torch::manual_seed(3);
  OadTrOptions without_token = small_oadtr();
  without_token.task_token = false;
  TestraOptions forgetful = boxed_testra();
  forgetful.decay = 0.9;
  std::vector<SmallAction> all = {{"oadtr", make_oadtr(small_oadtr())},
                                  {"oadtr_without_token", make_oadtr(without_token)},
                                  {"trn", make_trn(small_trn())},
                                  {"gru", make_action_rnn(small_rnn("gru", 0))},
                                  {"lstm", make_action_rnn(small_rnn("lstm", 2))},
                                  {"rnn", make_action_rnn(small_rnn("rnn", 2))},
                                  {"linear", make_frame_linear(small_linear())},
                                  {"testra", make_testra(small_testra())},
                                  {"testra_box", make_testra(boxed_testra())},
                                  {"testra_forgetful", make_testra(forgetful)}};
  for (SmallAction& small : all) {
    disturb(*small.model.module);
    small.model.module->eval();
  }
  return all;
}

/// The long memory of a window that begins with step `start`: its samples and how many are real.
std::vector<int64_t> samples_before(int64_t start, const ActionModel& model) {
  std::vector<int64_t> samples;
  for (int64_t step = 0; step < start; step += model.memory_rate) samples.push_back(step);
  if (samples.empty()) samples.push_back(0);
  const auto count = std::min(samples.size(), static_cast<size_t>(model.memory));
  return {samples.end() - static_cast<int64_t>(count), samples.end()};
}

/// What `forward` sees of streams [B,L,D] at step t.
ActionInput input_at(const ActionModel& model, const torch::Tensor& streams, int64_t t) {
  ActionInput input;
  const int64_t begin = t - model.window + 1;
  const bool whole = model.scores_all && model.memory == 0;  // recurrent
  input.features = streams.slice(1, whole ? 0 : std::max<int64_t>(begin, 0), t + 1);
  if (!model.scores_all && begin < 0) {
    input.features = torch::cat({streams.slice(1, 0, 1).repeat({1, -begin, 1}), input.features}, 1);
  }
  if (model.memory == 0) return input;
  const auto samples = samples_before(std::max<int64_t>(begin, 0), model);
  const int64_t missing = model.memory - static_cast<int64_t>(samples.size());
  input.memory =
      torch::constant_pad_nd(streams.index_select(1, torch::tensor(samples)), {0, 0, missing, 0}, 9);
  input.memory_mask = (torch::arange(model.memory) >= missing).repeat({streams.size(0), 1});
  return input;
}

double distance(const torch::Tensor& a, const torch::Tensor& b) {
  EXPECT_EQ(a.sizes(), b.sizes());
  return (a - b).abs().max().item<double>();
}

/// Expects that a step's logits are those of `forward` on what the streams have had.
void expect_same_step(const SmallAction& small, const ActionStep& step, const torch::Tensor& streams,
                      int64_t t) {
  const ActionScores scores = small.model.forward(input_at(small.model, streams, t));
  EXPECT_LE(distance(step.current, scores.current.select(1, -1)), 1e-5) << small.name << " step " << t;
  ASSERT_EQ(step.future.defined(), small.model.horizons > 0) << small.name;
  if (!step.future.defined()) return;
  EXPECT_LE(distance(step.future, scores.future.select(1, -1)), 1e-5) << small.name << " step " << t;
}

TEST(OnlineAction, AStreamStepByStepEqualsItsWindows) {
  const torch::NoGradGuard no_grad;
  for (const SmallAction& small : small_actions()) {
    const torch::Tensor streams = torch::randn({2, 45, small.model.feature_size});
    ActionState state = small.model.start(2, torch::kCPU);
    ASSERT_EQ(state.size(), small.model.state_names.size());
    for (int64_t t = 0; t < streams.size(1); ++t) {
      const ActionStep step = small.model.step(streams.select(1, t), state);
      expect_same_step(small, step, streams, t);
      for (size_t i = 0; i < state.size(); ++i) EXPECT_EQ(step.state[i].sizes(), state[i].sizes());
      state = step.state;
    }
  }
}

TEST(OnlineAction, StreamsAtDifferentStepsShareABatch) {
  const torch::NoGradGuard no_grad;
  for (const SmallAction& small : small_actions()) {
    const std::vector<int64_t> ages = {0, 1, 6, 7, 14, 30};
    const torch::Tensor streams =
        torch::randn({static_cast<int64_t>(ages.size()), 50, small.model.feature_size});
    std::vector<ActionState> states;
    for (size_t i = 0; i < ages.size(); ++i) {
      states.push_back(small.model.start(1, torch::kCPU));
      for (int64_t t = 0; t < ages[i]; ++t) {
        states[i] = small.model.step(streams[static_cast<int64_t>(i)].slice(0, t, t + 1), states[i]).state;
      }
    }
    ActionState joined;
    for (size_t k = 0; k < small.model.state_names.size(); ++k) {
      std::vector<torch::Tensor> rows;
      for (const ActionState& state : states) rows.push_back(state[k]);
      joined.push_back(torch::cat(rows));
    }
    for (int64_t more = 0; more < 12; ++more) {
      std::vector<torch::Tensor> rows;
      for (size_t i = 0; i < ages.size(); ++i)
        rows.push_back(streams[static_cast<int64_t>(i)][ages[i] + more]);
      const ActionStep step = small.model.step(torch::stack(rows), joined);
      joined = step.state;
      for (size_t i = 0; i < ages.size(); ++i) {
        const auto row = static_cast<int64_t>(i);
        const ActionInput input = input_at(small.model, streams.slice(0, row, row + 1), ages[i] + more);
        const torch::Tensor expected = small.model.forward(input).current.select(1, -1);
        EXPECT_LE(distance(step.current.slice(0, row, row + 1), expected), 1e-5)
            << small.name << " stream " << i << " after " << more << " steps";
      }
    }
  }
}

TEST(OnlineAction, ALongStreamStaysEqual) {
  const torch::NoGradGuard no_grad;
  for (const SmallAction& small : small_actions()) {
    if (small.model.memory == 0) continue;
    const torch::Tensor streams = torch::randn({1, 1100, small.model.feature_size});
    ActionState state = small.model.start(1, torch::kCPU);
    for (int64_t t = 0; t < streams.size(1); ++t) {
      const ActionStep step = small.model.step(streams.select(1, t), state);
      if (t % 99 == 98 || t > 1097) expect_same_step(small, step, streams, t);
      state = step.state;
    }
  }
}

TEST(OnlineAction, TestraStreamsEndlesslyWhereTheRestWeighsNothing) {
  EXPECT_TRUE(TestraOptions().endless());  // 0.97^512
  EXPECT_TRUE(small_testra().endless());
  EXPECT_FALSE(boxed_testra().endless());
  TestraOptions kitchens;
  kitchens.decay = 0.9;
  kitchens.memory = 64;  // 1e-3
  EXPECT_FALSE(kitchens.endless());
  EXPECT_THAT(Testra(small_testra())->state_names(), testing::Contains("memory_sum"));
  EXPECT_THAT(Testra(boxed_testra())->state_names(), testing::Contains("memory_keys"));
}

TEST(OnlineAction, TestraSurvivesHugeLogits) {
  const torch::NoGradGuard no_grad;
  for (const TestraOptions& options : {small_testra(), boxed_testra()}) {
    torch::manual_seed(2);
    SmallAction small{"testra", make_testra(options)};
    disturb(*small.model.module);
    small.model.module->eval();
    for (auto& item : small.model.module->named_parameters()) {
      // Queries and keys of the attention to the long memory alone.
      if (item.key() == "enc_modules.0.layers.0.multihead_attn.in_proj_weight") {
        item.value().slice(0, 0, 2 * options.hidden_dim) *= 60;
      }
    }
    const torch::Tensor streams =
        torch::randn({1, 150, options.feature_size}) * torch::linspace(0, 3, 150).unsqueeze(1);
    ActionState state = small.model.start(1, torch::kCPU);
    for (int64_t t = 0; t < streams.size(1); ++t) {
      // First ever larger, then small again.
      const ActionStep step = small.model.step(streams.select(1, t < 75 ? 2 * t : 2 * (149 - t)), state);
      ASSERT_TRUE(step.current.isfinite().all().item<bool>()) << t;
      state = step.state;
    }
  }
}

TEST(OnlineAction, ADecayedSumIsTheSoftmaxOfAllKeys) {
  torch::manual_seed(4);
  const int64_t keys = 900;
  const double decay = 0.97;
  const torch::Tensor mask = decay_mask(torch::ones({2, keys}, torch::kBool), decay);
  // With scores this large one key may outweigh all others for hundreds of steps, each of which rounds.
  for (const auto& [spread, tolerance] : {std::pair(3.0, 1e-5), std::pair(40.0, 1e-4)}) {
    const torch::Tensor scores = spread * torch::randn({2, 3, 4, keys});  // [B,H,Q,N]
    const torch::Tensor values = torch::randn({2, 3, keys, 5});
    DecayedSum sum{torch::full({2, 3, 4}, 1e30), torch::full({2, 3, 4}, NAN), torch::full({2, 3, 4, 5}, NAN)};
    for (int64_t i = 0; i < keys; ++i) {
      sum = add_key(sum, scores.select(-1, i), values.select(2, i), torch::full({2}, i == 0), decay);
    }
    const torch::Tensor weights = (scores.to(torch::kDouble) + mask).softmax(-1);
    const torch::Tensor expected = weights.matmul(values.to(torch::kDouble));
    EXPECT_LE(distance(sum.attended().to(torch::kDouble), expected), tolerance);
  }
}

TEST(OnlineAction, OldKeysFadeHoweverLargeTheyWere) {
  DecayedSum sum;
  const auto row = [](double value) { return torch::full({1, 1, 1}, value); };
  for (int64_t i = 0; i < 10000; ++i) {
    sum = add_key(i == 0 ? DecayedSum{row(0), row(0), torch::zeros({1, 1, 1, 1})} : sum,
                  row(i == 0 ? 200 : 0), row(i == 0 ? 1 : -1), torch::full({1}, i == 0), 0.97);
    ASSERT_TRUE(sum.attended().isfinite().all().item<bool>()) << i;
  }
  EXPECT_NEAR(sum.attended().item<double>(), -1, 1e-5);
}

TEST(OnlineAction, DecayMaskCountsFollowers) {
  const torch::Tensor valid = torch::tensor({{false, true, true}, {true, true, true}});
  const torch::Tensor mask = decay_mask(valid, 0.5);
  const double none = -std::numeric_limits<double>::infinity(), half = std::log(0.5);
  EXPECT_TRUE(
      mask.squeeze().allclose(torch::tensor({{none, half, 0.0}, {2 * half, half, 0.0}}, torch::kFloat)));
  EXPECT_TRUE(decay_mask(valid, 1).squeeze().equal(valid));
}

TEST(OnlineAction, AttentionTakesMasksOfBothKinds) {
  torch::manual_seed(5);
  const torch::Tensor x = torch::randn({2, 5, 12});
  const torch::Tensor allowed = torch::ones({5, 5}, torch::kBool).tril();
  const torch::Tensor added = decay_mask(torch::ones({2, 5}, torch::kBool), 0.5);
  for (const torch::Tensor& mask : {allowed, added}) {
    const torch::Tensor masked = attend_by_heads(x, 2 * x, x, 3, mask, 0);
    // So little dropout that nothing is lost: the same by other operators.
    EXPECT_LE(distance(attend_by_heads(x, 2 * x, x, 3, mask, 1e-12), masked), 1e-6);
    EXPECT_GT(distance(attend_by_heads(x, 2 * x, x, 3, {}, 0), masked), 1e-2);
  }
}

struct PublishedSize {
  int64_t parameters;
  size_t tensors;
};

PublishedSize size_of(const torch::nn::Module& module) {
  int64_t count = 0;
  for (const torch::Tensor& parameter : module.parameters()) count += parameter.numel();
  return {count, module_state(module).tensors.size()};
}

TEST(OnlineAction, NetworksHaveThePublishedSizes) {
  const WeightsFollowScope no_values;  // memory that nobody fills
  TestraOptions kitchens;
  kitchens.horizons = 8;
  const std::vector<std::pair<ActionModel, PublishedSize>> table = {
      {make_oadtr({}), {74709036, 179}},
      {make_trn({}), {357828630, 20}},
      {make_action_rnn({}), {15763478, 10}},
      {make_action_rnn([] {
         ActionRnnOptions options;
         options.horizons = 8;
         return options;
       }()),
       {24160278, 12}},
      {make_testra({}), {58882070, 105}},
      {make_testra(kitchens), {58882070 + 8 * 1024, 106}}};
  for (const auto& [model, published] : table) {
    const PublishedSize found = size_of(*model.module);
    EXPECT_EQ(found.parameters, published.parameters);
    EXPECT_EQ(found.tensors, published.tensors);
  }
}

TEST(OnlineAction, OptionsAreToldByTheTensors) {
  const auto same = [](const auto& found, const auto& expected) {
    EXPECT_EQ(nlohmann::json(found), nlohmann::json(expected));
  };
  OadTrOptions oadtr = small_oadtr();
  oadtr.encoder_layers = 3;
  OadTrOptions heads;
  heads.encoder_heads = 4;
  heads.decoder_heads = 2;
  same(oadtr_options_of(module_state(*OadTr(oadtr)), heads), oadtr);
  oadtr.task_token = false;
  same(oadtr_options_of(module_state(*OadTr(oadtr)), heads), oadtr);

  TrnOptions trn = small_trn();
  same(trn_options_of(module_state(*Trn(trn)), trn), trn);

  for (const char* cell : {"gru", "lstm", "rnn"}) {
    const ActionRnnOptions rnn = small_rnn(cell, 3);
    ActionRnnOptions other;
    other.window = rnn.window;
    same(action_rnn_options_of(module_state(*ActionRnn(rnn)), other), rnn);
  }

  const TestraOptions testra = small_testra();
  TestraOptions other;
  other.window = testra.window;
  other.memory = testra.memory;
  other.decay = testra.decay;
  other.heads = testra.heads;
  same(testra_options_of(module_state(*Testra(testra)), other), testra);
}

TEST(OnlineAction, NamesTellTheNetwork) {
  const std::vector<StateDict> states = {module_state(*OadTr(small_oadtr())), module_state(*Trn(small_trn())),
                                         module_state(*ActionRnn(small_rnn("gru", 0))),
                                         module_state(*Testra(small_testra()))};
  for (size_t i = 0; i < states.size(); ++i) {
    EXPECT_EQ(oadtr_recognises(states[i]), i == 0);
    EXPECT_EQ(trn_recognises(states[i]), i == 1);
    EXPECT_EQ(action_rnn_recognises(states[i]), i == 2);
    EXPECT_EQ(testra_recognises(states[i]), i == 3);
  }
  EXPECT_FALSE(action_rnn_recognises(states[2], small_rnn("lstm", 0)));
  EXPECT_THAT(error_of([&] { oadtr_options_of(states[1]); }), HasSubstr("are not an OadTR's"));
  EXPECT_THAT(error_of([&] { trn_options_of(states[0]); }), HasSubstr("are not a TRN's"));
  EXPECT_THAT(error_of([&] { action_rnn_options_of(states[0]); }), HasSubstr("expected MiniROAD's"));
  EXPECT_THAT(error_of([&] { testra_options_of(states[0]); }), HasSubstr("are not a TeSTra's"));
}

TEST(OnlineAction, GradientsReachAllWeights) {
  for (SmallAction& small : small_actions()) {
    small.model.module->train();
    const torch::Tensor streams = torch::randn({3, 60, small.model.feature_size});
    const ActionInput input =
        input_at(small.model, streams, small.model.memory > 0 ? 59 : small.model.window - 1);
    const ActionScores scores = small.model.forward(input);
    torch::Tensor sum = scores.current.square().sum();
    if (scores.future.defined()) sum = sum + scores.future.square().sum();
    sum.backward();
    for (const auto& item : small.model.module->named_parameters()) {
      if (!item.value().requires_grad()) continue;
      ASSERT_TRUE(item.value().grad().defined()) << small.name << " " << item.key();
      EXPECT_GT(item.value().grad().abs().sum().item<double>(), 0) << small.name << " " << item.key();
    }
  }
}

TEST(OnlineAction, Bfloat16HasNearlyTheSameGradients) {
  for (SmallAction& small : small_actions()) {
    const torch::Tensor streams = torch::randn({3, 60, small.model.feature_size});
    const ActionInput input =
        input_at(small.model, streams, small.model.memory > 0 ? 59 : small.model.window - 1);
    const auto gradients = [&](torch::ScalarType type) {
      small.model.module->zero_grad();
      torch::Tensor logits;
      {
        const AutocastGuard autocast(torch::kCPU, type);
        logits = small.model.forward(input).current;
      }
      logits.to(torch::kFloat).square().sum().backward();
      std::vector<torch::Tensor> rows;
      for (const torch::Tensor& parameter : small.model.module->parameters()) {
        if (parameter.grad().defined()) rows.push_back(parameter.grad().flatten().clone());
      }
      return torch::cat(rows);
    };
    const torch::Tensor expected = gradients(torch::kFloat), found = gradients(torch::kBFloat16);
    EXPECT_LE((found - expected).norm().item<double>(), 0.1 * expected.norm().item<double>()) << small.name;
    EXPECT_FALSE(found.equal(expected)) << small.name;
  }
}

TEST(OnlineAction, DropoutChangesOnlyTraining) {
  for (SmallAction& small : small_actions()) {
    if (small.name == "linear") continue;
    const torch::NoGradGuard no_grad;
    const ActionInput input = input_at(small.model, torch::randn({2, 60, small.model.feature_size}), 30);
    const torch::Tensor first = small.model.forward(input).current;
    EXPECT_TRUE(small.model.forward(input).current.equal(first)) << small.name;
    small.model.module->train();
    EXPECT_GT(distance(small.model.forward(input).current, first), 1e-4) << small.name;
  }
}

TEST(OnlineAction, TrnStartsAsPublished) {
  torch::manual_seed(1);
  TrnOptions options = small_trn();
  options.hidden_dim = 64;
  const StateDict state = module_state(*Trn(options));
  const torch::Tensor orthogonal = *state.find("dec_cell.weight_hh");
  EXPECT_LE(distance(orthogonal.t().mm(orthogonal), torch::eye(64)), 1e-5);
  EXPECT_NEAR(state.find("dec_cell.bias_hh")->std().item<double>(), 1, 0.15);
  EXPECT_NEAR(state.find("hx_trans.0.weight")->std().item<double>(), 1e-3, 5e-5);
}

TEST(OnlineAction, OadTrTellsTheTaskTokenFromTheSteps) {
  const torch::NoGradGuard no_grad;
  OadTrOptions options = small_oadtr();
  const torch::Tensor features = torch::randn({2, options.window, options.feature_size});
  OadTr with(options);
  with->eval();
  const OadTrEncoding encoding = with->encode(features);
  EXPECT_EQ(encoding.outputs.sizes(), torch::IntArrayRef({2, 8, 16}));
  EXPECT_TRUE(encoding.task.equal(encoding.outputs.select(1, 7)));
  EXPECT_TRUE(encoding.steps.equal(encoding.outputs.slice(1, 0, 7)));
  options.task_token = false;
  OadTr without(options);
  without->eval();
  const OadTrEncoding plain = without->encode(features);
  EXPECT_EQ(plain.steps.sizes(), torch::IntArrayRef({2, 7, 16}));
  EXPECT_TRUE(plain.task.equal(plain.steps.select(1, 6)));
}

TEST(OnlineAction, WrongInputsAreNamed) {
  for (const SmallAction& small : small_actions()) {
    const auto wrong = [&](const torch::Tensor& features) {
      return error_of([&] {
        ActionInput input{features, {}, {}};
        if (small.model.memory > 0) {
          input.memory = torch::zeros({1, 4, 6});
          input.memory_mask = torch::ones({1, 4}, torch::kBool);
        }
        small.model.forward(input);
      });
    };
    EXPECT_THAT(wrong(torch::zeros({1, small.model.window, 5})),
                HasSubstr("expected [B, T, 6] (model.feature_size)"));
    EXPECT_THAT(wrong(torch::zeros({1, 6})), HasSubstr("expected [B, T, 6]"));
    EXPECT_THAT(error_of([&] {
                  small.model.step(torch::zeros({1, 5}), small.model.start(1, torch::kCPU));
                }),
                HasSubstr("expected [B, 6] (model.feature_size)"));
    const bool fixed = small.name.find("oadtr") == 0 || small.model.memory > 0;
    EXPECT_EQ(wrong(torch::zeros({1, small.model.window + 1, 6})).empty(), !fixed) << small.name;
  }
  Testra testra(small_testra());
  EXPECT_THAT(error_of([&] {
                testra->forward({torch::zeros({1, 3, 6}), {}, {}});
              }),
              HasSubstr("no long memory, expected [B, N, 6]"));
}

TEST(OnlineAction, WrongOptionsAreNamed) {
  OadTrOptions oadtr = small_oadtr();
  oadtr.encoder_heads = 3;
  EXPECT_THAT(error_of([&] { oadtr.validate(); }),
              HasSubstr("model.encoder_heads: 3, expected a divisor of model.hidden_dim 16"));
  ActionRnnOptions rnn = small_rnn("gur", 0);
  EXPECT_THAT(error_of([&] { rnn.validate(); }), HasSubstr("gru"));
  TestraOptions testra = small_testra();
  testra.decay = 1.2;
  EXPECT_THAT(error_of([&] { testra.validate(); }), HasSubstr("model.decay: 1.2"));
  TrnOptions trn = small_trn();
  trn.horizons = 0;
  EXPECT_THAT(error_of([&] { trn.validate(); }), HasSubstr("model.horizons: 0"));
  ActionLossOptions loss;
  loss.name = "bce";
  loss.normalise_targets = true;
  EXPECT_THAT(error_of([&] { loss.validate(); }), HasSubstr("loss.normalise_targets"));
}

TEST(OnlineAction, ForwardAndStepAreExportedInOneFile) {
  for (const SmallAction& small : small_actions()) {
    const std::string file = test::scratch_dir("export_" + small.name) + "/model.pt";
    EXPECT_LE(
        export_torchscript({action_forward_spec(small.model), action_step_spec(small.model)}, file, "{}"),
        1e-4)
        << small.name;
    // A stream in the saved file alone, from zeros on.
    const torch::NoGradGuard no_grad;
    torch::jit::Module loaded = torch::jit::load(file);
    const torch::Tensor streams = torch::randn({5, 20, small.model.feature_size});
    std::vector<torch::Tensor> state;
    for (const torch::Tensor& tensor : small.model.start(5, torch::kCPU))
      state.push_back(torch::zeros_like(tensor));
    for (int64_t t = 0; t < streams.size(1); ++t) {
      std::vector<torch::IValue> inputs = {streams.select(1, t)};
      inputs.insert(inputs.end(), state.begin(), state.end());
      const torch::IValue output = loaded.get_method("step")(inputs);
      if (output.isTensor()) continue;  // without a state
      const auto tensors = output.toTupleRef().elements();
      const size_t first = tensors.size() - state.size();
      const ActionStep step{tensors[0].toTensor(), first == 2 ? tensors[1].toTensor() : torch::Tensor(), {}};
      for (size_t i = 0; i < state.size(); ++i) state[i] = tensors[first + i].toTensor();
      if (first <= 2) expect_same_step(small, step, streams, t);
    }
  }
}

TEST(OnlineAction, SharedLinearHasTheGradientsOfALinear) {
  torch::manual_seed(6);
  torch::nn::Linear linear(5, 5);
  const auto run = [&](const auto& layer) {
    linear->zero_grad();
    const torch::Tensor x = torch::linspace(-1, 1, 30).view({2, 3, 5}).requires_grad_();
    torch::Tensor y = x;
    for (int i = 0; i < 4; ++i) y = layer(y.tanh());
    y.square().sum().backward();
    return std::vector<torch::Tensor>{y.detach(), x.grad(), linear->weight.grad().clone(),
                                      linear->bias.grad().clone()};
  };
  const auto expected = run([&](const torch::Tensor& x) { return linear(x); });
  const SharedLinear shared(linear);
  const auto found = run(shared);
  for (size_t i = 0; i < expected.size(); ++i) EXPECT_LE(distance(found[i], expected[i]), 1e-5) << i;
}

TEST(OnlineAction, SharedLinearServesGradientsOfTheInputAlone) {
  torch::nn::Linear linear(3, 2);
  const SharedLinear shared(linear);
  const torch::Tensor x = torch::ones({1, 3}).requires_grad_();
  const torch::Tensor y = shared(x).sum();
  const auto of_x = torch::autograd::grad({y}, {x}, {}, /*retain_graph=*/true);
  EXPECT_TRUE(of_x[0].allclose(linear->weight.sum(0, true)));
  y.backward();
  EXPECT_TRUE(linear->weight.grad().allclose(torch::ones({2, 3})));  // once, not twice
  const torch::NoGradGuard no_grad;
  EXPECT_TRUE(SharedLinear(linear)(x).equal(linear(x)));
}

/// One window of two steps and two behind it, three classes.
ActionTargets hand_targets() {
  ActionTargets targets;
  targets.classes = torch::tensor({{{1., 0., 0.}, {0., 1., 1.}, {0., 0., 1.}, {1., 0., 0.}}});
  targets.known = torch::tensor({{true, true, true, false}});
  targets.steps = 2;
  return targets;
}

/// Logits whose softmax is 1/2, 1/4, 1/4 now, and all thirds later.
ActionScores hand_scores() {
  ActionScores scores;
  const double half = std::log(2.0);
  scores.current = torch::tensor({{{half, 0., 0.}, {half, 0., 0.}}}).requires_grad_();
  scores.future = torch::zeros({1, 1, 2, 3}).requires_grad_();
  return scores;
}

double value(const LossTerms& loss, const std::string& name) {
  for (const auto& [term, number] : loss.terms) {
    if (term == name) return number.item<double>();
  }
  return NAN;
}

TEST(OnlineAction, LossOfAWindowByHand) {
  ActionLossOptions options;
  options.future_weight = 0.5;
  const LossTerms loss = action_loss(hand_scores(), hand_targets(), options);
  // Step 0: -log 1/2; step 1 has two labels: -log 1/4 - log 1/4. The future's second step is not known.
  const double current = (std::log(2) + 2 * std::log(4)) / 2, future = std::log(3);
  EXPECT_NEAR(value(loss, "loss_current"), current, 1e-6);
  EXPECT_NEAR(value(loss, "loss_future"), future, 1e-6);
  EXPECT_NEAR(loss.total.item<double>(), current + 0.5 * future, 1e-6);
  EXPECT_NEAR(value(loss, "accuracy"), 50, 1e-6);

  options.normalise_targets = true;
  options.last_step_only = true;
  const LossTerms last = action_loss(hand_scores(), hand_targets(), options);
  EXPECT_NEAR(value(last, "loss_current"), 2 * std::log(4) / std::sqrt(2), 1e-6);
  EXPECT_NEAR(value(last, "accuracy"), 0, 1e-6);

  options.name = "bce";
  options.last_step_only = options.normalise_targets = false;
  const LossTerms each = action_loss(hand_scores(), hand_targets(), options);
  const double on = std::log(3) - std::log(2), off = std::log(3),
               zero = std::log(2);  // -log σ(log 2), σ(-log 2), σ(0)
  EXPECT_NEAR(value(each, "loss_current"), ((on + 2 * zero) + (off + 2 * zero)) / 6, 1e-6);
}

TEST(OnlineAction, TheFutureOfEveryStepIsCounted) {
  // Step t's k-th prediction names class t + first_horizon + k, and so do the targets.
  for (const int64_t first : {0, 1}) {
    ActionTargets targets;
    targets.classes = torch::eye(8).unsqueeze(0).repeat({2, 1, 1});
    targets.known = torch::ones({2, 8}, torch::kBool);
    targets.steps = 4;
    targets.first_horizon = first;
    ActionScores scores;
    scores.current = 50 * torch::eye(8).slice(0, 0, 4).unsqueeze(0).repeat({2, 1, 1});
    scores.future = torch::zeros({2, 4, 3, 8});
    for (int64_t t = 0; t < 4; ++t) {
      for (int64_t k = 0; k < 3; ++k) scores.future.select(1, t).select(1, k).select(1, t + first + k) = 50;
    }
    const LossTerms loss = action_loss(scores, targets, {});
    EXPECT_NEAR(loss.total.item<double>(), 0, 1e-6);
    EXPECT_NEAR(value(loss, "accuracy"), 100, 1e-6);
    scores.current = scores.current.slice(1, 3);  // of the last step alone
    scores.future = scores.future.slice(1, 3);
    EXPECT_NEAR(action_loss(scores, targets, {}).total.item<double>(), 0, 1e-6);
  }
}

TEST(OnlineAction, NothingKnownIsNoLoss) {
  for (const char* name : {"softmax", "bce"}) {
    ActionLossOptions options;
    options.name = name;
    ActionTargets targets = hand_targets();
    targets.known.fill_(false);
    const ActionScores scores = hand_scores();
    const LossTerms loss = action_loss(scores, targets, options);
    loss.total.backward();
    EXPECT_EQ(loss.total.item<double>(), 0);
    EXPECT_EQ(value(loss, "accuracy"), 0);
    EXPECT_TRUE((scores.current.grad() == 0).all().item<bool>());
    EXPECT_TRUE((scores.future.grad() == 0).all().item<bool>());
  }
}

TEST(OnlineAction, RowsOfSeveralProcessesDivideTheLoss) {
  const torch::Tensor rows = count_action_rows(hand_scores(), hand_targets(), {});
  EXPECT_TRUE(rows.equal(torch::tensor({2.F, 1.F})));
  const LossTerms loss = action_loss(hand_scores(), hand_targets(), {}, 2 * rows);
  EXPECT_NEAR(loss.total.item<double>(),
              action_loss(hand_scores(), hand_targets(), {}).total.item<double>() / 2, 1e-6);
}

TEST(OnlineAction, AnAmbiguousColumnIsLeftOut) {
  const ActionScores scores = hand_scores();
  const ActionScores left = without_class(scores, 1);
  EXPECT_TRUE(left.current.equal(scores.current.index_select(-1, torch::tensor({0, 2}))));
  EXPECT_EQ(left.future.size(-1), 2);
  EXPECT_EQ(without_class(scores, -1).current.size(-1), 3);
}

TEST(OnlineAction, LossRefusesOtherShapes) {
  ActionTargets targets = hand_targets();
  targets.classes = targets.classes.slice(2, 0, 2);
  EXPECT_THAT(error_of([&] { action_loss(hand_scores(), targets, {}); }),
              HasSubstr("action loss: scores [1, 2, 3]"));
  targets = hand_targets();
  targets.steps = 3;  // the future would be beyond the targets
  EXPECT_THAT(error_of([&] { action_loss(hand_scores(), targets, {}); }), HasSubstr("expected [B,S,C]"));
}

}  // namespace
}  // namespace zoo
