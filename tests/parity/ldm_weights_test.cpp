#include "models/ldm/weights.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <torch/torch.h>

#include <filesystem>
#include <map>

#include "core/clip_tokenizer.h"
#include "core/error.h"
#include "core/files.h"
#include "models/ldm/part_options.h"
#include "tests/support.h"

namespace zoo {
namespace {

using testing::HasSubstr;

/// What tests/parity/ldm_weights.py writes, made once.
const std::string& distributed_models() {
  static std::string folder;
  if (folder.empty()) {
    folder = test::scratch_dir("ldm_weights");
    test::run_python("ldm_weights.py", {"write", folder});
  }
  return folder;
}

class LdmWeightsParity : public testing::Test {
 protected:
  void SetUp() override {
    ZOO_NEEDS_PYTHON();
    root_ = distributed_models();
  }

  std::string path(const std::string& name) { return root_ + "/" + name; }

  /// Every tensor of a loaded model, as far as `tolerance` of it.
  void expect_tensors(const Ldm& ldm, const std::string& expected, double tolerance = 0) {
    const StateDict found = module_state(*ldm), wanted = load_tensors(path(expected));
    ASSERT_EQ(found.tensors.size(), wanted.tensors.size());
    std::map<std::string, torch::Tensor> by_name(wanted.tensors.begin(), wanted.tensors.end());
    for (const auto& [name, tensor] : found.tensors) {
      ASSERT_EQ(by_name.count(name), 1U) << name;
      ASSERT_EQ(tensor.sizes(), by_name[name].sizes()) << name;
      EXPECT_LE((tensor - by_name[name]).abs().max().item<double>(), tolerance) << name;
    }
  }

  /// A copy of a folder that may be spoilt.
  std::string copy_of(const std::string& name) {
    const std::string copy = test::scratch_dir("ldm_spoilt") + "/model";
    std::filesystem::copy(path(name), copy, std::filesystem::copy_options::recursive);
    return copy;
  }

  std::string error_of_folder(const std::string& folder) {
    return test::error_of([&] { read_diffusers_folder(folder); });
  }

