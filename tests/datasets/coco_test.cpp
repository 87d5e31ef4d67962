#include "datasets/coco.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cstdlib>
#include <sstream>

#include "core/error.h"
#include "core/files.h"
#include "core/text.h"
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

const char kWhole[] = R"({
  "annotations": [
    {"id": 7, "image_id": 20, "category_id": 3, "bbox": [1, 2.5, 3, 4], "area": 9.25, "iscrowd": 0,
     "segmentation": [[1, 2, 3, 4, 5, 6]]},
    {"id": 5, "image_id": 10, "category_id": 1, "bbox": [0, 0, 8, 6], "area": 48.0, "iscrowd": 1,
     "segmentation": {"counts": [1, 2], "size": [6, 8]}},
    {"bbox": [2, 2, 1, 1], "category_id": 1, "image_id": 20.0, "id": 6}],
  "info": {"year": 2020, "nested": [{"id": 1}]},
  "categories": [{"id": 1, "name": "caf\u00e9"}, {"id": 3, "name": "dog", "supercategory": "animal"}],
  "images": [{"id": 20, "file_name": "b.png", "width": 8, "height": 6},
             {"id": 10, "file_name": "a.png", "width": 8, "height": 6, "license": 1}]
})";

/// A folder in COCO's layout with two black pictures of 8x6.
std::string make_coco(const std::string& json, const std::string& split = "val2017") {
  const std::string folder = test::scratch_dir("coco");
  make_folders(folder + "/annotations");
  make_folders(folder + "/" + split);
  write_file(folder + "/annotations/instances_" + split + ".json", json);
  for (const char* name : {"a.png", "b.png"}) {
    write_image(folder + "/" + split + "/" + name, cv::Mat::zeros(6, 8, CV_8UC3));
  }
  return folder;
}

std::shared_ptr<DetectionDataset> open_coco(const std::string& spec, const std::string& split = "val") {
  return open_detection(spec, split);
}

std::string error_of(const std::string& spec, const std::string& split = "val") {
  return test::open_error(spec, split);
}

using test::replaced;

TEST(Coco, KeepsTheFilesOrderIdsAreasAndCrowds) {
  const auto data = open_coco("coco:" + make_coco(kWhole));
  ASSERT_EQ(data->size(), 2);
  const DetectionRecord& first = data->record(0);
  EXPECT_EQ(first.image_id, 20);
  EXPECT_EQ(first.file_name, "b.png");
  EXPECT_EQ(first.width, 8);
  EXPECT_EQ(first.height, 6);
  ASSERT_EQ(first.objects.size(), 2U);
  EXPECT_EQ(first.objects[0].id, 7);
  EXPECT_EQ(first.objects[0].category_id, 3);
  EXPECT_THAT(first.objects[0].box, ElementsAre(1, 2.5, 3, 4));
  EXPECT_EQ(first.objects[0].area, 9.25);
  EXPECT_FALSE(first.objects[0].crowd);
  EXPECT_EQ(first.objects[1].id, 6);
  EXPECT_EQ(first.objects[1].area, 1);  // missing: width times height
  ASSERT_EQ(data->record(1).objects.size(), 1U);
  EXPECT_TRUE(data->record(1).objects[0].crowd);
  ASSERT_EQ(data->categories().size(), 2U);
  EXPECT_EQ(data->categories()[0].name, "caf\xC3\xA9");
  EXPECT_EQ(data->categories()[1].id, 3);
  EXPECT_EQ(data->image(0).cols, 8);
  EXPECT_THAT(data->description(), HasSubstr("val2017 (2 images)"));
}

