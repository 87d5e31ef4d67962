#include "datasets/shapes.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <opencv2/core.hpp>
#include <set>
#include <thread>

#include "core/error.h"

namespace zoo {
namespace {

using ::testing::HasSubstr;

std::shared_ptr<DetectionDataset> shapes(const std::string& split,
                                         const std::map<std::string, std::string>& options = {}) {
  DataSpec spec;
  spec.kind = spec.text = "shapes";
  spec.options = options;
  return make_shapes(spec, split);
}

bool same_pixels(const cv::Mat& a, const cv::Mat& b) {
  return a.size() == b.size() && cv::norm(a, b, cv::NORM_INF) == 0;
}

uint64_t checksum(const cv::Mat& image) {
  uint64_t hash = 1469598103934665603ull;  // FNV-1a
  for (size_t i = 0; i < image.total() * 3; ++i) hash = (hash ^ image.data[i]) * 1099511628211ull;
  return hash;
}

TEST(Shapes, SizesAndNames) {
  const auto train = shapes("train"), val = shapes("val");
  EXPECT_EQ(train->size(), 20000);
  EXPECT_EQ(val->size(), 500);
  ASSERT_EQ(val->categories().size(), 6u);
  EXPECT_EQ(val->categories()[0].id, 1);
  EXPECT_EQ(val->categories()[3].name, "star");
  EXPECT_EQ(val->record(16).file_name, "shapes_val_000017.png");
  EXPECT_EQ(val->record(16).image_id, 17);
  EXPECT_EQ(val->image(16).size(), cv::Size(128, 128));
  EXPECT_EQ(shapes("val", {{"size", "96"}, {"val", "3"}})->image(2).size(), cv::Size(96, 96));
  EXPECT_THROW(val->record(500), std::out_of_range);
}

TEST(Shapes, SamePictureEachTimeAndInAnyThread) {
  const auto first = shapes("val"), second = shapes("val");
  const cv::Mat image = first->image(3);
  cv::Mat other;
  std::thread thread([&] { other = second->image(3); });
  thread.join();
  EXPECT_TRUE(same_pixels(image, other));
  EXPECT_EQ(first->record(3).objects.size(), second->record(3).objects.size());
}

// The set must not change from one version or machine to another: figures that people report depend on it.
TEST(Shapes, PicturesAreThoseOfEveryOtherMachine) {
  EXPECT_EQ(checksum(shapes("val")->image(0)), 313921478368102108u);
  EXPECT_EQ(checksum(shapes("train")->image(19999)), 7428848493380170211u);
}

TEST(Shapes, SplitsAndSeedsDiffer) {
  const cv::Mat val = shapes("val")->image(0);
  EXPECT_FALSE(same_pixels(val, shapes("train")->image(0)));
  EXPECT_FALSE(same_pixels(val, shapes("val", {{"seed", "1"}})->image(0)));
  EXPECT_FALSE(same_pixels(val, shapes("val")->image(1)));
}

TEST(Shapes, BoxesAreWholeUniqueAndInside) {
  const auto val = shapes("val");
  std::set<int64_t> ids, categories;
  int64_t objects = 0, small = 0;
  for (int64_t i = 0; i < val->size(); ++i) {
    const DetectionRecord& record = val->record(i);
    EXPECT_GE(record.objects.size(), 1u) << i;
    for (const ObjectAnnotation& object : record.objects) {
      const auto [x, y, w, h] = object.box;
      EXPECT_TRUE(x >= 0 && y >= 0 && w >= 2 && h >= 2 && x + w <= 128 && y + h <= 128) << i;
      EXPECT_TRUE(object.area >= 8 && object.area <= w * h) << i;
      EXPECT_FALSE(object.crowd);
      EXPECT_TRUE(ids.insert(object.id).second) << object.id;
      categories.insert(object.category_id);
      small += object.area < 20 * 20 ? 1 : 0;
      ++objects;
    }
  }
  EXPECT_EQ(categories, (std::set<int64_t>{1, 2, 3, 4, 5, 6}));
  EXPECT_GT(objects, 2 * val->size());
  EXPECT_GT(small, objects / 10);
  EXPECT_LT(small, objects * 2 / 3);
}

// The mean colour inside a box is not that of the whole picture, for nearly every object. (Stripes may by
// chance agree.)
TEST(Shapes, ObjectsShowWhereTheirBoxesAre) {
  const auto val = shapes("val");
  int64_t visible = 0, all = 0;
  for (int64_t i = 0; i < 100; ++i) {
    const cv::Mat image = val->image(i);
    for (const ObjectAnnotation& object : val->record(i).objects) {
      const cv::Rect box(static_cast<int>(object.box[0]), static_cast<int>(object.box[1]),
                         static_cast<int>(object.box[2]), static_cast<int>(object.box[3]));
      const cv::Scalar inside = cv::mean(image(box));
      const cv::Scalar whole = cv::mean(image);
      visible += cv::norm(inside - whole) > 8 ? 1 : 0;
      ++all;
    }
  }
  EXPECT_GT(visible, all * 9 / 10);
}

TEST(Shapes, WrongOptionsAreUsageErrors) {
  const auto message = [](const std::string& split, const std::map<std::string, std::string>& options) {
    try {
      shapes(split, options);
    } catch (const UsageError& error) {
      return std::string(error.what());
    }
    return std::string("no error");
  };
  EXPECT_THAT(message("test", {}), HasSubstr("no split 'test', expected one of train, val"));
  EXPECT_THAT(message("val", {{"size", "x"}}), HasSubstr("size=x is no integer"));
  EXPECT_THAT(message("val", {{"size", "8"}}), HasSubstr("out of range"));
  EXPECT_THAT(message("val", {{"val", "0"}}), HasSubstr("out of range"));
  EXPECT_THAT(message("val", {{"seed", "-1"}}), HasSubstr("out of range"));
}

}  // namespace
}  // namespace zoo
