#include "datasets/make.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cstring>

#include "core/error.h"
#include "core/files.h"
#include "datasets/detection.h"
#include "datasets/image.h"
#include "tests/datasets/open_data.h"
#include "tests/support.h"

namespace zoo {
namespace {

using ::testing::HasSubstr;

/// Names of files apart, which get another ending.
void expect_equal(const DetectionDataset& a, const DetectionDataset& b) {
  ASSERT_EQ(a.size(), b.size());
  ASSERT_EQ(a.categories().size(), b.categories().size());
  for (size_t i = 0; i < a.categories().size(); ++i) {
    EXPECT_EQ(a.categories()[i].id, b.categories()[i].id);
    EXPECT_EQ(a.categories()[i].name, b.categories()[i].name);
  }
  for (int64_t i = 0; i < a.size(); ++i) {
    const DetectionRecord &x = a.record(i), &y = b.record(i);
    EXPECT_EQ(x.image_id, y.image_id);
    EXPECT_EQ(x.width, y.width);
    EXPECT_EQ(x.height, y.height);
    ASSERT_EQ(x.objects.size(), y.objects.size());
    for (size_t k = 0; k < x.objects.size(); ++k) {
      EXPECT_EQ(x.objects[k].id, y.objects[k].id);
      EXPECT_EQ(x.objects[k].category_id, y.objects[k].category_id);
      EXPECT_EQ(x.objects[k].box, y.objects[k].box);
      EXPECT_EQ(x.objects[k].area, y.objects[k].area);
      EXPECT_EQ(x.objects[k].crowd, y.objects[k].crowd);
    }
    const cv::Mat left = a.image(i), right = b.image(i);
    ASSERT_EQ(left.size(), right.size());
    EXPECT_EQ(std::memcmp(left.data, right.data, left.total() * 3), 0) << i;
  }
}

TEST(Make, EmbeddedSetReadsBackEqual) {
  const std::string folder = test::scratch_dir("make") + "/new/shapes";
  int64_t last = 0, total = 0;
  make_detection(parse_data_spec("shapes,train=7,val=5,size=96"), folder, [&](int64_t done, int64_t all) {
    EXPECT_GT(done, last);
    last = done;
    total = all;
  });
  EXPECT_EQ(last, 12);
  EXPECT_EQ(total, 12);
  for (const char* split : {"train", "val"}) {
    expect_equal(*open_detection("shapes,train=7,val=5,size=96", split),
                 *open_detection("coco:" + folder, split));
  }
}

TEST(Make, OneSplitOfFiles) {
  const std::string source = test::scratch_dir("source"), folder = test::scratch_dir("target");
  make_folders(source + "/annotations");
  make_folders(source + "/odd/sub");
  write_file(source + "/annotations/instances_odd.json",
             R"({"images": [{"id": 3, "file_name": "sub/a.jpg", "width": 9, "height": 7},
                            {"id": 1, "file_name": "a.png", "width": 9, "height": 7}],
                 "categories": [{"id": 0, "name": "x \" y"}],
                 "annotations": [{"id": 12345678901, "image_id": 1, "category_id": 0, "iscrowd": 1,
                                  "bbox": [0.1, 1e-3, 3.3333333333333335, 2], "area": 0.30000000000000004}]})");
  write_image(source + "/odd/sub/a.jpg", cv::Mat(7, 9, CV_8UC3, cv::Scalar(1, 2, 200)));
  write_image(source + "/odd/a.png", cv::Mat(7, 9, CV_8UC3, cv::Scalar(1, 250, 3)));
  make_detection(parse_data_spec("coco:" + source + ",split=odd"), folder);
  const auto back = open_detection("coco:" + folder + ",split=odd", "val");
  expect_equal(*open_detection("coco:" + source + ",split=odd", "val"), *back);
  EXPECT_EQ(back->record(0).file_name, "a.png");
  EXPECT_EQ(back->record(1).file_name, "a-1.png");
}

TEST(Make, NeverWritesOverASet) {
  const std::string folder = test::scratch_dir("twice");
  const DataSpec spec = parse_data_spec("shapes,train=1,val=1,size=64");
  make_detection(spec, folder);
  try {
    make_detection(spec, folder);
    ADD_FAILURE() << "no Error";
  } catch (const Error& error) {
    EXPECT_THAT(error.what(), HasSubstr("already holds annotations/instances_train.json"));
  }
}

TEST(Make, UnreadablePictureLeavesNoAnnotations) {
  const std::string source = test::scratch_dir("source"), folder = test::scratch_dir("target");
  make_detection(parse_data_spec("shapes,train=3,val=1,size=64"), source);
  const std::string victim =
      source + "/train/" + open_detection("coco:" + source, "train")->record(1).file_name;
  write_file(victim, read_file(victim).substr(0, 200));
  try {
    make_detection(parse_data_spec("coco:" + source), folder);
    ADD_FAILURE() << "no Error";
  } catch (const Error& error) {
    EXPECT_THAT(error.what(), HasSubstr(victim));
  }
  EXPECT_TRUE(list_folder(folder + "/annotations").empty());
}

}  // namespace
}  // namespace zoo
