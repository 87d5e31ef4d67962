#include "datasets/draw.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <opencv2/core.hpp>

#include "tests/support.h"

namespace zoo {
namespace {

const cv::Scalar kGround(120, 130, 125);

cv::Mat ground(int width, int height) {
  return cv::Mat(height, width, CV_8UC3, kGround);
}

/// Pixels that differ from the ground, within a rectangle.
int painted(const cv::Mat& image, const cv::Rect& place) {
  int count = 0;
  for (int y = place.y; y < place.y + place.height; ++y) {
    for (int x = place.x; x < place.x + place.width; ++x) {
      const cv::Vec3b& pixel = image.at<cv::Vec3b>(y, x);
      for (int c = 0; c < 3; ++c) {
        if (std::abs(pixel[c] - kGround[c]) > 1) {
          ++count;
          break;
        }
      }
    }
  }
  return count;
}

TEST(Draw, FrameLiesOnTheBoxInItsColor) {
  const cv::Mat image = draw_detections(ground(640, 480), {{100, 200, 300, 150, "", -1, 3}});
  ASSERT_EQ(image.size(), cv::Size(640, 480));
  const cv::Vec3b color = palette_color(3);
  for (const cv::Point point :
       {cv::Point(100, 275), cv::Point(400, 275), cv::Point(250, 200), cv::Point(250, 350)}) {
    const cv::Rect near(point.x - 1, point.y - 1, 2, 2);
    bool found = false;
    for (int y = near.y; y < near.y + 2; ++y) {
      for (int x = near.x; x < near.x + 2; ++x) found = found || image.at<cv::Vec3b>(y, x) == color;
    }
    EXPECT_TRUE(found) << point;
  }
  EXPECT_EQ(painted(image, {110, 210, 280, 130}), 0) << "the inside stays as it was";
  EXPECT_EQ(painted(image, {0, 0, 640, 190}), 0) << "no label, no chip";
}

TEST(Draw, LabelStandsAboveTheBox) {
  const cv::Mat image = draw_detections(ground(640, 480), {{100, 200, 300, 150, "cat", 0.9, 3}});
  EXPECT_GT(painted(image, {100, 175, 100, 24}), 1500);
  EXPECT_EQ(painted(image, {110, 210, 280, 130}), 0);
}

TEST(Draw, LabelsStayInsideThePicture) {
  for (const DrawnBox& box : {DrawnBox{-50, -50, 90, 90, "a label at the corner", 1, 1},
                              DrawnBox{600, 440, 90, 90, "a label at the corner", 1, 1},
                              DrawnBox{0, 0, 640, 480, "a label at the corner", 1, 1},
                              DrawnBox{620, 0, 20, 480, "a label at the corner", 1, 1}}) {
    const cv::Mat image = draw_detections(ground(640, 480), {box});
    DrawnBox bare = box;
    bare.label.clear();
    bare.score = -1;
    const cv::Mat without = draw_detections(ground(640, 480), {bare});
    cv::Mat difference;
    cv::absdiff(image, without, difference);
    std::vector<cv::Point> points;
    for (int y = 0; y < 480; ++y) {
      for (int x = 0; x < 640; ++x) {
        if (difference.at<cv::Vec3b>(y, x) != cv::Vec3b(0, 0, 0)) points.emplace_back(x, y);
      }
    }
    const auto [left, right] = std::minmax_element(
        points.begin(), points.end(), [](const cv::Point& a, const cv::Point& b) { return a.x < b.x; });
    ASSERT_FALSE(points.empty());
    EXPECT_GT(right->x - left->x, 230) << "the whole label is visible";
  }
}

TEST(Draw, SmallPicturesAreEnlarged) {
  EXPECT_EQ(draw_detections(ground(128, 128), {}).size(), cv::Size(512, 512));
  EXPECT_EQ(draw_detections(ground(200, 399), {}).size(), cv::Size(400, 798));
  EXPECT_EQ(draw_detections(ground(400, 10), {}).size(), cv::Size(400, 10));
  EXPECT_EQ(draw_detections(ground(1, 1), {{0, 0, 1, 1, "x", 1, 0}}).size(), cv::Size(8, 8));
  const cv::Mat image = draw_detections(ground(128, 128), {{32, 32, 64, 64, "", -1, 3}});
  EXPECT_GT(painted(image, {120, 200, 16, 16}), 0) << "the box is enlarged too";
}

TEST(Draw, AnyBoxIsSafe) {
  const double huge = 1e300, nan = std::numeric_limits<double>::quiet_NaN(),
               inf = std::numeric_limits<double>::infinity();
  std::vector<DrawnBox> boxes;
  for (const double a : {0.0, -5.0, 300.0, huge, -huge, nan, inf}) {
    for (const double b : {0.0, 10.0, -10.0, huge, nan})
      boxes.push_back({a, b, b, a, "caf\xC3\xA9 \xFF\n", 2, -7});
  }
  const cv::Mat image = draw_detections(ground(640, 480), boxes);
  EXPECT_EQ(image.size(), cv::Size(640, 480));
  EXPECT_EQ(draw_detections(ground(640, 480), {{1, 1, 9, 9, std::string(5000, 'w'), 1, 1}}).cols, 640);
}

TEST(Draw, InputIsLeftAlone) {
  const cv::Mat image = ground(640, 480);
  draw_detections(image, {{10, 10, 100, 100, "cat", 0.5, 1}});
  EXPECT_EQ(painted(image, {0, 0, 640, 480}), 0);
}

TEST(Draw, ColorsDiffer) {
  for (int64_t i = 0; i < 30; ++i) {
    for (int64_t j = 0; j < i; ++j) {
      const cv::Vec3b a = palette_color(i), b = palette_color(j);
      const double distance = cv::norm(cv::Vec3d(a[0], a[1], a[2]) - cv::Vec3d(b[0], b[1], b[2]));
      EXPECT_GT(distance, i - j < 4 ? 80 : 18) << i << " " << j;
    }
  }
}

TEST(Draw, SheetShowsTheSamples) {
  const auto dataset = open_detection_dataset(parse_data_spec("shapes,train=1,val=30,size=96"), "val");
  const cv::Mat sheet = show_grid(*dataset);
  EXPECT_EQ(sheet.cols, 1800);
  EXPECT_GT(sheet.rows, 900);
  EXPECT_LT(sheet.rows, 1900);
  const cv::Mat one = show_grid(*subset(dataset, {0}), 12);
  EXPECT_GT(one.rows, 300);
  EXPECT_LT(one.rows, 900);
}

}  // namespace
}  // namespace zoo
