#include "models/face_losses/products.h"

#include <ATen/Parallel.h>
#include <c10/core/Allocator.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <torch/torch.h>

#include <algorithm>
#include <map>
#include <set>

#include "core/error.h"
#include "models/face_losses/class_weights.h"
#include "models/face_losses/face_loss.h"
#include "tests/support.h"

namespace zoo::test {
namespace {

using testing::ElementsAre;
using torch::Tensor;

Tensor labels(const std::vector<int64_t>& values) {
  return torch::tensor(values, torch::kLong);
}

/// Scores and gradients of one product; weights of the three outputs at random.
struct Result {
  ClassScores scores;
  Tensor x, weight, bias;  ///< gradients
};

Result run(const Tensor& x0, const ClassRows& given, const OtherLogits& other, int64_t chunk_bytes) {
  ClassRows rows = given;
  const Tensor x = x0.clone().requires_grad_();
  rows.weight = given.weight.clone().requires_grad_();
  if (given.bias.defined()) rows.bias = given.bias.clone().requires_grad_();
  Result result{class_scores(x, rows, other, chunk_bytes), {}, {}, {}};
  const Tensor factor = torch::arange(1, x.size(0) + 1, x.options().requires_grad(false));
  (result.scores.own * factor + result.scores.others * factor.flip(0)).sum().backward();
  result.x = x.grad(), result.weight = rows.weight.grad();
  if (rows.bias.defined()) result.bias = rows.bias.grad();
  return result;
}

void expect_same(const Tensor& ours, const Tensor& theirs, double tolerance, const std::string& what) {
  ASSERT_EQ(ours.sizes(), theirs.sizes()) << what;
  EXPECT_LE((ours - theirs).abs().max().item<double>(), tolerance * theirs.abs().max().item<double>())
      << what;
}

/// Bends some of the products, as losses do.
OtherLogits bending() {
  return {[](const Tensor& z) { return torch::where(z > 1, z * (0.3 + z / 4), z); },
          [](const Tensor& z) { return torch::where(z > 1, 0.3 + z / 2, 1); }};
}

TEST(ClassProducts, BlocksAreEqualToTheWhole) {
  torch::manual_seed(1);
  const int64_t N = 9, D = 6, C = 109;  // blocks of 16, the last of 13
  const Tensor x = 3 * torch::randn({N, D}, torch::kDouble);
  const Tensor own = labels({0, 5, 5, 108, 96, 95, 16, 15, -1});
  Tensor weight = torch::randn({C, D}, torch::kDouble);
  weight[7].zero_();
  for (const bool normalise : {true, false}) {
    for (const bool bias : {true, false}) {
      for (const OtherLogits& other : {OtherLogits(), bending()}) {
        const ClassRows rows{weight, bias ? torch::randn({C}, torch::kDouble) : Tensor(), normalise, own};
        const Result whole = run(x, rows, other, 0);
        EXPECT_EQ(whole.scores.own[8].item<double>(), 0);
        for (const int threads : {1, 2}) {
          const int before = at::get_num_threads();
          at::set_num_threads(threads);
          for (const int64_t bytes : {1, 1 << 20}) {
            const Result blocks = run(x, rows, other, bytes);
            expect_same(blocks.scores.own, whole.scores.own, 1e-12, "own");
            expect_same(blocks.scores.others, whole.scores.others, 1e-12, "others");
            expect_same(blocks.scores.best, whole.scores.best, 1e-12, "best");
            expect_same(blocks.x, whole.x, 1e-12, "gradient of x");
            expect_same(blocks.weight, whole.weight, 1e-12, "gradient of the weight");
            if (bias) expect_same(blocks.bias, whole.bias, 1e-12, "gradient of the bias");
          }
          at::set_num_threads(before);
        }
      }
    }
  }
}

TEST(ClassProducts, ScoresOfShardsAreThoseOfTheWhole) {
  torch::manual_seed(3);
  const int64_t N = 8, D = 5, C = 41, ranks = 3;
  const Tensor x = torch::randn({N, D}, torch::kDouble), y = torch::randint(C, {N});
  const Tensor weight = torch::randn({C, D}, torch::kDouble);
  const auto loss_of = [](const Tensor& own, const Tensor& others) {
    return torch::softplus(others - (own - 0.4)).mean();
  };
  Tensor whole_x = x.clone().requires_grad_(), whole_weight = weight.clone().requires_grad_();
  const ClassScores whole = class_scores(whole_x, {whole_weight, {}, true, y}, {}, 0);
  const Tensor expected = loss_of(whole.own, whole.others);
  expected.backward();
  for (const int64_t bytes : {0, 1}) {
    Tensor shared = x.clone().requires_grad_(), rows = weight.clone().requires_grad_();
    Tensor own = torch::zeros({N}, torch::kDouble);
    std::vector<Tensor> others;
    for (int64_t rank = 0; rank < ranks; ++rank) {
      const ClassShard shard = ClassShard::of(C, rank, ranks);
      const Tensor here = y.ge(shard.start).logical_and(y.lt(shard.start + shard.count));
      const Tensor local = torch::where(here, y - shard.start, -1);
      const ClassScores part =
          class_scores(shared, {rows.narrow(0, shard.start, shard.count), {}, true, local}, {}, bytes);
      own = own + part.own;  // what all-reduce and all-gather will bring together
      others.push_back(part.others);
    }
    const Tensor loss = loss_of(own, torch::stack(others).logsumexp(0));
    loss.backward();
    expect_same(loss.detach(), expected.detach(), 1e-12, "loss");
    expect_same(shared.grad(), whole_x.grad(), 1e-12, "gradient of x");
    expect_same(rows.grad(), whole_weight.grad(), 1e-12, "gradient of the weight");
  }
}

TEST(ClassProducts, LargeLogitsDoNotOverflow) {
  const Tensor x = torch::tensor({{3e4f, 0.f}, {0.f, 3e4f}});
  const ClassRows rows{torch::tensor({{1.f, 0.f}, {0.f, 1.f}, {-1.f, 0.f}}), {}, true, labels({0, 0})};
  for (const int64_t bytes : {0, 1}) {
    const Result result = run(x, rows, {}, bytes);
    EXPECT_NEAR(result.scores.others[0].item<double>(), 0, 1e-2);
    EXPECT_FLOAT_EQ(result.scores.others[1].item<float>(), 3e4f);
    EXPECT_TRUE(result.x.isfinite().all().item<bool>());
    EXPECT_TRUE(result.weight.isfinite().all().item<bool>());
  }
}

/// Bytes that the calling thread's tensors hold at most while it lives.
class PeakBytes : public c10::MemoryReportingInfoBase {
 public:
  void reportMemoryUsage(void* block, int64_t size, size_t, size_t, c10::Device) override {
    if (size > 0) sizes_[block] = size;
    now_ += size > 0 ? size : -sizes_[block];
    peak_ = std::max(peak_, now_);
  }
  bool memoryProfilingEnabled() const override { return true; }
  int64_t peak() const { return peak_; }

