#pragma once
#include <cstdint>
#include <vector>

namespace zoo {

/// The cheapest set of min(rows, columns) pairs that uses no row and no column twice: for every row its
/// column, -1 where it has none. `cost` is row-major [rows,columns]; infinity forbids a pair. Optimal cost is
/// unique, the pairs are not where costs tie.
///
/// Shortest augmenting paths (Jonker and Volgenant 1987; rectangular after Crouse 2016), O(n²·m) for the
/// shorter side n and the longer one m. Throws Error for NaN or -infinity, and where infinities leave no
/// complete assignment.
std::vector<int64_t> solve_assignment(const double* cost, int64_t rows, int64_t columns);

}  // namespace zoo
