#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cstring>

#include "core/error.h"
#include "core/files.h"
#include "core/formats/record_io.h"
#include "core/text.h"
#include "datasets/check.h"
#include "datasets/faces/faces.h"
#include "datasets/image.h"
#include "datasets/make.h"
#include "tests/datasets/open_data.h"
#include "tests/support.h"

// RecordIO, .bin, `zoo data make` and `zoo data check` of faces.

namespace zoo {
namespace {

using ::testing::HasSubstr;

std::string face_file_error(const std::string& spec, const std::string& split = "all") {
  return test::error_of([&] { open_faces(spec, split); });
}

std::string png(int value) {
  return encode_png(cv::Mat(8, 8, CV_8UC3, cv::Scalar(value, 255 - value, 7)));
}

struct Record {
  int64_t key;
  std::vector<float> labels;
  std::string image;
};

/// Two identities of two pictures each, as insightface writes them.
std::vector<Record> good_records() {
  return {{0, {5, 7}, ""},  {1, {0}, png(1)}, {2, {0}, png(2)}, {3, {1, 9}, png(3)},
          {4, {1}, png(4)}, {5, {1, 3}, ""},  {6, {3, 5}, ""}};
}

std::string record_folder(const std::vector<Record>& records, const std::string& property = "2,8,8\n") {
  const std::string folder = test::scratch_dir("records");
  RecordWriter writer(folder + "/train");
  for (const Record& record : records) writer.add(record.key, image_record(record.labels, 0, record.image));
  writer.commit();
  if (!property.empty()) write_file(folder + "/property", property);
  return folder;
}

void expect_same_pictures(const FaceDataset& a, const FaceDataset& b) {
  ASSERT_EQ(a.size(), b.size());
  for (int64_t i = 0; i < a.size(); ++i) {
    EXPECT_EQ(a.identity(i), b.identity(i));
    const cv::Mat left = a.image(i), right = b.image(i);
    ASSERT_EQ(left.size(), right.size());
    EXPECT_EQ(std::memcmp(left.data, right.data, left.total() * 3), 0) << i;
  }
}

TEST(FacesRecordIo, ReadsInsightfacesFiles) {
  const std::string folder = record_folder(good_records());
  for (const std::string& spec : {"recordio:" + folder, "recordio:" + folder + "/train.rec"}) {
    const auto data = open_faces(spec, "all");
    ASSERT_EQ(data->size(), 4);
    EXPECT_EQ(data->identities().size(), 2u);
    for (int64_t i = 0; i < 4; ++i) {
      EXPECT_EQ(data->identity(i), i / 2);  // of the vector {1, 9} the first
      EXPECT_EQ(data->image(i).at<cv::Vec3b>(0, 0)[0], i + 1);
    }
    EXPECT_EQ(data->record(2).name, "key 3");
  }
}

TEST(FacesRecordIo, PlainFilesHoldPicturesAlone) {
  const std::string folder =
      record_folder({{0, {1}, png(1)}, {9, {0}, png(2)}, {4, {2, 1, 0.5f}, png(3)}}, "");
  const auto data = open_faces("recordio:" + folder, "all");
  ASSERT_EQ(data->size(), 3);
  EXPECT_EQ(data->identities().size(), 3u);
  EXPECT_EQ(data->identity(2), 2);
  std::remove((folder + "/train.idx").c_str());
  const auto scanned = open_faces("recordio:" + folder, "all");
  ASSERT_EQ(scanned->size(), 3);
  EXPECT_EQ(scanned->record(2).name, "key 2");
  EXPECT_EQ(scanned->image(2).at<cv::Vec3b>(0, 0)[0], 3);
}

TEST(FacesRecordIo, PicturesThatHoldTheMagic) {
  std::string image = png(7);
  image.resize((image.size() + 3) / 4 * 4, '\0');  // decoders stop at IEND
  image += "\x0A\x23\xD7\xCE" + std::string("\x0A\x23\xD7\xCE");
  const std::string folder = record_folder({{0, {0}, image}, {1, {1}, png(9)}}, "");
  EXPECT_GT(read_file(folder + "/train.rec").size(), image.size());
  const auto data = open_faces("recordio:" + folder, "all");
  EXPECT_EQ(data->image(0).at<cv::Vec3b>(0, 0)[0], 7);
  EXPECT_EQ(data->image(1).at<cv::Vec3b>(0, 0)[0], 9);
}

TEST(FacesRecordIo, SplitByIdentity) {
  std::vector<Record> records;
  for (int i = 0; i < 24; ++i) records.push_back({i, {static_cast<float>(i / 3)}, png(i)});
  const std::string folder = record_folder(records, "8,8,8");
  const auto val = open_faces("recordio:" + folder), train = open_faces("recordio:" + folder, "train");
  EXPECT_EQ(val->identities().size(), 2u);
  EXPECT_EQ(val->size(), 6);
  EXPECT_EQ(train->size(), 18);
  for (int64_t i = 0; i < val->size(); ++i) {
    const int key = val->image(i).at<cv::Vec3b>(0, 0)[0];
    EXPECT_EQ(val->identities()[static_cast<size_t>(val->identity(i))], std::to_string(key / 3));
  }
  const FaceVerificationSet set = open_face_pairs(parse_data_spec("recordio:" + folder), "val", 0);
  EXPECT_EQ(set.pairs.size(), 12u);  // 2·3 genuine ones
}

TEST(FacesRecordIo, FaultsNameTheKey) {
  const auto error = [](std::vector<Record> records, const std::string& property = "2,8,8\n") {
    return face_file_error("recordio:" + record_folder(records, property));
  };
  const auto with_label = [](float label) {
    auto records = good_records();
    records[3].labels = {label};
    return records;
  };
  EXPECT_THAT(error(with_label(2)),
              HasSubstr("train.rec: key 3: label 2, expected a whole number from 0 to 1"));
  EXPECT_THAT(error(with_label(-1)), HasSubstr("key 3: label -1"));
  EXPECT_THAT(error(with_label(0.5f)), HasSubstr("key 3: label 0.5"));
  EXPECT_THAT(error(with_label(NAN)), HasSubstr("key 3: label nan"));
  EXPECT_THAT(error(good_records(), "3,8,8"),
              HasSubstr("property: 3 identities, expected 2, as record 0 of the .rec tells"));
  EXPECT_THAT(error(good_records(), "many"), HasSubstr("property: begins with no number of identities"));
  auto missing = good_records();
  missing.erase(missing.begin() + 2);
  EXPECT_THAT(error(missing), HasSubstr("index: 3 keys of pictures, expected the 4 from 1 to 4"));
  auto strange = good_records();
  strange[0].labels = {5, 4};
  EXPECT_THAT(error(strange),
              HasSubstr("key 0 (byte 0): tells of pictures before key 5 and identities before 4"));
  EXPECT_THAT(error({{0, {0}, ""}}, ""), testing::IsEmpty());
  const auto empty =
      open_faces("recordio:" + record_folder({{0, {0}, ""}, {1, {1}, "no picture"}}, ""), "all");
  EXPECT_THAT(test::error_of([&] { empty->image(0); }), HasSubstr("key 0 (byte 0): holds no picture"));
  EXPECT_THAT(test::error_of([&] { empty->image(1); }), HasSubstr("train.rec: key 1: is no picture"));
}

TEST(FacesRecordIo, DamagedFiles) {
  const std::string folder = record_folder(good_records()), rec = folder + "/train.rec",
                    idx = folder + "/train.idx";
  const std::string bytes = read_file(rec), index = read_file(idx);
  const auto error = [&] { return face_file_error("recordio:" + folder); };
  write_file(rec, bytes.substr(0, 200));
  EXPECT_THAT(error(), HasSubstr("key 2"));
  write_file(rec, bytes);
  write_file(idx, index + "x\n");
  EXPECT_THAT(error(), HasSubstr("train.idx: line 8: 'x' is no entry"));
  write_file(idx, "0\t0\n1\t4\n" + index.substr(index.find("2\t")));
  EXPECT_THAT(error(), HasSubstr("key 1 (byte 4): no record begins here"));
  write_file(rec, "");
  EXPECT_THAT(error(), HasSubstr("key 0"));
  std::remove(rec.c_str());
  EXPECT_THAT(error(), HasSubstr("holds no .rec, expected train.rec with train.idx"));
  EXPECT_THAT(face_file_error("recordio:" + folder + "/property"), HasSubstr("is no RecordIO file"));
}

// ---- .bin

/// A pickle of protocol 3: pictures as bytes.
std::string bin_of(const std::vector<std::string>& images, const std::vector<bool>& same) {
  std::string text = "\x80\x03](";
  for (const std::string& image : images) {
    const auto size = static_cast<uint32_t>(image.size());
    text += "B" + std::string(reinterpret_cast<const char*>(&size), 4) + image;
  }
  text += "e](";
  for (const bool one : same) text += one ? "\x88" : "\x89";
  return text + "e\x86.";
}

TEST(FacesBin, PicturesAndPairs) {
  const std::string path = test::scratch_dir("bin") + "/lfw.bin";
  write_file(path, bin_of({png(1), png(2), png(3), png(4)}, {true, false}));
  const FaceVerificationSet set = open_face_pairs(parse_data_spec("bin:" + path), "val", 0);
  ASSERT_EQ(set.pairs.size(), 2u);
  EXPECT_EQ(set.pairs[1].a, 2);
  EXPECT_EQ(set.pairs[1].b, 3);
  EXPECT_TRUE(set.pairs[0].same);
  EXPECT_FALSE(set.pairs[1].same);
  EXPECT_EQ(set.pairs[0].fold, -1);
  EXPECT_EQ(set.images->image(2).at<cv::Vec3b>(0, 0)[0], 3);
  EXPECT_EQ(set.images->record(3).identity, -1);
  EXPECT_EQ(open_faces("bin:" + path)->size(), 4);
  EXPECT_THAT(face_file_error("bin:" + path + ",split=val"), HasSubstr("one set without splits"));
}

TEST(FacesBin, FaultsAreOneLine) {
  const std::string path = test::scratch_dir("bin") + "/bad.bin";
  const auto error = [&](const std::string& bytes) {
    write_file(path, bytes);
    return face_file_error("bin:" + path);
  };
  EXPECT_THAT(error(bin_of({png(1)}, {true})), HasSubstr("bad.bin: 1 pictures for 1 pairs"));
  EXPECT_THAT(error("no pickle"), HasSubstr("bad.bin: byte 0: opcode 0x6e is not known"));
  EXPECT_THAT(error(bin_of({png(1), png(2)}, {true}).substr(0, 60)), HasSubstr("truncated"));
  EXPECT_THAT(error(bin_of({}, {})), HasSubstr("no pair"));
  write_file(path, bin_of({png(1), "scrap"}, {true}));
  const auto data = open_faces("bin:" + path);
  EXPECT_THAT(test::error_of([&] { data->image(1); }), HasSubstr("bad.bin: pair 0, second: is no picture"));
}

// ---- make

const char kSmall[] = "faces,identities=4,val_identities=3,pictures=4,size=48";

TEST(FacesMake, FoldersReadBackEqual) {
  const std::string folder = test::scratch_dir("make") + "/faces";
  const std::string spec = make_data(parse_data_spec(kSmall), folder);
  EXPECT_EQ(spec, "faces:" + folder);
  EXPECT_TRUE(file_exists(folder + "/train/train0002/train0002_0003.png"));
  for (const char* split : {"train", "val"})
    expect_same_pictures(*open_faces(kSmall, split), *open_faces(spec, split));
  const FaceVerificationSet drawn = open_face_pairs(parse_data_spec(kSmall), "val", 0);
  for (const std::string& other :
       {spec, "lfw:" + folder, "lfw:" + folder + "/val,pairs=" + folder + "/pairs.txt"}) {
    const FaceVerificationSet back = open_face_pairs(parse_data_spec(other), "val", 99);
    ASSERT_EQ(back.pairs.size(), drawn.pairs.size());
    for (size_t i = 0; i < back.pairs.size(); ++i) {
      EXPECT_EQ(back.pairs[i].same, drawn.pairs[i].same);
      EXPECT_EQ(back.pairs[i].fold, drawn.pairs[i].fold);
      EXPECT_EQ(back.images->record(back.pairs[i].a).name, drawn.images->record(drawn.pairs[i].a).name);
      EXPECT_EQ(back.images->record(back.pairs[i].b).name, drawn.images->record(drawn.pairs[i].b).name);
    }
  }
  EXPECT_THAT(test::error_of([&] { make_data(parse_data_spec(kSmall), folder); }),
              HasSubstr("already holds train"));
}

TEST(FacesMake, LandmarksReadBackEqual) {
  const std::string folder = test::scratch_dir("make"), source = std::string(kSmall) + ",landmarks=true";
  const std::string spec = make_data(parse_data_spec(source), "faces:" + folder);
  const auto drawn = open_faces(source), back = open_faces(spec);
  expect_same_pictures(*drawn, *back);
  for (int64_t i = 0; i < drawn->size(); ++i)
    EXPECT_EQ(drawn->record(i).landmarks, back->record(i).landmarks);
  // The list beside the folders, which holds them, is read by `lfw:` too.
  const FaceVerificationSet pairs = open_face_pairs(parse_data_spec("lfw:" + folder), "val", 0);
  EXPECT_TRUE(pairs.images->record(0).landmarks.has_value());
}

TEST(FacesMake, RecordsReadBackEqual) {
  const std::string folder = test::scratch_dir("make");
  const std::string spec = make_data(parse_data_spec(kSmall), "recordio:" + folder);
  EXPECT_EQ(spec, "recordio:" + folder);
  EXPECT_EQ(read_file(folder + "/property"), "4,48,48\n");
  for (const char* split : {"train", "val"})
    expect_same_pictures(*open_faces(kSmall, split), *open_faces(spec, split));
  EXPECT_EQ(open_faces(spec + "/train.rec", "all")->size(), 16);
  const std::string aligned = test::scratch_dir("aligned");
  make_data(parse_data_spec(std::string(kSmall) + ",landmarks=true,split=val"), "recordio:" + aligned);
  EXPECT_EQ(open_faces("recordio:" + aligned, "all")->image(0).size(), cv::Size(112, 112));
  EXPECT_THAT(test::error_of([&] { make_data(parse_data_spec(kSmall), "recordio:"); }),
              HasSubstr("names no folder"));
}

// ---- check

CheckReport check(const std::string& spec) {
  return check_data(parse_data_spec(spec));
}

/// Exactly one finding with these words.
void expect_only(const CheckReport& report, bool fatal, const std::string& record, const std::string& what) {
  ASSERT_EQ(report.findings.size(), 1u) << report.str();
  EXPECT_EQ(report.findings[0].fatal, fatal);
  EXPECT_THAT(report.findings[0].record, HasSubstr(record));
  EXPECT_THAT(report.findings[0].what + ", " + report.findings[0].effect, HasSubstr(what));
  EXPECT_FALSE(report.findings[0].expected.empty());
}

class FacesCheck : public ::testing::Test {
 protected:
  void SetUp() override {
    folder_ = test::scratch_dir("check");
    make_data(parse_data_spec(kSmall), folder_);
  }
  CheckReport report() { return check("faces:" + folder_); }
  std::string folder_;
};

TEST_F(FacesCheck, CleanSets) {
  for (const std::string& spec : {std::string(kSmall), "faces:" + folder_}) {
    const CheckReport clean = check(spec);
    EXPECT_TRUE(clean.findings.empty()) << clean.str();
    ASSERT_EQ(clean.faces.size(), 2u);
    EXPECT_EQ(clean.faces[0].pictures, 16);
    EXPECT_EQ(clean.faces[0].identities, 4);
    EXPECT_EQ(clean.faces[1].median, 4);
  }
  EXPECT_EQ(report().faces[1].pairs, 20);  // of 18 genuine ones ten make folds
  EXPECT_EQ(report().faces[1].genuine_pairs, 10);
  EXPECT_EQ(report().to_json()["splits"][1]["identities"], 3);
}

TEST_F(FacesCheck, UnreadablePicture) {
  write_file(folder_ + "/train/train0002/train0002_0003.png", "scrap");
  expect_only(report(), true, "train0002/train0002_0003.png", "is no picture");
}

TEST_F(FacesCheck, SameFaceTwice) {
  const std::string picture = read_file(folder_ + "/train/train0001/train0001_0001.png");
  write_file(folder_ + "/train/train0001/train0001_0005.png", picture);
  expect_only(report(), false, "train0001_0005.png",
              "the same picture as train0001/train0001_0001.png, used twice");
  std::remove((folder_ + "/train/train0001/train0001_0005.png").c_str());
  write_file(folder_ + "/train/train0002/train0002_0005.png", picture);
  expect_only(report(), false, "train0002_0005.png", "one picture of two people");
  std::remove((folder_ + "/train/train0002/train0002_0005.png").c_str());
  write_file(folder_ + "/val/val0002/val0002_0005.png", picture);
  expect_only(report(), false, "val0002_0005.png", "verification sees a picture of the training");
}

TEST_F(FacesCheck, IdentitiesThatTeachLittle) {
  make_folders(folder_ + "/train/zoe");
  expect_only(report(), false, "", "the folder holds no picture");
  write_image(folder_ + "/train/zoe/1.png", cv::Mat(9, 9, CV_8UC3, cv::Scalar(1, 2, 3)));
  expect_only(report(), false, "train", "1 identities have one picture");
  make_folders(folder_ + "/train/val0001");
  write_image(folder_ + "/train/zoe/2.png", cv::Mat(9, 9, CV_8UC3, cv::Scalar(1, 2, 4)));
  for (const char* name : {"1.png", "2.png"}) {
    write_image(folder_ + "/train/val0001/" + name, cv::Mat(9, 9, CV_8UC3, cv::Scalar(name[0], 2, 3)));
  }
  expect_only(report(), false, "val", "1 identities are in split train too: val0001");
}

TEST_F(FacesCheck, PairsWithoutPictures) {
  std::remove((folder_ + "/val/val0001/val0001_0001.png").c_str());
  const CheckReport found = report();
  EXPECT_GT(found.fatal_count(), 0) << found.str();
  EXPECT_THAT(found.findings[0].what, HasSubstr("no picture 1 of val0001"));
}

TEST(FacesCheckFormats, ListsAndRecords) {
  const std::string folder = test::scratch_dir("check");
  write_image(folder + "/a.png", cv::Mat(20, 20, CV_8UC3, cv::Scalar(1, 2, 3)));
  write_image(folder + "/b.png", cv::Mat(20, 20, CV_8UC3, cv::Scalar(3, 2, 1)));
  write_file(folder + "/list.csv",
             "a.png,x,1,1,9,1,5,5,1,9,99,9\nb.png,x,5,5,5,5,5,5,5,5,5,5\nc.png,x\nb.png\n");
  const CheckReport list = check("faces:" + folder + "/list.csv");
  std::vector<std::string> found;
  for (const Finding& finding : list.findings) found.push_back(finding.record + ": " + finding.what);
  EXPECT_THAT(found, testing::ElementsAre(
                         HasSubstr("line 4: 1 fields"), HasSubstr("b.png: its five landmarks are one point"),
                         HasSubstr("c.png: "), HasSubstr("a.png: landmark 5 (99, 9) lies outside")));
  EXPECT_EQ(list.fatal_count(), 3);

  auto records = good_records();
  records[2].labels = {7};
  records[4].image = "scrap";
  const CheckReport report = check("recordio:" + record_folder(records));
  ASSERT_EQ(report.findings.size(), 3u) << report.str();  // and an identity with one picture
  EXPECT_THAT(report.findings[0].record + report.findings[0].what, HasSubstr("key 2label 7"));
  EXPECT_THAT(report.findings[1].record + report.findings[1].what, HasSubstr("key 4is no picture"));
  EXPECT_EQ(report.fatal_count(), 2);
  EXPECT_THROW(check("recordio:/nowhere"), Error);
}

}  // namespace
}  // namespace zoo
