#include "trainers/metrics/identification.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <torch/torch.h>

#include <cmath>

#include "tests/support.h"
#include "trainers/metrics/templates.h"

namespace zoo {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;

torch::Tensor labels(const std::vector<int64_t>& numbers) {
  return torch::tensor(numbers, torch::kLong);
}

// Entries at 0, 10, 20, 30 and 90 degrees, of any length.
torch::Tensor fan() {
  torch::Tensor rows = torch::empty({5, 2});
  const double degrees[] = {0, 10, 20, 30, 90};
  for (int64_t i = 0; i < 5; ++i) {
    const double angle = degrees[i] * M_PI / 180;
    rows[i][0] = static_cast<double>(i + 1) * std::cos(angle);
    rows[i][1] = static_cast<double>(i + 1) * std::sin(angle);
  }
  return rows;
}

TEST(Identification, RankIsOfTheFirstEntryOfTheIdentity) {
  const Gallery gallery(fan(), labels({7, 8, 7, 9, 10}), "gallery");
  const torch::Tensor probes = torch::tensor({{10.0, 0.1}, {10.0, 0.1}, {10.0, 0.1}, {0.0, 3.0}, {1.0, 1.0}});
  EXPECT_THAT(gallery.ranks(probes, labels({7, 8, 9, 7, 11}), "probes"), ElementsAre(1, 2, 4, 3, 0));
}

TEST(Identification, EqualCosinesComeInGalleryOrder) {
  const torch::Tensor entries = torch::tensor({{1.0, 0.0}, {2.0, 0.0}, {3.0, 0.0}});
  const Gallery gallery(entries, labels({1, 2, 3}), "gallery");
  const torch::Tensor probe = torch::tensor({{5.0, 0.0}, {5.0, 0.0}, {5.0, 0.0}});
  EXPECT_THAT(gallery.ranks(probe, labels({1, 2, 3}), "probes"), ElementsAre(1, 2, 3));
}

TEST(Identification, CurveCountsProbesWithoutAMateAsMissed) {
  const IdentificationMetrics metrics = identification_metrics({1, 3, 0, 6}, 7);
  EXPECT_DOUBLE_EQ(metrics.rank1, 0.25);
  EXPECT_DOUBLE_EQ(metrics.rank5, 0.5);
  EXPECT_THAT(metrics.cmc, ElementsAre(0.25, 0.25, 0.5, 0.5, 0.5, 0.75, 0.75));
  EXPECT_EQ(metrics.without_mate, 1);
  EXPECT_TRUE(identification_json(identification_metrics({}, 2)).at("rank1").is_null());
}

// Over several blocks, with entries that differ by less than float products can tell.
TEST(Identification, RanksAreThoseOfDoubles) {
  torch::manual_seed(5);
  const int64_t count = 40000, size = 16;
  torch::Tensor entries = torch::randn({count, size});
  entries.slice(0, 20000, 20200) = entries.slice(0, 0, 200) * (1 + 1e-6 * torch::randn({200, size}));
  const torch::Tensor numbers = torch::arange(count) % 30000;
  const Gallery gallery(entries, numbers, "gallery");
  const torch::Tensor probes = entries.slice(0, 0, 40) + 0.3 * torch::randn({40, size});
  const torch::Tensor probe_numbers = (torch::arange(40) + 20000) % 30000;
  const torch::Tensor a = entries.to(torch::kDouble), b = probes.to(torch::kDouble);
  const torch::Tensor cosines = b.matmul(a.t()) / (b.norm(2, 1, true) * a.norm(2, 1).unsqueeze(0));  // [P,G]
  const auto ranks = gallery.ranks(probes, probe_numbers, "probes");
  for (int64_t p = 0; p < 40; ++p) {
    const torch::Tensor own = numbers == probe_numbers[p];
    const torch::Tensor best = cosines[p].masked_select(own).max();
    const int64_t expected = 1 + (cosines[p] > best).sum().item<int64_t>();
    EXPECT_EQ(ranks[static_cast<size_t>(p)], expected) << p;
  }
}

TEST(Identification, NamesWhatDoesNotFit) {
  EXPECT_THAT(test::error_of([] { Gallery(torch::ones({2, 3}), labels({1}), "FILE"); }), HasSubstr("FILE"));
  const Gallery gallery(torch::ones({2, 3}), labels({1, 2}), "FILE");
  EXPECT_THAT(test::error_of([&] {
                gallery.ranks(torch::ones({1, 4}), labels({1}), "PROBES");
              }),
              HasSubstr("PROBES: probes have 4 dimensions"));
  torch::Tensor bad = torch::ones({2, 3});
  bad[1][2] = INFINITY;
  EXPECT_THAT(test::error_of([&] { Gallery(bad, labels({1, 2}), "FILE"); }), HasSubstr("embedding 1"));
}

/// Template 5 is two frames of one film and a picture; template 6 one picture.
FaceTemplates small_set() {
  FaceTemplates set;
  set.templates = {5, 5, 6, 5};
  set.media = {1, 2, 1, 1};
  set.scores = {1, 0.5, 1, 1};
  set.pairs = {{5, 6, true}, {6, 6, false}, {5, 5, false}};
  return set;
}

// Template 5: mean of rows 0 and 3 plus half of row 1 is (1, 0) + (0, 1); template 6 is (1, 0).
TEST(IdentificationTemplates, MeanOfAFilmSumOfMedia) {
  const torch::Tensor embeddings = torch::tensor({{2.0, 0.0}, {0.0, 2.0}, {4.0, 0.0}, {0.0, 0.0}});
  const Roc roc = compare_templates(embeddings, small_set(), {}, "FILE");
  ASSERT_EQ(roc.genuine.size(), 1U);
  EXPECT_NEAR(roc.genuine[0], std::sqrt(0.5), 1e-15);
  EXPECT_THAT(roc.impostor, ElementsAre(1, 1));  // a template with itself
}

// Without norms and scores: mean of (1,0) and 0 plus (0,1) is (0.5, 1).
TEST(IdentificationTemplates, SwitchesChangeTheSum) {
  const torch::Tensor embeddings = torch::tensor({{2.0, 0.0}, {0.0, 2.0}, {4.0, 0.0}, {0.0, 0.0}});
  TemplateOptions options;
  options.keep_norm = options.detector_score = false;
  const Roc roc = compare_templates(embeddings, small_set(), options, "FILE");
  EXPECT_NEAR(roc.genuine[0], 0.5 / std::sqrt(1.25), 1e-15);
  EXPECT_THAT(
      test::error_of([&] { compare_templates(embeddings.slice(0, 1), small_set(), options, "FILE"); }),
      HasSubstr("FILE: expected embeddings [4,D]"));
  const Json document = template_metrics_json(roc);
  EXPECT_TRUE(document.at("accuracy").is_null());
  EXPECT_EQ(document.at("tar_at_far").size(), 6U);
}

}  // namespace
}  // namespace zoo
