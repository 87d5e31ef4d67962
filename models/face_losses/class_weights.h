#pragma once
#include <cstdint>
#include <optional>
#include <vector>

#include <torch/types.h>

#include "core/random.h"
#include "models/face_losses/options.h"
#include "models/face_losses/products.h"
#include "models/loss_module.h"

namespace zoo {

/// Classes that a process has rows of: [start, start + count) of all. One process has all of them; with
/// several, rank r of k has C/k of them, the first C mod k ranks one more, and a label of another process's
/// class is −1 in ClassRows.
struct ClassShard {
  int64_t classes = 0;  ///< C
  int64_t start = 0, count = 0;

  static ClassShard of(int64_t classes, int64_t rank = 0, int64_t ranks = 1);
};

/// A sample of `count` of the classes 0…classes−1, ascending: all of `wanted` (ascending, no repeats), and
/// others drawn without repeats. Where `wanted` has more than `count`, just those; two at least, in any case.
/// O(count) numbers are drawn.
std::vector<int64_t> sample_classes(const std::vector<int64_t>& wanted, int64_t classes, int64_t count,
                                    RandomStream& random);

/// The class rows of a loss, tensors of that loss: `weight` [C,D] ~ N(0, 0.01²), a parameter or, where steps
/// take samples of the rows (ClassOptions::sample_rate), a buffer beside `momentum` [C,D] and `draws` [],
/// from which, the shard's start and the seed each step's sample follows; `bias` [C], first 0, a parameter in
/// any case. Of a shard they have its rows alone; first values do not depend on the shards.
class ClassWeights {
 public:
  ClassWeights(LossModule& owner, const ClassShard& shard, int64_t embedding_size, bool bias,
               const ClassOptions& options, uint64_t seed);

  /// Rows of a step for labels [N] in 0…C−1: all, or a new sample. With gradients on, a sample is kept until
  /// its step. Throws Error for a label out of range.
  ClassRows rows(const torch::Tensor& labels, bool normalise);

  bool sampled() const { return options_.sample_rate < 1; }
  const ClassOptions& options() const { return options_; }
  const ClassShard& shard() const { return shard_; }
  /// The tensors above that have a row for each class.
  RowShard row_shard() const;

  /// What LossModule asks for; nothing without sampling.
  std::vector<torch::Tensor> gradients();
  void step(double lr, double weight_decay, double momentum, double gradient_scale);
  void release() { samples_.clear(); }

 private:
  /// Rows that forward passes have taken since the last step.
  struct Sample {
    torch::Tensor index;  ///< [n] ascending
    torch::Tensor rows;   ///< [n,D] a leaf, with their gradient
  };
  ClassRows sampled_rows(const torch::Tensor& local, bool normalise);
  void merge_samples();

  ClassShard shard_;
  ClassOptions options_;
  uint64_t seed_;
  torch::Tensor weight_, bias_, momentum_, draws_;
  std::vector<Sample> samples_;
};

}  // namespace zoo
