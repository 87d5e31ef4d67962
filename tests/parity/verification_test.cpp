// Verification and identification against numpy on random embeddings with ties, through the files that
// `zoo eval --predictions` reads.
#include "trainers/metrics/verification.h"

#include <gtest/gtest.h>
#include <torch/torch.h>

#include "core/files.h"
#include "models/weights/state_dict.h"
#include "tests/support.h"
#include "trainers/metrics/cosines.h"
#include "trainers/metrics/identification.h"

namespace zoo {
namespace {

constexpr double kVerificationTolerance = 1e-12;

/// The folder with the files of verification.py.
const std::string& reference() {
  static const std::string folder = [] {
    std::string made = test::scratch_dir("verification");
    test::run_python("verification.py", {made});
    return made;
  }();
  return folder;
}

Json expected(const char* name) {
  return read_json(join_path(reference(), "expected.json")).at(name);
}

std::vector<int64_t> integers(const torch::Tensor& tensor) {
  const torch::Tensor numbers = tensor.to(torch::kLong).contiguous();
  return {numbers.const_data_ptr<int64_t>(), numbers.const_data_ptr<int64_t>() + numbers.numel()};
}

void expect_near(const Json& found, const Json& wanted, const std::string& name) {
  ASSERT_EQ(found.size(), wanted.size()) << name;
  if (wanted.is_number()) {
    EXPECT_NEAR(found.get<double>(), wanted.get<double>(), kVerificationTolerance) << name;
    return;
  }
  for (const auto& item : wanted.items()) {
    expect_near(wanted.is_array() ? found[std::stoul(item.key())] : found.at(item.key()), item.value(),
                name + "." + item.key());
  }
}

class VerificationParity : public testing::TestWithParam<const char*> {};

TEST_P(VerificationParity, EqualsNumpy) {
  ZOO_NEEDS_PYTHON();
  const StateDict file = load_tensors(join_path(reference(), std::string(GetParam()) + ".safetensors"));
  ScoredPairs pairs;
  pairs.scores = {pair_cosines(*file.find("a"), *file.find("b"), "file")};
  for (const int64_t same : integers(*file.find("same"))) pairs.same.push_back(static_cast<uint8_t>(same));
  const torch::Tensor* fold = file.find("fold");
  pairs.folds = fold == nullptr ? equal_folds(static_cast<int64_t>(pairs.same.size()))
                                : numbered_folds(integers(*fold));
  expect_near(verification_json(verification_metrics(pairs)), expected(GetParam()), GetParam());
}

INSTANTIATE_TEST_SUITE_P(Sets, VerificationParity, testing::Values("even", "uneven", "folds"));

TEST(VerificationParityGallery, RanksEqualNumpy) {
  ZOO_NEEDS_PYTHON();
  const StateDict file = load_tensors(join_path(reference(), "gallery.safetensors"));
  const Gallery gallery(*file.find("gallery"), *file.find("gallery_labels"), "file");
  const auto ranks = gallery.ranks(*file.find("probes"), *file.find("probe_labels"), "file");
  expect_near(identification_json(identification_metrics(ranks, 20)), expected("gallery"), "gallery");
}

}  // namespace
}  // namespace zoo