TEST(Coco, EqualsPycocotoolsOnRealFiles) {
  ZOO_NEEDS_PYTHON();
  ZOO_NEEDS_SHARED_DATA();
  const std::string folder = test::shared_data() + "/coco128";
  for (const char* split : {"train", "val"}) {
    const auto data = open_coco("coco:" + folder, split);
    const std::string file = folder + "/annotations/instances_" + split + "2017.json";
    const auto reference =
        test::run_command({test::python(), test::source_dir() + "/tests/parity/coco_records.py", file});
    ASSERT_EQ(reference.exit_code, 0) << reference.err;
    std::istringstream lines(reference.out);
    std::string kind;
    int64_t image = -1;
    size_t object = 0, category = 0, objects = 0;
    while (lines >> kind) {
      if (kind == "image") {
        const DetectionRecord& record = data->record(++image);
        int64_t id = 0, width = 0, height = 0;
        std::string name;
        lines >> id >> name >> width >> height;
        EXPECT_EQ(record.image_id, id);
        EXPECT_EQ(record.file_name, name);
        EXPECT_EQ(record.width, width);
        EXPECT_EQ(record.height, height);
        object = 0;
      } else if (kind == "object") {
        const ObjectAnnotation& ours = data->record(image).objects.at(object++);
        std::string numbers[8];
        for (std::string& number : numbers) lines >> number;
        EXPECT_EQ(ours.id, std::atoll(numbers[0].c_str()));
        EXPECT_EQ(ours.category_id, std::atoll(numbers[1].c_str()));
        for (size_t i = 0; i < 4; ++i) EXPECT_EQ(ours.box[i], std::strtod(numbers[2 + i].c_str(), nullptr));
        EXPECT_EQ(ours.area, std::strtod(numbers[6].c_str(), nullptr));
        EXPECT_EQ(ours.crowd, numbers[7] == "1");
        ++objects;
      } else {
        const Category& ours = data->categories().at(category++);
        int64_t id = 0;
        std::string name;
        lines >> id;
        std::getline(lines, name);
        EXPECT_EQ(ours.id, id);
        EXPECT_EQ(ours.name, trim(name));
      }
    }
    EXPECT_EQ(image + 1, data->size());
    EXPECT_EQ(data->size(), 100);
    EXPECT_GT(objects, 700U);
    EXPECT_EQ(category, 80U);
    for (int64_t i = 0; i < data->size(); i += 9) EXPECT_EQ(data->image(i).cols, data->record(i).width);
  }
}

TEST(Coco, SplitsByTheNamesThatPeopleUse) {
  const std::string both = make_coco(kWhole);
  EXPECT_EQ(open_coco("coco:" + both + ",split=val2017")->size(), 2);
  EXPECT_EQ(open_coco("coco:" + both + ",split=val", "train")->size(), 2);
  EXPECT_THAT(error_of("coco:" + both, "train"),
              HasSubstr("no split 'train', expected one of those found: val2017"));
  EXPECT_THAT(error_of("coco:" + both + ",split=test"), HasSubstr("no split 'test'"));
  EXPECT_EQ(open_coco("coco:" + make_coco(kWhole, "train"), "train")->size(), 2);
}

TEST(Coco, TheUsualSplitGoesBeforeAnotherOfItsName) {
  const std::string folder = make_coco(kWhole);
  make_folders(folder + "/val");
  for (const char* name : {"a.png", "b.png"}) write_file(folder + "/val/" + name, "");
  write_file(folder + "/annotations/instances_val.json", replaced(kWhole, R"("id": 7)", R"("id": 77)"));
  EXPECT_EQ(open_coco("coco:" + folder)->record(0).objects[0].id, 7) << "val2017 without a split named";
  EXPECT_EQ(open_coco("coco:" + folder + ",split=val")->record(0).objects[0].id, 77)
      << "val where it is named";
}

TEST(Coco, OtherLayouts) {
  const std::string folder = make_coco(kWhole);
  const std::string file = folder + "/annotations/instances_val2017.json";
  EXPECT_EQ(open_coco("coco:" + file)->image(0).rows,
            6);  // the pictures are found from the json's place and name
  EXPECT_EQ(open_coco("coco:" + file + ",images=" + folder + "/val2017")->image(0).rows, 6);
  EXPECT_THAT(error_of("coco:" + file + ",split=val"), HasSubstr("one set without splits"));

  make_folders(folder + "/images");
  ASSERT_EQ(std::rename((folder + "/val2017").c_str(), (folder + "/images/val2017").c_str()), 0);
  EXPECT_EQ(open_coco("coco:" + folder)->image(0).rows, 6);

  const std::string roboflow = test::scratch_dir("roboflow");
  make_folders(roboflow + "/valid");
  write_file(roboflow + "/valid/_annotations.coco.json", kWhole);
  write_image(roboflow + "/valid/b.png", cv::Mat::zeros(6, 8, CV_8UC3));
  EXPECT_EQ(open_coco("coco:" + roboflow)->image(0).rows, 6);
  EXPECT_THAT(error_of("coco:" + roboflow, "train"), HasSubstr("found: valid"));
  EXPECT_EQ(coco_annotation_file(parse_data_spec("coco:" + roboflow), "val"),
            roboflow + "/valid/_annotations.coco.json");
}

