#include "models/ldm/lora.h"

#include <gtest/gtest.h>
#include <torch/torch.h>

#include <map>

#include "core/text.h"
#include "models/ldm/ldm.h"
#include "models/ldm/weights.h"
#include "tests/support.h"

namespace zoo {
namespace {

/// What tests/parity/lora.py writes, made once.
const std::string& lora_files() {
  static std::string folder;
  if (folder.empty()) {
    folder = test::scratch_dir("lora");
    test::run_python("lora.py", {"write", folder});
  }
  return folder;
}

/// The model of lora.py.
LdmOptions lora_base_options() {
  LdmOptions options;
  options.unet.block_out_channels = {16, 32};
  options.unet.down_block_types = {"CrossAttnDownBlock2D", "DownBlock2D"};
  options.unet.up_block_types = {"UpBlock2D", "CrossAttnUpBlock2D"};
  options.unet.layers_per_block = 1;
  options.unet.cross_attention_dim = 24;
  options.unet.attention_head_dim = {2};
  options.unet.norm_num_groups = 8;
  options.autoencoder.block_out_channels = {16};
  options.autoencoder.layers_per_block = 1;
  options.autoencoder.norm_num_groups = 8;
  options.text_encoder.vocab_size = 60;
  options.text_encoder.hidden_size = 24;
  options.text_encoder.intermediate_size = 32;
  options.text_encoder.num_hidden_layers = 2;
  options.text_encoder.num_attention_heads = 2;
  return options;
}

Ldm lora_base(const LoraOptions& lora = {}) {
  LdmOptions options = lora_base_options();
  options.lora = lora;
  Ldm ldm(options);
  load_ldm_weights(*ldm, load_state_dict(lora_files() + "/base.safetensors"), /*partial=*/false);
  ldm->eval();
  return ldm;
}

class LoraParity : public testing::TestWithParam<std::string> {};

TEST_P(LoraParity, MergedWeightsEqualDiffusers) {
  ZOO_NEEDS_PYTHON();
  const torch::NoGradGuard no_grad;
  const std::string path = lora_files() + "/" + GetParam();
  Ldm ldm = lora_base();
  const StateDict file = load_state_dict(path + ".safetensors"), expected = load_tensors(path + ".expected"),
                  base = load_tensors(lora_files() + "/base.safetensors");
  merge_lora(*ldm, read_lora(file, *ldm));
  for (const auto& [name, tensor] : module_state(*ldm).tensors) {
    const torch::Tensor* changed = expected.find(name);
    if (changed == nullptr) {
      EXPECT_TRUE(tensor.equal(*base.find(name))) << name;
      continue;
    }
    EXPECT_LE((tensor - *changed).abs().max().item<double>(), 1e-5) << name;
    EXPECT_GT((*changed - *base.find(name)).abs().max().item<double>(), 0.05) << name;
  }
}

INSTANTIATE_TEST_SUITE_P(Layouts, LoraParity, testing::Values("peft", "scripts", "processors", "kohya"),
                         [](const auto& info) { return info.param; });

TEST(LoraFilesParity, DiffusersLoadsWhatZooWrites) {
  ZOO_NEEDS_PYTHON();
  const torch::NoGradGuard no_grad;
  LoraOptions options;
  options.rank = 3;
  options.alpha = 6;
  options.text_encoder = true;
  options.targets = {"to_q", "to_out.0", "ff.net.2"};
  Ldm ldm = lora_base(options);
  for (auto& item : ldm->named_parameters()) {
    if (item.key().find(".lora_B.") != std::string::npos) item.value().normal_(0, 0.3);
  }
  const std::string file = test::scratch_dir("lora-written") + "/pytorch_lora_weights.safetensors";
  save_safetensors(file, lora_state(*ldm));
  merge_adapters(*ldm);
  save_safetensors(file + ".expected", module_state(*ldm));
  test::run_python("lora.py", {"check", lora_files(), file});
  Ldm again = lora_base();
  load_adapters(*again, read_lora(load_state_dict(file), *again));
  merge_adapters(*again);
  for (const auto& [name, tensor] : module_state(*again).tensors) {
    EXPECT_TRUE(tensor.equal(*module_state(*ldm).find(name))) << name;
  }
}

}  // namespace
}  // namespace zoo
