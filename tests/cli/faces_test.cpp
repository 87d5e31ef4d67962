// Faces through the program: a short training on the embedded set, scores, two pictures compared, exports, errors.
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <torch/script.h>
#include <torch/torch.h>

#include <algorithm>

#include "core/files.h"
#include "core/options.h"
#include "core/text.h"
#include "datasets/image.h"
#include "models/weights/state_dict.h"
#include "tests/support.h"

namespace zoo {
namespace {

using test::CommandResult;
using test::expect_error;
using test::zoo_json;
using test::zoo_run;
using testing::HasSubstr;

const std::string kData = "faces,size=64,identities=12,val_identities=6,pictures=8";

std::vector<std::string> names_of(const Json& object) {
  std::vector<std::string> names;
  for (const auto& item : object.items()) names.push_back(item.key());
  return names;
}

const std::vector<std::string> kRates = {"1e-1", "1e-2", "1e-3", "1e-4", "1e-5", "1e-6"};
const std::vector<std::string> kVerification = {"accuracy", "accuracy_std", "auc",
                                                "eer",      "tar_at_far",   "threshold"};

/// A run of a few steps and the pictures of its data, shared by all tests.
class FacesProgram : public testing::Test {
 protected:
  static void SetUpTestSuite() {
    folder_ = test::scratch_dir("faces");
    run_ = join_path(folder_, "run");
    const CommandResult train = zoo_run({"train", "--model", "iresnet-tiny", "--data", kData, "--batch-size",
                                         "16", "--max-steps", "6", "--threads", "1", "--workers", "0",
                                         "--set", "trainer.validate_every=0", "--output", run_, "--json"});
    ASSERT_EQ(train.exit_code, 0) << train.err;
    trained_ = Json::parse(train.out);
    const CommandResult make = zoo_run({"data", "make", kData, join_path(folder_, "pictures")});
    ASSERT_EQ(make.exit_code, 0) << make.err;
  }
  /// The first two pictures of an identity of the validation split, by its number.
  static std::vector<std::string> pictures(size_t identity) {
    const std::string val = join_path(folder_, "pictures/val");
    const std::string person = join_path(val, list_folder(val).at(identity));
    const std::vector<std::string> names = list_folder(person);
    return {join_path(person, names.at(0)), join_path(person, names.at(1))};
  }

