#include "trainers/metrics/coco_eval.h"

#include <gtest/gtest.h>

#include <map>

#include "core/text.h"
#include "tests/support.h"

namespace zoo {
namespace {

constexpr int kSets = 150;

/// Per-class AP of the metrics by category id, as the reference script writes it.
Json by_category_id(const CocoMetrics& metrics, const CocoGroundTruth& truth) {
  CocoGroundTruth numbered = truth;
  for (size_t i = 0; i < truth.category_ids.size(); ++i)
    numbered.category_names[i] = std::to_string(truth.category_ids[i]);
  return coco_metrics_json(metrics, numbered);
}

// The figures must be the same doubles: 1e-9 is what users are told, equality is what the arithmetic
// promises.
TEST(CocoEvalParity, EqualsPycocotoolsOnRandomSets) {
  ZOO_NEEDS_PYTHON();
  const std::string folder = test::scratch_dir("coco-eval");
  test::run_python("coco_eval.py", {folder, std::to_string(kSets)});
  ::testing::internal::CaptureStderr();  // warnings of unknown categories
  std::map<std::string, int> present, absent;
  double total = 0;
  for (int n = 0; n < kSets; ++n) {
    const auto file = [&](const char* name) { return folder + format("/%s_%d.json", name, n); };
    const CocoGroundTruth truth = read_coco_ground_truth(file("truth"));
    const std::vector<CocoDetection> results = read_coco_results(file("results"));
    const Json expected = read_json(file("expected"));
    for (const int threads : {1, 3}) {
      EXPECT_EQ(by_category_id(evaluate_coco(truth, results, threads), truth), expected) << "set " << n;
    }
    for (const auto& [name, value] : expected.items()) ++(value.is_null() ? absent : present)[name];
    if (expected.at("AP").is_number()) total += expected.at("AP").get<double>();
  }
  const std::string warnings = ::testing::internal::GetCapturedStderr();
  EXPECT_NE(warnings.find("category_id (first: 5000)"), std::string::npos);
  // The sets say something: scores are neither all 0 nor all 1, every figure exists in most sets and is
  // missing in some.
  EXPECT_GT(total / kSets, 0.1);
  EXPECT_LT(total / kSets, 0.9);
  for (const char* name : {"AP", "APs", "APm", "APl", "AR1", "ARs", "ARm", "ARl"}) {
    EXPECT_GT(present[name], kSets / 2) << name;
    EXPECT_GT(absent[name], 0) << name;
  }
}

// pycocotools keeps matches as annotation ids and takes 0 for "none"; an object counts here whatever its id.
TEST(CocoEvalParity, CountsAnnotationZeroWhichPycocotoolsLoses) {
  ZOO_NEEDS_PYTHON();
  const std::string folder = test::scratch_dir("coco-eval-zero");
  test::run_python("coco_eval.py", {folder, "0"});
  EXPECT_EQ(read_json(folder + "/expected_zero.json").at("AP"), 0.0);
  const CocoGroundTruth truth = read_coco_ground_truth(folder + "/truth_zero.json");
  EXPECT_NEAR(evaluate_coco(truth, read_coco_results(folder + "/results_zero.json"), 1).AP, 1, 1e-12);
}

}  // namespace
}  // namespace zoo
