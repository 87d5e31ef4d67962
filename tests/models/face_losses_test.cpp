#include "models/face_losses/face_loss.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <torch/torch.h>

#include <algorithm>
#include <cmath>
#include <map>
#include <set>

#include "core/error.h"
#include "core/numbers.h"
#include "models/face_losses/adaptive.h"
#include "models/face_losses/classifier.h"
#include "models/face_losses/margins.h"
#include "models/face_losses/pairs.h"
#include "models/precision.h"
#include "tests/support.h"

namespace zoo::test {
namespace {

using testing::HasSubstr;
using torch::Tensor;

FaceLossOptions named(const std::string& name) {
  FaceLossOptions options;
  options.name = name;
  return options;
}

Tensor labels(const std::vector<int64_t>& values) {
  return torch::tensor(values, torch::kLong);
}

Tensor normal(torch::IntArrayRef shape) {
  return torch::randn(shape, torch::kDouble);
}

std::map<std::string, double> values(const LossTerms& loss) {
  std::map<std::string, double> result;
  for (const auto& [name, value] : loss.terms) result[name] = value.item<double>();
  return result;
}

/// Largest difference between a gradient and the two-sided difference of `value` by every element of `x`.
double gradient_error(const std::function<Tensor()>& value, Tensor x) {
  x.mutable_grad() = Tensor();
  value().backward();
  const Tensor gradient = x.grad().clone().flatten();
  const torch::NoGradGuard no_grad;
  Tensor flat = x.detach().view(-1);
  double worst = 0;
  constexpr double kStep = 1e-6;
  for (int64_t i = 0; i < flat.numel(); ++i) {
    const double before = flat[i].item<double>();
    const auto at = [&](double moved) {
      flat[i] = moved;
      return value().item<double>();
    };
    const double slope = (at(before + kStep) - at(before - kStep)) / (2 * kStep);
    flat[i] = before;
    worst = std::max(worst, std::abs(slope - gradient[i].item<double>()) / (1 + std::abs(slope)));
  }
  return worst;
}

TEST(FaceLosses, GradientsAreThoseOfTheLoss) {
  for (const FaceLossInfo& info : face_losses()) {
    // What these take as constants moves with the embeddings; tests/parity has their gradients.
    if (info.name == "adaface" || info.name == "circle" || info.name == "circle_pairs") continue;
    torch::manual_seed(4);
    FaceLossOptions options = named(info.name);
    options.contrastive.margin = 30;
    options.triplet.mining = "all";
    const auto loss = make_face_loss(options, 5, 7, 3);
    loss->to(torch::kDouble);
    loss->eval();  // statistics stay
    Tensor x = (8 * normal({6, 5})).requires_grad_();
    const Tensor y = labels({0, 3, 3, 6, 0, 2});
    const auto value = [&] {
      torch::manual_seed(9);  // ElasticFace's margins
      return loss->forward(x, y).total;
    };
    EXPECT_LT(gradient_error(value, x), 1e-6) << info.name;
    for (const auto& item : loss->named_parameters()) {
      EXPECT_LT(gradient_error(value, item.value()), 1e-5) << info.name << " " << item.key();
    }
  }
}

/// Embeddings on and against their class's row, and without direction.
Tensor hard_embeddings(const Tensor& weight, const Tensor& y) {
  Tensor x = weight.detach().index_select(0, y) * 50;
  x[1] = -x[1];
  x[2].zero_();
  x[3].fill_(1e-30);
  x[4].fill_(1e4);
  return x;
}

TEST(FaceLosses, AreFiniteAtTheEdges) {
  for (const FaceLossInfo& info : face_losses()) {
    for (const auto type : {torch::kFloat, torch::kBFloat16, torch::kDouble}) {
      for (const bool easy : {false, true}) {
        FaceLossOptions options = named(info.name);
        options.arcface.easy_margin = options.magface.easy_margin = easy;
        const auto loss = make_face_loss(options, 6, 9, 1);
        if (type == torch::kDouble) loss->to(type);
        const Tensor y = labels({2, 2, 5, 5, 8, 0, 0});
        const auto parameters = loss->named_parameters();
        torch::manual_seed(1);
        const Tensor weight =
            parameters.contains("weight") ? parameters["weight"] : torch::randn({9, 6}).to(type);
        Tensor x = hard_embeddings(weight, y).to(type).requires_grad_();
        LossTerms terms;
        {
          const AutocastGuard autocast(torch::kCPU, type == torch::kBFloat16 ? type : torch::kFloat);
          terms = loss->forward(x, y);
        }
        EXPECT_EQ(terms.total.scalar_type(), type == torch::kDouble ? torch::kDouble : torch::kFloat)
            << info.name;
        terms.total.backward();
        EXPECT_TRUE(terms.total.isfinite().item<bool>()) << info.name;
        EXPECT_TRUE(x.grad().isfinite().all().item<bool>()) << info.name << " " << type;
        EXPECT_LT(x.grad().abs().max().item<double>(), 1e6) << info.name << " " << type;
        for (const auto& item : loss->named_parameters()) {
          EXPECT_TRUE(item.value().grad().isfinite().all().item<bool>()) << info.name << " " << item.key();
        }
        for (const auto& item : loss->named_buffers()) {
          EXPECT_TRUE(item.value().isfinite().all().item<bool>()) << info.name << " " << item.key();
        }
      }
    }
  }
}

TEST(FaceLosses, ABatchOfOneHasALoss) {
  for (const FaceLossInfo& info : face_losses()) {
    const auto loss = make_face_loss(named(info.name), 4, 3, 1);
    Tensor x = torch::ones({1, 4}).requires_grad_();
    const LossTerms terms = loss->forward(x, labels({1}));
    terms.total.backward();
    EXPECT_TRUE(terms.total.isfinite().item<bool>()) << info.name;
    EXPECT_TRUE(x.grad().isfinite().all().item<bool>()) << info.name;
    for (const auto& item : loss->named_buffers()) {
      EXPECT_TRUE(item.value().isfinite().all().item<bool>()) << info.name << " " << item.key();
    }
  }
}

TEST(FaceLosses, FirstLossIsWhatRandomVectorsGive) {
  // s·m_eff + ln C + s²/(2D) for unit vectors at random, s = 64, D = 512.
  torch::manual_seed(0);
  const Tensor x = torch::randn({256, 512}), y = torch::randint(5000, {256});
  const double plain = std::log(5000.0) + 64.0 * 64 / 1024;
  const auto first = [&](const std::string& name) {
    return make_face_loss(named(name), 512, 5000, 2)->forward(x, y).total.item<double>();
  };
  EXPECT_NEAR(first("cosface"), plain + 64 * 0.4, 0.5);
  EXPECT_NEAR(first("arcface"), plain + 64 * std::sin(0.5), 0.5);
}

TEST(FaceLosses, AccuracyIsTakenBeforeTheMargin) {
  for (const int64_t chunk_bytes : {int64_t{0}, int64_t{1} << 20}) {
    for (const std::string name : {"arcface", "curricularface", "softmax", "circle"}) {
      FaceLossOptions options = named(name);
      options.softmax.bias = false;
      options.classes.chunk_bytes = chunk_bytes;
      const auto loss = make_face_loss(options, 2, 3, 1);
      const torch::NoGradGuard no_grad;
      loss->named_parameters()["weight"].copy_(torch::tensor({{1., 0.}, {0., 1.}, {-1., 0.}}));
      // The first two are right by a little, the third is another's, the last has no direction.
      const Tensor x = torch::tensor({{1., 0.9}, {-0.9, 1.}, {1., 0.}, {0., 0.}});
      const auto terms = values(loss->forward(x, labels({0, 1, 2, 1})));
      EXPECT_DOUBLE_EQ(terms.at("accuracy"), 0.5) << name;
    }
  }
}

TEST(FaceLosses, RefuseWhatCannotBe) {
  const auto loss = make_face_loss(named("cosface"), 4, 3, 1);
  EXPECT_EQ(error_of([&] {
              loss->forward(torch::zeros({2, 4}), labels({0, 3}));
            }),
            "face loss: sample 1 of the batch: label 3, expected 0..2");
  EXPECT_THAT(error_of([&] { loss->forward(torch::zeros({2, 4}), labels({-1, 0})); }), HasSubstr("label -1"));
  EXPECT_THAT(error_of([&] {
                loss->forward(torch::zeros({2, 4}), labels({0}));
              }),
              HasSubstr("embeddings [2, 4] and labels [1], expected [N,D] and int64 [N]"));
  EXPECT_THAT(error_of([] { make_face_loss(named("cosface"), 4, 1, 1); }),
              HasSubstr("1 classes, expected two"));
  EXPECT_THAT(error_of([] { make_face_loss(named("arcfase"), 4, 3, 1); }), HasSubstr("arcface"));
  const auto refusal = [](const std::function<void(FaceLossOptions&)>& change) {
    FaceLossOptions options;
    change(options);
    return error_of([&] { options.validate(); });
  };
  EXPECT_THAT(refusal([](auto& o) { o.magface.norm_weight = 22; }),
              HasSubstr("loss.magface.norm_weight: 22"));
  EXPECT_EQ(refusal([](auto& o) { o.magface.norm_weight = 22.7; }), "");  // the defaults' bound is 22.6
  EXPECT_THAT(refusal([](auto& o) { o.classes.sample_rate = 0; }), HasSubstr("loss.classes.sample_rate: 0"));
  EXPECT_THAT(refusal([](auto& o) { o.classes.chunk_bytes = 100; }), HasSubstr("loss.classes.chunk_bytes"));
  EXPECT_THAT(refusal([](auto& o) { o.arcface.margin_grad = "exakt"; }), HasSubstr("exact"));
  EXPECT_THAT(refusal([](auto& o) { o.name = "sphereface2", o.classes.sample_rate = 0.1; }),
              HasSubstr("takes all classes at once"));
  EXPECT_THAT(refusal([](auto& o) { o.name = "triplet", o.classes.sample_rate = 0.5; }),
              HasSubstr("has no classes"));
}

TEST(FaceMargins, GradientsOfTheMarginsAtEveryAngle) {
  const std::vector<std::pair<std::string, std::function<Tensor(const Tensor&)>>> margins = {
      {"arc", [](const Tensor& c) { return arc_margin(c, torch::full({}, 0.5, c.options()), false); }},
      {"easy", [](const Tensor& c) { return arc_margin(c, torch::full({}, 0.5, c.options()), true); }},
      {"combined", [](const Tensor& c) { return combined_margin(c, 0.9, 0.4, 0.15); }},
      {"multiplied", [](const Tensor& c) { return multiplicative_margin(c, 4); }}};
  for (const auto& [name, margin] : margins) {
    for (const double at : {-0.99, -0.9, -0.5, 0.01, 0.5, 0.9, 0.99}) {
      Tensor c = torch::full({1}, at, torch::kDouble).requires_grad_();
      EXPECT_LT(gradient_error([&, bend = margin] { return bend(c).sum(); }, c), 1e-7) << name << " " << at;
    }
    for (const auto type : {torch::kFloat, torch::kDouble}) {
      Tensor c = torch::tensor({-1.0000005, -1.0, 1.0, 1.0000005}).to(type).requires_grad_();
      margin(c).sum().backward();
      EXPECT_TRUE(c.grad().isfinite().all().item<bool>()) << name;
    }
  }
}

TEST(FaceMargins, ValuesAtKnownAngles) {
  const Tensor m = torch::full({}, 0.5, torch::kDouble);
  const Tensor theta = torch::tensor({0.3, 1.5, 2.6, 2.7, 3.1}, torch::kDouble);
  const Tensor full = arc_margin(theta.cos(), m, false), easy = arc_margin(theta.cos(), m, true);
  const double step = 0.5 * std::sin(0.5);  // 0.2397
  EXPECT_TRUE(full.allclose(
      torch::tensor({std::cos(0.8), std::cos(2.0), std::cos(3.1), std::cos(2.7) - step, std::cos(3.1) - step},
                    torch::kDouble)));
  EXPECT_TRUE(easy.allclose(torch::tensor(
      {std::cos(0.8), std::cos(2.0), std::cos(2.6), std::cos(2.7), std::cos(3.1)}, torch::kDouble)));
  // ψ falls from 1 to 1 − 2m in equal steps of 2 a half wave.
  const Tensor turns = torch::arange(0, 5, torch::kDouble) * kPi / 4;
  EXPECT_TRUE(multiplicative_margin(turns.cos(), 4).allclose(1 - 2 * torch::arange(0, 5, torch::kDouble)));
  const Tensor fine = torch::linspace(0, kPi, 1001, torch::kDouble);
  for (const int64_t margin : {1, 2, 3, 4, 8}) {
    EXPECT_TRUE(multiplicative_margin(fine.cos(), margin).diff().le(1e-12).all().item<bool>()) << margin;
  }
  EXPECT_TRUE(combined_margin(theta.cos(), 1, 0.3, 0.2).allclose((theta + 0.3).clamp_max(kPi).cos() - 0.2));
}

TEST(FaceMargins, StraightThroughHasTheGradientOfNoMargin) {
  FaceLossOptions exact = named("arcface"), through = exact;
  through.arcface.margin_grad = "straight_through";
  Tensor c = torch::tensor({0.95, 0.2, -0.6}, torch::kDouble).requires_grad_();
  const Tensor bent = arc_margin(c, torch::full({}, 0.5, torch::kDouble), false);
  const Tensor same = straight_through(c, bent);
  EXPECT_TRUE(same.equal(c + (bent - c).detach()));
  const Tensor gradient = torch::autograd::grad({same.sum()}, {c})[0];
  EXPECT_TRUE(gradient.equal(torch::ones_like(c)));
  const Tensor theta = c.detach().acos();
  const Tensor factor = torch::autograd::grad({bent.sum()}, {c})[0];
  EXPECT_TRUE(factor.allclose((theta + 0.5).sin() / theta.sin()));
}

TEST(FaceMargins, ScalesThatReachAPosterior) {
  // The CosFace bound's table.
  EXPECT_NEAR(least_scale(200, 0.9), 7.5, 0.05);
  EXPECT_NEAR(least_scale(85742, 0.9), 13.6, 0.05);
  EXPECT_NEAR(least_scale(2059906, 0.99), 19.1, 0.05);
}

TEST(FaceStates, AnnealingOfASoftmax) {
  ClassifierSetup setup{4, 3, {}, 1};
  ASoftmaxLossImpl loss(setup, {});
  const Tensor x = torch::randn({2, 4}), y = labels({0, 1});
  const auto steps = [&](int64_t count) {
    const torch::NoGradGuard no_grad;
    for (int64_t i = 0; i < count; ++i) loss.forward(x, y);
    return loss.lambda();
  };
  EXPECT_DOUBLE_EQ(steps(1), 1000 / 1.12);
  EXPECT_DOUBLE_EQ(steps(99), 1000 / 13.0);
  loss.eval();
  EXPECT_DOUBLE_EQ(steps(5), 1000 / 13.0);
  loss.train();
  EXPECT_GT(steps(1558), 5);  // 1658
  EXPECT_EQ(steps(1), 5);
}

TEST(FaceStates, RunningStatisticsMoveInTrainModeAlone) {
  const auto ada = make_face_loss(named("adaface"), 2, 3, 1);
  const auto curricular = make_face_loss(named("curricularface"), 2, 3, 1);
  const torch::NoGradGuard no_grad;
  for (const auto& loss : {ada, curricular}) {
    loss->named_parameters()["weight"].copy_(torch::tensor({{1., 0.}, {0., 1.}, {-1., 0.}}));
  }
  const Tensor x = torch::tensor({{6., 8.}, {0., 200.}, {12., 16.}});  // norms 10, 200 (held at 100), 20
  const Tensor y = labels({0, 1, 0});                                  // cosines 0.6, 1, 0.6
  for (const auto& loss : {ada, curricular}) {
    loss->eval(), loss->forward(x, y);
    loss->train(), loss->forward(x, y);
  }
  const double mean = 130.0 / 3;
  const double deviation =
      std::sqrt((std::pow(10 - mean, 2) + std::pow(100 - mean, 2) + std::pow(20 - mean, 2)) / 2);
  EXPECT_NEAR(ada->named_buffers()["norm_mean"].item<double>(), 0.99 * 20 + 0.01 * mean, 1e-5);
  EXPECT_NEAR(ada->named_buffers()["norm_deviation"].item<double>(), 0.99 * 100 + 0.01 * deviation, 1e-5);
  EXPECT_NEAR(curricular->named_buffers()["hardness"].item<double>(), 0.01 * 2.2 / 3, 1e-7);
}

TEST(FaceStates, MagFaceHoldsNormsBetweenItsBounds) {
  const auto loss = make_face_loss(named("magface"), 2, 3, 1);
  const auto g = [&](double norm) {
    return values(loss->forward(torch::tensor({{0.6 * norm, 0.8 * norm}}, torch::kFloat), labels({0})))
        .at("loss_g");
  };
  EXPECT_NEAR(g(50), 50.0 / 12100 + 0.02, 1e-6);
  EXPECT_EQ(g(1), g(10));
  EXPECT_EQ(g(500), g(110));
}

TEST(FaceStates, ElasticMarginsAreDrawnAround) {
  FaceLossOptions options = named("elasticface");
  options.elasticface.kind = "cos", options.elasticface.scale = 1;
  options.elasticface.margin = 0.35, options.elasticface.deviation = 0.05;
  class Probe : public ElasticFaceLossImpl {
   public:
    using ElasticFaceLossImpl::ElasticFaceLossImpl;
    using ElasticFaceLossImpl::margin;
  };
  const Tensor cosine = torch::linspace(-0.9, 0.9, 20000);
  Probe drawn({4, 3, {}, 1}, options.elasticface);
  torch::manual_seed(2);
  const Tensor margins = cosine - drawn.margin(cosine, {});
  EXPECT_NEAR(margins.mean().item<double>(), 0.35, 2e-3);
  EXPECT_NEAR(margins.std().item<double>(), 0.05, 2e-3);
  options.elasticface.plus = true;
  Probe sorted({4, 3, {}, 1}, options.elasticface);
  torch::manual_seed(2);
  const Tensor mixed = cosine.index_select(0, torch::randperm(20000));
  const Tensor plus = (mixed - sorted.margin(mixed, {})).index_select(0, mixed.argsort());
  EXPECT_TRUE(plus.diff().le(1e-6).all().item<bool>());  // larger margins on smaller cosines
  EXPECT_NEAR(plus.std().item<double>(), 0.05, 2e-3);
}

TEST(FaceStates, SphereFace2StartsInBalance) {
  const auto loss = make_face_loss(named("sphereface2"), 8, 1000, 1);
  loss->to(torch::kDouble);
  // Without direction every cosine is 0, where both parts pull at the bias alike.
  loss->forward(torch::zeros({3, 8}, torch::kDouble), labels({0, 5, 9})).total.backward();
  EXPECT_NEAR(loss->named_parameters()["bias"].grad().item<double>(), 0, 1e-6);
}

TEST(FaceStates, CentersMoveToTheirSamples) {
  const auto loss = make_face_loss(named("center"), 2, 4, 1);
  const Tensor x = torch::tensor({{1., 2.}, {3., 4.}, {5., 6.}});
  const auto terms = values(loss->forward(x, labels({2, 2, 0})));
  EXPECT_NEAR(terms.at("loss_center"), 0.5 * (5 + 25 + 61) / 3, 1e-5);
  const Tensor expected =
      torch::tensor({{0.5 * 5 / 2, 0.5 * 6 / 2}, {0., 0.}, {0.5 * 4 / 3, 0.5 * 6 / 3}, {0., 0.}});
  EXPECT_TRUE(loss->named_buffers()["centers"].allclose(expected));
}

TEST(FaceStates, TheContrastiveMarginFollowsTheBestThreshold) {
  EXPECT_NEAR(ContrastiveLossImpl::best_threshold(
                  torch::tensor({1., 5., 2., 3., 4., 9.}),
                  torch::tensor({true, false, true, false, true, false})),  // sorted: s s d s d d
              4.5, 1e-9);
  FaceLossOptions options = named("contrastive");
  options.contrastive.margin_every = 3, options.contrastive.margin_pairs = 7;
  const auto loss = make_face_loss(options, 1, 4, 1);
  // Pairs: same 1, different 10 and 11.
  const Tensor x = torch::tensor({{0.}, {1.}, {11.}}), y = labels({0, 0, 1});
  const auto margin = [&] { return values(loss->forward(x, y)).at("margin"); };
  EXPECT_EQ(margin(), 1);
  EXPECT_EQ(margin(), 1);
  EXPECT_EQ(margin(), 1);  // moved after this step
  const double moved = margin();
  EXPECT_GE(moved, 5.5);
  EXPECT_LE(moved, 6);
}

TEST(FaceLosses, TripletsTakeTheNegativesTheyAreToldTo) {
  // Unit vectors by angle: anchor 0, positive 0.4, negatives 0.5 and 2.
  const Tensor angle = torch::tensor({0., 0.4, 0.5, 2.}, torch::kDouble);
  const Tensor x = torch::stack({angle.cos(), angle.sin()}, 1);
  const auto square = [](double a, double b) { return 2 - 2 * std::cos(a - b); };
  FaceLossOptions options = named("triplet");
  const auto loss_of = [&](const std::string& mining) {
    options.triplet.mining = mining;
    return make_face_loss(options, 2, 0, 1)->forward(x, labels({0, 0, 1, 2}));
  };
  const double from_first = square(0, 0.4) - square(0, 0.5) + 0.2;
  const double from_second = square(0.4, 0) - square(0.4, 0.5) + 0.2;
  for (const char* mining : {"all", "hard", "random"}) {  // each pair has one violating negative
    EXPECT_NEAR(loss_of(mining).total.item<double>(), (from_first + from_second) / 2, 1e-9) << mining;
  }
  EXPECT_DOUBLE_EQ(values(loss_of("hard")).at("violations"), 1);
  const LossTerms none = make_face_loss(options, 2, 0, 1)->forward(x, labels({0, 1, 2, 3}));
  EXPECT_EQ(none.total.item<double>(), 0);
}

}  // namespace
}  // namespace zoo::test