 private:
  std::map<void*, int64_t> sizes_;
  int64_t now_ = 0, peak_ = 0;
};

TEST(ClassProducts, BlocksStayBelowTheBound) {
  const int before = at::get_num_threads();
  at::set_num_threads(1);  // others' memory is not counted
  const int64_t N = 64, D = 32, C = 20000;
  const Tensor x = torch::randn({N, D}).requires_grad_(), weight = torch::randn({C, D}).requires_grad_();
  const ClassRows rows{weight, {}, true, torch::randint(C, {N})};
  const auto peak = [&](const OtherLogits& other, int64_t chunk_bytes) {
    x.mutable_grad() = weight.mutable_grad() = Tensor();
    const auto counted = std::make_shared<PeakBytes>();
    const c10::DebugInfoGuard guard(c10::DebugInfoKind::PROFILER_STATE, counted);
    const ClassScores scores = class_scores(x, rows, other, chunk_bytes);
    (scores.others - scores.own).sum().backward();
    return counted->peak() - static_cast<int64_t>(weight.nbytes() + x.nbytes());  // of their gradients
  };
  for (const int64_t bound : {1 << 18, 1 << 20, 1 << 24}) {
    EXPECT_LT(peak({}, bound), bound);
    EXPECT_LT(peak(bending(), bound), bound);
  }
  EXPECT_GT(peak({}, 0), static_cast<int64_t>(2 * N * C * sizeof(float)));
  at::set_num_threads(before);
}

TEST(ClassSamples, HoldWhatIsWantedAndAreUniform) {
  std::vector<int64_t> counts(50, 0);
  for (uint64_t draw = 0; draw < 4000; ++draw) {
    for (const int64_t count : {10, 40}) {
      RandomStream random{7, draw};
      const auto sample = sample_classes({3, 17, 49}, 50, count, random);
      ASSERT_EQ(static_cast<int64_t>(sample.size()), count);
      ASSERT_TRUE(std::is_sorted(sample.begin(), sample.end()));
      ASSERT_EQ(std::set<int64_t>(sample.begin(), sample.end()).size(), sample.size());
      for (const int64_t index : sample) ++counts[static_cast<size_t>(index)];
    }
  }
  for (size_t index = 0; index < counts.size(); ++index) {
    const bool wanted = index == 3 || index == 17 || index == 49;
    const double expected = wanted ? 8000 : 4000 * (7.0 / 47 + 37.0 / 47);
    EXPECT_NEAR(static_cast<double>(counts[index]), expected, wanted ? 0 : 200) << index;
  }
  RandomStream random(1);
  EXPECT_THAT(sample_classes({1, 2, 5}, 6, 2, random), ElementsAre(1, 2, 5));
  EXPECT_THAT(sample_classes({}, 3, 3, random), ElementsAre(0, 1, 2));
  EXPECT_EQ(sample_classes({4}, 9, 0, random).size(), 2u);
}

TEST(ClassSamples, ShardsCutTheClassesWithoutGaps) {
  int64_t next = 0;
  for (int64_t rank = 0; rank < 3; ++rank) {
    const ClassShard shard = ClassShard::of(11, rank, 3);
    EXPECT_EQ(shard.start, next);
    next += shard.count;
  }
  EXPECT_EQ(next, 11);
  EXPECT_EQ(ClassShard::of(11, 2, 3).count, 3);
}

FaceLossOptions cosface(double sample_rate, int64_t chunk_bytes = 0) {
  FaceLossOptions options;
  options.name = "cosface";
  options.cosface.scale = 16;
  options.classes.sample_rate = sample_rate;
  options.classes.chunk_bytes = chunk_bytes;
  return options;
}

/// Steps of SGD with momentum and decay on all class rows, as torch.optim.SGD.
struct PlainSgd {
  std::shared_ptr<FaceLossImpl> loss = make_face_loss(cosface(1), 5, 12, 3);
  Tensor velocity;

