#include <algorithm>
#include <array>
#include <cmath>
#include <cstring>
#include <stdexcept>

#include "core/numbers.h"
#include "core/numbers.h"
#include "trainers/metrics/online_action.h"

namespace zoo {

namespace {

/// A score as a number that falls as the score rises, and the sets it is a positive of.
struct RankedScore {
  uint64_t key = 0;
  uint16_t sets = 0;
};

uint64_t falling_key(double score) {
  if (std::isnan(score)) throw std::invalid_argument("a score is not a number");
  score += 0.0;  // -0 is 0
  uint64_t bits = 0;
  std::memcpy(&bits, &score, sizeof bits);
  const uint64_t rising = (bits >> 63) != 0 ? ~bits : bits | uint64_t{1} << 63;
  return ~rising;
}

/// Stable, by digits of 11 bits from the lowest; digits that all share cost no pass (scores of floats have 29 bits 0).
void sort_by_key(std::vector<RankedScore>& items) {
  constexpr int kBits = 11, kPasses = 6;
  constexpr size_t kDigits = size_t{1} << kBits;
  std::vector<std::array<uint32_t, kDigits>> counts(kPasses);
  const auto digit = [](const RankedScore& item, int pass) {
    return static_cast<size_t>(item.key >> (pass * kBits)) & (kDigits - 1);
  };
  for (const RankedScore& item : items) {
    for (int pass = 0; pass < kPasses; ++pass) ++counts[static_cast<size_t>(pass)][digit(item, pass)];
  }
  std::vector<RankedScore> sorted(items.size());
  for (int pass = 0; pass < kPasses && !items.empty(); ++pass) {
    auto& places = counts[static_cast<size_t>(pass)];
    if (places[digit(items[0], pass)] == items.size()) continue;
    uint32_t place = 0;
    for (uint32_t& count : places) {
      const uint32_t here = count;
      count = place;
      place += here;
    }
    for (const RankedScore& item : items) sorted[places[digit(item, pass)]++] = item;
    items.swap(sorted);
  }
}

std::vector<RankedScore> ranked(const double* scores, const uint16_t* sets, int64_t size) {
  std::vector<RankedScore> items;
  items.reserve(static_cast<size_t>(size));
  for (int64_t i = 0; i < size; ++i) {
    const uint64_t key = falling_key(scores[i]);
    if (sets[i] != kNoSet) items.push_back({key, sets[i]});
  }
  sort_by_key(items);
  return items;
}

}  // namespace

std::vector<ClassPrecision> average_precisions(const double* scores, const uint16_t* sets, int64_t size,
                                               int64_t count, bool ties_together) {
  const std::vector<RankedScore> items = ranked(scores, sets, size);
  const int64_t negatives =
      std::count_if(items.begin(), items.end(), [](const RankedScore& item) { return item.sets == 0; });
  std::vector<ClassPrecision> results(static_cast<size_t>(count), ClassPrecision{0, 0, 0, negatives});
  for (const RankedScore& item : items) {
    for (int64_t g = 0; item.sets != 0 && g < count; ++g) {
      results[static_cast<size_t>(g)].positives += item.sets >> g & 1;
    }
  }
  std::vector<int64_t> found(results.size()), now(results.size());
  int64_t false_positives = 0;
  for (size_t i = 0; i < items.size();) {
    std::fill(now.begin(), now.end(), 0);
    uint16_t any = 0;
    const uint64_t key = items[i].key;
    do {
      false_positives += items[i].sets == 0 ? 1 : 0;
      any |= items[i].sets;
      if (items[i].sets != 0) {
        for (int64_t g = 0; g < count; ++g) now[static_cast<size_t>(g)] += items[i].sets >> g & 1;
      }
      ++i;
    } while (ties_together && i < items.size() && items[i].key == key);
    if (any == 0) continue;
    for (size_t g = 0; g < results.size(); ++g) {
      if (now[g] == 0) continue;
      found[g] += now[g];
      ClassPrecision& result = results[g];
      const auto positives = static_cast<double>(result.positives), step = static_cast<double>(now[g]);
      const auto tp = static_cast<double>(found[g]), fp = static_cast<double>(false_positives);
      const double weighted = static_cast<double>(result.negatives) / positives * tp;
      result.ap += step / positives * (tp / (tp + fp));
      result.calibrated += step / positives * (fp == 0 ? 1 : weighted / (weighted + fp));
    }
  }
  for (ClassPrecision& result : results) {
    if (result.positives == 0) result.ap = result.calibrated = kNaN;
  }
  return results;
}

ClassPrecision average_precision(const std::vector<double>& scores, const std::vector<uint8_t>& positive,
                                 bool ties_together) {
  std::vector<uint16_t> sets;
  for (const uint8_t one : positive) sets.push_back(one != 0 ? 1 : 0);
  return average_precisions(scores.data(), sets.data(), static_cast<int64_t>(scores.size()), 1,
                            ties_together)[0];
}

}  // namespace zoo
