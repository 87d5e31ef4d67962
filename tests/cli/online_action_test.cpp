// Online action detection through the program: a short training on the embedded streams, scores, streams, exports, errors.
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/stat.h>
#include <torch/script.h>
#include <torch/torch.h>
#include <unistd.h>

#include <fstream>

#include <opencv2/imgproc.hpp>
#include <opencv2/videoio.hpp>

#include "core/files.h"
#include "core/text.h"
#include "models/backbones/resnet.h"
#include "models/weights/state_dict.h"
#include "tests/process.h"
#include "tests/support.h"

namespace zoo {
namespace {

using test::CommandResult;
using test::expect_error;
using test::program;
using test::zoo_json;
using test::zoo_run;
using testing::HasSubstr;

const std::string kStreams = "streams,videos=4,val_videos=2,steps=90,width=16";

std::vector<Json> lines_of(const std::string& text) {
  std::vector<Json> lines;
  for (const std::string& line : split(text, '\n')) {
    if (!line.empty()) lines.push_back(Json::parse(line));
  }
  return lines;
}

/// A run of a few steps and the files of its data, shared by all tests.
class OnlineActionProgram : public testing::Test {
 protected:
  static void SetUpTestSuite() {
    folder_ = test::scratch_dir("actions");
    run_ = join_path(folder_, "run");
    const CommandResult train = zoo_run({"train",
                                         "--model",
                                         "oad-gru-tiny",
                                         "--data",
                                         kStreams,
                                         "--set",
                                         "model.projection=16",
                                         "--set",
                                         "model.hidden_dim=12",
                                         "--set",
                                         "trainer.validate_every=0",
                                         "--max-steps",
                                         "6",
                                         "--threads",
                                         "1",
                                         "--workers",
                                         "0",
                                         "--output",
                                         run_,
                                         "--json"});
    ASSERT_EQ(train.exit_code, 0) << train.err;
    trained_ = Json::parse(train.out);
    const CommandResult make = zoo_run({"data", "make", kStreams, join_path(folder_, "set")});
    ASSERT_EQ(make.exit_code, 0) << make.err;
    features_ = join_path(folder_, "set/features/val_0001.npy");
  }

  /// The rows of the first validation video as raw float32.
  static std::string raw_rows() {
    const std::string file = read_file(features_);
    return file.substr(file.size() - 90 * 16 * sizeof(float));
  }

