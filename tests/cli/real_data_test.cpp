// The program on real photographs: COCO's, and blood smears in VOC's layout.
#include <gtest/gtest.h>

#include <opencv2/imgcodecs.hpp>
#include <opencv2/imgproc.hpp>
#include <opencv2/videoio.hpp>

#include "core/files.h"
#include "core/options.h"
#include "core/text.h"
#include "tests/support.h"

namespace zoo {
namespace {

using test::CommandResult;
using test::zoo_run;

std::string coco() {
  return join_path(test::shared_data(), "coco128");
}

/// The true objects of coco128's validation pictures as somebody's predictions.
void write_predictions(const std::string& path, double shift) {
  Json results = Json::array();
  const Json truth = Json::parse(read_file(join_path(coco(), "annotations/instances_val2017.json")));
  for (const Json& object : truth.at("annotations")) {
    if (object.value("iscrowd", 0) != 0) continue;
    Json box = object.at("bbox");
    box[0] = box[0].get<double>() + shift * box[2].get<double>();
    results.push_back({{"image_id", object.at("image_id")},
                       {"category_id", object.at("category_id")},
                       {"bbox", box},
                       {"score", 0.5}});
  }
  write_file(path, results.dump());
}

Json score(const std::string& predictions) {
  const CommandResult result = zoo_run(
      {"eval", "--predictions", predictions, "--data", "coco:" + coco() + ",split=val2017", "--json"});
  EXPECT_EQ(result.exit_code, 0) << result.err;
  return Json::parse(result.out).at("metrics");
}

TEST(RealData, TheTruthScoresOneAndShiftedBoxesLess) {
  ZOO_NEEDS_SHARED_DATA();
  const std::string path = join_path(test::scratch_dir("real"), "results.json");
  write_predictions(path, 0);
  const Json whole = score(path);
  for (const char* name : {"AP", "AP50", "AP75", "APs", "APm", "APl"}) {
    EXPECT_NEAR(whole.at(name).get<double>(), 1, 1e-9) << name;
  }
  // A box moved by a quarter of its width overlaps by (1 - 1/4) / (1 + 1/4) = 0.6: right at 0.50, 0.55 and,
  // but for rounding, 0.60 of the ten thresholds. Neighbours of the same class may be taken instead.
  write_predictions(path, 0.25);
  const Json moved = score(path);
  EXPECT_GT(moved.at("AP50").get<double>(), 0.9);
  EXPECT_LT(moved.at("AP75").get<double>(), 0.1);
  EXPECT_NEAR(moved.at("AP").get<double>(), 0.25, 0.07);
}

class RealPictures : public testing::Test {
 protected:
  void SetUp() override {
    ZOO_NEEDS_SHARED_DATA();
    folder_ = test::scratch_dir("real-pictures");
    run_ = join_path(folder_, "run");
    const CommandResult result =
        zoo_run({"train", "--model", "detr-tiny", "--data", "coco:" + coco(), "--max-steps", "1",
                 "--batch-size", "2", "--set", "data.max_images=4", "--output", run_});
    ASSERT_EQ(result.exit_code, 0) << result.err;
  }

  std::string folder_, run_;
};

TEST_F(RealPictures, AreDrawnAtTheirSizeWithAllPredictionsInTheJson) {
  const std::string pictures = join_path(coco(), "val2017"), output = join_path(folder_, "out");
  const CommandResult result =
      zoo_run({"predict", "--weights", run_, pictures, "--output", output, "--threshold", "0.01"});
  EXPECT_EQ(result.exit_code, 0) << result.err;
  const auto names = list_folder(pictures);
  const Json found = Json::parse(read_file(join_path(output, "predictions.json")));
  EXPECT_EQ(found.size(), 25 * names.size());
  const std::string first = names.front();
  const cv::Mat drawn = cv::imread(join_path(output, first.substr(0, first.rfind('.')) + ".png"));
  const cv::Mat original = cv::imread(join_path(pictures, first));
  ASSERT_FALSE(drawn.empty());
  EXPECT_NEAR(static_cast<double>(drawn.cols) / drawn.rows,
              static_cast<double>(original.cols) / original.rows, 0.01);
}

TEST_F(RealPictures, AsAVideoGiveAVideo) {
  const std::string video = join_path(folder_, "walk.avi"), output = join_path(folder_, "out");
  cv::VideoWriter writer(video, cv::VideoWriter::fourcc('M', 'J', 'P', 'G'), 10, {320, 240});
  if (!writer.isOpened()) GTEST_SKIP() << "OpenCV has no encoder for motion JPEG here";
  const auto names = list_folder(join_path(coco(), "val2017"));
  for (size_t i = 0; i < 5; ++i) {
    cv::Mat frame;
    cv::resize(cv::imread(join_path(join_path(coco(), "val2017"), names[i])), frame, {320, 240});
    writer.write(frame);
  }
  writer.release();
  const CommandResult result = zoo_run({"predict", "--weights", run_, video, "--output", output});
  EXPECT_EQ(result.exit_code, 0) << result.err;
  const Json found = Json::parse(read_file(join_path(output, "predictions.json")));
  EXPECT_EQ(found.size(), 5U * 25U);
  int frames = 0;
  for (const std::string& name : list_folder(output)) {
    cv::VideoCapture drawn(join_path(output, name));
    if (!ends_with(name, ".avi")) continue;
    for (cv::Mat frame; drawn.read(frame);) ++frames;
  }
  EXPECT_EQ(frames, 5);
  const CommandResult none =
      zoo_run({"predict", "--weights", run_, "camera:77", "--output", join_path(folder_, "none")});
  EXPECT_EQ(none.exit_code, 1);
  EXPECT_NE(none.err.find("camera:77"), std::string::npos) << none.err;
}

TEST_F(RealPictures, BloodSmearsPassTheCheckAndTrain) {
  const std::string spec = "voc:" + join_path(test::shared_data(), "bccd/BCCD");
  const CommandResult check = zoo_run({"data", "check", spec, "--json"});
  EXPECT_EQ(check.exit_code, 0) << check.err;
  EXPECT_EQ(Json::parse(check.out).at("findings").size(), 2U);
  const CommandResult train =
      zoo_run({"train", "--model", "detr-tiny", "--data", spec, "--weights", run_, "--max-steps", "1",
               "--batch-size", "2", "--set", "data.max_images=4", "--set", "trainer.partial_weights=true",
               "--output", join_path(folder_, "smears"), "--json"});
  EXPECT_EQ(train.exit_code, 0) << train.err;
  EXPECT_NE(train.err.find("misshapen"), std::string::npos) << train.err;  // the class head starts anew
  const Json document = Json::parse(train.out);
  EXPECT_EQ(document.at("metrics").at("per_class").size(), 3U);
}

}  // namespace
}  // namespace zoo
