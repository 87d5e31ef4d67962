#include <gtest/gtest.h>
#include <torch/torch.h>

#include "core/clip_tokenizer.h"
#include "core/files.h"
#include "models/ldm/pipeline.h"
#include "models/ldm/weights.h"
#include "tests/support.h"

namespace zoo {
namespace {

double greatest_relative(const torch::Tensor& ours, const torch::Tensor& theirs) {
  return ((ours - theirs).abs().max() / theirs.abs().max()).item<double>();
}

class PipelineParity : public testing::Test {
 protected:
  static void SetUpTestSuite() {
    if (test::python().empty()) return;
    at::set_num_threads(1);  // the parts are so small that threads only wait for each other
    folder_ = test::scratch_dir("pipeline");
    const ClipTokenizer tokenizer = ClipTokenizer::train(
        {"a red circle above a blue one", "two circles", "a blue circle above a red one"}, 30);
    make_folders(join_path(folder_, "tokenizer"));
    for (const auto& [name, content] : tokenizer.files())
      write_file(join_path(join_path(folder_, "tokenizer"), name), content);
    test::run_python("pipeline.py", {folder_});
    asked_ = read_json(join_path(folder_, "cases.json"));
    tensors_ = load_tensors(join_path(folder_, "cases.safetensors"));
  }

  static torch::Tensor tensor(const std::string& name) { return *tensors_.find(name); }

  static torch::Tensor ids(const char* which) {
    const ClipTokenizer tokenizer = ClipTokenizer::from_folder(join_path(folder_, "paint/tokenizer"));
    std::vector<torch::Tensor> rows;
    for (const Json& text : asked_.at(which))
      rows.push_back(torch::tensor(tokenizer.encode(text.get<std::string>())));
    return torch::stack(rows);
  }

  static torch::Tensor run(LdmImpl& model, const Json& asked) {
    PictureOptions options;
    options.sampler = asked.at("sampler").get<std::string>();
    options.steps = 10;
    options.guidance_scale = asked.at("guidance").get<double>();
    options.guidance_rescale = asked.value("rescale", 0.0);
    options.height = 48;
    options.width = 32;
    options.seed = 21;
    options.strength = asked.value("strength", 1.0);
    PictureRequest request{ids("prompts"), ids("negatives")};
    if (asked.value("latents", false)) request.latents = tensor("noise");
    if (asked.at("kind") != "text") request.image = tensor("image") * 2 - 1;
    if (asked.at("kind") == "paint") request.mask = tensor("mask");
    return make_latents(model, request, options);
  }

  static std::string folder_;
  static Json asked_;
  static StateDict tensors_;
};
std::string PipelineParity::folder_;
Json PipelineParity::asked_;
StateDict PipelineParity::tensors_;

TEST_F(PipelineParity, EveryKindOfPictureEndsWhereDiffusersDoes) {
  ZOO_NEEDS_PYTHON();
  Ldm paint = load_ldm(join_path(folder_, "paint")), show = load_ldm(join_path(folder_, "show"));
  const Json& cases = asked_.at("cases");
  torch::Tensor before;
  for (size_t i = 0; i < cases.size(); ++i) {
    const torch::Tensor theirs = tensor("case." + std::to_string(i));
    const torch::Tensor ours = run(cases[i].value("channels", 4) == 4 ? *paint : *show, cases[i]);
    EXPECT_LT(greatest_relative(ours, theirs), 1e-4) << cases[i];
    if (before.defined()) {
      EXPECT_GT(greatest_relative(before, theirs), 1e-2) << "as the case before: " << cases[i];
    }
    before = theirs;
  }
}

TEST_F(PipelineParity, PromptsAndGuidanceMatter) {
  ZOO_NEEDS_PYTHON();
  Ldm model = load_ldm(join_path(folder_, "paint"));
  Json asked = asked_.at("cases")[0];
  const torch::Tensor first = run(*model, asked);
  EXPECT_GT(greatest_relative(first[0], run(*model, asked)[1]), 1e-2);
  asked["guidance"] = 1.0;
  EXPECT_GT(greatest_relative(run(*model, asked), first), 1e-2);
}

TEST_F(PipelineParity, DecodesWholeAndInTiles) {
  ZOO_NEEDS_PYTHON();
  Ldm model = load_ldm(join_path(folder_, "paint"));
  const torch::Tensor latents = tensor("decode.latents");
  EXPECT_LT(greatest_relative(decode_pictures(*model, latents), tensor("decode.whole")), 1e-4);
  EXPECT_LT(greatest_relative(decode_pictures(*model, latents, 8), tensor("decode.tiled")), 1e-4);
  EXPECT_GT(greatest_relative(tensor("decode.whole"), tensor("decode.tiled")), 1e-3);
}

}  // namespace
}  // namespace zoo
