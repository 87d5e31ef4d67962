#include "datasets/yolo.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "core/error.h"
#include "core/files.h"
#include "datasets/detection.h"
#include "datasets/image.h"
#include "tests/datasets/adapters.h"
#include "tests/datasets/open_data.h"
#include "tests/support.h"

namespace zoo {
namespace {

using ::testing::AllOf;
using ::testing::HasSubstr;

void expect_box(const ObjectAnnotation& object, double x, double y, double width, double height) {
  EXPECT_NEAR(object.box[0], x, 1e-9);
  EXPECT_NEAR(object.box[1], y, 1e-9);
  EXPECT_NEAR(object.box[2], width, 1e-9);
  EXPECT_NEAR(object.box[3], height, 1e-9);
}

/// images/ and labels/ of a split with one picture of 200x100.
void add_split(const std::string& folder, const std::string& split, const std::string& labels) {
  make_folders(folder + "/images/" + split);
  make_folders(folder + "/labels/" + split);
  write_image(folder + "/images/" + split + "/p.jpg", cv::Mat::zeros(100, 200, CV_8UC3));
  write_file(folder + "/labels/" + split + "/p.txt", labels);
}

std::string make_yolo(const std::string& labels) {
  const std::string folder = test::scratch_dir("yolo");
  add_split(folder, "train", labels);
  add_split(folder, "val", "");
  write_file(folder + "/classes.txt", "cat\ndog\n");
  return folder;
}

TEST(Yolo, FractionsBecomePixels) {
  const auto data = open_detection("yolo:" + make_yolo("1 0.5 0.5 0.25 0.5\n\n0 0.05 0.1 0.1 0.2\r\n"));
  ASSERT_EQ(data->size(), 1);
  const DetectionRecord& record = data->record(0);
  EXPECT_EQ(record.file_name, "images/train/p.jpg");
  EXPECT_EQ(record.width, 200);
  EXPECT_EQ(record.height, 100);
  ASSERT_EQ(record.objects.size(), 2U);
  EXPECT_EQ(record.objects[0].category_id, 1);
  expect_box(record.objects[0], 75, 25, 50, 50);
  EXPECT_NEAR(record.objects[0].area, 2500, 1e-9);
  expect_box(record.objects[1], 0, 0, 20, 20);
  EXPECT_EQ(data->categories().at(1).name, "dog");
  EXPECT_EQ(data->image(0).rows, 100);
}

TEST(Yolo, PolygonsGiveTheirBoundsAndArea) {
  const auto data = open_detection("yolo:" + make_yolo("0 0.1 0.2 0.5 0.2 0.1 0.8\n"));  // a triangle
  const ObjectAnnotation& object = data->record(0).objects.at(0);
  expect_box(object, 20, 20, 80, 60);
  EXPECT_NEAR(object.area, 80 * 60 / 2, 1e-9);
}

TEST(Yolo, PicturesWithoutLabelsHaveNoObjects) {
  const std::string folder = make_yolo("0 0.5 0.5 0.1 0.1");
  EXPECT_TRUE(open_detection("yolo:" + folder, "val")->record(0).objects.empty());
  write_image(folder + "/images/train/q.png", cv::Mat::zeros(10, 10, CV_8UC3));
  const auto data = open_detection("yolo:" + folder);
  ASSERT_EQ(data->size(), 2);
  EXPECT_EQ(data->record(1).image_id, 2);
  EXPECT_TRUE(data->record(1).objects.empty());
  std::remove((folder + "/labels/train/p.txt").c_str());
  EXPECT_THAT(detection_error("yolo:" + folder),
              AllOf(HasSubstr("no picture has a label file"), HasSubstr("/labels/train/p.txt")));
}

TEST(Yolo, DataYaml) {
  const std::string folder = make_yolo("2 0.5 0.5 0.1 0.1");
  const char* documents[] = {
      // as ultralytics writes it, `path` of another machine
      "# a comment\npath: ../datasets/elsewhere  # moved\ntrain: images/train\nval: images/val\ntest:  # "
      "none\n\n"
      "names:\n  0: cat\n  1: 'it''s'\n  2: \"big dog\"\ndownload: |\n  import os\n  x = {1: 2}\n",
      // as Roboflow writes it, with its wrong `../`
      "train: ../images/train\nval: ../images/val\n\nnc: 3\nnames: ['cat', 'a, b', 'big dog']\n",
      "train:\n  - images/train\nval: [images/val]\nnames:\n- cat\n- bird\n- big dog\n",
      "path: .\ntrain: list.txt\nval: images/val\nnames: [cat, bird,\n  big dog]\n",
      "train: images/train\nval: images/val\nnames: {0: cat, 1: bird, 2: big dog}\n",
  };
  write_file(folder + "/list.txt", "./images/train/p.jpg\n");
  for (const char* document : documents) {
    SCOPED_TRACE(document);
    write_file(folder + "/data.yaml", document);
    for (const std::string& path : {folder, folder + "/data.yaml"}) {
      const auto data = open_detection("yolo:" + path);
      ASSERT_EQ(data->size(), 1);
      ASSERT_EQ(data->categories().size(), 3U);
      EXPECT_EQ(data->categories()[2].name, "big dog");
      EXPECT_EQ(data->record(0).objects.at(0).category_id, 2);
      EXPECT_EQ(data->image(0).cols, 200);
      EXPECT_EQ(open_detection("yolo:" + path, "val")->size(), 1);
    }
  }
  write_file(folder + "/data.yaml", std::string(documents[0]));
  EXPECT_EQ(open_detection("yolo:" + folder)->categories()[1].name, "it's");
  EXPECT_THAT(detection_error("yolo:" + folder + ",split=test"),
              HasSubstr("expected one of those found: train, val"));
}

TEST(Yolo, OtherFolders) {
  const std::string folder = test::scratch_dir("roboflow");
  for (const char* name : {"train/images", "train/labels", "valid/images", "valid/labels"}) {
    make_folders(folder + "/" + name);
  }
  write_image(folder + "/valid/images/x.png", cv::Mat::zeros(10, 10, CV_8UC3));
  write_file(folder + "/valid/labels/x.txt", "0 .5 .5 1 1\n");
  write_file(folder + "/obj.names", "thing\n");
  EXPECT_EQ(open_detection("yolo:" + folder, "val")->record(0).objects.size(), 1U);
  EXPECT_THAT(detection_error("yolo:" + folder), HasSubstr("images: there are none"));
  EXPECT_THAT(detection_error("yolo:/nowhere"), HasSubstr("cannot read /nowhere"));
  EXPECT_THAT(detection_error("yolo:" + test::scratch_dir("empty")), HasSubstr("no YOLO data found"));
  std::remove((folder + "/obj.names").c_str());
  EXPECT_THAT(detection_error("yolo:" + folder, "val"), HasSubstr("no class names found"));
}

TEST(Yolo, FaultsNameFileLineAndWhatWouldBeRight) {
  const char* faults[][2] = {
      {"0 0.5 0.5 0.1\n", "line 1: 4 numbers, expected 5"},
      {"0 0.5 0.5 0.1 0.1\n0 0.5 0.5 0.1 0.1 0.9\n", "line 2: 6 numbers, expected 5"},
      {"cat 0.5 0.5 0.1 0.1\n", "line 1: 'cat' is no number"},
      {"0 0.5 nan 0.1 0.1\n", "line 1: 'nan' is no number"},
      {"2 0.5 0.5 0.1 0.1\n", "line 1: class 2 does not exist, expected a class from 0 to 1"},
      {"0.5 0.5 0.5 0.1 0.1\n", "class 0.5 does not exist"},
      {"-1 0.5 0.5 0.1 0.1\n", "class -1 does not exist"},
      {"0 100 50 20 20\n", "line 1: 100 is no fraction of the picture's size"},
      {"0 0.5 0.5 -0.1 0.1\n", "-0.1 is no fraction"},
  };
  for (const auto& fault : faults) {
    EXPECT_THAT(detection_error("yolo:" + make_yolo(fault[0])),
                AllOf(HasSubstr("/labels/train/p.txt: "), HasSubstr(fault[1])));
  }
}

TEST(Yolo, UnreadablePictureIsNamedWhenUsed) {
  const std::string folder = make_yolo("0 0.5 0.5 0.1 0.1\n");
  write_file(folder + "/images/train/p.jpg", "no picture");
  const auto data = open_detection("yolo:" + folder);
  EXPECT_EQ(data->size(), 1);
  try {
    data->image(0);
    ADD_FAILURE() << "no Error";
  } catch (const Error& error) {
    EXPECT_THAT(error.what(), HasSubstr("p.jpg: is no picture"));
  }
}

}  // namespace
}  // namespace zoo
