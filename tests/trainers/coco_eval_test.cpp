#include "trainers/metrics/coco_eval.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <fstream>

#include "core/error.h"
#include "core/files.h"
#include "core/numbers.h"
#include "core/random.h"
#include "core/text.h"
#include "tests/support.h"

namespace zoo {
namespace {

using ::testing::AllOf;
using ::testing::ElementsAre;
using ::testing::HasSubstr;

/// Two images, categories 3 and 1 in this order, one object of 40x40 of category 3 in each image.
CocoGroundTruth two_objects() {
  return {{7, 5},
          {3, 1},
          {"cat", "dog"},
          {{5, 3, {10, 10, 40, 40}, 1600, false}, {7, 3, {50, 50, 40, 40}, 1600, false}}};
}

std::string error_of(const std::function<void()>& call) {
  try {
    call();
  } catch (const Error& error) {
    EXPECT_EQ(error.exit_code(), 1);
    return error.what();
  }
  return "no Error";
}

TEST(CocoEval, HandWorkedPrecisionAndRecall) {
  // hit, miss, hit: precision 1 up to recall 0.5 (51 points), 2/3 beyond (50 points)
  const CocoMetrics metrics = evaluate_coco(
      two_objects(),
      {{5, 3, {10, 10, 40, 40}, 0.9}, {5, 3, {200, 200, 40, 40}, 0.8}, {7, 3, {50, 50, 40, 40}, 0.7}}, 2);
  EXPECT_NEAR(metrics.AP, (51 + 50 * 2 / 3.0) / 101, 1e-14);
  EXPECT_DOUBLE_EQ(metrics.AP, metrics.AP50);
  EXPECT_DOUBLE_EQ(metrics.APm, metrics.AP75);
  EXPECT_EQ(metrics.AR1, 1);
  EXPECT_EQ(metrics.AR100, 1);
  EXPECT_TRUE(std::isnan(metrics.APs) && std::isnan(metrics.ARl));
  ASSERT_EQ(metrics.per_class.size(), 2u);
  EXPECT_EQ(metrics.per_class[0], metrics.AP);
  EXPECT_TRUE(std::isnan(metrics.per_class[1]));
}

TEST(CocoEval, OnlyThresholdsBelowTheOverlapMatch) {
  // 40x40 against 40x30 inside it: IoU 0.75, a match at 0.5 … 0.75, six of ten thresholds; half of the
  // objects
  const CocoMetrics metrics = evaluate_coco(two_objects(), {{5, 3, {10, 10, 40, 30}, 0.9}}, 1);
  EXPECT_NEAR(metrics.AR100, 0.5 * 6 / 10, 1e-15);
  EXPECT_NEAR(metrics.AP75, 51 / 101.0, 1e-15);
}

TEST(CocoEval, CrowdsAbsorbDetections) {
  CocoGroundTruth truth = two_objects();
  truth.objects[1].crowd = true;
  std::vector<CocoDetection> detections = {{5, 3, {10, 10, 40, 40}, 0.5}};
  for (int i = 0; i < 5; ++i) detections.push_back({7, 3, {50.0 + i, 50, 20, 20}, 0.9});
  EXPECT_NEAR(evaluate_coco(truth, detections, 1).AP, 1, 1e-12);
}

TEST(CocoEval, NothingFoundIsZeroNothingToFindIsNull) {
  const CocoMetrics metrics = evaluate_coco(two_objects(), {}, 2);
  EXPECT_EQ(metrics.AP, 0);
  EXPECT_EQ(metrics.AR100, 0);
  const CocoGroundTruth nothing{{1}, {1}, {"cat"}, {}};
  const CocoMetrics none = evaluate_coco(nothing, {{1, 1, {0, 0, 5, 5}, 1}}, 2);
  const Json json = coco_metrics_json(none, nothing);
  EXPECT_EQ(json.size(), 13u);
  for (const auto& [name, value] : json.items()) {
    EXPECT_TRUE(value.is_null() || name == "per_class") << name;
  }
  EXPECT_TRUE(json.at("per_class").at("cat").is_null());
  EXPECT_TRUE(std::isnan(evaluate_coco({}, {}, 2).AP));
}

TEST(CocoEval, RepeatedImagesAndIdsCountOnce) {
  CocoGroundTruth truth = two_objects();
  truth.image_ids.push_back(5);
  EXPECT_NEAR(evaluate_coco(truth, {{5, 3, {10, 10, 40, 40}, 0.9}}, 1).AR100, 0.5, 1e-15);
}

TEST(CocoEval, ScoresThatAreNotNumbersRankLast) {
  const CocoMetrics metrics = evaluate_coco(two_objects(),
                                            {{5, 3, {200, 0, 40, 40}, kNaN},
                                             {5, 3, {10, 10, 40, 40}, 0.1},
                                             {7, 3, {kNaN, 50, 40, 40}, kNaN},
                                             {7, 3, {50, 50, 40, 40}, -0.5}},
                                            1);
  EXPECT_NEAR(metrics.AP, 1, 1e-12);
}

TEST(CocoEval, UnknownImageIsAnError) {
  EXPECT_THAT(error_of([] {
                evaluate_coco(two_objects(), {{5, 3, {}, 1}, {6, 9, {}, 1}}, 1);
              }),
              AllOf(HasSubstr("detection 1"), HasSubstr("image_id 6"), HasSubstr("expected")));
}

TEST(CocoEval, UnknownCategoriesAreLeftOutWithAWarning) {
  ::testing::internal::CaptureStderr();
  const CocoMetrics metrics =
      evaluate_coco(two_objects(), {{5, 9, {10, 10, 40, 40}, 1}, {5, 3, {10, 10, 40, 40}, 1}}, 1);
  EXPECT_THAT(::testing::internal::GetCapturedStderr(), HasSubstr("left out 1 of 2 detections"));
  EXPECT_NEAR(metrics.AP, 51 / 101.0, 1e-15);
}

TEST(CocoEval, EqualNamesCarryTheirIds) {
  CocoGroundTruth truth = two_objects();
  truth.category_names = {"cat", "cat"};
  const Json names = coco_metrics_json(evaluate_coco(truth, {}, 1), truth).at("per_class");
  EXPECT_EQ(names, Json({{"cat (3)", 0.0}, {"cat (1)", nullptr}}));
}

TEST(CocoEval, TableShowsWhatDoesNotExist) {
  const std::string table =
      coco_metrics_table(evaluate_coco(two_objects(), {{5, 3, {10, 10, 40, 40}, 0.9}}, 1));
  EXPECT_THAT(table, AllOf(HasSubstr("AP50 "), HasSubstr("0.505"), HasSubstr("n/a")));
}

// -------------------------------------------------------------------------------------------------------
// readers

std::string written(const std::string& text) {
  static int count = 0;
  const std::string path = test::scratch_dir("coco-files") + "/" + std::to_string(count++) + ".json";
  write_file(path, text);
  return path;
}

const char kInstances[] = R"({"annotations": [
  {"id": 0, "segmentation": [[1, 2, 3]], "iscrowd": 1, "bbox": [1, 2.5, 3, 4.000000000000001], "category_id": 1,
   "image_id": 20.0, "area": 7.25, "more": {"a": [{}]}},
  {"image_id": 10, "category_id": 3, "bbox": [0, 0, 2, 3]}],
  "info": {"images": [1]}, "categories": [{"name": "caf\u00e9", "id": 3}, {"id": 1}],
  "im\u0061ges": [{"file_name": "x", "id": 10}, {"id": 20}]})";

