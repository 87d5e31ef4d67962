#include <algorithm>
#include <set>

#include "core/error.h"
#include "core/random.h"
#include "core/text.h"
#include "datasets/faces/faces.h"

namespace zoo {
namespace {

constexpr int64_t kFolds = 10;
constexpr int64_t kAttempts = 50;  // for each wanted pair, before the set counts as exhausted

using Pair = std::pair<int64_t, int64_t>;

/// Pictures of each identity that has any.
std::vector<std::vector<int64_t>> by_identity(const FaceDataset& dataset) {
  std::vector<std::vector<int64_t>> pictures(dataset.identities().size());
  for (int64_t i = 0; i < dataset.size(); ++i) {
    const int64_t identity = dataset.identity(i);
    if (identity >= 0) pictures[static_cast<size_t>(identity)].push_back(i);
  }
  pictures.erase(std::remove_if(pictures.begin(), pictures.end(), [](const auto& p) { return p.empty(); }),
                 pictures.end());
  return pictures;
}

const int64_t& any_of(const std::vector<int64_t>& values, RandomStream& rng) {
  return values[static_cast<size_t>(rng.integer(0, static_cast<int64_t>(values.size()) - 1))];
}

/// Up to `count` different pairs in random order. `all`: how many there are; where few are left to find by chance,
/// `every` lists them.
template <class Draw, class Every>
std::vector<Pair> different_pairs(int64_t count, double all, RandomStream& rng, const Draw& draw,
                                  const Every& every) {
  std::vector<Pair> pairs;
  if (all <= 4.0 * static_cast<double>(count)) {
    const std::vector<Pair> list = every();
    for (const int64_t i : rng.permutation(static_cast<int64_t>(list.size()))) {
      if (static_cast<int64_t>(pairs.size()) < count) pairs.push_back(list[static_cast<size_t>(i)]);
    }
    return pairs;
  }
  std::set<Pair> taken;
  for (int64_t attempt = 0; attempt < kAttempts * count && static_cast<int64_t>(pairs.size()) < count;
       ++attempt) {
    const Pair pair = draw();
    if (taken.insert(std::minmax(pair.first, pair.second)).second) pairs.push_back(pair);
  }
  return pairs;
}

std::vector<Pair> genuine_pairs(const std::vector<std::vector<int64_t>>& pictures, int64_t count,
                                RandomStream& rng) {
  std::vector<int64_t> able;
  double all = 0;
  for (size_t i = 0; i < pictures.size(); ++i) {
    const auto n = static_cast<double>(pictures[i].size());
    if (n >= 2) able.push_back(static_cast<int64_t>(i));
    all += n * (n - 1) / 2;
  }
  const auto draw = [&] {
    const std::vector<int64_t>& own = pictures[static_cast<size_t>(any_of(able, rng))];
    const int64_t a = any_of(own, rng);
    int64_t b = a;
    while (b == a) b = any_of(own, rng);
    return Pair{a, b};
  };
  const auto every = [&] {
    std::vector<Pair> list;
    for (const std::vector<int64_t>& own : pictures) {
      for (size_t i = 0; i < own.size(); ++i) {
        for (size_t k = i + 1; k < own.size(); ++k) list.emplace_back(own[i], own[k]);
      }
    }
    return list;
  };
  return different_pairs(count, all, rng, draw, every);
}

std::vector<Pair> impostor_pairs(const std::vector<std::vector<int64_t>>& pictures, int64_t count,
                                 RandomStream& rng) {
  double sum = 0, squares = 0;
  for (const std::vector<int64_t>& own : pictures) {
    const auto n = static_cast<double>(own.size());
    sum += n;
    squares += n * n;
  }
  const auto last = static_cast<int64_t>(pictures.size()) - 1;
  const auto draw = [&] {
    const int64_t first = rng.integer(0, last);
    int64_t second = first;
    while (second == first) second = rng.integer(0, last);
    const int64_t a = any_of(pictures[static_cast<size_t>(first)], rng);
    return Pair{a, any_of(pictures[static_cast<size_t>(second)], rng)};
  };
  const auto every = [&] {
    std::vector<Pair> list;
    for (size_t i = 0; i < pictures.size(); ++i) {
      for (size_t k = i + 1; k < pictures.size(); ++k) {
        for (const int64_t a : pictures[i]) {
          for (const int64_t b : pictures[k]) list.emplace_back(a, b);
        }
      }
    }
    return list;
  };
  return different_pairs(count, (sum * sum - squares) / 2, rng, draw, every);
}

}  // namespace

std::vector<FacePair> draw_face_pairs(const FaceDataset& dataset, int64_t pairs, uint64_t seed) {
  const std::vector<std::vector<int64_t>> pictures = by_identity(dataset);
  RandomStream rng{seed, 0x70616972};  // "pair"
  std::vector<Pair> same, different;
  if (pictures.size() >= 2) {
    same = genuine_pairs(pictures, pairs / 2, rng);
    different = impostor_pairs(pictures, pairs / 2, rng);
  }
  auto half = static_cast<int64_t>(std::min(same.size(), different.size()));
  if (half == 0) {
    throw Error(dataset.description() +
                ": no pairs can be made, expected two identities and one with two pictures");
  }
  const bool folds = half >= kFolds;
  if (folds) half -= half % kFolds;
  const int64_t each = folds ? half / kFolds : half;
  std::vector<FacePair> result;
  for (int64_t fold = 0; fold < half / each; ++fold) {
    for (const std::vector<Pair>* kind : {&same, &different}) {
      for (int64_t i = fold * each; i < (fold + 1) * each; ++i) {
        const auto& [a, b] = (*kind)[static_cast<size_t>(i)];
        result.push_back({a, b, kind == &same, folds ? fold : -1});
      }
    }
  }
  return result;
}

}  // namespace zoo
