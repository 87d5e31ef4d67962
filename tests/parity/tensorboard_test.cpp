#include "trainers/tensorboard.h"

#include <gtest/gtest.h>

#include <cmath>
#include <ctime>

#include "core/options.h"
#include "datasets/image.h"
#include "tests/support.h"

namespace zoo {
namespace {

Json read_back(const std::string& folder) {
  const std::string output = test::scratch_dir("tensorboard-found") + "/found.json";
  test::run_python("tensorboard_events.py", {folder, output});
  return read_json(output);
}

TEST(TensorboardParity, ReaderFindsScalarsImagesAndText) {
  ZOO_NEEDS_PYTHON();
  const std::string folder = test::scratch_dir("tensorboard");
  const std::string png = encode_png(cv::Mat(30, 200, CV_8UC3, cv::Scalar(10, 200, 30)));
  {
    EventWriter writer(folder);
    writer.add_text("config", "    {\"a\": \"ü\"}", 0);
    writer.add_scalar("loss", 2.5, 0);
    writer.add_scalar("loss", 0, 300);
    writer.add_scalar("loss", -0.125, int64_t{1} << 40);
    writer.add_image("predictions/one", png, 300);
  }
  const Json found = read_back(folder);
  EXPECT_EQ(found.at("scalars"), Json({{"loss", {{0, 2.5}, {300, 0.0}, {int64_t{1} << 40, -0.125}}}}));
  EXPECT_EQ(found.at("texts"), Json({{"config", Json::array({{0, "text", "    {\"a\": \"ü\"}"}})}}));
  const Json& image = found.at("images").at("predictions/one").at(0);
  EXPECT_EQ(std::vector<int>(image.begin(), image.begin() + 5), (std::vector<int>{300, 200, 30, 200, 30}));
  EXPECT_EQ(image.at(5).get<std::string>().size(), (png.size() + 2) / 3 * 4);  // base64
  EXPECT_NEAR(found.at("wall_time").get<double>(), static_cast<double>(std::time(nullptr)), 60);
}

// A run is killed after step 30, its checkpoint is of step 20: the resumed one writes steps from 21 on.
TEST(TensorboardParity, ResumedRunReplacesLaterSteps) {
  ZOO_NEEDS_PYTHON();
  const std::string folder = test::scratch_dir("tensorboard-resumed");
  {
    EventWriter first(folder);
    for (const int64_t step : {10, 20, 30}) first.add_scalar("loss", 1, step);
  }
  {
    EventWriter second(folder, 21);
    for (const int64_t step : {30, 40}) second.add_scalar("loss", 2, step);
  }
  EXPECT_EQ(read_back(folder).at("scalars").at("loss"), Json({{10, 1.0}, {20, 1.0}, {30, 2.0}, {40, 2.0}}));
}

}  // namespace
}  // namespace zoo
