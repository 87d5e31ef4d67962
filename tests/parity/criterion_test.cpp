#include "models/detr/criterion.h"

#include <gtest/gtest.h>
#include <torch/torch.h>

#include <cmath>

#include "core/error.h"
#include "models/detr/assignment.h"
#include "models/weights/state_dict.h"
#include "tests/support.h"

namespace zoo {
namespace {

/// What tests/parity/criterion.py writes for one of its commands.
StateDict reference(const std::string& command) {
  const std::string file = test::scratch_dir("criterion_" + command) + "/reference.safetensors";
  test::run_python("criterion.py", {command, file});
  return load_tensors(file);
}

/// The tensors of one case.
struct CriterionCase {
  const StateDict& all;
  std::string prefix;

  const torch::Tensor* find(const std::string& name) const { return all.find(prefix + name); }
  torch::Tensor get(const std::string& name) const { return find(name)->clone(); }
};

void expect_near(const torch::Tensor& ours, const torch::Tensor& theirs, double tolerance,
                 const std::string& what) {
  ASSERT_TRUE(ours.sizes() == theirs.sizes()) << what;
  EXPECT_LE((ours - theirs).abs().max().item<double>(), tolerance) << what;
}

void expect_loss(const CriterionCase& one, torch::Dtype dtype, double tolerance) {
  torch::Tensor logits = one.get("logits").to(dtype).requires_grad_();
  torch::Tensor boxes = one.get("boxes").to(dtype).requires_grad_();
  std::vector<torch::Tensor> labels, targets;
  for (int64_t i = 0; i < logits.size(1); ++i) {
    labels.push_back(one.get(std::to_string(i) + ".labels"));
    targets.push_back(one.get(std::to_string(i) + ".boxes").to(dtype));
  }
  const LossTerms loss = detr_criterion(logits, boxes, labels, targets, DetrLossOptions());
  loss.total.backward();
  for (const auto& [name, value] : loss.terms) {
    if (name == "class_error") continue;  // transformers has none
    ASSERT_NE(one.find("term." + name), nullptr) << name;
    const bool count = name.rfind("cardinality", 0) == 0;  // float32 in transformers always
    expect_near(value, one.get("term." + name), count ? 1e-6 : tolerance, one.prefix + name);
  }
  EXPECT_EQ(loss.terms.size(), 4 * logits.size(0) + 1);
  expect_near(loss.total, one.get("total"), 20 * tolerance, one.prefix + "total");
  expect_near(logits.grad(), one.get("logits.grad"), tolerance, one.prefix + "gradient of the logits");
  expect_near(boxes.grad(), one.get("boxes.grad"), 20 * tolerance, one.prefix + "gradient of the boxes");
}

TEST(CriterionParity, LossAndGradientsAreTransformers) {
  ZOO_NEEDS_PYTHON();
  const StateDict state = reference("loss");
  if (HasFatalFailure()) return;
  constexpr int kCases = 5;
  for (int i = 0; i < kCases; ++i) {
    const CriterionCase one{state, std::to_string(i) + "."};
    ASSERT_NE(one.find("logits"), nullptr);
    expect_loss(one, torch::kDouble, 1e-12);
    expect_loss(one, torch::kFloat, 1e-5);
  }
}

/// Total of the pairs, NaN where there is no complete assignment.
double assignment_total(const torch::Tensor& cost) {
  double total = 0;
  try {
    const std::vector<int64_t> columns =
        solve_assignment(cost.data_ptr<double>(), cost.size(0), cost.size(1));
    for (int64_t i = 0; i < cost.size(0); ++i) {
      if (columns[i] >= 0) total += cost[i][columns[i]].item<double>();
    }
  } catch (const Error&) {
    return NAN;
  }
  return total;
}

TEST(CriterionParity, AssignmentsCostWhatScipysDo) {
  ZOO_NEEDS_PYTHON();
  const StateDict state = reference("assignment");
  if (HasFatalFailure()) return;
  int cases = 0, infeasible = 0;
  for (; state.find(std::to_string(cases) + ".cost") != nullptr; ++cases) {
    const CriterionCase one{state, std::to_string(cases) + "."};
    const torch::Tensor cost = one.get("cost");
    const double ours = assignment_total(cost), theirs = one.get("total").item<double>();
    if (std::isnan(theirs)) {
      EXPECT_TRUE(std::isnan(ours)) << cases << " " << cost.sizes();
      ++infeasible;
    } else {
      EXPECT_NEAR(ours, theirs, 1e-12 * std::max(1.0, std::abs(theirs))) << cases << " " << cost.sizes();
    }
  }
  EXPECT_EQ(cases, 63);
  EXPECT_GT(infeasible, 2);
  EXPECT_LT(infeasible, 12);
}

}  // namespace
}  // namespace zoo