  torch::NoGradGuard no_grad_;
  std::string root_;
};

TEST_F(LdmWeightsParity, FoldersOfEveryKindAreRead) {
  for (const char* name : {"sd1", "sd1-old", "sd1-sharded"}) {
    SCOPED_TRACE(name);
    expect_tensors(load_ldm(path(name)), "sd1.expected");
  }
  expect_tensors(load_ldm(path("sd1-half")), "sd1.expected", 1e-3);
  expect_tensors(load_ldm(path("sd2")), "sd2.expected");
}

TEST_F(LdmWeightsParity, OptionsComeFromTheFolder) {
  const LdmOptions one = ldm_options_of(read_ldm(path("sd1"))), two = ldm_options_of(read_ldm(path("sd2")));
  EXPECT_EQ(one.unet.attention_head_dim, std::vector<int64_t>({8}));
  EXPECT_EQ(two.unet.attention_head_dim, std::vector<int64_t>({1, 1, 2, 2}));
  EXPECT_TRUE(two.unet.use_linear_projection);
  EXPECT_EQ(two.text_encoder.hidden_act, "gelu");
  EXPECT_EQ(one.scheduler.sampler, "plms");
  EXPECT_EQ(two.scheduler.prediction_type, "v_prediction");
  EXPECT_EQ(one.autoencoder.sample_size, 64);
  const ClipTokenizer tokenizer =
      ClipTokenizer::from_json(Json::parse(read_ldm(path("sd1")).metadata.at(kLdmTokenizerKey)));
  EXPECT_EQ(tokenizer.vocab_size(), one.text_encoder.vocab_size);
}

TEST_F(LdmWeightsParity, OriginalFilesAreRead) {
  expect_tensors(load_ldm(path("sd1.ckpt")), "sd1.expected");
  expect_tensors(load_ldm(path("sd1.safetensors")), "sd1.expected");
  expect_tensors(load_ldm(path("sd2.safetensors")), "sd2.expected");
  const LdmOptions options = ldm_options_of(read_ldm(path("sd2.safetensors")));
  EXPECT_EQ(Json(options.unet), [&] {
    UNetOptions of_folder = ldm_options_of(read_ldm(path("sd2"))).unet;
    of_folder.sample_size = 64;  // no tensor tells it
    return Json(of_folder);
  }());
  EXPECT_EQ(options.text_encoder.hidden_act, "gelu");
  EXPECT_EQ(options.text_encoder.num_hidden_layers, 3);
}

TEST_F(LdmWeightsParity, AveragesAreTakenOnRequest) {
  expect_tensors(load_ldm(path("sd1.ckpt"), /*averages=*/true), "sd1.averages.expected");
  EXPECT_THAT(test::error_of([&] { read_ldm(path("sd1.safetensors"), true); }),
              HasSubstr("no averaged weights"));
}

TEST_F(LdmWeightsParity, AutoencodersAreReadFromAnything) {
  const StateDict expected = load_tensors(path("sd1.expected"));
  for (const char* name : {"sd1", "sd1/vae", "sd1-old", "sd1.ckpt", "sd1.expected"}) {
    SCOPED_TRACE(name);
    const StateDict found = read_autoencoder(path(name));
    EXPECT_EQ(found.tensors.size(), part_of(expected, "vae.").tensors.size());
    for (const auto& [tensor, value] : found.tensors) {
      ASSERT_NE(expected.find("vae." + tensor), nullptr) << tensor;
      EXPECT_TRUE(value.equal(*expected.find("vae." + tensor))) << tensor;
    }
    const auto options = Json::parse(found.metadata.at(kAutoencoderOptionsKey)).get<AutoencoderOptions>();
    EXPECT_EQ(options.block_out_channels, std::vector<int64_t>({32, 32, 64, 64}));
  }
}

TEST_F(LdmWeightsParity, DiffusersOpensWhatZooWrites) {
  for (const char* name : {"sd1", "sd2"}) {
    SCOPED_TRACE(name);
    const std::string folder = test::scratch_dir(std::string("written-") + name);
    const StateDict state = read_ldm(path(name));
    const auto tokenizer = ClipTokenizer::from_json(Json::parse(state.metadata.at(kLdmTokenizerKey)));
    write_diffusers_folder(folder, ldm_options_of(state), state, tokenizer.files());
    test::run_python("ldm_weights.py", {"check", folder, path(std::string(name) + ".expected")});
    const StateDict again = read_ldm(folder);
    EXPECT_EQ(again.metadata.at(kLdmOptionsKey), state.metadata.at(kLdmOptionsKey));
  }
}

TEST_F(LdmWeightsParity, MissingPartsAreNamed) {
  std::string folder = copy_of("sd1");
  std::filesystem::remove_all(folder + "/text_encoder");
  EXPECT_THAT(error_of_folder(folder), HasSubstr("text_encoder: no such folder"));
  folder = copy_of("sd1");
  std::filesystem::remove(folder + "/unet/diffusion_pytorch_model.safetensors");
  EXPECT_THAT(error_of_folder(folder),
              HasSubstr("unet: no weights, expected diffusion_pytorch_model.safetensors"));
  folder = copy_of("sd1");
  std::filesystem::remove(folder + "/vae/config.json");
  EXPECT_THAT(error_of_folder(folder), HasSubstr("vae/config.json"));
}

/// Changes a key of a configuration; null takes it away.
void set_config(const std::string& file, const std::string& key, const Json& value) {
  Json config = read_json(file);
  config[key] = value;
  write_file(file, config.dump());
}

TEST_F(LdmWeightsParity, ConfigurationsThatDoNotFitTheTensorsAreNamed) {
  std::string folder = copy_of("sd1");
  set_config(folder + "/unet/config.json", "cross_attention_dim", 96);
  EXPECT_THAT(error_of_folder(folder),
              HasSubstr("unet/config.json: cross_attention_dim is 96, expected 64 by the "
                        "tensors of"));
  folder = copy_of("sd1");
  set_config(folder + "/unet/config.json", "class_embed_type", "timestep");
  EXPECT_THAT(error_of_folder(folder),
              HasSubstr("class_embed_type is \"timestep\", which zoo has no network for"));
  folder = copy_of("sd1");
  set_config(folder + "/text_encoder/config.json", "hidden_act", "relu");
  EXPECT_THAT(error_of_folder(folder), HasSubstr("text_encoder/config.json: hidden_act"));
  folder = copy_of("sd1");
  set_config(folder + "/vae/config.json", "layers_per_block", "two");
  EXPECT_THAT(error_of_folder(folder), HasSubstr("vae/config.json: layers_per_block"));
}

TEST_F(LdmWeightsParity, LengthsThatLieAreRefused) {
  const std::string folder = copy_of("sd1"), file = folder + "/unet/diffusion_pytorch_model.safetensors";
  std::filesystem::resize_file(file, std::filesystem::file_size(file) - 1000);
  EXPECT_THAT(error_of_folder(folder), HasSubstr("diffusion_pytorch_model.safetensors"));
}

}  // namespace
}  // namespace zoo
