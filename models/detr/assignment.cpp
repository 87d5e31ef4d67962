#include "models/detr/assignment.h"

#include <algorithm>
#include <cmath>
#include <numeric>

#include "core/error.h"
#include "core/numbers.h"
#include "core/text.h"

namespace zoo {

namespace {

/// For rows <= columns. Prices keep every reduced cost, cost - row price - column price, at or above 0, and
/// at 0 for the pairs made so far; each row then joins along a path of least reduced cost to a free column.
class AugmentingPaths {
 public:
  AugmentingPaths(const double* cost, int64_t rows, int64_t columns)
      : cost_(cost),
        columns_(columns),
        row_price_(rows, 0),
        column_price_(columns, 0),
        distance_(columns),
        column_of_(rows, -1),
        row_of_(columns, -1),
        previous_(columns) {}

  std::vector<int64_t> solve() {
    for (int64_t row = 0; row < static_cast<int64_t>(column_of_.size()); ++row) {
      const int64_t column = find_path(row);
      update_prices(row, distance_[column]);
      flip_path(row, column);
    }
    return std::move(column_of_);
  }

 private:
  /// Dijkstra's search from a row to the nearest free column, which it returns; `reached_` are the taken
  /// columns on the way, `previous_` the rows before each column.
  int64_t find_path(int64_t row) {
    open_.resize(columns_);
    std::iota(open_.begin(), open_.end(), 0);
    reached_.clear();
    std::fill(distance_.begin(), distance_.end(), kInfinity);
    double length = 0;
    for (;;) {
      const size_t nearest = relax(row, length);
      const int64_t column = open_[nearest];
      length = distance_[column];
      if (length == kInfinity) throw Error("assignment: infinite costs leave no complete assignment");
      if (row_of_[column] < 0) return column;
      reached_.push_back(column);
      open_[nearest] = open_.back();
      open_.pop_back();
      row = row_of_[column];
    }
  }

  /// Shortens the distances of open columns by the edges of a row; gives the place in `open_` of the nearest
  /// one, a free one if it can.
  size_t relax(int64_t row, double length) {
    const double* cost = cost_ + row * columns_;
    const double start = length - row_price_[row];
    size_t nearest = 0;
    double least = kInfinity;
    for (size_t i = 0; i < open_.size(); ++i) {
      const int64_t column = open_[i];
      const double through = start + cost[column] - column_price_[column];
      if (through < distance_[column]) {
        distance_[column] = through;
        previous_[column] = row;
      }
      if (distance_[column] < least || (distance_[column] == least && row_of_[column] < 0)) {
        least = distance_[column];
        nearest = i;
      }
    }
    return nearest;
  }

  void update_prices(int64_t row, double length) {
    row_price_[row] += length;
    for (const int64_t column : reached_) {
      const double change = length - distance_[column];
      row_price_[row_of_[column]] += change;
      column_price_[column] -= change;
    }
  }

  void flip_path(int64_t first, int64_t column) {
    for (int64_t row = -1; row != first;) {
      row = previous_[column];
      row_of_[column] = row;
      std::swap(column_of_[row], column);
    }
  }

  const double* cost_;
  int64_t columns_;
  std::vector<double> row_price_, column_price_, distance_;
  std::vector<int64_t> column_of_, row_of_, previous_;
  std::vector<int64_t> open_, reached_;
};

void check_costs(const double* cost, int64_t rows, int64_t columns) {
  for (int64_t i = 0; i < rows * columns; ++i) {
    if (!std::isnan(cost[i]) && cost[i] != -kInfinity) continue;
    throw Error(format("assignment: cost %g at row %lld, column %lld, expected a number or +infinity",
                       cost[i], static_cast<long long>(i / columns), static_cast<long long>(i % columns)));
  }
}

}  // namespace

std::vector<int64_t> solve_assignment(const double* cost, int64_t rows, int64_t columns) {
  check_costs(cost, rows, columns);
  if (rows <= columns) return AugmentingPaths(cost, rows, columns).solve();
  std::vector<double> transposed(rows * columns);
  for (int64_t i = 0; i < rows; ++i) {
    for (int64_t j = 0; j < columns; ++j) transposed[j * rows + i] = cost[i * columns + j];
  }
  const std::vector<int64_t> row_of = AugmentingPaths(transposed.data(), columns, rows).solve();
  std::vector<int64_t> column_of(rows, -1);
  for (int64_t j = 0; j < columns; ++j) column_of[row_of[j]] = j;
  return column_of;
}

}  // namespace zoo
