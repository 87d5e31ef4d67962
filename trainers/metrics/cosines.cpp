#include "trainers/metrics/cosines.h"

#include <ATen/Parallel.h>
#include <torch/torch.h>

#include <cmath>

#include "core/error.h"
#include "core/text.h"

namespace zoo {

namespace {

/// Sums of x·y, x·x and y·y; equal vectors give equal sums.
struct Products {
  double xy = 0, xx = 0, yy = 0;
};

template <class Number>
Products products_of(const Number* x, const Number* y, int64_t size) {
  constexpr int kLanes = 8;  // sums that the compiler can keep in registers
  double xy[kLanes] = {}, xx[kLanes] = {}, yy[kLanes] = {};
  const auto add = [&](int lane, double p, double q) {
    xy[lane] += p * q;
    xx[lane] += p * p;
    yy[lane] += q * q;
  };
  int64_t i = 0;
  for (; i + kLanes <= size; i += kLanes) {
    for (int lane = 0; lane < kLanes; ++lane) add(lane, x[i + lane], y[i + lane]);
  }
  for (; i < size; ++i) add(0, x[i], y[i]);
  Products sums;
  for (int lane = 0; lane < kLanes; ++lane) {
    sums.xy += xy[lane];
    sums.xx += xx[lane];
    sums.yy += yy[lane];
  }
  return sums;
}

double cosine_of(const Products& sums) {
  if (sums.xx == 0 || sums.yy == 0) return 0;
  const double square = sums.xx * sums.yy;
  const bool exact = std::isnormal(square);  // else the product leaves the range of a double
  return sums.xy / (exact ? std::sqrt(square) : std::sqrt(sums.xx) * std::sqrt(sums.yy));
}

/// Calls `work(i)` for every row on torch's threads.
template <class Work>
void for_each_row(int64_t rows, const Work& work) {
  at::parallel_for(0, rows, 256, [&](int64_t begin, int64_t end) {
    for (int64_t i = begin; i < end; ++i) work(i);
  });
}

/// `first(i)` and `second(i)` are the rows of pair i.
template <class Number, class First, class Second>
std::vector<double> cosines_of(const torch::Tensor& a, const torch::Tensor& b, int64_t pairs,
                               const First& first, const Second& second) {
  std::vector<double> cosines(static_cast<size_t>(pairs));
  const int64_t size = a.size(1);
  const auto* x = a.const_data_ptr<Number>();
  const auto* y = b.const_data_ptr<Number>();
  for_each_row(pairs, [&](int64_t i) {
    cosines[static_cast<size_t>(i)] = cosine_of(products_of(x + first(i) * size, y + second(i) * size, size));
  });
  return cosines;
}

template <class First, class Second>
std::vector<double> finite_cosines(const torch::Tensor& a, const torch::Tensor& b, int64_t pairs,
                                   const First& first, const Second& second, const std::string& source) {
  const bool floats = a.scalar_type() == torch::kFloat && b.scalar_type() == torch::kFloat;
  const auto cosines = floats ? cosines_of<float>(a.contiguous(), b.contiguous(), pairs, first, second)
                              : cosines_of<double>(a.to(torch::kDouble).contiguous(),
                                                   b.to(torch::kDouble).contiguous(), pairs, first, second);
  for (size_t i = 0; i < cosines.size(); ++i) {
    if (!std::isfinite(cosines[i]))
      throw Error(source + format(": pair %zu holds an embedding that is not finite", i));
  }
  return cosines;
}

}  // namespace

std::vector<double> pair_cosines(const torch::Tensor& a, const torch::Tensor& b, const std::string& source) {
  if (a.dim() != 2 || a.sizes() != b.sizes())
    throw Error(source + ": the embeddings of pairs are not two matrices of one shape");
  const auto row = [](int64_t i) { return i; };
  return finite_cosines(a, b, a.size(0), row, row, source);
}

std::vector<double> pair_cosines(const torch::Tensor& embeddings, const std::vector<int64_t>& first,
                                 const std::vector<int64_t>& second, const std::string& source) {
  return finite_cosines(
      embeddings, embeddings, static_cast<int64_t>(first.size()),
      [&](int64_t i) { return first[static_cast<size_t>(i)]; },
      [&](int64_t i) { return second[static_cast<size_t>(i)]; }, source);
}

torch::Tensor row_lengths(const torch::Tensor& embeddings, const std::string& source) {
  const int64_t size = embeddings.size(1);
  torch::Tensor lengths = torch::empty({embeddings.size(0)}, torch::kDouble);
  const auto* from = embeddings.const_data_ptr<float>();
  auto* to = lengths.mutable_data_ptr<double>();
  for_each_row(embeddings.size(0),
               [&](int64_t i) { to[i] = std::sqrt(products_of(from + i * size, from + i * size, size).xx); });
  const torch::Tensor bad = lengths.isfinite().logical_not().nonzero();
  if (bad.size(0) == 0) return lengths;
  throw Error(source + ": embedding " + std::to_string(bad[0].item<int64_t>()) + " is not finite");
}

}  // namespace zoo