TEST(CocoEvalFiles, GroundTruthInAnyOrder) {
  const CocoGroundTruth truth = read_coco_ground_truth(written(kInstances));
  EXPECT_THAT(truth.image_ids, ElementsAre(10, 20));
  EXPECT_THAT(truth.category_ids, ElementsAre(3, 1));
  EXPECT_THAT(truth.category_names, ElementsAre("caf\u00e9", "1"));
  ASSERT_EQ(truth.objects.size(), 2u);
  const CocoObject &first = truth.objects[0], &second = truth.objects[1];
  EXPECT_EQ(first.image_id, 20);
  EXPECT_EQ(first.category_id, 1);
  EXPECT_THAT(first.box, ElementsAre(1, 2.5, 3, 4.000000000000001));
  EXPECT_EQ(first.area, 7.25);
  EXPECT_TRUE(first.crowd);
  EXPECT_EQ(second.area, 6);
  EXPECT_FALSE(second.crowd);
}

TEST(CocoEvalFiles, ResultsInAnyOrder) {
  const auto results =
      read_coco_results(written("\xEF\xBB\xBF ["
                                R"({"score": 0.1, "segmentation": {"counts": "a\"]}"},
      "bbox": [1e1, -2, 3, 0.30000000000000004], "area": 1, "image_id": 9007199254740993, "category_id": 2},
      {"score": 1, "score": 2, "bbox": [1,2,3,4], "image_id": 1, "category_id": 2}] )"));
  ASSERT_EQ(results.size(), 2u);
  EXPECT_EQ(results[0].image_id, 9007199254740993);
  EXPECT_THAT(results[0].box, ElementsAre(10, -2, 3, 0.30000000000000004));
  EXPECT_EQ(results[0].score, 0.1);
  EXPECT_EQ(results[1].score, 2);
  EXPECT_TRUE(read_coco_results(written("[]")).empty());
}

