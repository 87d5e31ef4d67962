#include "models/ldm/ldm.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <torch/torch.h>

#include "core/error.h"
#include "core/text.h"
#include "models/export/torchscript.h"
#include "models/ldm/config.h"
#include "models/ldm/fused_ldm.h"
#include "models/ldm/lora.h"
#include "models/ldm/pipeline.h"
#include "models/ldm/traces.h"
#include "models/ldm/weights.h"
#include "models/weights/weights_follow.h"
#include "tests/support.h"

namespace zoo {
namespace {

using testing::HasSubstr;

struct CountOfTensors {
  int64_t parameters = 0;
  size_t tensors = 0;
};

CountOfTensors count_of(const torch::nn::Module& module) {
  CountOfTensors count;
  for (const auto& item : module.named_parameters()) {
    count.parameters += item.value().numel();
    ++count.tensors;
  }
  EXPECT_EQ(module.named_buffers().size(), 0U);
  return count;
}

void expect_count(const torch::nn::Module& module, int64_t parameters, size_t tensors) {
  const CountOfTensors count = count_of(module);
  EXPECT_EQ(count.parameters, parameters);
  EXPECT_EQ(count.tensors, tensors);
}

/// Memory of weights that follow is never touched: 4 GB cost nothing.
TEST(LdmSizes, StableDiffusion15HasThePublishedNumberOfParameters) {
  const WeightsFollowScope scope;
  const Ldm ldm(sd15());
  expect_count(*ldm->unet, 859520964, 686);
  expect_count(*ldm->vae, 83653863, 248);
  expect_count(*ldm->text_encoder, 123060480, 196);
}

TEST(LdmSizes, StableDiffusion21HasThePublishedNumberOfParameters) {
  const WeightsFollowScope scope;
  const Ldm ldm(sd21());
  expect_count(*ldm->unet, 865910724, 686);
  expect_count(*ldm->text_encoder, 340387840, 372);
}

LdmOptions small_ldm() {
  LdmOptions options = ldm_tiny();
  options.unet.down_block_types = {"DownBlock2D", "CrossAttnDownBlock2D", "CrossAttnDownBlock2D"};
  options.unet.up_block_types = {"CrossAttnUpBlock2D", "CrossAttnUpBlock2D", "UpBlock2D"};
  options.unet.block_out_channels = {16, 32, 32};
  options.unet.cross_attention_dim = 24;
  options.unet.norm_num_groups = 8;
  options.autoencoder.block_out_channels = {8, 16};
  options.autoencoder.norm_num_groups = 4;
  options.autoencoder.mid_block_add_attention = true;
  options.autoencoder.scaling_factor = 0.5;
  options.text_encoder.vocab_size = 50;
  options.text_encoder.hidden_size = 24;
  options.text_encoder.intermediate_size = 32;
  options.text_encoder.max_position_embeddings = 12;
  return options;
}

/// Weights that make every part matter; fresh ones let the last layers give 0.
Ldm random_ldm(const LdmOptions& options) {
  torch::manual_seed(0);
  const torch::NoGradGuard no_grad;
  Ldm ldm(options);
  for (torch::Tensor& parameter : ldm->parameters()) {
    if (parameter.dim() > 1) parameter.normal_(0, 1 / std::sqrt(static_cast<double>(parameter[0].numel())));
  }
  ldm->eval();
  return ldm;
}

TEST(LdmModel, AFreshDenoiserGivesZeroAndLearns) {
  torch::manual_seed(0);
  Ldm ldm(small_ldm());
  const torch::Tensor latents = torch::randn({2, 4, 8, 8});
  const torch::Tensor states = ldm->encode_text(torch::randint(50, {2, 12}, torch::kLong));
  EXPECT_EQ(ldm->unet(latents, torch::rand(2) * 999, states).abs().max().item<double>(), 0);
  torch::optim::Adam optimizer(ldm->parameters(), 1e-2);
  for (int step = 0; step < 4; ++step) {  // zeros open one layer after another
    optimizer.zero_grad();
    const torch::Tensor again = ldm->encode_text(torch::randint(50, {2, 12}, torch::kLong));
    (ldm->unet(latents, torch::rand(2) * 999, again) - torch::randn_like(latents)).square().mean().backward();
    optimizer.step();
  }
  for (const auto& item : ldm->named_parameters()) {
    if (starts_with(item.key(), "vae.")) continue;
    ASSERT_TRUE(item.value().grad().defined()) << item.key();
    EXPECT_GT(item.value().grad().abs().max().item<double>(), 0) << item.key();
  }
}

TEST(LdmModel, LatentsAreScaledOnTheirWayToTheDenoiser) {
  const torch::NoGradGuard no_grad;
  const Ldm ldm = random_ldm(small_ldm());
  Ldm model = ldm;
  const torch::Tensor images = torch::rand({1, 3, 16, 16}) * 2 - 1;
  const torch::Tensor mean = posterior_of(model->vae->encode(images)).mean;
  EXPECT_TRUE(torch::allclose(model->encode(images), 0.5 * mean));
  EXPECT_TRUE(torch::allclose(model->decode(0.5 * mean), model->vae->decode(mean), 1e-4, 1e-5));
  model->set_scaling_factor(0);
  EXPECT_THAT(test::error_of([&] { model->encode(images); }),
              HasSubstr("model.autoencoder.scaling_factor is 0"));
}

TEST(LdmModel, OptionsOutOfRangeAreNamed) {
  const auto message = [](const std::function<void(LdmOptions&)>& change) {
    LdmOptions options = small_ldm();
    change(options);
    return test::error_of([&] { options.validate(); });
  };
  EXPECT_EQ(message([](LdmOptions&) {}), "");
  EXPECT_THAT(message([](LdmOptions& o) { o.unet.cross_attention_dim = 32; }),
              HasSubstr("model.unet.cross_attention_dim: 32, expected model.text_encoder.hidden_size 24"));
  EXPECT_THAT(message([](LdmOptions& o) { o.unet.in_channels = 5; }),
              HasSubstr("model.unet.in_channels: 5, expected 4, or 9 for inpainting"));
  EXPECT_THAT(message([](LdmOptions& o) { o.unet.norm_num_groups = 12; }),
              HasSubstr("model.unet.block_out_channels: 16 is no multiple of norm_num_groups 12"));
  EXPECT_THAT(message([](LdmOptions& o) { o.unet.down_block_types = {"DownBlock2D"}; }),
              HasSubstr("model.unet.down_block_types: 1 entries, expected 3"));
  EXPECT_THAT(message([](LdmOptions& o) { o.unet.up_block_types[0] = "UpBlock2"; }), HasSubstr("UpBlock2D"));
  EXPECT_THAT(message([](LdmOptions& o) { o.text_encoder.num_attention_heads = 5; }),
              HasSubstr("model.text_encoder.num_attention_heads: 5 does not divide hidden_size 24"));
  EXPECT_THAT(message([](LdmOptions& o) { o.lora.rank = -1; }), HasSubstr("model.lora.rank"));
}

TEST(LdmModel, WrongInputsAreNamed) {
  Ldm ldm = random_ldm(small_ldm());
  const auto message = [](const std::function<void()>& call) { return test::error_of(call); };
  EXPECT_THAT(message([&] {
                ldm->encode_text(torch::full({1, 12}, 50, torch::kLong));
              }),
              HasSubstr("token id 50, expected 0…49"));
  EXPECT_THAT(message([&] { ldm->encode_text(torch::zeros({1, 13}, torch::kLong)); }), HasSubstr("[1, 13]"));
  EXPECT_THAT(message([&] {
                ldm->unet(torch::zeros({1, 3, 8, 8}), torch::zeros(1), torch::zeros({1, 2, 24}));
              }),
              HasSubstr("latents of shape [1, 3, 8, 8]"));
  EXPECT_THAT(message([&] { ldm->unet->context(torch::zeros({1, 2, 23})); }), HasSubstr("[B,L,24]"));
  EXPECT_THAT(message([&] { ldm->vae->decode(torch::zeros({1, 3, 8, 8})); }), HasSubstr("[1, 3, 8, 8]"));
}

class LdmTraces : public testing::TestWithParam<std::string> {};

/// export_torchscript itself compares the file with the model at other sizes and batches.
TEST_P(LdmTraces, HoldAtOtherSizesAndBatches) {
  const torch::NoGradGuard no_grad;
  LdmOptions options = small_ldm();
  options.autoencoder.kind = GetParam();
  options.unet.use_linear_projection = GetParam() == "vq";
  const Ldm ldm = random_ldm(options);
  const auto specs = ldm_trace_specs(ldm);
  ASSERT_EQ(specs.size(), 4U);
  for (const auto& [name, spec] : specs) {
    const std::string file = test::scratch_dir("ldm_trace") + "/" + name + ".pt";
    EXPECT_LT(export_torchscript(spec, file, "{}"), 1e-4) << name;
  }
}
INSTANTIATE_TEST_SUITE_P(Kinds, LdmTraces, testing::Values("kl", "vq"),
                         [](const auto& info) { return info.param; });

TEST(LdmLora, AFreshAdapterChangesNothingAndIsAllThatIsTrained) {
  LdmOptions options = small_ldm();
  Ldm plain = random_ldm(options);
  options.lora.rank = 4;
  options.lora.text_encoder = true;
  Ldm adapted = random_ldm(options);
  load_ldm_weights(*adapted, module_state(*plain), /*partial=*/false);
  freeze_all_but_adapters(*adapted);
  const torch::Tensor ids = torch::randint(50, {1, 12}, torch::kLong), latents = torch::randn({1, 4, 8, 8});
  adapted->unet->apply([](torch::nn::Module& module) {
    if (auto* layer = module.as<AdaptedLinearImpl>(); layer != nullptr && layer->has_adapter()) {
      torch::nn::init::zeros_(layer->named_parameters()["lora_B.weight"]);
    }
  });
  adapted->text_encoder->apply([](torch::nn::Module& module) {
    if (auto* layer = module.as<AdaptedLinearImpl>(); layer != nullptr && layer->has_adapter()) {
      torch::nn::init::zeros_(layer->named_parameters()["lora_B.weight"]);
    }
  });
  const auto run = [&](Ldm& ldm) { return ldm->unet(latents, torch::full(1, 10.0), ldm->encode_text(ids)); };
  EXPECT_TRUE(torch::allclose(run(adapted), run(plain), 1e-5, 1e-6));
  size_t trained = 0;
  for (const auto& item : adapted->named_parameters()) {
    if (!item.value().requires_grad()) continue;
    EXPECT_THAT(item.key(), HasSubstr(".lora_"));
    ++trained;
  }
  // Four layers of two attentions of seven transformers, four of two text layers, two matrices each.
  EXPECT_EQ(trained, 2U * (4 * 2 * 7 + 4 * 2));
}

TEST(LdmLora, MergedWeightsDoWhatAdaptersDid) {
  const torch::NoGradGuard no_grad;
  LdmOptions options = small_ldm();
  options.lora.rank = 4;
  options.lora.alpha = 2;
  Ldm ldm = random_ldm(options);  // B is random too
  const torch::Tensor ids = torch::randint(50, {1, 12}, torch::kLong), latents = torch::randn({1, 4, 8, 8});
  const auto run = [&] { return ldm->unet(latents, torch::full(1, 10.0), ldm->encode_text(ids)); };
  const StateDict file = lora_state(*ldm);
  const torch::Tensor before = run();
  merge_adapters(*ldm);
  EXPECT_EQ(count_of(*ldm).tensors, count_of(*Ldm(small_ldm())).tensors);
  EXPECT_TRUE(torch::allclose(run(), before, 1e-3, 1e-4));
  // Taken back by the file at strength −1, the result is another one.
  merge_lora(*ldm, read_lora(file, *ldm), -1);
  EXPECT_GT((run() - before).abs().max().item<double>(), 1e-2);
  load_adapters(*ldm, read_lora(file, *ldm));
  EXPECT_TRUE(torch::allclose(run(), before, 1e-3, 1e-4));
}

TEST(FusedLdm, MakesThePicturesOfTheLiveNetworks) {
  Ldm ldm = random_ldm(small_ldm());
  ldm->eval();
  ldm->set_scaling_factor(0.7);
  FusedLdm fused(ldm, "fp32");
  for (const int64_t height : {32, 48}) {
    PictureRequest request;
    request.prompts = torch::randint(50, {2, 9}, torch::kLong);
    request.negatives = torch::randint(50, {1, 9}, torch::kLong);
    PictureOptions options;
    options.steps = 3;
    options.height = height;
    options.width = 64;
    const torch::Tensor live = make_latents(*ldm, request, options),
                        found = make_latents(*ldm, request, options, {}, &fused);
    EXPECT_LT((found - live).abs().max().item<double>(), 1e-3 * live.abs().max().item<double>());
    for (const int64_t tile : {0, 4}) {
      const torch::Tensor pictures = decode_pictures(*ldm, live, tile);
      EXPECT_LT((decode_pictures(*ldm, live, tile, &fused) - pictures).abs().max().item<double>(), 1e-3);
    }
  }
  EXPECT_EQ(fused.fallback(), "");
}

TEST(LdmLora, FilesThatAreNoneAreNamed) {
  const Ldm ldm = random_ldm(small_ldm());
  const std::string layer = "unet.mid_block.attentions.0.transformer_blocks.0.attn1.to_q";
  const auto message = [&](const std::vector<std::pair<std::string, torch::Tensor>>& tensors) {
    return test::error_of([&] { read_lora({tensors, {}, "FILE"}, *ldm); });
  };
  const torch::Tensor down = torch::zeros({2, 32}), up = torch::zeros({32, 2});
  EXPECT_EQ(message({{layer + ".lora_A.weight", down}, {layer + ".lora_B.weight", up}}), "");
  EXPECT_THAT(message({{layer + ".lora_A.weight", down}}), HasSubstr("is not whole, expected down and up"));
  EXPECT_THAT(message({{layer + ".dora_scale", down}}), HasSubstr("is no tensor of a LoRA"));
  EXPECT_THAT(message({{"lora_unet_input_blocks_4_1_proj_in.lora_down.weight", down}}),
              HasSubstr("a layer that the model does not have"));
  EXPECT_THAT(message({}), HasSubstr("no adapters"));
}

}  // namespace
}  // namespace zoo
