#include <gtest/gtest.h>
#include <torch/torch.h>

#include <set>

#include "models/face_losses/face_loss.h"
#include "models/weights/state_dict.h"
#include "tests/support.h"

namespace zoo {
namespace {

constexpr int64_t kBatches = 3;

class FaceLossesParity : public testing::TestWithParam<int64_t> {
 protected:
  void SetUp() override {
    ZOO_NEEDS_PYTHON();
    const std::string folder = test::scratch_dir("face_losses");
    test::run_python("face_losses.py", {folder});
    cases_ = read_json(folder + "/cases.json");
    tensors_ = load_tensors(folder + "/cases.safetensors");
  }

  torch::Tensor get(const std::string& name) const { return tensors_.find(name)->clone(); }

  void expect_equal(const torch::Tensor& ours, const std::string& name) const {
    const torch::Tensor* theirs = tensors_.find(name);
    ASSERT_NE(theirs, nullptr) << name;
    ASSERT_EQ(ours.sizes(), theirs->sizes()) << name;
    const double size = theirs->abs().max().item<double>();
    EXPECT_LE((ours - *theirs).abs().max().item<double>(), 1e-10 * size) << name;
  }

  /// The loss of one case with the reference's weights; float64.
  std::shared_ptr<FaceLossImpl> make(const Json& one, int64_t chunk_bytes) const {
    const auto name = one.at("loss").get<std::string>();
    Json options = FaceLossOptions();
    options["name"] = name;
    options["classes"]["chunk_bytes"] = chunk_bytes;
    overlay(options, {{name == "circle_pairs" ? "circle" : name, one.at("options")}}, name);
    const torch::Tensor weight = get("weight");
    const auto loss = make_face_loss(options.get<FaceLossOptions>(), weight.size(1), weight.size(0), 1);
    loss->to(torch::kDouble);
    const torch::NoGradGuard no_grad;
    for (auto& item : loss->named_parameters()) {
      if (item.value().dim() > 0) item.value().copy_(get(item.key()));
    }
    return loss;
  }

  void check(size_t number, int64_t chunk_bytes) const {
    const Json& one = cases_.at(number);
    SCOPED_TRACE(one.dump());
    const auto loss = make(one, chunk_bytes);
    const std::string prefix = std::to_string(number) + ".";
    for (int64_t batch = 0; batch < kBatches; ++batch) {
      loss->zero_grad();
      const std::string name = std::to_string(batch) + ".";
      torch::Tensor x = get(name + "x").requires_grad_();
      const LossTerms terms = loss->forward(x, get(name + "labels"));
      terms.total.backward();
      expect_equal(terms.total.detach(), prefix + name + "loss");
      expect_equal(x.grad(), prefix + name + "x.grad");
    }
    for (const auto& item : loss->named_parameters()) {
      if (item.value().dim() > 0) expect_equal(item.value().grad(), prefix + item.key() + ".grad");
    }
  }

  Json cases_;
  StateDict tensors_;
};

TEST_P(FaceLossesParity, LossAndGradientsAreTheFormulas) {
  std::set<std::string> seen;
  for (size_t number = 0; number < cases_.size(); ++number) {
    const FaceLossInfo& info = find_face_loss(cases_[number].at("loss").get<std::string>());
    seen.insert(info.name);
    if (GetParam() > 0 && (!info.needs_classes || info.name == "sphereface2")) continue;
    check(number, GetParam());
  }
  for (const FaceLossInfo& info : face_losses()) EXPECT_EQ(seen.count(info.name), 1u) << info.name;
}

// At once, and in blocks: 4200 classes are two, the second smaller.
INSTANTIATE_TEST_SUITE_P(Products, FaceLossesParity, testing::Values(0, int64_t{1} << 20));

}  // namespace
}  // namespace zoo