/// A whole result with one key's value replaced; the second of two.
std::string result_with(const std::string& key, const std::string& value) {
  std::string text;
  for (const auto& [name, good] :
       {std::pair("image_id", "1"), {"category_id", "1"}, {"bbox", "[1,2,3,4]"}, {"score", "0.5"}}) {
    if (name == key && value.empty()) continue;
    text += format("%s\"%s\": %s", text.empty() ? "" : ", ", name, name == key ? value.c_str() : good);
  }
  return R"([{"image_id": 1, "category_id": 1, "bbox": [1,2,3,4], "score": 0}, {)" + text + "}]";
}

TEST(CocoEvalFiles, WrongValuesNameRecordAndKey) {
  const struct {
    const char *key, *value, *message;
  } cases[] = {
      {"score", "NaN", "[1]: score is NaN, expected a number"},
      {"score", "\"0.5\"", "[1]: score is \"0.5\", expected a number"},
      {"score", "1e999", "[1]: score is 1e999, expected a number"},
      {"score", "", "[1]: score is missing, expected a number"},
      {"image_id", "\"000001\"", "[1]: image_id is \"000001\", expected an integer"},
      {"image_id", "1.5", "[1]: image_id is 1.5, expected an integer"},
      {"image_id", "99999999999999999999", "[1]: image_id is 99999999999999999999, expected an integer"},
      {"category_id", "null", "[1]: category_id is null, expected an integer"},
      {"category_id", "[1]", "[1]: category_id is a list, expected an integer"},
      {"category_id", "", "[1]: category_id is missing, expected the id of a category"},
      {"bbox", "5", "[1]: bbox is 5, expected four numbers [x, y, width, height]"},
      {"bbox", "[]", "[1]: bbox has 0 numbers, expected four numbers"},
      {"bbox", "[1,2,3]", "[1]: bbox has 3 numbers, expected four numbers"},
      {"bbox", "[1,2,3,4,5]", "[1]: bbox has 5 numbers, expected four numbers"},
      {"bbox", "[1,2,null,4]", "[1]: bbox holds null, expected four numbers"},
      {"bbox", "[1,2,[3],4]", "[1]: bbox holds a list, expected four numbers"},
      {"bbox", "", "[1]: bbox is missing, expected four numbers"},
  };
  for (const auto& one : cases) {
    const std::string path = written(result_with(one.key, one.value));
    EXPECT_THAT(error_of([&] { read_coco_results(path); }), HasSubstr(path + ": " + one.message));
  }
}

