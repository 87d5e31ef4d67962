#include "models/detr/assignment.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <numeric>
#include <random>
#include <set>

#include "core/error.h"
#include "core/numbers.h"

namespace zoo {
namespace {

struct Matrix {
  int64_t rows, columns;
  std::vector<double> cost;  // row-major
};

/// Total cost of the pairs, after checking that they are min(rows, columns) many and that no column is used
/// twice.
double total(const Matrix& matrix, const std::vector<int64_t>& column_of) {
  double sum = 0;
  std::set<int64_t> used;
  EXPECT_EQ(column_of.size(), static_cast<size_t>(matrix.rows));
  for (int64_t i = 0; i < matrix.rows; ++i) {
    if (column_of[i] < 0) continue;
    EXPECT_LT(column_of[i], matrix.columns);
    EXPECT_TRUE(used.insert(column_of[i]).second);
    sum += matrix.cost[i * matrix.columns + column_of[i]];
  }
  EXPECT_EQ(static_cast<int64_t>(used.size()), std::min(matrix.rows, matrix.columns));
  return sum;
}

double solved(const Matrix& matrix) {
  return total(matrix, solve_assignment(matrix.cost.data(), matrix.rows, matrix.columns));
}

/// The least total over all ways to choose, rows <= columns.
double least(const Matrix& matrix) {
  std::vector<int64_t> order(matrix.columns);
  std::iota(order.begin(), order.end(), 0);
  double best = kInfinity;
  do {
    double sum = 0;
    for (int64_t i = 0; i < matrix.rows; ++i) sum += matrix.cost[i * matrix.columns + order[i]];
    best = std::min(best, sum);
  } while (std::next_permutation(order.begin(), order.end()));
  return best;
}

std::string error_of(const Matrix& matrix) {
  try {
    solve_assignment(matrix.cost.data(), matrix.rows, matrix.columns);
  } catch (const Error& error) {
    return error.what();
  }
  return "";
}

TEST(Assignment, KnownPairs) {
  const std::vector<double> cost = {4, 1, 3, 2, 0, 5, 3, 2, 2};
  EXPECT_EQ(solve_assignment(cost.data(), 3, 3), (std::vector<int64_t>{1, 0, 2}));
  // The greedy choice, 0 of row 0, would force 100.
  const std::vector<double> trap = {0, 1, 0.5, 100};
  EXPECT_EQ(solve_assignment(trap.data(), 2, 2), (std::vector<int64_t>{1, 0}));
}

TEST(Assignment, RectanglesBothWays) {
  const std::vector<double> cost = {5, 2, 9, 1, 7, 3};
  EXPECT_EQ(solve_assignment(cost.data(), 2, 3), (std::vector<int64_t>{1, 0}));
  EXPECT_EQ(solve_assignment(cost.data(), 3, 2), (std::vector<int64_t>{0, 1, -1}));
}

TEST(Assignment, EqualsTryingAllPermutations) {
  std::mt19937 random(1);
  for (int round = 0; round < 300; ++round) {
    const auto rows = static_cast<int64_t>(1 + random() % 5),
               columns = static_cast<int64_t>(rows + random() % 3);
    Matrix matrix{rows, columns, std::vector<double>(rows * columns)};
    const unsigned values = round % 3 == 0 ? 3 : 1000;  // few values: many ties
    for (double& cost : matrix.cost) cost = static_cast<double>(random() % values) - 1;
    const double expected = least(matrix);
    EXPECT_EQ(solved(matrix), expected);
    Matrix turned{columns, rows, std::vector<double>(rows * columns)};
    for (int64_t i = 0; i < rows * columns; ++i)
      turned.cost[(i % columns) * rows + i / columns] = matrix.cost[i];
    EXPECT_EQ(solved(turned), expected);
  }
}

TEST(Assignment, ConstantCosts) {
  EXPECT_EQ(solved({4, 7, std::vector<double>(28, 2.5)}), 10);
  EXPECT_EQ(solved({7, 4, std::vector<double>(28, -1e6)}), -4e6);
}

TEST(Assignment, EmptySides) {
  EXPECT_TRUE(solve_assignment(nullptr, 0, 0).empty());
  EXPECT_TRUE(solve_assignment(nullptr, 0, 5).empty());
  EXPECT_EQ(solve_assignment(nullptr, 2, 0), (std::vector<int64_t>{-1, -1}));
}

TEST(Assignment, InfinityForbidsAPair) {
  EXPECT_EQ(solved({2, 2, {kInfinity, 8, 9, kInfinity}}), 17);
  EXPECT_EQ(solved({2, 3, {kInfinity, kInfinity, 8, 9, kInfinity, 1}}), 17);
  EXPECT_NE(error_of({2, 2, {1, kInfinity, 2, kInfinity}}).find("no complete assignment"), std::string::npos);
  EXPECT_NE(error_of({1, 1, {kInfinity}}).find("no complete assignment"), std::string::npos);
  EXPECT_NE(error_of({3, 2, {kInfinity, 1, kInfinity, 2, kInfinity, 3}}).find("no complete"),
            std::string::npos);
}

TEST(Assignment, RefusesWhatIsNoCost) {
  EXPECT_EQ(error_of({2, 2, {1, 2, NAN, 4}}),
            "assignment: cost nan at row 1, column 0, expected a number or +infinity");
  EXPECT_NE(error_of({1, 2, {1, -kInfinity}}).find("row 0, column 1"), std::string::npos);
}

}  // namespace
}  // namespace zoo
