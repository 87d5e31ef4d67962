#pragma once
#include <cstdint>
#include <memory>

#include <torch/types.h>

namespace zoo {

/// The processes that train one model together, ranks 0…count−1, as a loss sees them. Every process calls the
/// same functions in the same order with tensors of the same shape and type; each waits for the others.
/// Implementations throw Error where another process has ended.
class Ranks {
 public:
  virtual ~Ranks() = default;

  virtual int64_t rank() const = 0;
  virtual int64_t count() const = 0;

  /// Sums, or the largest, over all processes, in place; the same to the bit in each.
  virtual void sum(torch::Tensor values) = 0;
  virtual void maximum(torch::Tensor values) = 0;
  /// Rank 0's values, in place. Waits for as long as it takes: rank 0 alone validates.
  virtual void broadcast(torch::Tensor values) = 0;
  /// Rows [n,…] of all processes, rank by rank: [count·n,…].
  virtual torch::Tensor gather(const torch::Tensor& rows) = 0;
  /// The same at rank 0 alone, undefined elsewhere.
  virtual torch::Tensor collect(const torch::Tensor& rows) = 0;
};

/// Null: one process has everything. The functions below then give back their argument.
using SharedRanks = std::shared_ptr<Ranks>;

// How autograd passes between processes. All of them compute the same loss from all samples; what each has of
// its own are some samples of the batch and some rows of the classes.

/// Rows [n,D] of every process's samples: [count·n,D]. The gradient is that of the own rows times count,
/// because gradients of shared weights are averaged over processes and the loss is the mean over all samples.
torch::Tensor all_rows(const torch::Tensor& x, const SharedRanks& ranks);
/// What every process has and each uses for its own classes: the gradient is the sum over processes.
torch::Tensor to_each_rank(const torch::Tensor& x, const SharedRanks& ranks);
/// Sum of what each has computed for its own classes.
torch::Tensor sum_of_ranks(const torch::Tensor& x, const SharedRanks& ranks);
/// log Σ e^x over processes; finite values.
torch::Tensor logsumexp_of_ranks(const torch::Tensor& x, const SharedRanks& ranks);
/// Random numbers that all processes must share: rank 0's.
torch::Tensor drawn_by_first(torch::Tensor numbers, const SharedRanks& ranks);

}  // namespace zoo
