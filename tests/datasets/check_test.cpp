#include "datasets/check.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "core/error.h"
#include "core/files.h"
#include "core/text.h"
#include "datasets/detection.h"
#include "datasets/image.h"
#include "datasets/make.h"
#include "tests/support.h"

namespace zoo {
namespace {

using ::testing::AllOf;
using ::testing::HasSubstr;

/// Two splits of pictures 64x48, in COCO's layout, that a test then harms.
class Check : public ::testing::Test {
 protected:
  void SetUp() override {
    folder_ = test::scratch_dir("check");
    make_folders(folder_ + "/annotations");
    for (const std::string split : {"train", "val"}) {
      make_folders(folder_ + "/" + split);
      Json document = {{"images", Json::array()}, {"annotations", Json::array()}};
      document["categories"] = {{{"id", 1}, {"name", "cat"}}, {{"id", 2}, {"name", "dog"}}};
      for (int id = 1; id <= 3; ++id) {
        const std::string name = split + std::to_string(id) + ".png";
        document["images"].push_back({{"id", id}, {"file_name", name}, {"width", 64}, {"height", 48}});
        document["annotations"].push_back({{"id", id},
                                           {"image_id", id},
                                           {"category_id", 1 + id % 2},
                                           {"bbox", {4, 5, 10 * id, 12}},
                                           {"area", 120 * id},
                                           {"iscrowd", 0}});
        write_image(folder_ + "/" + split + "/" + name,
                    cv::Mat(48, 64, CV_8UC3, cv::Scalar(id * 40, split == "val" ? 200 : 0, 0)));
      }
      documents_[split] = document;
    }
  }

  CheckReport check(const std::string& options = "") {
    for (const auto& [split, document] : documents_) {
      write_file(folder_ + "/annotations/instances_" + split + ".json", document.dump());
    }
    return check_detection(parse_data_spec("coco:" + folder_ + options));
  }
  Json& train(const char* list, size_t index) { return documents_["train"][list][index]; }

  /// Exactly one finding, with these words; and a run refuses the set just where the finding is fatal.
  void expect_only(const CheckReport& report, bool fatal, const std::string& record,
                   const std::string& what) {
    ASSERT_EQ(report.findings.size(), 1U) << report.str();
    const Finding& finding = report.findings[0];
    EXPECT_EQ(finding.fatal, fatal) << finding.message();
    EXPECT_THAT(finding.record, HasSubstr(record));
    EXPECT_THAT(finding.what, HasSubstr(what));
    EXPECT_FALSE(finding.expected.empty());
    EXPECT_FALSE(finding.effect.empty());
    EXPECT_EQ(report.fatal_count(), fatal ? 1 : 0);
    EXPECT_EQ(run_fails(), fatal) << finding.message();
  }

  /// Whether opening the training split, or reading a picture of it, throws.
  bool run_fails() {
    try {
      const auto data = open_detection_dataset(parse_data_spec("coco:" + folder_), "train");
      for (int64_t i = 0; i < data->size(); ++i) data->image(i);
    } catch (const Error&) {
      return true;
    }
    return false;
  }