TEST(Coco, MissingPlaces) {
  EXPECT_THAT(error_of("coco:/nowhere/at/all"), HasSubstr("cannot read /nowhere/at/all"));
  EXPECT_THAT(error_of("coco:" + test::scratch_dir("empty")), HasSubstr("annotations/instances_SPLIT.json"));
  EXPECT_THAT(error_of("coco:" + make_coco(kWhole) + ",images=/nowhere"), HasSubstr("no folder of pictures"));
}

TEST(Coco, MissingSizesAreReadFromThePicture) {
  const auto data =
      open_coco("coco:" + make_coco(replaced(kWhole, R"("width": 8, "height": 6},)", R"("width": 0},)")));
  EXPECT_EQ(data->record(0).width, 8);
  EXPECT_EQ(data->record(0).height, 6);
}

TEST(Coco, PicturesNameThemselves) {
  const std::string folder = make_coco(kWhole);
  const auto data = open_coco("coco:" + folder);
  const auto message = [&](int64_t index) {
    try {
      data->image(index);
    } catch (const Error& error) {
      return std::string(error.what());
    }
    return std::string();
  };
  write_image(folder + "/val2017/b.png", cv::Mat::zeros(8, 6, CV_8UC3));
  EXPECT_THAT(message(0),
              AllOf(HasSubstr("b.png"), HasSubstr("the picture is 6x8, expected 8x6"), HasSubstr("EXIF")));
  std::remove((folder + "/val2017/a.png").c_str());
  EXPECT_THAT(message(1), AllOf(HasSubstr("a.png"), HasSubstr("No such file")));
}

/// A change of the file and what the error must say.
struct Fault {
  const char *from, *to, *message;
};

TEST(Coco, FaultsNameFileRecordAndWhatWouldBeRight) {
  const Fault faults[] = {
      {R"("bbox": [1, 2.5, 3, 4])", R"("bbox": [1, 2.5, 3])",
       "annotations[0], id 7: bbox is [1, 2.5, 3], expected four numbers: [x, y, width, height]"},
      {R"("bbox": [1, 2.5, 3, 4])", R"("bbox": [1, "2.5", 3, 4])",
       "bbox is [1, \"2.5\", 3, 4], expected four"},
      {R"("bbox": [1, 2.5, 3, 4])", R"("bbox": [1, NaN, 3, 4])",
       "annotations[0], id 7: bbox is [1, NaN, 3, 4]"},
      {R"("bbox": [1, 2.5, 3, 4])", R"("bbox": null)", "bbox is null"},
      {R"("bbox": [1, 2.5, 3, 4], )", "", "annotations[0], id 7: bbox is missing"},
      {R"("bbox": [1, 2.5, 3, 4])", R"("bbox": [1, 2.5, -3, 4])",
       "annotation 7, image 20 (b.png): box [1, 2.5, -3, 4]"},
      {R"("bbox": [1, 2.5, 3, 4])", R"("bbox": [100, 2.5, 3, 4])", "lies outside the picture of 8x6"},
      {R"("id": 7, )", "", "annotations[0]: id is missing, expected an integer"},
      {R"("id": 7, )", R"("id": "7", )", "annotations[0]: id is \"7\", expected an integer"},
      {R"("id": 7, )", R"("id": 1.5, )", "id is 1.5, expected an integer"},
      {R"("id": 7, )", R"("id": 5, )", "annotation 5, image 10 (a.png): the id is given twice"},
      {R"("image_id": 20,)", R"("image_id": 21,)", "annotation 7: image_id 21 does not exist"},
      {R"("category_id": 3)", R"("category_id": 2)", "category 2 does not exist"},
      {R"("area": 9.25)", R"("area": "big")", "area is \"big\", expected a number"},
      {R"("iscrowd": 1)", R"("iscrowd": 2)", "iscrowd is 2, expected 0 or 1"},
      {R"("file_name": "b.png", )", "", "images[0], id 20: file_name is missing"},
      {R"("width": 8)", R"("width": "8")", "images[0], id 20: width is \"8\", expected pixels as an integer"},
      {R"({"id": 3, "name": "dog")", R"({"id": 1, "name": "dog")", "category 1 (dog): the id is given twice"},
      {R"({"id": 3, "name": "dog")", R"({"id": 3, "label": "dog")", "categories[1], id 3: name is missing"},
      {R"({"id": 1, "name": "caf\u00e9"}, )", "5, ", "categories[0]: is 5, expected an object"},
      {R"("categories")", R"("labels")", "key 'categories' is missing"},
      {R"("images": [)", R"("images": {"a": 1}, "x": [)",
       "images: is {\"a\": 1}, expected a list of objects"},
  };
  for (const Fault& fault : faults) {
    const std::string folder = make_coco(replaced(kWhole, fault.from, fault.to));
    EXPECT_THAT(error_of("coco:" + folder),
                AllOf(HasSubstr(folder + "/annotations/instances_val2017.json: "), HasSubstr(fault.message)));
  }
}