  static inline std::string folder_, run_, features_;
  static inline Json trained_;
};

TEST_F(OnlineActionProgram, TrainsAndScores) {
  const Json& metrics = trained_.at("metrics");
  EXPECT_EQ(metrics.size(), 4);
  EXPECT_GT(metrics.at("mAP").get<double>(), 0);
  EXPECT_GT(metrics.at("mcAP").get<double>(), metrics.at("mAP").get<double>());
  EXPECT_EQ(metrics.at("anticipation").size(), 8);
  EXPECT_TRUE(metrics.at("anticipation").contains("0.25"));
  EXPECT_TRUE(metrics.at("anticipation").contains("2"));
  EXPECT_EQ(metrics.at("per_class").size(), 8);
  EXPECT_TRUE(file_exists(join_path(run_, "predictions/val_0001.png")));

  const std::string scores = join_path(folder_, "scores.safetensors");
  const Json again = zoo_json({"eval", "--weights", run_, "--save-predictions", scores, "--json"});
  EXPECT_EQ(again.at("metrics"), metrics);
  EXPECT_THAT(again.at("details").dump(), HasSubstr("softmax over 9 columns"));
  // The files of the same set, and what the file of scores tells by itself.
  const std::string files = "features:" + join_path(folder_, "set");
  EXPECT_EQ(zoo_json({"eval", "--weights", run_, "--data", files, "--json"}).at("metrics"), metrics);
  const Json listed = zoo_json({"eval", "--predictions", scores, "--task", "online-action", "--json"});
  EXPECT_EQ(listed.at("metrics").at("mAP"), metrics.at("mAP"));
  EXPECT_EQ(listed.at("metrics").at("anticipation"), Json::object());
  const Json each = zoo_json({"eval", "--predictions", scores, "--set", "eval.protocol.ties=each", "--json"});
  EXPECT_THAT(each.at("details").dump(), HasSubstr("one by one"));
}

TEST_F(OnlineActionProgram, StreamsGiveTheScoresOfTheWholeVideo) {
  const std::string output = join_path(folder_, "predicted");
  const Json whole = zoo_json(
      {"predict", "--weights", run_, "features:" + join_path(folder_, "set"), "--output", output, "--json"});
  EXPECT_EQ(whole.at("metrics").at("videos"), 2);
  EXPECT_TRUE(file_exists(join_path(output, "val_0002.png")));
  const torch::Tensor scores =
      *load_tensors(join_path(output, "scores.safetensors")).find("val_0001");  // [90,9]

  const CommandResult file = zoo_run({"predict", "--weights", run_, "features:" + features_, "--stream"});
  ASSERT_EQ(file.exit_code, 0) << file.err;
  const std::vector<Json> lines = lines_of(file.out);
  ASSERT_EQ(lines.size(), 90);
  double most = 0;
  for (size_t t = 0; t < lines.size(); ++t) {
    EXPECT_EQ(lines[t].at("step"), t);
    most = std::max(most, std::abs(lines[t].at("scores").at("action03").get<double>() -
                                   scores[static_cast<int64_t>(t)][3].item<double>()));
  }
  EXPECT_LT(most, 1e-6);
  EXPECT_EQ(lines[4].at("seconds"), 1.0);
  EXPECT_EQ(lines[4].at("future").size(), 8);
  EXPECT_EQ(lines[4].at("future")[1].at("seconds"), 0.5);

  // A pipe of raw rows in two calls, the second from the state of the first.
  const std::string state = join_path(folder_, "state.safetensors"), rows = raw_rows();
  const size_t half = 40 * 16 * sizeof(float);
  std::string out;
  for (int part = 0; part < 2; ++part) {
    std::vector<std::string> command = {program(), "predict",  "--weights",    run_,
                                        "-",       "--stream", "--save-state", state};
    if (part == 1) command.insert(command.end(), {"--load-state", state});
    const CommandResult result =
        test::run_command(command, part == 0 ? rows.substr(0, half) : rows.substr(half));
    ASSERT_EQ(result.exit_code, 0) << result.err;
    out += result.out;
  }
  const std::vector<Json> parts = lines_of(out);
  ASSERT_EQ(parts.size(), lines.size());
  for (size_t t = 0; t < lines.size(); ++t) {  // the fused runtime begins at another step
    EXPECT_EQ(parts[t].at("step"), t);
    EXPECT_NEAR(parts[t].at("scores").at("action05").get<double>(),
                lines[t].at("scores").at("action05").get<double>(), 1e-6);
  }
}

TEST_F(OnlineActionProgram, ALineComesWithEachStep) {
  const std::string pipe = join_path(folder_, "pipe"), out = join_path(folder_, "lines");
  ASSERT_EQ(mkfifo(pipe.c_str(), 0600), 0);
  test::Process process({program(), "predict", "--weights", run_, pipe, "--stream"}, out,
                        {"OMP_NUM_THREADS=1"});
  FILE* writer = std::fopen(pipe.c_str(), "wb");
  ASSERT_NE(writer, nullptr);
  const std::string rows = raw_rows();
  for (size_t t = 0; t < 3; ++t) {
    std::fwrite(rows.data() + t * 64, 1, 64, writer);
    std::fflush(writer);
    bool come = false;
    for (int i = 0; i < 3000 && !come; ++i) {
      come = read_file(out).find(format("\"step\":%zu}", t)) != std::string::npos;
      if (!come) std::this_thread::sleep_for(std::chrono::milliseconds(10));
    }
    EXPECT_TRUE(come) << t << ": " << read_file(out);
  }
  std::fclose(writer);
  EXPECT_EQ(process.wait(), 0) << read_file(out);
}

TEST_F(OnlineActionProgram, ExportsForwardAndStep) {
  const std::string file = join_path(folder_, "gru.pt");
  EXPECT_LT(zoo_json({"export", "--weights", run_, "--output", file, "--json"})
                .at("metrics")
                .at("max_difference")
                .get<double>(),
            1e-4);
  torch::jit::Module module = torch::jit::load(file);
  const torch::Tensor x = torch::randn({5, 7, 16});
  const torch::Tensor whole = module.forward({x}).toTuple()->elements()[0].toTensor();  // [5,7,9]
  torch::Tensor state = torch::zeros({5, 12});
  for (int64_t t = 0; t < 7; ++t) {
    const auto outputs = module.get_method("step")({x.select(1, t), state}).toTuple()->elements();
    EXPECT_LT((outputs[0].toTensor() - whole.select(1, t)).abs().max().item<double>(), 1e-5);
    state = outputs[2].toTensor();
  }
}

TEST_F(OnlineActionProgram, WindowModelsExportOneStepOfScores) {
  const std::string run = join_path(folder_, "oadtr"), file = join_path(folder_, "oadtr.pt");
  const CommandResult train = zoo_run({"train", "--model", "oadtr-tiny", "--data", kStreams, "--max-steps",
                                       "1", "--set", "model.window=8", "--threads", "1", "--output", run});
  ASSERT_EQ(train.exit_code, 0) << train.err;
  zoo_json({"export", "--weights", run, "--output", file, "--json"});
  torch::jit::Module module = torch::jit::load(file);
  const auto outputs = module.forward({torch::randn({3, 8, 16})}).toTuple()->elements();
  EXPECT_EQ(outputs[0].toTensor().sizes(), torch::IntArrayRef({3, 9}));
  EXPECT_EQ(outputs[1].toTensor().sizes(), torch::IntArrayRef({3, 8, 9}));
}

TEST_F(OnlineActionProgram, ErrorsOfStreamsAreOneLine) {
  const auto stream_error = [&](const std::string& input, const std::string& part) {
    const CommandResult result =
        test::run_command({program(), "predict", "--weights", run_, "-", "--stream", "-q"}, input);
    EXPECT_EQ(result.exit_code, 1) << result.err;
    EXPECT_THAT(result.err, HasSubstr("error: stdin: " + part));
    EXPECT_EQ(std::count(result.err.begin(), result.err.end(), '\n'), 1) << result.err;
  };
  const std::string rows = raw_rows(), npy = read_file(features_);
  stream_error(rows.substr(0, 150), "ends 22 bytes into step 2, expected 64");
  stream_error(npy.substr(0, npy.size() - 1), "ends 63 bytes into step 89, expected 64 and 90 steps");
  stream_error(npy.substr(0, 40), "ends within the header");
  stream_error(std::string(64, '\xff'), "step 0: element 0 is -nan, expected finite numbers");
  expect_error({"predict", "--weights", run_, features_, "--save-state", "x"}, 2, {"belong to --stream"});
  expect_error({"predict", "--weights", run_, features_, "--stream", "--load-state", features_}, 1,
               {features_});
  expect_error({"predict", "--weights", run_, "/nowhere.npy", "--stream"}, 1, {"cannot read /nowhere.npy"});
}

TEST_F(OnlineActionProgram, AStallIsAnError) {
  const std::string pipe = join_path(folder_, "stalled"), out = join_path(folder_, "stalled.txt");
  ASSERT_EQ(mkfifo(pipe.c_str(), 0600), 0);
  test::Process process(
      {program(), "predict", "--weights", run_, pipe, "--stream", "--set", "eval.stall_seconds=0.2"}, out,
      {"OMP_NUM_THREADS=1"});
  FILE* writer = std::fopen(pipe.c_str(), "wb");
  ASSERT_NE(writer, nullptr);
  EXPECT_EQ(process.wait(), 1);
  EXPECT_THAT(read_file(out), HasSubstr("nothing has come for 0.2 s at step 0"));
  std::fclose(writer);
}

TEST_F(OnlineActionProgram, DataAndModelMustFit) {
  expect_error({"eval", "--weights", run_, "--data", "streams,width=8"}, 1,
               {"8 numbers a step, the model takes 16"});
  expect_error({"eval", "--weights", run_, "--data", "streams,width=16,classes=5"}, 1, {"the model has 9"});
  expect_error({"train", "--model", "oadtr", "--data", kStreams, "--output", join_path(folder_, "no")}, 1,
               {"16 numbers a step, the model takes 3072 (model.feature_size=0"});
  expect_error({"train", "--model", "oadtr-tiny", "--data", "shapes", "--output", join_path(folder_, "no")},
               2, {"shapes"});
  expect_error({"train", "--model", "oadtr-tiny", "--set", "data.sampling.start=begin"}, 2,
               {"repeat", "skip"});
  expect_error({"bench", "--model", "oadtr-tiny", "--mode", "train", "--input-size", "8x8"}, 2,
               {"model.window"});
}

/// Options that make a model small, by recipe.
const std::vector<std::pair<std::string, std::vector<std::string>>> kSmall = {
    {"oadtr-tiny", {"model.hidden_dim=16", "model.feedforward=16", "model.window=8"}},
    {"trn-tiny", {"model.hidden_dim=12"}},
    {"oad-gru-tiny", {"model.projection=16", "model.hidden_dim=12"}},
    {"oad-lstm-tiny", {"model.projection=16", "model.hidden_dim=12"}},
    {"testra-tiny", {"model.hidden_dim=16", "model.feedforward=16", "model.memory=4", "model.window=8"}}};

TEST_F(OnlineActionProgram, AResumedRunIsEqual) {
  for (const auto& [model, sizes] : kSmall) {
    const auto train = [&, name = model, edits = sizes](const std::string& run, const std::string& steps) {
      std::vector<std::string> command = {"train",
                                          "--model",
                                          name,
                                          "--data",
                                          kStreams,
                                          "--batch-size",
                                          "4",
                                          "--threads",
                                          "1",
                                          "--max-steps",
                                          steps,
                                          "--output",
                                          join_path(folder_, run),
                                          "--set",
                                          "schedule.name=constant",
                                          "--set",
                                          "trainer.validate_every=0"};
      for (const std::string& edit : edits) command.insert(command.end(), {"--set", edit});
      const CommandResult result = zoo_run(command);
      ASSERT_EQ(result.exit_code, 0) << result.err;
    };
    const std::string whole = model + "-whole", parts = model + "-parts";
    train(whole, "4");
    train(parts, "2");
    const CommandResult resumed =
        zoo_run({"train", "--resume", join_path(folder_, parts), "--max-steps", "4"});
    ASSERT_EQ(resumed.exit_code, 0) << resumed.err;
    const StateDict expected = load_tensors(join_path(folder_, whole + "/last.safetensors")),
                    resulted = load_tensors(join_path(folder_, parts + "/last.safetensors"));
    for (const auto& [name, tensor] : expected.tensors)
      EXPECT_TRUE(torch::equal(tensor, *resulted.find(name))) << model << ": " << name;
  }
}

/// A film of 40 frames, 8 a second, in which a square goes from left to right.
std::string write_film(const std::string& path) {
  cv::VideoWriter writer(path, cv::VideoWriter::fourcc('M', 'J', 'P', 'G'), 8, {96, 64});
  for (int i = 0; i < 40; ++i) {
    cv::Mat frame(64, 96, CV_8UC3, cv::Scalar(60, 90, 30));
    cv::rectangle(frame, {2 * i, 20, 20, 20}, {20, 40, 220}, cv::FILLED);
    writer.write(frame);
  }
  return path;
}

TEST_F(OnlineActionProgram, AVideoIsSeenByABackbone) {
  const std::string folder = join_path(folder_, "films"), backbone = join_path(folder_, "resnet.safetensors");
  make_folders(folder);
  torch::manual_seed(1);
  save_safetensors(backbone, module_state(*ResNetClassifier(resnet50())));
  const std::string options = ",backbone=" + backbone + ",size=64",
                    film = write_film(join_path(folder, "walk.avi"));

  const std::string seen = join_path(folder_, "seen");
  const CommandResult make = zoo_run({"data", "make", "video:" + folder + options, seen});
  ASSERT_EQ(make.exit_code, 0) << make.err;
  EXPECT_THAT(make.out, HasSubstr("features:" + seen));
  const CommandResult check = zoo_run({"data", "check", "features:" + seen});
  EXPECT_THAT(check.out, HasSubstr("0 would stop or spoil a run"));

  write_file(join_path(seen, "segments.tsv"), "walk\t0\t2.5\tleft\nwalk\t2.5\t5\tright\n");
  const std::string run = join_path(folder_, "seen-run");
  const CommandResult train =
      zoo_run({"train", "--model", "oad-gru-tiny", "--data", "features:" + seen, "--max-steps", "1", "--set",
               "model.projection=16", "--set", "model.hidden_dim=12", "--threads", "1", "--output", run});
  ASSERT_EQ(train.exit_code, 0) << train.err;

  const CommandResult live = zoo_run({"predict", "--weights", run, "video:" + film + options, "--stream"});
  ASSERT_EQ(live.exit_code, 0) << live.err;
  const CommandResult table =
      zoo_run({"predict", "--weights", run, "features:" + seen + "/rgb/walk.npy", "--stream"});
  ASSERT_EQ(table.exit_code, 0) << table.err;
  EXPECT_EQ(lines_of(live.out).size(), 20);  // 5 seconds, 4 steps each
  EXPECT_EQ(live.out, table.out);
  const Json whole = zoo_json({"predict", "--weights", run, "video:" + folder + options, "--output",
                               join_path(folder_, "seen-predicted"), "--json"});
  EXPECT_EQ(whole.at("metrics").at("videos"), 1);

  expect_error({"predict", "--weights", run, "video:" + film, "--stream"}, 2, {"names no backbone"});
  expect_error({"predict", "--weights", run_, "video:" + film + options, "--stream"}, 1,
               {"2048 numbers a step, the model takes 16"});
  expect_error({"predict", "--weights", run, "video:" + film + ",backbone=" + features_, "--stream"}, 1,
               {features_});
  expect_error({"predict", "--weights", run, "video:" + film + ",backbone=" + run, "--stream"}, 1,
               {"none of a ResNet's"});
  expect_error({"train", "--model", "oad-gru-tiny", "--data", "video:" + film + options, "--output",
                join_path(folder_, "no")},
               2, {"has no features yet", "expected features:PATH"});
  expect_error({"data", "make", "video:" + folder + options, seen}, 1, {"walk.npy is already there"});
}

/// Resident memory of a program in MiB.
double resident_mib(pid_t pid) {
  std::ifstream file("/proc/" + std::to_string(pid) + "/statm");
  int64_t all = 0, resident = 0;  // pages
  file >> all >> resident;
  EXPECT_TRUE(file.good());
  return static_cast<double>(resident) * static_cast<double>(sysconf(_SC_PAGESIZE)) / (1 << 20);
}

TEST_F(OnlineActionProgram, AnEndlessStreamNeedsNoMoreMemory) {
  constexpr int64_t kFrames = 1'000'000;
  const std::string run = join_path(folder_, "endless"), pipe = join_path(folder_, "endless.pipe");
  const CommandResult train =
      zoo_run({"train", "--model", "oad-gru-tiny", "--data",
               "streams,videos=4,val_videos=2,steps=90,width=4,classes=4", "--max-steps", "1", "--set",
               "model.projection=4", "--set", "model.hidden_dim=4", "--set", "model.horizons=0", "--threads",
               "1", "--output", run});
  ASSERT_EQ(train.exit_code, 0) << train.err;
  ASSERT_EQ(mkfifo(pipe.c_str(), 0600), 0);
  test::Process process({program(), "predict", "--weights", run, pipe, "--stream", "--threads", "1"},
                        "/dev/null", {"OMP_NUM_THREADS=1"});
  FILE* writer = std::fopen(pipe.c_str(), "wb");
  ASSERT_NE(writer, nullptr);
  const std::vector<float> row = {0.1F, -0.4F, 1.0F, 0.5F};
  double early = 0;
  for (int64_t i = 0; i < kFrames; ++i) {
    ASSERT_EQ(std::fwrite(row.data(), sizeof(float), row.size(), writer), row.size()) << i;
    if (i == kFrames / 10) early = resident_mib(process.id());
  }
  const double late = resident_mib(process.id());
  std::fclose(writer);
  EXPECT_EQ(process.wait(), 0);
  EXPECT_LT(late, early + 2) << "MiB after a tenth: " << early;
}

}  // namespace
}  // namespace zoo
