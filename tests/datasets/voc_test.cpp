#include "datasets/voc.h"

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
using ::testing::ElementsAre;
using ::testing::HasSubstr;

const char kAnnotation[] = R"(<?xml version="1.0"?>
<annotation>
  <folder>VOC</folder>
  <filename>a.jpg</filename>
  <size><width>40</width><height>30</height><depth>3</depth></size>
  <object>
    <name>person</name>
    <truncated>0</truncated>
    <difficult>0</difficult>
    <bndbox><xmin>1</xmin><ymin>2</ymin><xmax>10</xmax><ymax>30</ymax></bndbox>
    <part><name>head</name><bndbox><xmin>2</xmin><ymin>2</ymin><xmax>4</xmax><ymax>4</ymax></bndbox></part>
  </object>
  <object>
    <name>cat</name>
    <difficult>1</difficult>
    <bndbox><xmax>20.5</xmax><xmin> 11.5 </xmin><ymin>5</ymin><ymax>9</ymax></bndbox>
  </object>
</annotation>)";

std::string make_voc(const std::string& annotation) {
  const std::string folder = test::scratch_dir("voc");
  for (const char* name : {"Annotations", "JPEGImages", "ImageSets/Main"}) make_folders(folder + "/" + name);
  write_file(folder + "/Annotations/a.xml", annotation);
  write_file(folder + "/Annotations/b.xml",
             "<annotation><size><width>8</width><height>6</height></size><object><name>dog</name><bndbox>"
             "<xmin>1</xmin><ymin>1</ymin><xmax>8</xmax><ymax>6</ymax></bndbox></object></annotation>");
  write_image(folder + "/JPEGImages/a.jpg", cv::Mat::zeros(30, 40, CV_8UC3));
  write_image(folder + "/JPEGImages/b.png", cv::Mat::zeros(6, 8, CV_8UC3));
  write_file(folder + "/ImageSets/Main/train.txt", "a\n");
  write_file(folder + "/ImageSets/Main/val.txt", "b  1\r\n\n");
  write_file(folder + "/ImageSets/Main/dog_val.txt", "a -1\nb 1\n");
  return folder;
}

using test::replaced;

TEST(Voc, PixelsCountFromOneAndBothEndsBelong) {
  const auto data = open_detection("voc:" + make_voc(kAnnotation));
  ASSERT_EQ(data->size(), 1);
  const DetectionRecord& record = data->record(0);
  EXPECT_EQ(record.file_name, "a.jpg");
  EXPECT_EQ(record.width, 40);
  ASSERT_EQ(record.objects.size(), 2U);
  EXPECT_THAT(record.objects[0].box, ElementsAre(0, 1, 10, 29));
  EXPECT_EQ(record.objects[0].area, 290);
  EXPECT_FALSE(record.objects[0].crowd);
  EXPECT_THAT(record.objects[1].box, ElementsAre(10.5, 4, 10, 5));
  EXPECT_TRUE(record.objects[1].crowd) << "difficult";
  EXPECT_EQ(data->image(0).cols, 40);
}

TEST(Voc, CategoriesAreTheSortedNamesOfAllSplits) {
  const std::string folder = make_voc(kAnnotation);
  for (const char* split : {"train", "val"}) {
    const auto data = open_detection("voc:" + folder, split);
    ASSERT_EQ(data->categories().size(), 3U);
    EXPECT_EQ(data->categories()[0].name, "cat");
    EXPECT_EQ(data->categories()[0].id, 1);
    EXPECT_EQ(data->categories()[1].name, "dog");
    EXPECT_EQ(data->categories()[2].name, "person");
  }
  EXPECT_EQ(open_detection("voc:" + folder, "val")->record(0).objects[0].category_id, 2);
  EXPECT_EQ(open_detection("voc:" + folder, "val")->record(0).file_name, "b.png");
}

TEST(Voc, LabelsFileGivesTheOrder) {
  const std::string folder = make_voc(kAnnotation);
  write_file(folder + "/names.txt", "person\ndog\ncat\n");
  EXPECT_EQ(
      open_detection("voc:" + folder + ",labels=" + folder + "/names.txt")->record(0).objects[1].category_id,
      3);
  write_file(folder + "/labels.txt", "person\ndog\n");
  EXPECT_THAT(detection_error("voc:" + folder),
              AllOf(HasSubstr("Annotations/a.xml: object 2 (cat): the category does not"),
                    HasSubstr("expected a name of " + folder + "/labels.txt")));
}

TEST(Voc, Splits) {
  const std::string folder = make_voc(kAnnotation);
  EXPECT_EQ(open_detection("voc:" + folder + ",split=all")->size(), 2);
  EXPECT_THAT(detection_error("voc:" + folder + ",split=test"),
              HasSubstr("one of those found: all, train, val"));
  EXPECT_THAT(detection_error("voc:" + test::scratch_dir("empty")),
              HasSubstr("expected a folder with Annotations"));
  write_file(folder + "/ImageSets/Main/train.txt", "a\nc\n");
  EXPECT_THAT(detection_error("voc:" + folder), HasSubstr("Annotations/c.xml: is missing"));
}

TEST(Voc, MissingSizeIsReadFromThePicture) {
  const auto data =
      open_detection("voc:" + make_voc(replaced(kAnnotation, "<width>40</width>", "<width>0</width>")));
  EXPECT_EQ(data->record(0).width, 40);
  EXPECT_EQ(data->record(0).height, 30);
}

TEST(Voc, FaultsNameFileObjectAndWhatWouldBeRight) {
  const char* faults[][3] = {
      {"<xmin>1</xmin>", "<xmin>one</xmin>", "object 1 (person): xmin is 'one', expected a number of pixels"},
      {"<xmin>1</xmin>", "<xmin>nan</xmin>", "xmin is 'nan'"},
      {"<xmin>1</xmin>", "", "xmin is missing"},
      {"<xmin>1</xmin>", "<xmin>11</xmin>", "box [11, 2, 10, 30] ends before it begins"},
      {"<name>person</name>", "", "object 1: has no <name>"},
      {"</annotation>", "", "malformed XML at byte "},
      {"<annotation>", "<annotation><x>", "malformed XML"},
  };
  for (const auto& fault : faults) {
    EXPECT_THAT(detection_error("voc:" + make_voc(replaced(kAnnotation, fault[0], fault[1]))),
                AllOf(HasSubstr("/Annotations/a.xml: "), HasSubstr(fault[2])));
  }
}

TEST(Voc, BloodCells) {
  ZOO_NEEDS_SHARED_DATA();
  const std::string spec = "voc:" + test::shared_data() + "/bccd/BCCD";
  const auto train = open_detection(spec), val = open_detection(spec, "val");
  EXPECT_EQ(train->size(), 205);
  EXPECT_EQ(val->size(), 87);
  ASSERT_EQ(val->categories().size(), 3U);
  EXPECT_EQ(val->categories()[1].name, "RBC");
  const DetectionRecord& record = val->record(0);
  EXPECT_EQ(record.file_name, "BloodImage_00000.jpg");
  EXPECT_THAT(record.objects.at(0).box, ElementsAre(259, 176, 232, 200));
  EXPECT_EQ(record.objects.at(0).category_id, 3);
  EXPECT_EQ(val->image(0).cols, 640);
  size_t objects = 0;
  const auto all = open_detection(spec + ",split=all");
  for (int64_t i = 0; i < all->size(); ++i) objects += all->record(i).objects.size();
  EXPECT_EQ(objects, 4888U);
}

}  // namespace
}  // namespace zoo
