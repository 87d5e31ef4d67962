#include "models/autoencoder/autoencoder.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <torch/torch.h>

#include "core/error.h"
#include "core/files.h"
#include "models/autoencoder/criterion.h"
#include "models/autoencoder/discriminator.h"
#include "models/autoencoder/lpips.h"
#include "tests/support.h"

namespace zoo {
namespace {

using testing::HasSubstr;

AutoencoderOptions small_autoencoder(const std::string& kind = "kl") {
  AutoencoderOptions options;
  options.kind = kind;
  options.block_out_channels = {8, 16};
  options.layers_per_block = 1;
  options.latent_channels = 3;
  options.norm_num_groups = 4;
  options.num_vq_embeddings = 12;
  return options;
}

AutoencoderLossOptions adversarial_loss() {
  AutoencoderLossOptions options;
  options.perceptual = 0;
  options.kl = 0.1;
  options.l2 = 0.5;
  options.adversarial_start = 1;
  options.discriminator_channels = 4;
  options.discriminator_layers = 2;
  return options;
}

double value_of(const LossTerms& loss, const std::string& name) {
  for (const auto& [term, value] : loss.terms) {
    if (term == name) return value.item<double>();
  }
  ADD_FAILURE() << "no term " << name;
  return 0;
}

torch::Tensor test_images() {
  return torch::rand({3, 3, 32, 24}) * 2 - 1;
}

TEST(AutoencoderQuantizer, TakesTheNearestEntryAndPassesTheGradientOn) {
  torch::manual_seed(0);
  VectorQuantizer quantizer(12, 3);
  torch::nn::init::normal_(quantizer->embedding->weight);
  const torch::Tensor latents = torch::randn({2, 3, 4, 5}).requires_grad_();
  const Quantised made = quantizer(latents, 0.25);
  const torch::Tensor cells = latents.permute({0, 2, 3, 1}).reshape({-1, 3});
  const torch::Tensor nearest = torch::cdist(cells, quantizer->embedding->weight).argmin(1);
  EXPECT_TRUE(made.indices.flatten().equal(nearest));
  const torch::Tensor entries = quantizer->embedding->weight.index_select(0, nearest);
  const torch::Tensor expected = entries.view({2, 4, 5, 3}).permute({0, 3, 1, 2});
  EXPECT_TRUE(torch::allclose(made.latents, expected, 1e-5, 1e-6));
  const double error = (cells - entries).square().mean().item<double>();
  EXPECT_NEAR(made.loss.item<double>(), 1.25 * error, 1e-5);
  const torch::Tensor weights = torch::randn_like(latents);
  (made.latents * weights).sum().backward();
  EXPECT_TRUE(latents.grad().equal(weights));
  EXPECT_FALSE(quantizer->embedding->weight.grad().defined());
}

TEST(AutoencoderPosterior, HoldsItsVarianceInBounds) {
  const torch::Tensor moments =
      torch::cat({torch::full({1, 1, 1, 1}, 2.0), torch::full({1, 1, 1, 1}, 50.0)}, 1);
  EXPECT_EQ(posterior_of(moments).logvar.item<double>(), 20);
  EXPECT_NEAR(posterior_sample(moments, torch::ones({1, 1, 1, 1})).item<double>(), 2 + std::exp(10.0), 1);
  EXPECT_EQ(posterior_sample(moments, {}).item<double>(), 2);
  const torch::Tensor standard = torch::zeros({2, 4, 3, 3});
  EXPECT_EQ(posterior_kl(standard).abs().max().item<double>(), 0);
}

/// The published discriminator by torch's own layers, with the same weights.
torch::nn::Sequential published_discriminator(PatchDiscriminator& ours, int64_t in, int64_t channels,
                                              int layers) {
  torch::nn::Sequential net;
  const auto& weights = ours->weights();
  size_t next = 0;
  const auto convolution = [&](int64_t from, int64_t to, int64_t stride, bool bias) {
    torch::nn::Conv2d conv(torch::nn::Conv2dOptions(from, to, 4).stride(stride).padding(1).bias(bias));
    conv->weight.set_data(weights.at(next++).detach());
    if (bias) conv->bias.set_data(weights.at(next++).detach());
    net->push_back(conv);
  };
  convolution(in, channels, 2, true);
  net->push_back(torch::nn::LeakyReLU(torch::nn::LeakyReLUOptions().negative_slope(0.2)));
  int64_t width = channels;
  for (int i = 1; i <= layers; ++i) {
    const int64_t wider = channels * std::min(1 << i, 8);
    convolution(width, wider, i < layers ? 2 : 1, false);
    torch::nn::BatchNorm2d norm(wider);
    norm->weight.set_data(weights.at(next++).detach());
    norm->bias.set_data(weights.at(next++).detach());
    net->push_back(norm);
    net->push_back(torch::nn::LeakyReLU(torch::nn::LeakyReLUOptions().negative_slope(0.2)));
    width = wider;
  }
  convolution(width, 1, 1, true);
  EXPECT_EQ(next, weights.size());
  return net;
}

TEST(AutoencoderDiscriminator, IsThePublishedOne) {
  torch::manual_seed(0);
  PatchDiscriminator ours(3, 64, 3);
  int64_t parameters = 0;
  for (const torch::Tensor& weight : ours->weights()) parameters += weight.numel();
  EXPECT_EQ(parameters, 2765633);
  EXPECT_EQ(ours->weight_names().front(), "main.0.weight");
  EXPECT_EQ(ours->weight_names().back(), "main.11.bias");
  PatchDiscriminator small(3, 4, 4);  // widths stop at eight times
  const torch::Tensor images = torch::randn({2, 3, 64, 48});
  torch::nn::Sequential published = published_discriminator(small, 3, 4, 4);
  EXPECT_TRUE(torch::allclose(small->forward(images, true), published->forward(images), 1e-4, 1e-5));
}

TEST(AutoencoderAdaptiveWeight, IsTheRatioOfGradients) {
  torch::manual_seed(0);
  const torch::Tensor weight = torch::randn({4, 5}, torch::kDouble).requires_grad_();
  const torch::Tensor u = torch::randn({4, 5}, torch::kDouble), v = torch::randn({4, 5}, torch::kDouble);
  const auto ratio = [&](const torch::Tensor& first, const torch::Tensor& second) {
    const torch::Tensor found = adaptive_weight(first, second, weight);
    EXPECT_FALSE(found.requires_grad());
    return found.item<double>();
  };
  const double expected = 3 * u.norm().item<double>() / (v.norm().item<double>() + 1e-4);
  EXPECT_NEAR(ratio(3 * (weight * u).sum(), (weight * v).sum()), expected, 1e-9);
  EXPECT_EQ(ratio((weight * u).sum() * 1e6, (weight * v).sum() * 0), 1e4);
  // By finite differences along the gradient, whose length a loss's slope is there.
  const auto first = [&](const torch::Tensor& w) { return 1e-4 * (w.tanh() * u).sum().exp(); };
  const auto second = [&](const torch::Tensor& w) { return (w * v).sum().sin(); };
  const auto length = [&](const std::function<torch::Tensor(const torch::Tensor&)>& loss) {
    const torch::Tensor gradient = torch::autograd::grad({loss(weight)}, {weight})[0];
    const torch::Tensor step = gradient / gradient.norm() * 1e-5;
    return ((loss(weight + step) - loss(weight - step)) / 2e-5).item<double>();
  };
  const double by_differences = length(first) / (length(second) + 1e-4);
  EXPECT_NEAR(ratio(first(weight), second(weight)), by_differences, 1e-6 * by_differences);
}

class AutoencoderLossTerms : public testing::Test {
 protected:
  void SetUp() override {
    torch::manual_seed(0);
    model_ = Autoencoder(small_autoencoder());
    loss_ = AutoencoderLoss(adversarial_loss());
    images_ = test_images();
  }

