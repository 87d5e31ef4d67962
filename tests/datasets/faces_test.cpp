#include "datasets/faces/faces.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <cstring>
#include <map>
#include <opencv2/imgproc.hpp>
#include <set>

#include "core/error.h"
#include "core/files.h"
#include "core/text.h"
#include "datasets/draw.h"
#include "datasets/image.h"
#include "tests/datasets/open_data.h"
#include "tests/support.h"

namespace zoo {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;

FaceVerificationSet open_pairs(const std::string& spec, const std::string& split = "val", uint64_t seed = 1) {
  return open_face_pairs(parse_data_spec(spec), split, seed);
}
std::string face_set_error(const std::string& spec, const std::string& split = "val") {
  return test::error_of([&] { open_faces(spec, split); });
}
std::string pairs_error(const std::string& spec) {
  return test::error_of([&] { open_pairs(spec); });
}

bool equal(const cv::Mat& a, const cv::Mat& b) {
  return a.size() == b.size() && std::memcmp(a.data, b.data, a.total() * a.elemSize()) == 0;
}

cv::Mat plain(int value, int width = 12, int height = 10) {
  return {height, width, CV_8UC3, cv::Scalar(value, value / 2, 255 - value)};
}

/// `identities` folders a, b, c, … of `pictures` pictures each, called NAME_0001.png, ….
std::string identity_folders(const std::string& folder, int identities, int pictures, int tone = 0) {
  for (int i = 0; i < identities; ++i) {
    const std::string name(1, static_cast<char>('a' + i));
    make_folders(folder + "/" + name);
    for (int k = 1; k <= pictures; ++k) {
      write_image(format("%s/%s/%s_%04d.png", folder.c_str(), name.c_str(), name.c_str(), k),
                  plain(tone + 10 * i + k));
    }
  }
  return folder;
}

/// Pairs are balanced, differ, tell the truth and stand in folds of equal make-up.
void expect_good_pairs(const FaceDataset& dataset, const std::vector<FacePair>& pairs, int64_t folds) {
  std::set<std::pair<int64_t, int64_t>> seen;
  std::map<int64_t, std::pair<int64_t, int64_t>> made_up;
  for (const FacePair& pair : pairs) {
    EXPECT_NE(pair.a, pair.b);
    EXPECT_TRUE(seen.insert(std::minmax(pair.a, pair.b)).second) << pair.a << " " << pair.b;
    EXPECT_EQ(pair.same, dataset.identity(pair.a) == dataset.identity(pair.b));
    ++(pair.same ? made_up[pair.fold].first : made_up[pair.fold].second);
  }
  EXPECT_EQ(static_cast<int64_t>(made_up.size()), folds);
  for (const auto& [fold, counts] : made_up) {
    EXPECT_EQ(counts.first, counts.second);
    EXPECT_EQ(counts, made_up.begin()->second);
  }
}

// ---- the embedded set

TEST(Faces, DrawnPicturesFollowTheSeed) {
  const auto one = open_faces("faces,identities=3,pictures=2", "train"),
             same = open_faces("faces,identities=3,pictures=2", "train");
  const auto other = open_faces("faces,identities=3,pictures=2,seed=1", "train"),
             val = open_faces("faces,pictures=2");
  ASSERT_EQ(one->size(), 6);
  for (int64_t i = 0; i < one->size(); ++i) {
    EXPECT_TRUE(equal(one->image(i), same->image(i)));
    EXPECT_FALSE(equal(one->image(i), other->image(i)));
    EXPECT_FALSE(equal(one->image(i), val->image(i))) << "splits never share a person";
    EXPECT_FALSE(equal(one->image(i), one->image((i + 1) % 6)));
  }
  EXPECT_EQ(one->image(0).size(), cv::Size(64, 64));
  EXPECT_EQ(open_faces("faces,size=112")->image(3).size(), cv::Size(112, 112));
  EXPECT_EQ(one->record(3).name, "train0002/train0002_0002.png");
  EXPECT_EQ(one->record(3).identity, 1);
  EXPECT_THAT(one->identities(), ElementsAre("train0001", "train0002", "train0003"));
  EXPECT_EQ(open_faces("faces", "train")->size(), 800 * 16);
  EXPECT_EQ(open_faces("faces")->size(), 100 * 16);
  // More identities or pictures leave those that were there.
  EXPECT_TRUE(equal(one->image(2), open_faces("faces,identities=9,pictures=5", "train")->image(5)));
}

TEST(Faces, DrawnLandmarksLieOnTheFeatures) {
  const auto data = open_faces("faces,landmarks=true,size=112");
  EXPECT_FALSE(open_faces("faces")->record(0).landmarks.has_value());
  double x[5] = {}, y[5] = {};
  const int64_t count = 60;
  for (int64_t i = 0; i < count; ++i) {
    const FaceLandmarks points = data->record(i * 7).landmarks.value();
    EXPECT_LT(points[0], points[2]);  // left of the right eye
    EXPECT_LT(points[6], points[8]);
    for (size_t k = 0; k < 5; ++k) {
      x[k] += static_cast<double>(points[2 * k]) / count;
      y[k] += static_cast<double>(points[2 * k + 1]) / count;
      EXPECT_GT(points[2 * k], 0);
      EXPECT_LT(points[2 * k], 112);
    }
  }
  const FaceLandmarks where = face_template(112, 112);  // the pictures are about as near as aligned ones
  for (size_t k = 0; k < 5; ++k) {
    EXPECT_NEAR(x[k], static_cast<double>(where[2 * k]), 9) << k;
    EXPECT_NEAR(y[k], static_cast<double>(where[2 * k + 1]), 16) << k;
  }
}

TEST(Faces, WrongOptionsOfTheDrawnSet) {
  EXPECT_THAT(face_set_error("faces", "test"), HasSubstr("no split 'test', expected one of train, val"));
  EXPECT_THAT(face_set_error("faces,size=8"), HasSubstr("size of 'faces,size=8': 8 is out of range"));
  EXPECT_THAT(face_set_error("faces,pictures=x"), HasSubstr("pictures=x is no integer"));
  EXPECT_THAT(face_set_error("faces,landmarks=maybe"), HasSubstr("expected true or false"));
  EXPECT_THAT(face_set_error("shapes"),
              HasSubstr("'shapes' is no data of faces, expected one of faces, faces:, lfw:"));
}

TEST(Faces, DrawnPairs) {
  const FaceVerificationSet set = open_pairs("faces");
  EXPECT_EQ(set.pairs.size(), 6000u);
  expect_good_pairs(*set.images, set.pairs, 10);
  for (size_t i = 0; i < set.pairs.size(); ++i) EXPECT_EQ(set.pairs[i].fold, static_cast<int64_t>(i / 600));
  EXPECT_LE(set.images->size(), 1600);
  const FaceVerificationSet again = open_pairs("faces"), other = open_pairs("faces", "val", 2);
  EXPECT_EQ(set.images->record(17).name, again.images->record(17).name);
  EXPECT_NE(set.images->record(17).name + set.images->record(1).name,
            other.images->record(17).name + other.images->record(1).name);
}

TEST(Faces, SmallSetsGiveThePairsTheyHave) {
  const std::string folder = identity_folders(test::scratch_dir("small"), 3, 2);
  const FaceVerificationSet set = open_pairs("faces:" + folder + ",split=all");
  EXPECT_EQ(set.pairs.size(), 6u);  // three genuine ones
  expect_good_pairs(*set.images, set.pairs, 1);
  EXPECT_EQ(set.pairs[0].fold, -1);
  const FaceVerificationSet whole =
      open_pairs("faces:" + identity_folders(test::scratch_dir("ten"), 4, 6) + ",split=all");
  EXPECT_EQ(whole.pairs.size(), 120u);  // all 4·15 genuine ones
  expect_good_pairs(*whole.images, whole.pairs, 10);
  const std::string single = identity_folders(test::scratch_dir("single"), 4, 1);
  EXPECT_THAT(pairs_error("faces:" + single + ",split=all"), HasSubstr("no pairs can be made"));
}

// ---- folders and lists

TEST(Faces, FoldersAreSplitByIdentity) {
  const std::string folder = identity_folders(test::scratch_dir("flat"), 12, 2);
  write_file(folder + "/README", "no identity");
  const auto all = open_faces("faces:" + folder + ",split=all"),
             train = open_faces("faces:" + folder, "train");
  const auto val = open_faces("faces:" + folder), other = open_faces("faces:" + folder + ",seed=5");
  EXPECT_EQ(all->size(), 24);
  EXPECT_EQ(val->identities().size(), 3u);  // a quarter
  EXPECT_EQ(train->identities().size(), 9u);
  std::set<std::string> names(train->identities().begin(), train->identities().end());
  for (const std::string& name : val->identities()) EXPECT_TRUE(names.insert(name).second) << name;
  EXPECT_EQ(names.size(), 12u);
  EXPECT_NE(val->identities(), other->identities());
  for (int64_t i = 0; i < val->size(); ++i) {  // numbers are of the split
    EXPECT_EQ(val->identities()[static_cast<size_t>(val->record(i).identity)],
              val->record(i).name.substr(0, 1));
  }
  EXPECT_EQ(open_faces("faces:" + folder + ",val_identities=5")->identities().size(), 5u);
  EXPECT_EQ(open_faces("faces:" + folder + ",val_identities=0.5", "train")->identities().size(), 6u);
  EXPECT_THAT(face_set_error("faces:" + folder + ",val_identities=12"),
              HasSubstr("expected 1 to 11 of the 12"));
  EXPECT_THAT(face_set_error("faces:" + folder + ",val_identities=2.5"),
              HasSubstr("expected a number of identities or a share"));
  EXPECT_THAT(face_set_error("faces:" + folder + ",split=test"),
              HasSubstr("no split 'test', expected one of those found: all, train, val"));
}

TEST(Faces, FoldersWithSplits) {
  const std::string folder = test::scratch_dir("split");
  identity_folders(folder + "/train", 5, 2);
  identity_folders(folder + "/val", 2, 3, 100);
  EXPECT_EQ(open_faces("faces:" + folder, "train")->size(), 10);
  const FaceVerificationSet drawn = open_pairs("faces:" + folder);
  EXPECT_EQ(drawn.pairs.size(), 12u);
  write_file(folder + "/pairs.txt",
             "1\n"
             "a\t1\t3\n"
             "a\t1\tb\t2\n");
  const FaceVerificationSet listed = open_pairs("faces:" + folder);
  ASSERT_EQ(listed.pairs.size(), 2u);
  EXPECT_EQ(listed.images->size(), 3);
  EXPECT_EQ(listed.images->record(listed.pairs[0].b).name, "a/a_0003.png");
  EXPECT_TRUE(listed.pairs[0].same);
  EXPECT_EQ(listed.images->record(listed.pairs[1].b).name, "b/b_0002.png");
  EXPECT_FALSE(listed.pairs[1].same);
  EXPECT_EQ(listed.pairs[1].fold, -1);
  EXPECT_EQ(open_pairs("faces:" + folder, "train").pairs.size(), 10u)
      << "the list is of the validation split";
}

TEST(Faces, NothingThere) {
  EXPECT_THAT(face_set_error("faces:/nowhere"), HasSubstr("/nowhere is missing, expected a folder or file"));
  const std::string empty = test::scratch_dir("empty");
  EXPECT_THAT(face_set_error("faces:" + empty), HasSubstr("no folder with pictures in it"));
  const std::string one = identity_folders(test::scratch_dir("one"), 1, 2);
  EXPECT_THAT(face_set_error("faces:" + one), HasSubstr("too few identities to be split"));
}

TEST(Faces, ListsOfPictures) {
  const std::string folder = test::scratch_dir("list");
  make_folders(folder + "/sub");
  write_image(folder + "/sub/a,1.png", plain(1));
  write_image(folder + "/b.png", plain(2));
  write_file(folder + "/faces.csv",
             "\xEF\xBB\xBFpath,identity\r\n\"sub/a,1.png\", zoe ,1,2,3,4,5.5,6,7,8,9,10\r\n\nb.png,adam\n"
             "b.png,zoe\n");
  const auto data = open_faces("faces:" + folder + "/faces.csv,split=all");
  ASSERT_EQ(data->size(), 3);
  EXPECT_THAT(data->identities(), ElementsAre("adam", "zoe"));
  EXPECT_EQ(data->record(0).identity, 1);
  EXPECT_EQ(data->record(0).landmarks.value()[4], 5.5f);
  EXPECT_EQ(data->record(1).identity, 0);
  EXPECT_FALSE(data->record(1).landmarks.has_value());
  EXPECT_TRUE(equal(data->image(0), plain(1)));
  EXPECT_TRUE(equal(data->image(2), plain(2)));
}

TEST(Faces, ListsAtFaultNameTheLine) {
  const std::string path = test::scratch_dir("bad") + "/faces.csv";
  const auto error = [&](const std::string& text) {
    write_file(path, text);
    return face_set_error("faces:" + path + ",split=all");
  };
  EXPECT_EQ(error("a.png,x\nb.png,y,1,2\n"),
            path + ": line 2: 4 fields, expected path,identity or path,identity and 10 landmark numbers");
  EXPECT_THAT(error("a.png,x\n,y\n"), HasSubstr("line 2: path or identity is empty"));
  EXPECT_THAT(error("a.png,x,1,2,3,4,5,nan,7,8,9,10\n"), HasSubstr("line 1: a landmark is no finite number"));
  EXPECT_THAT(error("a.png,x,1,2,3,4,5,six,7,8,9,10\n"), HasSubstr("line 1: a landmark"));
  EXPECT_THAT(error("path,identity\n"), HasSubstr("lists no picture"));
  write_file(path, "gone.png,x\n");
  const auto data = open_faces("faces:" + path + ",split=all");
  EXPECT_THAT(test::error_of([&] { data->image(0); }), HasSubstr("gone.png"));
}

// ---- LFW

std::string lfw_folder(const std::string& pairs) {
  const std::string folder = identity_folders(test::scratch_dir("lfw"), 4, 3);
  write_file(folder + "/pairs.txt", pairs);
  return folder;
}

const char kPairs[] = "2\t1\na\t1\t2\na\t3\tb\t1\nc\t2\t3\nc\t1\td\t3\n";

TEST(Faces, LfwPairs) {
  const std::string folder = lfw_folder(kPairs);
  const FaceVerificationSet set = open_pairs("lfw:" + folder);
  ASSERT_EQ(set.pairs.size(), 4u);
  EXPECT_EQ(set.images->size(), 8) << "those of the pairs alone";
  const auto name = [&](int64_t index) { return set.images->record(index).name; };
  EXPECT_EQ(name(set.pairs[1].a) + name(set.pairs[1].b), "a/a_0003.pngb/b_0001.png");
  for (size_t i = 0; i < 4; ++i) {
    EXPECT_EQ(set.pairs[i].fold, static_cast<int64_t>(i / 2));
    EXPECT_EQ(set.pairs[i].same, i % 2 == 0);
  }
  EXPECT_EQ(open_faces("lfw:" + folder)->size(), 12);
  const std::string elsewhere = test::scratch_dir("elsewhere") + "/list.txt";
  write_file(elsewhere, "1\nb 1 2\r\nb 1 c 1\r\n");
  EXPECT_EQ(open_pairs("lfw:" + folder + ",pairs=" + elsewhere).pairs.size(), 2u);
  EXPECT_THAT(face_set_error("lfw:" + folder + ",split=val"), HasSubstr("one set without splits"));
}

TEST(Faces, LfwPairsAtFaultNameTheLine) {
  const auto error = [](const std::string& text) { return pairs_error("lfw:" + lfw_folder(text)); };
  EXPECT_THAT(error(""), HasSubstr("pairs.txt: line 1: tells no numbers, expected FOLDS<TAB>PAIRS"));
  EXPECT_THAT(error("ten\t1\n"), HasSubstr("line 1: tells no numbers"));
  EXPECT_THAT(error("1\t1\na\t1\n"), HasSubstr("line 2: is no pair"));
  EXPECT_THAT(error("1\t1\na\t0\t1\n"), HasSubstr("line 2: is no pair"));
  EXPECT_THAT(error("1\t1\na\t1\tx\n"), HasSubstr("line 2: is no pair"));
  EXPECT_THAT(error("1\t1\na\t1\tb\t1\n"), HasSubstr("line 2: two names, expected a pair of one"));
  EXPECT_THAT(error("1\t1\na\t1\t2\nb\t1\t2\n"), HasSubstr("line 3: one name, expected a pair of two"));
  EXPECT_THAT(error("1\t1\na\t1\t2\na\t1\tb\t1\nc\t1\t2\n"),
              HasSubstr("line 4: a pair too many, line 1 tells of 2"));
  EXPECT_THAT(error("2\t1\na\t1\t2\na\t1\tb\t1\n"), HasSubstr("2 pairs, expected 4 as line 1 tells"));
  EXPECT_THAT(error("1\t1\na\t1\t2\na\t1\tb\t9\n"),
              HasSubstr("line 3: no picture 9 of b, expected b/b_0009.jpg"));
  const std::string folder = identity_folders(test::scratch_dir("without"), 2, 2);
  EXPECT_THAT(pairs_error("lfw:" + folder), HasSubstr("pairs.txt"));
}

TEST(Faces, TheRealPairsFile) {
  ZOO_NEEDS_SHARED_DATA();
  const std::string folder = identity_folders(test::scratch_dir("lfw"), 2, 2);
  EXPECT_THAT(pairs_error("lfw:" + folder + ",pairs=" + test::shared_data() + "/lfw-pairs/pairs.txt"),
              HasSubstr("line 2: no picture 1 of Abel_Pacheco, expected Abel_Pacheco/Abel_Pacheco_0001.jpg"));
}

TEST(Faces, OrlFolders) {
  ZOO_NEEDS_SHARED_DATA();
  const std::string spec = "faces:" + test::shared_data() + "/orl-faces";
  const auto train = open_faces(spec, "train");
  EXPECT_EQ(train->identities().size(), 30u);
  EXPECT_EQ(train->size(), 300);
  EXPECT_EQ(train->image(5).size(), cv::Size(92, 112));
  const FaceVerificationSet set = open_pairs(spec);
  EXPECT_EQ(set.pairs.size(), 900u);  // 10·45 genuine ones
  expect_good_pairs(*set.images, set.pairs, 10);
}

// ---- alignment

TEST(Faces, SimilarityByHand) {
  // Turned by 90 degrees, twice as large, moved by (10, 20): (x, y) -> (10 - 2y, 20 + 2x).
  const FaceLandmarks from = {0, 0, 1, 0, 0, 1, 3, 2, 5, 5};
  FaceLandmarks to;
  for (size_t i = 0; i < 10; i += 2) {
    to[i] = 10 - 2 * from[i + 1];
    to[i + 1] = 20 + 2 * from[i];
  }
  const cv::Matx23d m = similarity_transform(from, to);
  const double expected[] = {0, -2, 10, 2, 0, 20};
  for (int i = 0; i < 6; ++i) EXPECT_NEAR(m.val[i], expected[i], 1e-12);
  EXPECT_THAT(test::error_of([] {
                similarity_transform({3, 4, 3, 4, 3, 4, 3, 4, 3, 4}, face_template(112, 112));
              }),
              HasSubstr("the five landmarks are one point"));
}

TEST(Faces, SimilarityNeverReflects) {
  // Mirrored points: the least squares over rotations and scales, found here on a grid, not the mirror image.
  const FaceLandmarks from = face_template(112, 112);
  FaceLandmarks to = from;
  for (size_t i = 0; i < 10; i += 2) to[i] = 111 - from[i];
  to[0] += 4;  // not symmetric
  const cv::Matx23d m = similarity_transform(from, to);
  EXPECT_NEAR(m(0, 0), m(1, 1), 1e-12);
  EXPECT_NEAR(m(0, 1), -m(1, 0), 1e-12);
  const auto error = [&](double a, double b, double tx, double ty) {
    double sum = 0;
    for (size_t i = 0; i < 10; i += 2) {
      sum += std::pow(a * from[i] - b * from[i + 1] + tx - to[i], 2) +
             std::pow(b * from[i] + a * from[i + 1] + ty - to[i + 1], 2);
    }
    return sum;
  };
  const double best = error(m(0, 0), m(1, 0), m(0, 2), m(1, 2));
  EXPECT_GT(best, 100) << "a reflection would reach about 0";
  for (const double step : {1e-3, -1e-3}) {
    EXPECT_GT(error(m(0, 0) + step, m(1, 0), m(0, 2), m(1, 2)), best);
    EXPECT_GT(error(m(0, 0), m(1, 0) + step, m(0, 2), m(1, 2)), best);
    EXPECT_GT(error(m(0, 0), m(1, 0), m(0, 2) + step, m(1, 2)), best);
    EXPECT_GT(error(m(0, 0), m(1, 0), m(0, 2), m(1, 2) + step), best);
  }
}

TEST(Faces, TemplatesOfOtherSizes) {
  const FaceLandmarks base = face_template(112, 112), twice = face_template(224, 224),
                      square = face_template(128, 128);
  const FaceLandmarks narrow = face_template(112, 96), both = face_template(256, 256);
  EXPECT_EQ(base[0], 38.2946f);
  for (size_t i = 0; i < 10; ++i) {
    const bool x = i % 2 == 0;
    EXPECT_NEAR(twice[i], 2 * base[i], 1e-4);
    EXPECT_NEAR(square[i], base[i] + (x ? 8 : 0), 1e-4);
    EXPECT_NEAR(both[i], 2 * (base[i] + (x ? 8 : 0)), 1e-4);
    EXPECT_NEAR(narrow[i], base[i] - (x ? 8 : 0), 1e-4);
  }
}

TEST(Faces, AlignmentBringsLandmarksOntoTheTemplate) {
  // A picture with a dot at each landmark, turned and scaled.
  FaceTransformOptions options;
  const FaceLandmarks where = face_template(112, 112);
  FaceLandmarks points;
  const double a = 1.5 * std::cos(0.3), b = 1.5 * std::sin(0.3);
  for (size_t i = 0; i < 10; i += 2) {
    points[i] = static_cast<float>(a * where[i] - b * where[i + 1] + 60);
    points[i + 1] = static_cast<float>(b * where[i] + a * where[i + 1] + 20);
  }
  cv::Mat image(260, 260, CV_8UC3, cv::Scalar(90, 90, 90));
  for (size_t i = 0; i < 10; i += 2) {
    cv::circle(image, cv::Point2f(points[i], points[i + 1]), 3, cv::Scalar(255, 255, 255), cv::FILLED);
  }
  const cv::Mat face = aligned_face(image, points, options);
  ASSERT_EQ(face.size(), cv::Size(112, 112));
  for (size_t i = 0; i < 10; i += 2) {
    EXPECT_GT(face.at<cv::Vec3b>(static_cast<int>(std::lround(where[i + 1])),
                                 static_cast<int>(std::lround(where[i])))[0],
              240);
  }
  EXPECT_EQ(face.at<cv::Vec3b>(5, 60)[0], 90);
  FaceLandmarks far = points;
  for (size_t i = 0; i < 10; i += 2) far[i] += 2000;
  EXPECT_EQ(cv::countNonZero(aligned_face(image, far, options).reshape(1)), 0) << "border 0";
  // Landmarks on the template already: the picture itself.
  cv::Mat noise(112, 112, CV_8UC3);
  cv::randu(noise, 0, 255);
  EXPECT_TRUE(equal(aligned_face(noise, where, options), noise));
  options.align = false;
  EXPECT_TRUE(equal(aligned_face(noise, points, options), noise));
}

TEST(Faces, CropAndGrey) {
  FaceTransformOptions options;
  options.input_size = {40, 30};
  options.crop = 0.5;
  cv::Mat image(80, 60, CV_8UC3, cv::Scalar(10, 20, 30));
  image(cv::Rect(15, 20, 30, 40)).setTo(cv::Scalar(200, 100, 50));
  const cv::Mat crop = aligned_face(image, std::nullopt, options).clone();
  EXPECT_TRUE(equal(crop, cv::Mat(40, 30, CV_8UC3, cv::Scalar(200, 100, 50))));
  options.grey = true;
  const auto grey = static_cast<double>(std::lround(0.299 * 200 + 0.587 * 100 + 0.114 * 50));
  EXPECT_TRUE(equal(aligned_face(image, std::nullopt, options),
                    cv::Mat(40, 30, CV_8UC3, cv::Scalar(grey, grey, grey))));
}

TEST(Faces, TransformOptionsAreChecked) {
  const auto error = [](const std::string& key, const Json& value) {
    return test::error_of([&] {
      Json document = FaceTransformOptions();
      document[key] = value;
      document.get<FaceTransformOptions>().validate();
    });
  };
  EXPECT_EQ(error("flip", 0.5), "");
  EXPECT_THAT(error("input_size", {112}), HasSubstr("data.transform.input_size: 1 numbers, expected 2"));
  EXPECT_THAT(error("input_size", {112, 4}), HasSubstr("data.transform.input_size: 4 is out of range"));
  EXPECT_THAT(error("std", {1, 0, 1}), HasSubstr("data.transform.std"));
  EXPECT_THAT(error("flip", 1.5), HasSubstr("data.transform.flip"));
  EXPECT_THAT(error("shift", 57), HasSubstr("data.transform.shift"));
  EXPECT_THAT(error("crop", 0), HasSubstr("data.transform.crop"));
}

// ---- batches

std::vector<std::unique_ptr<FaceBatch>> epoch_of(const std::string& spec, int64_t workers, bool training,
                                                 const FaceTransformOptions& transform) {
  DataOptions options;
  options.batch_size = 7;
  options.workers = workers;
  const auto source = face_batches(open_faces(spec, "train"), options, transform, training, 3);
  std::vector<std::unique_ptr<FaceBatch>> batches;
  source->start_epoch(2);
  while (auto batch = source->next()) batches.emplace_back(dynamic_cast<FaceBatch*>(batch.release()));
  return batches;
}

TEST(Faces, BatchesDoNotDependOnWorkers) {
  FaceTransformOptions transform;
  transform.input_size = {56, 48};
  transform.shift = 4;
  const std::string spec = "faces,identities=5,pictures=5";
  const auto alone = epoch_of(spec, 0, true, transform), three = epoch_of(spec, 3, true, transform);
  ASSERT_EQ(alone.size(), 3u);  // the incomplete one is dropped
  ASSERT_EQ(three.size(), 3u);
  std::set<int64_t> seen;
  for (size_t i = 0; i < alone.size(); ++i) {
    EXPECT_TRUE(torch::equal(alone[i]->images, three[i]->images));
    EXPECT_TRUE(torch::equal(alone[i]->labels, three[i]->labels));
    EXPECT_EQ(alone[i]->indices, three[i]->indices);
    EXPECT_EQ(alone[i]->ids, three[i]->ids);
    EXPECT_EQ(alone[i]->images.sizes(), (torch::IntArrayRef{7, 3, 56, 48}));
    for (size_t k = 0; k < 7; ++k) {
      EXPECT_EQ(alone[i]->labels[static_cast<int64_t>(k)].item<int64_t>(), alone[i]->indices[k] / 5);
      seen.insert(alone[i]->indices[k]);
    }
  }
  EXPECT_EQ(seen.size(), 21u);
}

TEST(Faces, EvaluationBatchesAreThePictures) {
  FaceTransformOptions transform;
  transform.input_size = {64, 64};
  transform.mean = {127.5, 100, 0};
  transform.std = {127.5, 50, 255};
  transform.flip = 1;
  transform.shift = 9;
  const auto data = open_faces("faces,identities=5,pictures=5", "train");
  const auto batches = epoch_of("faces,identities=5,pictures=5", 0, false, transform);
  ASSERT_EQ(batches.size(), 4u);
  EXPECT_EQ(batches[3]->size(), 4);
  EXPECT_THAT(batches[1]->indices, ElementsAre(7, 8, 9, 10, 11, 12, 13));
  const cv::Mat image = data->image(9);
  const torch::Tensor face = batches[1]->images[2];
  for (const auto& [x, y] : {std::pair<int, int>{0, 0}, {63, 20}, {31, 63}}) {
    const cv::Vec3b& pixel = image.at<cv::Vec3b>(y, x);
    for (int c = 0; c < 3; ++c) {
      const auto i = static_cast<size_t>(c);
      EXPECT_NEAR(face[c][y][x].item<double>(), (pixel[c] - transform.mean[i]) / transform.std[i], 1e-5);
    }
  }
  EXPECT_TRUE(torch::equal(face, face_tensor(image, transform)));
}

TEST(Faces, TrainingMirrorsAndShifts) {
  FaceTransformOptions transform;
  transform.input_size = {64, 64};
  transform.flip = 1;
  const auto data = open_faces("faces,identities=5,pictures=5", "train");
  for (const auto& batch : epoch_of("faces,identities=5,pictures=5", 0, true, transform)) {
    for (size_t i = 0; i < batch->indices.size(); ++i) {
      const torch::Tensor expected = face_tensor(data->image(batch->indices[i]), transform).flip({2});
      EXPECT_TRUE(torch::equal(batch->images[static_cast<int64_t>(i)], expected));
    }
  }
  transform.flip = 0;
  transform.shift = 5;
  const float black = -1;
  int moved = 0;
  for (const auto& batch : epoch_of("faces,identities=5,pictures=5", 0, true, transform)) {
    for (size_t i = 0; i < batch->indices.size(); ++i) {
      const torch::Tensor whole = face_tensor(data->image(batch->indices[i]), transform);
      const torch::Tensor padded = torch::constant_pad_nd(whole, {5, 5, 5, 5}, black);
      bool found = false;
      for (int64_t dy = 0; dy <= 10 && !found; ++dy) {
        for (int64_t dx = 0; dx <= 10 && !found; ++dx) {
          found = torch::equal(batch->images[static_cast<int64_t>(i)],
                               padded.slice(1, dy, dy + 64).slice(2, dx, dx + 64));
          if (found && (dx != 5 || dy != 5)) ++moved;
        }
      }
      EXPECT_TRUE(found) << "the picture moved, with border 0";
    }
  }
  EXPECT_GT(moved, 15);
}

TEST(Faces, DegenerateLandmarksNameTheRecord) {
  const std::string folder = test::scratch_dir("degenerate");
  write_image(folder + "/a.png", plain(1));
  write_file(folder + "/faces.csv", "a.png,x,1,1,1,1,1,1,1,1,1,1\na.png,y\n");
  DataOptions options;
  options.workers = 0;
  const auto source =
      face_batches(open_faces("faces:" + folder + "/faces.csv,split=all"), options, {}, false, 0);
  source->start_epoch(0);
  EXPECT_THAT(test::error_of([&] { source->next(); }), HasSubstr("a.png: the five landmarks are one point"));
}

TEST(Faces, TrainingAndValidationOfARun) {
  DataOptions options;
  options.train = "faces,identities=8,pictures=3,val_identities=4";
  EXPECT_EQ(open_face_training(options, 0)->size(), 24);
  EXPECT_EQ(open_face_validation(options, 0).images->identities().size(), 4u);
  options.max_images = 10;
  EXPECT_EQ(open_face_training(options, 0)->size(), 10);
  options.max_images = 0;
  options.val_fraction = 0.25;
  const auto train = open_face_training(options, 0);
  const FaceVerificationSet val = open_face_validation(options, 0);
  EXPECT_EQ(train->identities().size(), 6u);
  EXPECT_EQ(val.images->identities().size(), 2u);
  for (const std::string& name : val.images->identities()) {
    EXPECT_THAT(train->identities(), testing::Not(testing::Contains(name)));
  }
  options.val = "faces";
  EXPECT_THAT(test::error_of([&] { open_face_validation(options, 0); }), HasSubstr("exclude each other"));
}

TEST(Faces, IjbTemplates) {
  const std::string folder = test::scratch_dir("ijb");
  make_folders(folder + "/meta");
  make_folders(folder + "/loose_crop");
  write_image(folder + "/loose_crop/1.png", plain(1));
  write_image(folder + "/loose_crop/2.png", plain(2));
  const std::string meta = folder + "/meta/ijbc_";
  write_file(meta + "name_5pts_score.txt",
             "1.png 1 2 3 4 5 6 7 8 9 10 0.5\n2.png 1 2 3 4 5 6 7 8 9 10.5 1.0\n");
  write_file(meta + "face_tid_mid.txt", "1.png 7 70\n2.png 8 80\n");
  write_file(meta + "template_pair_label.txt", "7 8 0\n7 7 1\n");
  const FaceTemplates set = open_face_templates(parse_data_spec("ijb:" + folder));
  EXPECT_TRUE(equal(set.images->image(1), plain(2)));
  EXPECT_EQ(set.images->record(1).landmarks.value()[9], 10.5f);
  EXPECT_THAT(set.templates, ElementsAre(7, 8));
  EXPECT_THAT(set.media, ElementsAre(70, 80));
  EXPECT_THAT(set.scores, ElementsAre(0.5f, 1.f));
  ASSERT_EQ(set.pairs.size(), 2u);
  EXPECT_EQ(set.pairs[0].b, 8);
  EXPECT_FALSE(set.pairs[0].same);
  EXPECT_TRUE(set.pairs[1].same);
  write_file(meta + "face_tid_mid.txt", "1.png 7 70\n3.png 8 80\n");
  EXPECT_THAT(face_set_error("ijb:" + folder), HasSubstr("face_tid_mid.txt: line 2: is of another picture"));
  write_file(meta + "template_pair_label.txt", "7 8 2\n");
  write_file(meta + "face_tid_mid.txt", "1.png 7 70\n2.png 8 80\n");
  EXPECT_THAT(face_set_error("ijb:" + folder),
              HasSubstr("line 1: '2' is no label, expected template template 0|1"));
  EXPECT_THAT(pairs_error("ijb:" + folder), HasSubstr("compares templates"));
}

TEST(Faces, SheetShowsPeopleInRows) {
  const cv::Mat sheet = show_faces(*open_faces("faces,val_identities=4,pictures=3"), 3, 5);
  EXPECT_EQ(sheet.cols, 1800);
  EXPECT_GT(sheet.rows, 3 * 300);
}

}  // namespace
}  // namespace zoo