  static inline std::string folder_, run_;
  static inline Json trained_;
};

TEST_F(FacesProgram, TrainingEndsWithTheContractsNames) {
  EXPECT_EQ(names_of(trained_.at("metrics")), kVerification);
  EXPECT_EQ(names_of(trained_.at("metrics").at("tar_at_far")), kRates);
  for (const char* name : {"best.safetensors", "last.ckpt", "curves.png", "predictions"})
    EXPECT_TRUE(file_exists(join_path(run_, name))) << name;
  const StateDict state = load_state_dict(run_);
  EXPECT_NE(state.find("loss.weight"), nullptr);
  EXPECT_NE(state.find("layer1.0.conv1.weight"), nullptr);
  EXPECT_TRUE(state.metadata.count("zoo.preprocessing"));
  const Json verification = Json::parse(state.metadata.at("zoo.verification"));
  EXPECT_EQ(verification.at("threshold"), trained_.at("metrics").at("threshold"));
}

TEST_F(FacesProgram, EmbeddingsOfTwoValuesAreDrawn) {
  EXPECT_FALSE(file_exists(join_path(run_, "embeddings.png")));
  for (const char* loss : {"asoftmax", "triplet"}) {  // the latter has no class rows
    const std::string plane = join_path(folder_, loss);
    zoo_json({"train",
              "--model",
              "iresnet-tiny",
              "--data",
              kData,
              "--batch-size",
              "16",
              "--max-steps",
              "1",
              "--threads",
              "1",
              "--workers",
              "0",
              "--set",
              "model.embedding_size=2",
              "--set",
              std::string("loss.name=") + loss,
              "--output",
              plane,
              "--json"});
    EXPECT_EQ(read_image(join_path(plane, "embeddings.png")).size(), cv::Size(400, 470)) << loss;
  }
}

TEST_F(FacesProgram, EvalGivesTheLastValidationAgain) {
  const Json document = zoo_json({"eval", "--weights", run_, "--threads", "1", "--workers", "0", "--output",
                                  join_path(folder_, "eval"), "--json"});
  EXPECT_EQ(document.at("metrics"), trained_.at("metrics"));
  EXPECT_EQ(document.at("details").at("genuine"), document.at("details").at("impostor"));
  EXPECT_TRUE(file_exists(join_path(folder_, "eval/roc.png")));
  // What it wrote gives the same figures without the model.
  const Json again =
      zoo_json({"eval", "--predictions", join_path(folder_, "eval/predictions.safetensors"), "--json"});
  EXPECT_EQ(again.at("metrics"), document.at("metrics"));
  EXPECT_TRUE(again.at("model").is_null());
  EXPECT_TRUE(again.at("data").is_null());
}

TEST_F(FacesProgram, SeveralSetsAreOneTable) {
  const std::string other = kData + ",seed=5";
  const Json document = zoo_json({"eval", "--weights", run_, "--data", kData, "--data", other, "--json"});
  ASSERT_EQ(document.at("results").size(), 2U);
  EXPECT_EQ(document.at("results")[1].at("data"), other);
  EXPECT_NE(document.at("results")[0].at("metrics"), document.at("results")[1].at("metrics"));
  const CommandResult table = zoo_run({"eval", "--weights", run_, "--data", kData, "--data", other});
  EXPECT_THAT(table.out, HasSubstr(other));
  EXPECT_THAT(table.out, HasSubstr("tar@1e-3"));
  EXPECT_THAT(table.out, HasSubstr("* fewer impostors"));
}

TEST_F(FacesProgram, OtherMetricsAreFittedAndKept) {
  const std::string output = join_path(folder_, "jb");
  const Json fitted = zoo_json({"eval", "--weights", run_, "--set", "verify.metric=joint_bayesian", "--set",
                                "verify.joint_bayesian.pca=20", "--set", "verify.fit=" + kData, "--output",
                                output, "--json"});
  EXPECT_EQ(fitted.at("details").at("fit"), kData);
  EXPECT_EQ(names_of(fitted.at("metrics")), kVerification);
  // Six people are in every fold.
  expect_error({"eval", "--weights", run_, "--set", "verify.metric=joint_bayesian"}, 1,
               {"its folds show the same people", "verify.fit=SPEC"});
  const Json elsewhere = zoo_json({"eval", "--weights", run_, "--set", "verify.metric=siamese", "--set",
                                   "verify.fit=" + kData, "--json"});
  EXPECT_EQ(elsewhere.at("details").at("fit"), kData);
  const std::vector<std::string> pair = pictures(0);
  const Json compared =
      zoo_json({"predict", pair[0], pair[1], "--weights", run_, "--set", "verify.metric=joint_bayesian",
                "--set", "verify.parameters=" + join_path(output, "verifier.safetensors"), "--output",
                join_path(folder_, "jb-predict"), "--json"});
  EXPECT_EQ(compared.at("metrics").at("threshold"), fitted.at("metrics").at("threshold"));
  expect_error({"predict", pair[0], pair[1], "--weights", run_, "--set", "verify.metric=siamese"}, 2,
               {"verify.parameters"});
}

TEST_F(FacesProgram, ValAtFarIsNamed) {
  const Json document = zoo_json({"eval", "--weights", run_, "--set", "verify.val_far=0.1", "--json"});
  EXPECT_EQ(document.at("metrics").at("val_at_far").at("far"), 0.1);
}

TEST_F(FacesProgram, TwoPicturesAreCompared) {
  const std::string output = join_path(folder_, "predict");
  const std::vector<std::string> pair = pictures(1);
  const Json same = zoo_json({"predict", pair[0], pair[0], "--weights", run_, "--output", output, "--json"});
  EXPECT_EQ(same.at("metrics").at("score"), 1.0);
  EXPECT_EQ(same.at("metrics").at("same"), true);
  EXPECT_EQ(same.at("metrics").at("threshold"), trained_.at("metrics").at("threshold"));
  EXPECT_TRUE(file_exists(join_path(output, "comparison.png")));
  const CommandResult text = zoo_run(
      {"predict", pair[0], pictures(2)[0], "--weights", run_, "--output", output, "--threshold", "1"});
  EXPECT_EQ(text.exit_code, 0) << text.err;
  EXPECT_TRUE(starts_with(text.out, "different  score ")) << text.out;
  EXPECT_THAT(text.err, HasSubstr("without landmarks"));
}

TEST_F(FacesProgram, OtherNumbersOfPicturesGiveEmbeddings) {
  const std::string output = join_path(folder_, "embeddings");
  const std::string person = parent_folder(pictures(3)[0]);
  const Json document = zoo_json({"predict", person, "--weights", run_, "--output", output, "--json"});
  EXPECT_EQ(document.at("metrics").at("images"), 8);
  const StateDict state = load_tensors(join_path(output, "embeddings.safetensors"));
  EXPECT_EQ(state.find("embeddings")->sizes(), torch::IntArrayRef({8, 128}));
  EXPECT_EQ(Json::parse(state.metadata.at("zoo.files")).size(), 8U);
  // A bad input is named and the rest is done.
  const CommandResult partly = zoo_run({"predict", person, join_path(folder_, "none.png"), pictures(0)[0],
                                        "--weights", run_, "--output", output});
  EXPECT_EQ(partly.exit_code, 1);
  EXPECT_THAT(partly.err, HasSubstr("none.png: No such file or directory\n"));
  EXPECT_EQ(load_tensors(join_path(output, "embeddings.safetensors")).find("embeddings")->size(0), 9);
}

TEST_F(FacesProgram, IdentificationOverTwoFolders) {
  const std::string val = join_path(folder_, "pictures/val");
  const std::string spec = "faces:" + join_path(folder_, "pictures") + ",split=val";
  const Json document = zoo_json(
      {"eval", "--weights", run_, "--task", "identification", "--data", spec, "--data", spec, "--json"});
  EXPECT_EQ(names_of(document.at("metrics")), (std::vector<std::string>{"cmc", "rank1", "rank5"}));
  EXPECT_EQ(document.at("metrics").at("rank1"), 1.0);  // every probe is in the gallery itself
  EXPECT_EQ(document.at("details").at("gallery"), 48);
  expect_error({"eval", "--weights", run_, "--task", "identification", "--data", spec}, 2, {"two --data"});
}

TEST_F(FacesProgram, ExportRunsAtOtherBatchSizes) {
  const std::string file = join_path(folder_, "faces.pt");
  const Json document = zoo_json({"export", "--weights", run_, "--output", file, "--json"});
  EXPECT_LT(document.at("metrics").at("max_difference").get<double>(), 1e-4);
  torch::jit::Module module = torch::jit::load(file);
  for (const int64_t batch : {1, 5}) {
    const torch::Tensor embeddings = module.forward({torch::randn({batch, 3, 64, 64})}).toTensor();
    EXPECT_EQ(embeddings.sizes(), torch::IntArrayRef({batch, 128}));
  }
  const std::string weights = join_path(folder_, "insightface.pth");
  zoo_json({"export", "--weights", run_, "--output", weights, "--layout", "insightface", "--json"});
  const StateDict state = load_tensors(weights);
  EXPECT_FALSE(state.contains_prefix("loss."));
  EXPECT_NE(state.find("features.weight"), nullptr);
  // They come back as foreign weights.
  const Json again = zoo_json(
      {"eval", "--weights", weights, "--model", "iresnet-tiny", "--data", kData, "--threads", "1", "--json"});
  EXPECT_EQ(again.at("metrics"), trained_.at("metrics"));
  expect_error({"export", "--weights", run_, "--output", weights, "--layout", "hf"}, 2,
               {"hf", "insightface"});
}

void save(const std::string& file, const std::vector<std::pair<std::string, torch::Tensor>>& tensors) {
  StateDict state;
  state.tensors = tensors;
  save_safetensors(file, state);
}

TEST(FacesPredictions, TheTensorsTellTheTask) {
  const std::string folder = test::scratch_dir("face-predictions"), file = join_path(folder, "p.safetensors");
  torch::manual_seed(1);
  const torch::Tensor a = torch::randn({40, 8}), same = (torch::arange(40) % 2 == 0).to(torch::kUInt8);
  const torch::Tensor b = torch::where(same.to(torch::kBool).unsqueeze(1), a, torch::randn({40, 8}));
  save(file, {{"a", a}, {"b", b}, {"same", same}});
  const Json pairs = zoo_json({"eval", "--predictions", file, "--json"});
  EXPECT_EQ(pairs.at("command"), "eval");
  EXPECT_EQ(names_of(pairs.at("metrics")), kVerification);
  EXPECT_EQ(pairs.at("metrics").at("accuracy"), 1.0);
  EXPECT_EQ(pairs.at("metrics").at("tar_at_far").at("1e-6"), 1.0);
  save(file, {{"gallery", a},
              {"gallery_labels", torch::arange(40)},
              {"probes", a * 2},
              {"probe_labels", torch::arange(40)}});
  const Json gallery = zoo_json({"eval", "--predictions", file, "--json"});
  EXPECT_EQ(gallery.at("metrics").at("rank1"), 1.0);
  EXPECT_EQ(gallery.at("metrics").at("cmc").size(), 20U);
}

TEST(FacesPredictions, TemplatesOfIjb) {
  const std::string folder = test::scratch_dir("ijb"), file = join_path(folder, "p.safetensors");
  make_folders(join_path(folder, "meta"));
  const std::string points = " 1 1 2 1 1 2 1 3 2 3 1.0\n";
  write_file(join_path(folder, "meta/ijbc_name_5pts_score.txt"),
             "1.jpg" + points + "2.jpg" + points + "3.jpg" + points);
  write_file(join_path(folder, "meta/ijbc_face_tid_mid.txt"), "1.jpg 7 1\n2.jpg 7 1\n3.jpg 8 2\n");
  write_file(join_path(folder, "meta/ijbc_template_pair_label.txt"), "7 7 1\n7 8 0\n");
  save(file, {{"embeddings", torch::tensor({{1.0F, 0.0F}, {1.0F, 0.2F}, {0.0F, 1.0F}})}});
  const Json document = zoo_json({"eval", "--predictions", file, "--data", "ijb:" + folder, "--set",
                                  "verify.templates.keep_norm=false", "--json"});
  EXPECT_EQ(document.at("metrics").at("auc"), 1.0);
  EXPECT_TRUE(document.at("metrics").at("accuracy").is_null());
  EXPECT_EQ(document.at("details").at("keep_norm"), false);
  EXPECT_EQ(document.at("details").at("detector_score"), true);
  expect_error({"eval", "--predictions", file}, 2, {"--data ijb:PATH"});
}

TEST(FacesPredictions, ErrorsNameTheTensor) {
  const std::string file = join_path(test::scratch_dir("face-errors"), "p.safetensors");
  const torch::Tensor a = torch::randn({4, 8}), same = torch::tensor({1, 0, 1, 0}, torch::kUInt8);
  save(file, {{"a", a}, {"b", a.slice(1, 0, 4)}, {"same", same}});
  expect_error({"eval", "--predictions", file}, 1, {file, "'b'"});
  save(file, {{"a", a}, {"b", a}, {"same", same.slice(0, 1)}});
  expect_error({"eval", "--predictions", file}, 1, {file, "'same'"});
  save(file, {{"a", a}, {"b", a}, {"same", same + 1}});
  expect_error({"eval", "--predictions", file}, 1, {file, "'same'", "neither 0 nor 1"});
  save(file, {{"a", a}, {"b", a * INFINITY}, {"same", same}});
  expect_error({"eval", "--predictions", file}, 1, {file, "pair 0", "not finite"});
  save(file, {{"x", a}});
  expect_error({"eval", "--predictions", file}, 1, {file, "tell no task"});
  expect_error({"eval", "--predictions", file, "--task", "verification"}, 1, {file, "'a'"});
  expect_error({"eval", "--predictions", file, "--task", "verifcation"}, 2, {"verification"});
  save(file, {{"a", a}, {"b", a}, {"same", same}});
  expect_error({"eval", "--predictions", file, "--data", "faces"}, 2, {"no --data"});
  expect_error({"eval", "--predictions", file, "--set", "verify.metrik=cosine"}, 2, {"verify.metric"});
  expect_error({"eval", "--predictions", file, "--set", "verify.metric=cosin"}, 2,
               {"verify.metric", "cosine"});
}

// Trained weights in their published form, recognised by their names, on real faces that are not aligned.
TEST(FacesRealData, MobileFaceNetTellsPeopleApart) {
  ZOO_NEEDS_SHARED_DATA();
  const std::string weights = join_path(test::shared_data(), "mobilefacenet/mobilefacenet.pt");
  const std::string people = join_path(test::shared_data(), "orl-faces");
  const Json document = zoo_json({"eval", "--weights", weights, "--data", "faces:" + people, "--json"});
  EXPECT_EQ(document.at("model"), "mobilefacenet");
  EXPECT_GT(document.at("metrics").at("accuracy").get<double>(), 0.88);
  const auto compare = [&](const std::string& a, const std::string& b) {
    return zoo_json({"predict", join_path(people, a), join_path(people, b), "--weights", weights, "--output",
                     test::scratch_dir("orl"), "--no-images", "--json"})
        .at("metrics")
        .at("score")
        .get<double>();
  };
  EXPECT_GT(compare("s1/1.pgm", "s1/2.pgm"), compare("s1/1.pgm", "s3/2.pgm") + 0.2);
}

TEST(FacesErrors, AreToldFromTheCommandLine) {
  expect_error({"train", "--model", "iresnet18", "--set", "loss.name=arcfac"}, 2, {"loss.name", "arcface"});
  expect_error({"train", "--model", "iresnet18", "--set", "model.input_size=[7]"}, 2, {"model.input_size"});
  expect_error({"train", "--model", "iresnet18", "--set", "data.transform.input_size=[64,64]"}, 2,
               {"data.transform.input_size is 64x64", "112x112"});
  expect_error({"train", "--model", "iresnet-tiny", "--data", "shapes"}, 2, {"shapes"});
}

TEST(FacesList, ShowsModelsLossesAndMetrics) {
  const Json list = zoo_json({"list", "--json"});
  const auto has = [&](const char* kind, const std::string& name) {
    const Json& rows = list.at(kind);
    return std::any_of(rows.begin(), rows.end(), [&](const Json& row) { return row.at("name") == name; });
  };
  for (const char* name : {"iresnet-tiny", "iresnet18", "iresnet34", "iresnet50", "iresnet100", "iresnet200",
                           "mobilefacenet", "mbf", "deepface", "deepid"}) {
    EXPECT_TRUE(has("models", name)) << name;
  }
  EXPECT_TRUE(has("losses", "arcface"));
  EXPECT_TRUE(has("metrics", "joint_bayesian"));
}

}  // namespace
}  // namespace zoo