  std::string folder_;
  std::map<std::string, Json> documents_;
};

TEST_F(Check, SoundSetHasNoFindings) {
  const CheckReport report = check();
  EXPECT_TRUE(report.findings.empty()) << report.str();
  EXPECT_FALSE(run_fails());
  ASSERT_EQ(report.splits.size(), 2U);
  EXPECT_EQ(report.splits[0].name, "train");
  EXPECT_EQ(report.splits[0].images, 3);
  EXPECT_EQ(report.splits[0].objects, 3);
  EXPECT_EQ(report.splits[0].classes.at(0).objects, 1);
  EXPECT_EQ(report.splits[0].classes.at(1).objects, 2);
  EXPECT_EQ(report.splits[0].box_sizes[1], 2);  // 10.95 and 15.5
  EXPECT_EQ(report.splits[0].box_sizes[2], 1);  // 19.0
  EXPECT_EQ(check(",split=val").splits.size(), 1U);
}

TEST_F(Check, MissingPicture) {
  std::remove((folder_ + "/train/train2.png").c_str());
  const CheckReport report = check();
  expect_only(report, true, "image 2 (train2.png)", "the picture is missing");
  EXPECT_EQ(report.findings[0].file, folder_ + "/train/train2.png");
  EXPECT_THAT(report.findings[0].effect, HasSubstr("data.skip_bad=true"));
}

TEST_F(Check, UnreadablePicture) {
  write_file(folder_ + "/train/train1.png", "no picture");
  expect_only(check(), true, "image 1 (train1.png)", "is no picture");
}

TEST_F(Check, TruncatedPicture) {
  const std::string path = folder_ + "/train/train3.png";
  write_file(path, read_file(path).substr(0, read_file(path).size() - 20));
  expect_only(check(), true, "image 3 (train3.png)", "truncated PNG");
}

TEST_F(Check, SizeDiffersFromTheFile) {
  train("images", 0)["width"] = 48;
  train("images", 0)["height"] = 64;
  const CheckReport report = check();
  expect_only(report, true, "image 1 (train1.png)", "the picture is 64x48, the annotations say 48x64");
  EXPECT_THAT(report.findings[0].expected, HasSubstr("EXIF"));
}

TEST_F(Check, ZeroAreaBox) {
  train("annotations", 0)["bbox"] = {4, 5, 0, 12};
  const CheckReport report = check();
  expect_only(report, false, "annotation 1, image 1 (train1.png)", "box [4, 5, 0, 12] has no area");
  EXPECT_THAT(report.findings[0].effect, HasSubstr("left out of training"));
}

TEST_F(Check, NegativeBox) {
  train("annotations", 0)["bbox"] = {4, 5, 10, -12};
  expect_only(check(), true, "annotation 1", "has a negative size");
}

TEST_F(Check, BoxOverTheEdge) {
  train("annotations", 0)["bbox"] = {60, 5, 10, 12};
  const CheckReport report = check();
  expect_only(report, false, "annotation 1", "passes the edge of the picture of 64x48");
  EXPECT_THAT(report.findings[0].effect, HasSubstr("clipped"));
}

TEST_F(Check, RoundingAtTheEdgeIsNoFinding) {
  train("annotations", 0)["bbox"] = {-0.04, 5, 64.08, 12};
  EXPECT_TRUE(check().findings.empty());
}

TEST_F(Check, BoxOutsideThePicture) {
  train("annotations", 0)["bbox"] = {64, 5, 10, 12};
  expect_only(check(), true, "annotation 1", "lies outside the picture of 64x48");
}

TEST_F(Check, NonNumericBox) {
  train("annotations", 0)["bbox"] = {"4", 5, 10, 12};
  expect_only(check(), true, "annotations[0]", "bbox is [\"4\",5,10,12]");
}

TEST_F(Check, ImageIdThatDoesNotExist) {
  train("annotations", 0)["image_id"] = 99;
  expect_only(check(), true, "annotation 1", "image_id 99 does not exist");
}

TEST_F(Check, CategoryIdThatDoesNotExist) {
  train("annotations", 0)["category_id"] = 7;
  expect_only(check(), true, "annotation 1", "category 7 does not exist");
}

TEST_F(Check, AnnotationIdZero) {
  train("annotations", 0)["id"] = 0;
  const CheckReport report = check();
  expect_only(report, false, "annotation 0", "the id is 0");
  EXPECT_THAT(report.findings[0].effect, HasSubstr("pycocotools"));
}

TEST_F(Check, CategoryIdZero) {
  for (auto& [split, document] : documents_) {
    document["categories"][0]["id"] = 0;
    for (Json& annotation : document["annotations"]) {
      if (annotation["category_id"] == 1) annotation["category_id"] = 0;
    }
    document["categories"][1]["id"] = 1;
    for (Json& annotation : document["annotations"]) {
      if (annotation["category_id"] == 2) annotation["category_id"] = 1;
    }
  }
  expect_only(check(",split=train"), false, "category 0 (cat)", "the id is 0");
}

TEST_F(Check, ImageIdZero) {
  train("images", 0)["id"] = 0;
  train("annotations", 0)["image_id"] = 0;
  expect_only(check(), false, "image 0 (train1.png)", "the id is 0");
}

TEST_F(Check, DuplicateIds) {
  train("annotations", 1)["id"] = 1;
  expect_only(check(), true, "annotation 1, image 2 (train2.png)", "the id is given twice");
  SetUp();
  train("images", 1)["id"] = 1;
  train("annotations", 1)["image_id"] = 1;
  expect_only(check(), true, "image 1 (train2.png)", "the id is that of train1.png too");
  SetUp();
  documents_["train"]["categories"].push_back({{"id", 2}, {"name", "cow"}});
  expect_only(check(",split=train"), true, "category 2 (cow)", "the id is given twice");
}

TEST_F(Check, CategoryGaps) {
  for (auto& [split, document] : documents_) {
    document["categories"][1]["id"] = 5;
    for (Json& annotation : document["annotations"]) {
      if (annotation["category_id"] == 2) annotation["category_id"] = 5;
    }
  }
  expect_only(check(",split=train"), false, "categories", "the 2 ids between 1 and 5 leave gaps: 2, 3, 4");
}

TEST_F(Check, PictureListedTwice) {
  documents_["train"]["images"].push_back(
      {{"id", 9}, {"file_name", "train1.png"}, {"width", 64}, {"height", 48}});
  expect_only(check(), false, "image 9 (train1.png)", "listed before, as image 1");
}

TEST_F(Check, SamePictureInTrainAndVal) {
  write_file(folder_ + "/val/val2.png", read_file(folder_ + "/train/train1.png"));
  const CheckReport report = check();
  expect_only(report, false, "image 2 (val2.png)", "the same picture as " + folder_ + "/train/train1.png");
  EXPECT_THAT(report.findings[0].effect, HasSubstr("validation sees a picture of the training"));
}

TEST_F(Check, SplitsDisagreeOnCategories) {  // which spoils a run without stopping it
  documents_["val"]["categories"][1]["name"] = "wolf";
  const CheckReport report = check();
  ASSERT_EQ(report.findings.size(), 1U) << report.str();
  EXPECT_EQ(report.fatal_count(), 1);
  EXPECT_EQ(report.findings[0].record, "category 2 (wolf)");
  EXPECT_EQ(report.findings[0].what, "split train calls it 'dog'");
}

TEST_F(Check, CategoryWithoutObjects) {
  for (auto& [split, document] : documents_) document["categories"].push_back({{"id", 3}, {"name", "cow"}});
  expect_only(check(",split=train"), false, "train", "no object of 1 categories: cow");
}

TEST_F(Check, FaultsDoNotHideEachOther) {
  train("annotations", 0)["bbox"] = nullptr;
  train("annotations", 1)["image_id"] = "two";
  train("images", 2)["file_name"] = "none.png";
  write_file(folder_ + "/val/val1.png", "");
  const CheckReport report = check();
  EXPECT_EQ(report.fatal_count(), 4) << report.str();
  const Json json = report.to_json();
  ASSERT_GE(json["findings"].size(), 4U);
  for (const Json& finding : json["findings"]) {
    for (const char* key : {"file", "record", "what", "expected"}) EXPECT_TRUE(finding[key].is_string());
    EXPECT_TRUE(finding["fatal"].is_boolean());
  }
  EXPECT_TRUE(json["findings"][0]["fatal"].get<bool>()) << "fatal ones stand first";
  EXPECT_EQ(json["splits"][0]["objects"], 1);
  EXPECT_THAT(report.str(),
              AllOf(HasSubstr("bbox is null"), HasSubstr("of which 4 would stop or spoil a run"),
                    HasSubstr("objects of class"), HasSubstr("box size (pixels)"), HasSubstr("█")));
}

TEST_F(Check, MalformedFileIsAFinding) {
  check();
  const std::string path = folder_ + "/annotations/instances_train.json";
  write_file(path, read_file(path).substr(0, 300));
  const CheckReport report = check_detection(parse_data_spec("coco:" + folder_));
  ASSERT_EQ(report.fatal_count(), 1);
  EXPECT_THAT(report.findings[0].what, HasSubstr("malformed JSON"));
  EXPECT_EQ(report.findings[0].file, path);
  EXPECT_EQ(report.splits.size(), 1U) << "val is still checked";
}

TEST_F(Check, NoDataAtAllIsAnError) {
  EXPECT_THROW(check_detection(parse_data_spec("coco:/nowhere")), Error);
  check();
  EXPECT_THROW(check_detection(parse_data_spec("coco:" + folder_ + ",split=test")), Error);
}

TEST(CheckOther, EmbeddedSetIsSound) {
  const CheckReport report = check_detection(parse_data_spec("shapes,train=40,val=20,size=96"));
  EXPECT_EQ(report.fatal_count(), 0) << report.str();
  ASSERT_EQ(report.splits.size(), 2U);
  EXPECT_EQ(report.splits[0].images, 40);
  EXPECT_EQ(report.splits[1].images, 20);
  EXPECT_THROW(check_detection(parse_data_spec("shapes,split=test")), UsageError);
}

TEST(CheckOther, RealSets) {
  ZOO_NEEDS_SHARED_DATA();
  int64_t calls = 0;
  const CheckReport coco = check_detection(parse_data_spec("coco:" + test::shared_data() + "/coco128"),
                                           [&](int64_t, int64_t total) {
                                             ++calls;
                                             EXPECT_EQ(total, 200);
                                           });
  EXPECT_EQ(calls, 200);
  EXPECT_EQ(coco.fatal_count(), 0) << coco.str();
  EXPECT_THAT(coco.str(), HasSubstr("the 80 ids between 1 and 90 leave gaps: 12, 26, 29, 30, 45, 66"));
  EXPECT_EQ(coco.splits[0].objects, 746);

  const CheckReport cells = check_detection(parse_data_spec("voc:" + test::shared_data() + "/bccd/BCCD"));
  EXPECT_EQ(cells.fatal_count(), 0) << cells.str();
  EXPECT_THAT(cells.str(), HasSubstr("BloodImage_00343.xml"));  // two boxes of a single pixel
}

}  // namespace
}  // namespace zoo
