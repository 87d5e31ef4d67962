#include "models/ldm/ldm.h"

#include <gtest/gtest.h>
#include <torch/torch.h>

#include <map>

#include "core/error.h"
#include "core/files.h"
#include "models/ldm/config.h"
#include "models/weights/state_dict.h"
#include "tests/support.h"

namespace zoo {
namespace {

constexpr int kLdmCases = 2;

/// A folder for every network of tests/parity/ldm.py, made once.
const std::string& ldm_networks() {
  static std::string folder;
  if (folder.empty()) {
    folder = test::scratch_dir("ldm_networks");
    test::run_python("ldm.py", {"write", folder});
  }
  return folder;
}

/// What the reference made of its inputs, and how near ours must come.
class LdmNetwork : public testing::TestWithParam<std::string> {
 protected:
  void SetUp() override {
    ZOO_NEEDS_PYTHON();
    folder_ = ldm_networks() + "/" + GetParam();
    if (HasFatalFailure()) return;
    cases_ = load_tensors(folder_ + "/cases.safetensors");
  }

  Json config() { return read_json(folder_ + "/config.json"); }
  std::string config_file() { return folder_ + "/config.json"; }

  template <class Module>
  void load(Module& module, const std::string& file, torch::Dtype dtype) {
    const StateDict state = load_state_dict(folder_ + "/" + file);
    require_fit(assign(*module, state), state.source, /*partial=*/false);
    EXPECT_EQ(module_state(*module).tensors.size(), state.tensors.size());
    module->to(dtype);
    module->eval();
  }

  torch::Tensor of_case(int i, const std::string& name) {
    return *cases_.find(std::to_string(i) + "." + name);
  }
  torch::Tensor input(int i, const std::string& name, torch::Dtype dtype) {
    return of_case(i, name).to(dtype);
  }

  /// In deviations of the reference.
  void expect_equal(const torch::Tensor& ours, int i, const std::string& name, double tolerance) {
    const torch::Tensor theirs = of_case(i, name);
    ASSERT_EQ(ours.sizes(), theirs.sizes()) << name;
    const double scale = theirs.numel() > 1 ? theirs.std().item<double>() : theirs.abs().max().item<double>();
    EXPECT_LE((ours - theirs).abs().max().item<double>(), tolerance * scale) << "case " << i << " " << name;
  }

  torch::NoGradGuard no_grad_;
  std::string folder_;
  StateDict cases_;
};

/// Precisions, and how near outputs come in them.
const std::pair<torch::Dtype, double> kLdmPrecisions[] = {{torch::kFloat, 1e-4}, {torch::kDouble, 1e-9}};

TEST_P(LdmNetwork, TheReferenceReactsToAllThatItShould) {
  int reactions = 0;
  for (const auto& [name, tensor] : cases_.tensors) {
    if (name.rfind("reaction.", 0) != 0) continue;
    EXPECT_GT(tensor.item<double>(), 100 * 1e-4) << name;
    ++reactions;
  }
  EXPECT_GT(reactions, 0);
}

class LdmUNet : public LdmNetwork {};

TEST_P(LdmUNet, PredictionsEqualDiffusers) {
  for (const auto& [dtype, tolerance] : kLdmPrecisions) {
    UNet unet(unet_from_config(config(), config_file()));
    load(unet, "diffusion_pytorch_model.safetensors", dtype);
    for (int i = 0; i < kLdmCases; ++i) {
      const torch::Tensor latents = input(i, "latents", dtype), states = input(i, "states", dtype);
      const torch::Tensor times = of_case(i, "times");
      expect_equal(unet(latents, times, states), i, "prediction", tolerance);
      const UNetContext context = unet->context(states);
      expect_equal(unet->forward_with(latents, times, context), i, "prediction", tolerance);
    }
  }
}

TEST_P(LdmUNet, ConfigurationsComeBackAsTheyWere) {
  const Json theirs = config(), ours = unet_to_config(unet_from_config(theirs, config_file()));
  for (const auto& [key, value] : theirs.items()) {
    if (key.rfind('_', 0) == 0 || !ours.contains(key) || value.is_null()) continue;
    EXPECT_EQ(ours[key], value) << key;
  }
}

INSTANTIATE_TEST_SUITE_P(Variants, LdmUNet, testing::Values("unet_sd1", "unet_sd2", "unet_other"),
                         [](const auto& info) { return info.param; });

class LdmAutoencoder : public LdmNetwork {
 protected:
  void expect_codebook(Autoencoder& vae, int i, torch::Dtype dtype, double tolerance) {
    const torch::Tensor latents = input(i, "moments", dtype);
    EXPECT_TRUE(vae->quantize(latents).indices.equal(of_case(i, "indices")));
    expect_equal(vae->decode(latents), i, "decoded", tolerance);
  }

  void expect_posterior(Autoencoder& vae, int i, torch::Dtype dtype, double tolerance) {
    const torch::Tensor moments = input(i, "moments", dtype), noise = input(i, "noise", dtype);
    expect_equal(posterior_sample(moments, noise), i, "latents", tolerance);
    expect_equal(vae->latents_of(input(i, "images", dtype), noise), i, "latents", tolerance);
    expect_equal(posterior_kl(moments), i, "kl", tolerance);
    expect_equal(vae->decode(input(i, "latents", dtype)), i, "decoded", tolerance);
  }
};

TEST_P(LdmAutoencoder, MomentsAndImagesEqualDiffusers) {
  for (const auto& [dtype, tolerance] : kLdmPrecisions) {
    Autoencoder vae(autoencoder_from_config(config(), config_file()));
    load(vae, "diffusion_pytorch_model.safetensors", dtype);
    for (int i = 0; i < kLdmCases; ++i) {
      expect_equal(vae->encode(input(i, "images", dtype)), i, "moments", tolerance);
      vae->options.kind == "vq" ? expect_codebook(vae, i, dtype, tolerance)
                                : expect_posterior(vae, i, dtype, tolerance);
    }
  }
}

TEST_P(LdmAutoencoder, ConfigurationsComeBackAsTheyWere) {
  const Json theirs = config(), ours = autoencoder_to_config(autoencoder_from_config(theirs, config_file()));
  for (const auto& [key, value] : theirs.items()) {
    if (key.rfind("_diffusers", 0) == 0 || !ours.contains(key) || value.is_null()) continue;
    EXPECT_EQ(ours[key], value) << key;
  }
}

INSTANTIATE_TEST_SUITE_P(Variants, LdmAutoencoder, testing::Values("vae_sd", "vae_small", "vae_vq"),
                         [](const auto& info) { return info.param; });

class LdmText : public LdmNetwork {};

TEST_P(LdmText, StatesEqualTransformers) {
  for (const auto& [dtype, tolerance] : kLdmPrecisions) {
    ClipText text(clip_text_from_config(config(), config_file()));
    load(text, "model.safetensors", dtype);
    for (int i = 0; i < kLdmCases; ++i) {
      expect_equal(text(of_case(i, "ids")), i, "states", tolerance);
      expect_equal(text(of_case(i, "ids"), 1), i, "clip_skip_1", tolerance);
    }
  }
}

INSTANTIATE_TEST_SUITE_P(Variants, LdmText, testing::Values("text_sd1", "text_sd2"),
                         [](const auto& info) { return info.param; });

INSTANTIATE_TEST_SUITE_P(Variants, LdmNetwork,
                         testing::Values("unet_sd1", "unet_sd2", "unet_other", "vae_sd", "vae_small",
                                         "vae_vq", "text_sd1", "text_sd2"),
                         [](const auto& info) { return info.param; });

}  // namespace
}  // namespace zoo