  void step(const Tensor& x, const Tensor& y) {
    Tensor weight = loss->named_parameters()["weight"];
    weight.mutable_grad() = Tensor();
    loss->forward(x, y).total.backward();
    const torch::NoGradGuard no_grad;
    const Tensor gradient = 0.5 * weight.grad() + 0.01 * weight;
    velocity = velocity.defined() ? 0.9 * velocity + gradient : gradient;
    weight.sub_(0.1 * velocity);
  }
};

TEST(PartialFc, ASampleOfAllClassesStepsAsTheWhole) {
  for (const int64_t chunk_bytes : {int64_t{0}, int64_t{1} << 20}) {
    PlainSgd plain;
    // 11 of 12 classes and all of them in the batch: every row is in the sample.
    const auto sampled = make_face_loss(cosface(0.99, chunk_bytes), 5, 12, 3);
    EXPECT_TRUE(sampled->named_parameters().is_empty());
    torch::manual_seed(2);
    for (int step = 0; step < 5; ++step) {
      const Tensor x = torch::randn({24, 5}), y = torch::arange(24).remainder(12);
      plain.step(x, y);
      sampled->forward(x, y).total.backward();
      sampled->step(0.1, 0.01, 0.9, 0.5);
      sampled->release_gradients();
      expect_same(sampled->named_buffers()["weight"], plain.loss->named_parameters()["weight"], 1e-5,
                  "weight");
    }
    EXPECT_GT((plain.loss->named_parameters()["weight"] - PlainSgd().loss->named_parameters()["weight"])
                  .abs()
                  .max()
                  .item<double>(),
              0.05);
  }
}

TEST(PartialFc, OnlyRowsOfTheSampleMove) {
  const auto loss = make_face_loss(cosface(0.2), 8, 100, 5);
  const Tensor x = torch::randn({6, 8}), y = labels({3, 3, 50, 99, 0, 7});
  for (int step = 0; step < 3; ++step) {
    const Tensor before = loss->named_buffers()["weight"].clone();
    const Tensor momentum = loss->named_buffers()["momentum"].clone();
    loss->forward(x, y).total.backward();
    ASSERT_EQ(loss->own_gradients().size(), 1u);
    EXPECT_EQ(loss->own_gradients()[0].sizes(), torch::IntArrayRef({20, 8}));
    loss->step(0.1, 0.5, 0.9, 1);
    loss->release_gradients();
    EXPECT_TRUE(loss->own_gradients().empty());
    const Tensor moved = (loss->named_buffers()["weight"] - before).abs().sum(1).gt(0);
    EXPECT_EQ(moved.sum().item<int64_t>(), 20);
    EXPECT_TRUE(moved.index_select(0, y).all().item<bool>());
    EXPECT_TRUE(
        (loss->named_buffers()["momentum"] - momentum).abs().sum(1).gt(0).eq(moved).all().item<bool>());
  }
}

TEST(PartialFc, AccumulatedSamplesStepOnceWithTheSumOfTheirGradients) {
  const auto both = make_face_loss(cosface(0.3), 4, 20, 5);
  const Tensor start = both->named_buffers()["weight"].clone();
  const Tensor x = torch::randn({2, 3, 4}), y = torch::randint(20, {2, 3});
  for (int64_t i = 0; i < 2; ++i) both->forward(x[i], y[i]).total.backward();
  const double norm = both->own_gradients()[0].norm().item<double>();
  both->step(1, 0, 0, 1);
  // The same samples one after the other: with no momentum and no decay gradients add up.
  const auto apart = make_face_loss(cosface(0.3), 4, 20, 5);
  Tensor sum = torch::zeros_like(start);
  for (int64_t i = 0; i < 2; ++i) {
    apart->forward(x[i], y[i]).total.backward();
    apart->step(1, 0, 0, 1);
    apart->release_gradients();
    sum += start - apart->named_buffers()["weight"];
    const torch::NoGradGuard no_grad;
    apart->named_buffers()["weight"].copy_(start);
  }
  expect_same(start - both->named_buffers()["weight"], sum, 1e-5, "step");
  EXPECT_NEAR(norm, sum.norm().item<double>(), 1e-4 * norm);
}

TEST(PartialFc, DrawsFollowSeedAndCounter) {
  const auto drawn = [](uint64_t seed, int64_t draws) {
    const auto loss = make_face_loss(cosface(0.1), 4, 1000, seed);
    loss->named_buffers()["draws"].fill_(draws);
    torch::rand({5});  // other streams do not matter
    loss->forward(torch::ones({1, 4}), labels({1})).total.backward();
    const Tensor before = loss->named_buffers()["weight"].clone();
    loss->step(1, 1, 0, 1);
    EXPECT_EQ(loss->named_buffers()["draws"].item<int64_t>(), draws + 1);
    return (loss->named_buffers()["weight"] - before).abs().sum(1).gt(0);
  };
  EXPECT_TRUE(drawn(1, 4).equal(drawn(1, 4)));
  EXPECT_FALSE(drawn(1, 4).equal(drawn(1, 5)));
  EXPECT_FALSE(drawn(1, 4).equal(drawn(2, 4)));
}

TEST(PartialFc, WorksWithEveryLossOfClasses) {
  for (const FaceLossInfo& info : face_losses()) {
    if (!info.needs_classes || info.name == "sphereface2") continue;
    FaceLossOptions options = cosface(0.1, 1 << 20);
    options.name = info.name;
    const auto loss = make_face_loss(options, 4, 500, 1);
    const Tensor x = torch::randn({6, 4}).requires_grad_();
    const LossTerms terms = loss->forward(x, labels({0, 0, 1, 1, 499, 7}));
    terms.total.backward();
    EXPECT_TRUE(x.grad().isfinite().all().item<bool>()) << info.name;
    ASSERT_EQ(loss->own_gradients().size(), 1u) << info.name;
    EXPECT_EQ(loss->own_gradients()[0].size(0), 50) << info.name;
  }
}

}  // namespace
}  // namespace zoo::test
