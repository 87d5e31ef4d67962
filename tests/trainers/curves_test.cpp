#include "trainers/curves.h"

#include <gtest/gtest.h>

#include <cmath>
#include <opencv2/core.hpp>

#include "core/error.h"
#include "core/files.h"
#include "core/text.h"
#include "datasets/image.h"
#include "tests/support.h"

namespace zoo {
namespace {

cv::Mat drawn(const std::string& rows, const std::string& metric = "") {
  const std::string folder = test::scratch_dir("curves") + "/run";  // the title
  make_folders(folder);
  write_file(folder + "/metrics.jsonl", rows);
  draw_curves(folder + "/metrics.jsonl", folder + "/curves.png", metric);
  EXPECT_EQ(list_folder(folder).size(), 2u);  // nothing beside is left
  return read_image(folder + "/curves.png");
}

/// Whether a clearly blue pixel (the first line of a panel) lies within 2 pixels.
bool blue_at(const cv::Mat& rgb, int x, int y) {
  for (int dy = -2; dy <= 2; ++dy) {
    for (int dx = -2; dx <= 2; ++dx) {
      const cv::Vec3b pixel = rgb.at<cv::Vec3b>(y + dy, x + dx);
      if (pixel[2] > pixel[0] + 60) return true;
    }
  }
  return false;
}

int colored_pixels(const cv::Mat& rgb) {
  int count = 0;
  for (int y = 0; y < rgb.rows; ++y) {
    for (int x = 0; x < rgb.cols; ++x) {
      const cv::Vec3b pixel = rgb.at<cv::Vec3b>(y, x);
      count += std::max({pixel[0], pixel[1], pixel[2]}) > std::min({pixel[0], pixel[1], pixel[2]}) + 60;
    }
  }
  return count;
}

TEST(Curves, LineLiesWhereItsValuesAre) {
  const cv::Mat rgb = drawn(
      "{\"kind\":\"train\",\"step\":0,\"loss\":0}\n"
      "{\"kind\":\"train\",\"step\":100,\"loss\":1}\n");
  ASSERT_EQ(rgb.size(), cv::Size(748, 510));  // one panel
  // The frame is 86…710 by 124…440, for steps 0…100 and losses 0…1.06.
  for (const double part : {0.1, 0.5, 0.9}) {
    const int x = cvRound(86 + part * 624);
    EXPECT_TRUE(blue_at(rgb, x, cvRound(440 - part / 1.06 * 316))) << part;
    EXPECT_FALSE(blue_at(rgb, x, cvRound(440 - (part - 0.05) / 1.06 * 316))) << part;
  }
}

TEST(Curves, LossThatFallsFarHasALogarithmicAxis) {
  std::string rows;
  for (int step = 0; step <= 30; ++step) {
    rows += format("{\"kind\":\"train\",\"step\":%d,\"loss\":%g}\n", step, std::pow(10, -step / 10.0));
  }
  const cv::Mat rgb =
      drawn(rows);  // a straight line from 1 to 0.001, with 6 % of the decades above and below
  for (const double part : {0.1, 0.5, 0.9}) {
    EXPECT_TRUE(blue_at(rgb, cvRound(86 + part * 624), cvRound(124 + (0.06 + part) / 1.12 * 316))) << part;
  }
}

TEST(Curves, EveryKindOfRowHasItsPanel) {
  std::string rows;
  for (int step = 10; step <= 1000; step += 10) {
    rows += format(
        "{\"kind\":\"train\",\"step\":%d,\"epoch\":%g,\"loss\":%g,\"terms\":{\"loss_ce\":1,\"loss_ce_0\":2,"
        "\"class_error\":50},\"lr\":{\"head\":1e-4,\"backbone\":1e-5}}\n",
        step, step / 100.0, 5 + std::sin(step));
  }
  const cv::Mat three = drawn(rows);
  rows +=
      "{\"kind\":\"validation\",\"step\":1000,\"metrics\":{\"AP\":0.5,\"AP50\":0.7,\"APs\":null,\"per_"
      "class\":{}}}\n";
  const cv::Mat four = drawn(rows, "AP");
  EXPECT_EQ(three.size(), cv::Size(1468, 930));
  EXPECT_EQ(four.size(), cv::Size(1468, 930));
  EXPECT_GT(colored_pixels(four), colored_pixels(three));
}

TEST(Curves, OddRowsArePassedOver) {
  const std::string good =
      "{\"kind\":\"train\",\"step\":1,\"loss\":2}\n"
      "{\"kind\":\"train\",\"step\":2,\"loss\":1}\n";
  const std::string odd =
      "\n[]\n5\n\"x\"\nnot "
      "json\n{}\n{\"kind\":5,\"step\":1}\n{\"kind\":\"train\"}\n{\"kind\":\"train\",\"step\":\"x\",\"loss\":"
      "1}\n"
      "{\"kind\":\"train\",\"step\":-5,\"loss\":1}\n{\"kind\":\"train\",\"step\":1e300,\"loss\":1}\n"
      "{\"kind\":\"train\",\"step\":2,\"loss\":null,\"terms\":[1],\"lr\":\"a\"}\n"
      "{\"kind\":\"train\",\"step\":2,\"loss\":1e300}\n"
      "{\"kind\":\"validation\",\"step\":2,\"metrics\":{\"AP\":null,\"per_class\":{\"a\":1}}}\n"
      "{\"kind\":\"validation\",\"step\":2,\"metrics\":null}\n\xff\xfe\n{\"kind\":\"train\",\"st";
  const cv::Mat clean = drawn(good), mixed = drawn(good + odd, "AP");
  ASSERT_EQ(clean.size(), mixed.size());
  EXPECT_EQ(cv::norm(clean, mixed, cv::NORM_INF), 0);
}

TEST(Curves, ExtremeValuesAreDrawn) {
  drawn(
      "{\"kind\":\"train\",\"step\":4,\"loss\":1e29,\"terms\":{\"a\":1e-310,\"b\":-5},\"lr\":{\"x\":1e29}}\n"
      "{\"kind\":\"train\",\"step\":5,\"loss\":1e-29,\"terms\":{\"a\":1e30,\"b\":-5},\"lr\":{\"x\":1e-29}}"
      "\n");
  drawn(
      "{\"kind\":\"train\",\"step\":0,\"loss\":1.0,\"lr\":0}\n"
      "{\"kind\":\"train\",\"step\":0,\"loss\":1.0000000000000002,\"lr\":0}\n");
  drawn("");
}

TEST(Curves, FilesThatCannotBeReadOrWritten) {
  const std::string folder = test::scratch_dir("curves");
  EXPECT_THROW(draw_curves(folder + "/metrics.jsonl", folder + "/curves.png"), Error);
  write_file(folder + "/metrics.jsonl", "");
  EXPECT_THROW(draw_curves(folder + "/metrics.jsonl", folder + "/missing/curves.png"), Error);
}

}  // namespace
}  // namespace zoo
