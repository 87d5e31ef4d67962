#include "datasets/transforms.h"

#include <gtest/gtest.h>

#include <fstream>
#include <opencv2/imgcodecs.hpp>
#include <opencv2/imgproc.hpp>

#include "core/options.h"
#include "datasets/image.h"
#include "tests/support.h"

namespace zoo {
namespace {

using test::run_python;
using test::scratch_dir;

bool equal_bytes(const cv::Mat& a, const cv::Mat& b) {
  return a.size() == b.size() && a.type() == b.type() && cv::norm(a, b, cv::NORM_INF) == 0;
}

TEST(Transforms, ResizeEqualsPillowToTheBit) {
  ZOO_NEEDS_PYTHON();
  const std::string folder = scratch_dir("resize");
  run_python("transforms.py", {"resize", folder});
  const Json cases = read_json(folder + "/cases.json");
  ASSERT_GT(cases.size(), 400u);
  for (const Json& item : cases) {
    const cv::Mat source = cv::imread(item["source"].get<std::string>(), cv::IMREAD_UNCHANGED);
    const cv::Mat expected = cv::imread(item["result"].get<std::string>(), cv::IMREAD_UNCHANGED);
    const auto height = item["height"].get<int64_t>(), width = item["width"].get<int64_t>();
    const cv::Mat result = resize_antialiased(source, height, width);
    ASSERT_TRUE(equal_bytes(result, expected)) << item;
    const cv::Rect part(static_cast<int>(width / 3), static_cast<int>(height / 4),
                        static_cast<int>((width + 1) / 2), static_cast<int>((height + 1) / 2));
    ASSERT_TRUE(equal_bytes(resize_antialiased(source, height, width, part), expected(part))) << item;
  }
}

TEST(Transforms, SizeRuleOnAGrid) {
  ZOO_NEEDS_PYTHON();
  const std::string file = scratch_dir("sizes") + "/sizes.json";
  run_python("transforms.py", {"sizes", file});
  const Json rows = read_json(file);
  ASSERT_GT(rows.size(), 10000u);
  for (const Json& row : rows) {
    const auto n = row.get<std::vector<int64_t>>();
    ASSERT_EQ(resized_size(n[0], n[1], n[2], n[3]), std::make_pair(n[4], n[5])) << row;
  }
}

/// Pictures of all sorts of sizes with boxes inside, across, outside and without extent, and crowds.
struct Case {
  cv::Mat image;
  DetectionRecord record;
  TransformPlan plan;
  DetectionTransformOptions options;
};

Case random_case(uint64_t seed) {
  RandomStream rng(seed);
  Case made;
  const auto width = static_cast<int>(rng.integer(30, 160)), height = static_cast<int>(rng.integer(30, 160));
  made.image.create(height, width, CV_8UC3);
  for (size_t i = 0; i < made.image.total() * 3; ++i) made.image.data[i] = static_cast<uint8_t>(rng.next());
  for (int i = 0; i < 12; ++i) {
    ObjectAnnotation object;
    object.category_id = rng.integer(1, 90);
    object.box = {rng.uniform(-20, width), rng.uniform(-20, height), rng.uniform(0, 80), rng.uniform(0, 80)};
    if (rng.chance(0.15)) object.box[static_cast<size_t>(rng.integer(2, 3))] = 0;
    object.crowd = rng.chance(0.2);
    made.record.objects.push_back(object);
  }
  made.options.train_sizes = {48, 60, 72, 100};
  made.options.crop_resize_sizes = {60, 70, 90};
  made.options.crop_min = 50;
  made.options.crop_max = 80;
  made.options.max_size = 120;
  made.plan = draw_plan(made.image.size(), made.options, rng);
  return made;
}

Json to_json(const Case& made, const std::string& image) {
  Json objects = Json::array();
  for (const ObjectAnnotation& o : made.record.objects) {
    objects.push_back({{"box", o.box}, {"category", o.category_id}, {"crowd", o.crowd}});
  }
  const cv::Rect& window = made.plan.window;
  return {{"image", image},
          {"objects", objects},
          {"flip", made.plan.flip},
          {"crop_resize", made.plan.crop_resize},
          {"window", {window.x, window.y, window.width, window.height}},
          {"size", made.plan.size},
          {"max_size", made.plan.max_size}};
}

void expect_equal(const DetectionSample& sample, const Json& expected,
                  const DetectionTransformOptions& options) {
  const cv::Mat image = read_image(expected["image"].get<std::string>());
  ASSERT_TRUE(equal_bytes(sample.image, image));
  ASSERT_EQ(sample.labels, expected["labels"].get<std::vector<int64_t>>());
  const auto boxes = expected["boxes"].get<std::vector<std::array<float, 4>>>();
  ASSERT_EQ(sample.boxes.size(), boxes.size());
  for (size_t i = 0; i < boxes.size(); ++i) {
    for (size_t k = 0; k < 4; ++k) ASSERT_NEAR(sample.boxes[i][k], boxes[i][k], 1e-6) << "box " << i;
  }
  std::vector<DetectionSample> one;
  one.push_back(sample);
  const torch::Tensor pixels = collate(std::move(one), options)->pixels.flatten();
  const auto spots = expected["normalized"].get<std::vector<float>>();
  const int64_t step = std::max<int64_t>(1, pixels.numel() / 97);
  for (size_t i = 0; i < spots.size(); ++i) {
    ASSERT_NEAR(pixels.data_ptr<float>()[static_cast<int64_t>(i) * step], spots[i], 1e-6) << "value " << i;
  }
}

TEST(Transforms, PlansGiveTheReferencesImagesAndBoxes) {
  ZOO_NEEDS_PYTHON();
  const std::string folder = scratch_dir("plans");
  std::vector<Case> made;
  Json cases = Json::array();
  int crops = 0;
  for (uint64_t seed = 0; seed < 120; ++seed) {
    made.push_back(random_case(seed));
    const std::string image = folder + "/" + std::to_string(seed) + ".png";
    write_image(image, made.back().image);
    cases.push_back(to_json(made.back(), image));
    crops += made.back().plan.crop_resize > 0 ? 1 : 0;
  }
  ASSERT_GT(crops, 30);
  std::ofstream(folder + "/cases.json") << cases;
  run_python("transforms.py", {"apply", folder + "/cases.json", folder + "/results.json"});
  const Json results = read_json(folder + "/results.json");
  for (size_t i = 0; i < made.size(); ++i) {
    SCOPED_TRACE("case " + std::to_string(i));
    expect_equal(apply_plan(made[i].plan, made[i].record, made[i].image), results[i], made[i].options);
    if (HasFatalFailure()) return;
  }
}

}  // namespace
}  // namespace zoo