  LossTerms seeded_loss() {
    torch::manual_seed(7);
    return loss_->forward(*model_, images_);
  }

  /// What the loss saw: the reconstruction with the same noise.
  torch::Tensor seeded_reconstruction() {
    torch::manual_seed(7);
    moments_ = model_->encode(images_);
    const torch::Tensor noise = torch::randn_like(moments_.chunk(2, 1)[0]);
    return model_->decode(posterior_sample(moments_, noise));
  }

  torch::Tensor likelihood_of(const torch::Tensor& made) {
    const torch::Tensor error = made - images_;
    return (error.abs() + 0.5 * error.square()).sum() / 3;
  }

  void train_step() {
    loss_->forward(*model_, images_).total.backward();
    loss_->step(1e-3, 0, 0, 1);
    for (torch::Tensor& parameter : model_->parameters()) parameter.mutable_grad().reset();
    loss_->release_gradients();
  }

  torch::Tensor buffer(const std::string& name) { return loss_->named_buffers()[name]; }

  Autoencoder model_{nullptr};
  AutoencoderLoss loss_{nullptr};
  torch::Tensor images_, moments_;
};

TEST_F(AutoencoderLossTerms, AreThoseOfThePaperBeforeTheDiscriminatorStarts) {
  const LossTerms loss = seeded_loss();
  const torch::Tensor made = seeded_reconstruction(), error = made - images_;
  const double kl = posterior_kl(moments_).mean().item<double>();
  EXPECT_NEAR(value_of(loss, "l1"), error.abs().mean().item<double>(), 1e-6);
  EXPECT_NEAR(value_of(loss, "kl"), kl, 1e-3);
  const double expected = likelihood_of(made).item<double>() + 0.1 * kl;
  EXPECT_NEAR(loss.total.item<double>(), expected, 1e-4 * expected);
  loss.total.backward();
  EXPECT_TRUE(loss_->own_gradients().empty());
  // ∂/∂s of Σ(r/e^s + s)/B at s = 0.
  const double elements = 3 * 32 * 24;
  EXPECT_NEAR(loss_->logvar.grad().item<double>(), elements - likelihood_of(made).item<double>(), 0.2);
  loss_->step(1e-3, 0, 0, 1);
  EXPECT_EQ(loss_->steps(), 1);
  EXPECT_TRUE(loss_->adversarial());
}

TEST_F(AutoencoderLossTerms, TheDiscriminatorLearnsFromItsOwnLossAndTheDecoderFromBoth) {
  train_step();
  const LossTerms loss = seeded_loss();
  loss.total.backward();
  const std::vector<torch::Tensor> own = loss_->own_gradients();
  ASSERT_EQ(own.size(), loss_->own_weights().size());
  const torch::Tensor last = model_->decoder->conv_out->weight, found = last.grad().clone();

  auto discriminator =
      std::dynamic_pointer_cast<PatchDiscriminatorImpl>(loss_->named_children()["discriminator"]);
  const torch::Tensor made = seeded_reconstruction();
  const torch::Tensor generator = -discriminator->forward(made, /*learns=*/true).mean();
  const auto gradient = [&](const torch::Tensor& of) {
    return torch::autograd::grad({of}, {last}, {}, true)[0];
  };
  const torch::Tensor of_pixels = gradient(likelihood_of(made)), of_generator = gradient(generator);
  const double weight = of_pixels.norm().item<double>() / (of_generator.norm().item<double>() + 1e-4);
  EXPECT_NEAR(value_of(loss, "adaptive_weight"), weight, 1e-3 * weight);
  EXPECT_LE((found - of_pixels - 0.5 * weight * of_generator).abs().max().item<double>(),
            1e-4 * found.abs().max().item<double>());
  EXPECT_GT((0.5 * weight * of_generator).norm().item<double>(), 0.4 * of_pixels.norm().item<double>());

  const torch::Tensor real = discriminator->forward(images_, true),
                      fake = discriminator->forward(made.detach(), true);
  const torch::Tensor hinge = 0.5 * ((1 - real).clamp_min(0).mean() + (1 + fake).clamp_min(0).mean());
  EXPECT_NEAR(value_of(loss, "discriminator"), hinge.item<double>(), 1e-5);
  const auto expected = torch::autograd::grad({hinge}, discriminator->weights());
  for (size_t i = 0; i < own.size(); ++i) {
    EXPECT_LE((own[i] - expected[i]).abs().max().item<double>(),
              1e-5 + 1e-3 * expected[i].abs().max().item<double>())
        << loss_->own_weights()[i];
  }
}

TEST_F(AutoencoderLossTerms, TheDiscriminatorMovesAsAdamMovesIt) {
  train_step();
  std::vector<torch::Tensor> copies;
  for (const std::string& name : loss_->own_weights()) {
    copies.push_back(buffer(name).detach().clone().set_requires_grad(true));
  }
  torch::optim::Adam adam(copies, torch::optim::AdamOptions(2e-3).betas({0.5, 0.9}));
  for (int step = 0; step < 3; ++step) {
    loss_->forward(*model_, images_).total.backward();
    const std::vector<torch::Tensor> gradients = loss_->own_gradients();
    for (size_t i = 0; i < copies.size(); ++i) copies[i].mutable_grad() = gradients[i] * 0.5;
    adam.step();
    loss_->step(2e-3, 0.1, 0.9, 0.5);
    loss_->release_gradients();
    EXPECT_TRUE(loss_->own_gradients().empty());
  }
  for (size_t i = 0; i < copies.size(); ++i) {
    const std::string name = loss_->own_weights()[i];
    EXPECT_LE((copies[i] - buffer(name)).abs().max().item<double>(), 1e-6) << name;
  }
}

TEST_F(AutoencoderLossTerms, AResumeInMidGameIsBitEqual) {
  train_step(), train_step(), train_step();
  AutoencoderLoss resumed(adversarial_loss());
  const auto target = resumed->named_buffers();
  {
    const torch::NoGradGuard no_grad;
    for (const auto& item : loss_->named_buffers()) target[item.key()].copy_(item.value());
  }
  ASSERT_EQ(loss_->own_state().size(), loss_->own_weights().size());
  const AutoencoderLoss uninterrupted = loss_;
  torch::manual_seed(3);
  train_step();
  loss_ = resumed;
  torch::manual_seed(3);
  train_step();
  for (const auto& item : uninterrupted->named_buffers()) {
    EXPECT_TRUE(item.value().equal(target[item.key()])) << item.key();
  }
}

TEST(AutoencoderVqLoss, IsTheMeanOverPixelsAndTheCodebooks) {
  torch::manual_seed(0);
  Autoencoder model(small_autoencoder("vq"));
  AutoencoderLossOptions options = adversarial_loss();
  options.l2 = 0;
  options.codebook = 2;
  AutoencoderLoss loss(options);
  const torch::Tensor images = test_images();
  const LossTerms terms = loss->forward(*model, images);
  const Quantised quantised = model->quantize(model->encode(images), 0.25);
  const double expected = (model->decode_entries(quantised.latents) - images).abs().mean().item<double>() +
                          2 * quantised.loss.item<double>();
  EXPECT_NEAR(terms.total.item<double>(), expected, 1e-5);
  terms.total.backward();
  EXPECT_GT(model->quantize->embedding->weight.grad().abs().max().item<double>(), 0);
  EXPECT_GT(model->encoder->conv_in->weight.grad().abs().max().item<double>(), 0);
}

TEST(AutoencoderLossOptions, PerceptualLossNeedsItsFiles) {
  AutoencoderLossOptions options;
  EXPECT_THAT(test::error_of([&] { options.validate(); }),
              HasSubstr("loss.perceptual: 1 needs loss.vgg=FILE"));
  EXPECT_THAT(test::error_of([&] { options.validate(); }), HasSubstr("or loss.perceptual=0"));
  options.perceptual = 0;
  options.discriminator_layers = 7;
  EXPECT_THAT(test::error_of([&] { options.validate(); }), HasSubstr("loss.discriminator_layers"));
}

/// VGG-16 of random weights in torchvision's names.
StateDict random_vgg() {
  StateDict vgg;
  vgg.source = "VGG";
  const std::vector<int64_t> plan = {64, 64,  0,   128, 128, 0,   256, 256, 256,
                                     0,  512, 512, 512, 0,   512, 512, 512};
  int64_t in = 3, place = 0;
  for (const int64_t out : plan) {
    if (out > 0) {
      const std::string name = "features." + std::to_string(place);
      vgg.tensors.emplace_back(name + ".weight", torch::randn({out, in, 3, 3}) * std::sqrt(2.0 / (9 * in)));
      vgg.tensors.emplace_back(name + ".bias", torch::randn(out) * 0.1);
      in = out;
    }
    place += out > 0 ? 2 : 1;  // convolution and ReLU, or a pooling
  }
  return vgg;
}

/// LPIPS restated over torch's layers in torchvision's order.
torch::Tensor restated_lpips(const StateDict& vgg, const StateDict& heads, torch::Tensor a, torch::Tensor b) {
  const auto row = [](std::vector<double> v) { return torch::tensor(v, torch::kFloat).view({1, 3, 1, 1}); };
  a = (a - row({-.030, -.088, -.188})) / row({.458, .448, .450});
  b = (b - row({-.030, -.088, -.188})) / row({.458, .448, .450});
  torch::Tensor sum = torch::zeros(a.size(0));
  int64_t head = 0;
  for (int place = 0; place < 30; ++place) {
    const torch::Tensor* weight = vgg.find("features." + std::to_string(place) + ".weight");
    const bool pooling = place == 4 || place == 9 || place == 16 || place == 23;
    for (torch::Tensor* x : {&a, &b}) {
      if (weight != nullptr) {
        *x = torch::conv2d(*x, *weight, *vgg.find("features." + std::to_string(place) + ".bias"), 1, 1);
      } else {
        *x = pooling ? torch::max_pool2d(*x, 2) : x->clamp_min(0);
      }
    }
    if (place != 3 && place != 8 && place != 15 && place != 22 && place != 29) continue;
    const auto unit = [](const torch::Tensor& x) { return x / x.norm(2, 1, true).clamp_min(1e-10); };
    const torch::Tensor w = heads.find("lin" + std::to_string(head++) + ".model.1.weight")->flatten();
    sum += ((unit(a) - unit(b)).square() * w.view({1, -1, 1, 1})).sum(1).mean({1, 2});
  }
  return sum;
}

TEST(AutoencoderLpips, EqualsItsRestatement) {
  ZOO_NEEDS_SHARED_DATA();
  torch::manual_seed(0);
  const torch::NoGradGuard no_grad;
  const StateDict vgg = random_vgg(), heads = load_state_dict(test::shared_data() + "/lpips/vgg.pth");
  Lpips lpips(vgg, heads);
  const torch::Tensor a = torch::rand({2, 3, 32, 48}) * 2 - 1, b = torch::rand({2, 3, 32, 48}) * 2 - 1;
  const torch::Tensor found = lpips.distance(a, b), expected = restated_lpips(vgg, heads, a, b);
  EXPECT_TRUE(torch::allclose(found, expected, 1e-4, 1e-6)) << found << expected;
  EXPECT_GT(found.min().item<double>(), 1e-3);
  EXPECT_EQ(lpips.distance(a, a).abs().max().item<double>(), 0);
}

TEST(AutoencoderLpips, WeightsThatAreNotItsOwnAreNamed) {
  const StateDict vgg = random_vgg();
  StateDict heads;
  heads.source = "HEADS";
  EXPECT_THAT(test::error_of([&] { Lpips(vgg, heads); }), HasSubstr("HEADS: no tensor lin0.model.1.weight"));
  heads.tensors.emplace_back("lin0.model.1.weight", torch::ones({1, 3, 1, 1}));
  EXPECT_THAT(test::error_of([&] { Lpips(vgg, heads); }), HasSubstr("expected [1, 64, 1, 1]"));
}

TEST(AutoencoderInputs, TooSmallPicturesAreNamed) {
  Autoencoder model(small_autoencoder());
  EXPECT_THAT(test::error_of([&] {
                model->encode(torch::zeros({1, 3, 1, 8}));
              }),
              HasSubstr("expected at least 2 pixels a side"));
  EXPECT_THAT(test::error_of([&] { model->encode(torch::zeros({1, 4, 8, 8})); }), HasSubstr("[B,3,h,w]"));
}

}  // namespace
}  // namespace zoo