TEST(CocoEvalFiles, WrongDocuments) {
  const struct {
    const char *text, *message;
  } results[] = {
      {"", "the file is empty"},
      {"{\"annotations\": []}", "is an object, expected a list of results"},
      {"[1]", "[0]: is 1, expected an object"},
      {R"([{"image_id":1,"category_id":1,"segmentation":{},"score":1}])",
       "[0]: has a segmentation but no bbox"},
      {"[{\"image_id\": 1", "malformed JSON"},
      {"[{\"image_id\": 1,}]", "malformed JSON near byte 16 (line 1)"},
      {"[]\n[]", "malformed JSON near byte 3 (line 2)"},
      {"[{\"image_id", "malformed JSON"},
      {"[\"\xff\"]", "malformed JSON"},
  };
  for (const auto& one : results) {
    EXPECT_THAT(error_of([&] { read_coco_results(written(one.text)); }), HasSubstr(one.message)) << one.text;
  }
  const struct {
    const char *text, *message;
  } truths[] = {
      {"[]", "is a list, expected a COCO instances file"},
      {R"({"images": [], "categories": []})", "key 'annotations' is missing"},
      {R"({"images": 5})", "images is 5, expected a list"},
      {R"({"images": [{"id": 1}, {"file_name": "x"}]})", "images[1]: id is missing, expected an integer"},
      {R"({"categories": [{"id": 1, "name": 7}]})", "categories[0]: name is 7, expected a text"},
      {R"({"annotations": [{"iscrowd": 2}]})", "annotations[0]: iscrowd is 2, expected 0 or 1"},
      {R"({"annotations": [{"area": "big"}]})", "annotations[0]: area is \"big\", expected a number"},
      {R"({"annotations": [{"id": 4}]})", "annotations[0]: image_id is missing"},
  };
  for (const auto& one : truths) {
    EXPECT_THAT(error_of([&] { read_coco_ground_truth(written(one.text)); }), HasSubstr(one.message))
        << one.text;
  }
  EXPECT_THAT(error_of([] { read_coco_results("/nowhere/results.json"); }),
              HasSubstr("/nowhere/results.json"));
}

// Whatever stands in the file: a result or an Error that names it, no crash.
TEST(CocoEvalFiles, MutatedFilesGiveErrorsOnly) {
  const std::string whole = result_with("score", "0.25");
  RandomStream random(4);
  int errors = 0;
  const std::string path = written("");
  const auto attempt = [&](const std::string& text) {
    std::ofstream(path, std::ios::binary) << text;
    for (const bool results : {true, false}) {
      try {
        results ? static_cast<void>(read_coco_results(path))
                : static_cast<void>(read_coco_ground_truth(path));
      } catch (const Error& error) {
        EXPECT_THAT(error.what(), HasSubstr(path));
        ++errors;
      }
    }
  };
  for (const std::string& text : {whole, std::string(kInstances)}) {
    for (size_t n = 0; n < text.size(); ++n) attempt(text.substr(0, n));
    for (int n = 0; n < 500; ++n) {
      std::string mutated = text;
      for (int64_t k = random.integer(1, 4); k > 0; --k) {
        const auto at = static_cast<size_t>(random.integer(0, static_cast<int64_t>(text.size()) - 1));
        mutated[at] =
            random.chance(0.7) ? "[]{}\",:0-e\\n "[random.integer(0, 12)] : static_cast<char>(random.next());
      }
      attempt(mutated);
    }
  }
  EXPECT_GT(errors, 1500);
}

}  // namespace
}  // namespace zoo