TEST(Coco, ImageIdsAreUnique) {
  std::string json = replaced(kWhole, R"({"id": 10,)", R"({"id": 20,)");
  json = replaced(json, R"("image_id": 10)", R"("image_id": 20)");
  EXPECT_THAT(error_of("coco:" + make_coco(json)),
              HasSubstr("image 20 (a.png): the id is that of b.png too"));
}

TEST(Coco, EveryTruncationIsMalformed) {
  const std::string folder = make_coco(kWhole);
  const std::string whole = kWhole;
  for (size_t length = 0; length < whole.size() - 1; length += 3) {
    write_file(folder + "/annotations/instances_val2017.json", whole.substr(0, length));
    EXPECT_THAT(error_of("coco:" + folder), HasSubstr("instances_val2017.json: ")) << length;
  }
  write_file(folder + "/annotations/instances_val2017.json", whole + " {}");
  EXPECT_THAT(error_of("coco:" + folder), HasSubstr("malformed JSON"));
  write_file(folder + "/annotations/instances_val2017.json", "[1, 2]");
  EXPECT_THAT(error_of("coco:" + folder), HasSubstr("malformed JSON"));
  write_file(folder + "/annotations/instances_val2017.json", "\xEF\xBB\xBF" + whole);
  EXPECT_EQ(open_coco("coco:" + folder)->size(), 2);
}

TEST(Coco, DamagedBytesGiveErrorsOnly) {
  const std::string folder = make_coco(kWhole);
  const std::string whole = kWhole;
  RandomStream random(3);
  int failed = 0;
  for (int i = 0; i < 2000; ++i) {
    std::string text = whole;
    const int64_t changes = random.integer(1, 4);
    for (int64_t c = 0; c < changes; ++c) {
      text[static_cast<size_t>(random.integer(0, static_cast<int64_t>(text.size()) - 1))] =
          static_cast<char>(random.integer(0, 255));
    }
    write_file(folder + "/annotations/instances_val2017.json", text);
    try {
      open_coco("coco:" + folder);
    } catch (const Error&) {
      ++failed;
    }
  }
  EXPECT_GT(failed, 500);
}

TEST(Coco, SubsetKeepsRecords) {
  const auto data = open_coco("coco:" + make_coco(kWhole));
  const auto part = subset(data, {1});
  EXPECT_EQ(part->size(), 1);
  EXPECT_EQ(part->record(0).image_id, 10);
  EXPECT_EQ(part->image(0).rows, 6);
  EXPECT_EQ(part->categories().size(), 2U);
  EXPECT_THAT(part->description(), HasSubstr("1 of "));
}

}  // namespace
}  // namespace zoo
