#pragma once
#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include <torch/types.h>

#include "models/face_losses/options.h"
#include "models/loss_module.h"
#include "models/loss_terms.h"
#include "models/ranks.h"

namespace zoo {

/// A loss over embeddings. Class rows (`weight`), biases and learnt scalars are its parameters, centres and
/// running statistics its buffers. Statistics move in forward passes in train mode.
class FaceLossImpl : public LossModule {
 public:
  /// Embeddings [N,D] of any float type, not normalised; labels [N] int64, one a sample. Computed in float32
  /// (float64 for float64), under autocast too. Terms of losses with classes begin with `accuracy`, the share
  /// of samples whose class has the largest product before any margin.
  ///
  /// Safe everywhere: at cosines of ±1 and for embeddings of norm 0 (below 1e-6 a direction is taken as none:
  /// the unit vector is 0, and so is its gradient). Throws Error for other shapes and for labels out of range.
  ///
  /// Of several processes each gives its own samples, as many as the others; loss, terms and statistics are
  /// those of all samples in one process, and the same in each.
  virtual LossTerms forward(const torch::Tensor& embeddings, const torch::Tensor& labels) = 0;
};

/// A row of the table of losses.
struct FaceLossInfo {
  std::string name;
  std::string description;
  bool needs_classes = true;  ///< a row for every class; false: num_classes is not looked at
  bool needs_pairs = false;   ///< nothing to learn from a batch without two samples of one class
};

/// Every loss, in the order to show.
const std::vector<FaceLossInfo>& face_losses();
/// By name. Throws UsageError naming the nearest.
const FaceLossInfo& find_face_loss(const std::string& name);

/// The loss that `options.name` says, float32, on the CPU, in train mode; `seed` gives the class rows, N(0,
/// 0.01²), and what Partial FC draws. With `ranks` class rows are cut over the processes; what else a loss has
/// is whole in each. Throws UsageError as FaceLossOptions::validate, and Error for fewer than two classes (for
/// each process) where it has classes.
std::shared_ptr<FaceLossImpl> make_face_loss(const FaceLossOptions& options, int64_t embedding_size,
                                             int64_t num_classes, uint64_t seed,
                                             const SharedRanks& ranks = nullptr);

}  // namespace zoo
