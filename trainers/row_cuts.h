#pragma once
#include <string>

#include <torch/types.h>

#include "models/loss_module.h"
#include "models/ranks.h"
#include "models/weights/state_dict.h"

namespace zoo {

/// Tensors of a run that every process has some rows of (a loss's RowShard), and the optimiser's and the
/// average's beside them: whole in files, so that a run may go on with another number of processes.
class RowCuts {
 public:
  /// `shard` with names as in a run: "loss.weight". Without ranks nothing is cut.
  RowCuts(RowShard shard, SharedRanks ranks);

  /// Whether `tensor`, under one of those names or PREFIX.NAME, is cut.
  bool contains(const std::string& name, const torch::Tensor& tensor) const;
  /// The rows of all processes at rank 0 where the tensor is cut, else and elsewhere what was given. Called by
  /// every process.
  torch::Tensor whole(const std::string& name, const torch::Tensor& tensor) const;
  /// Leaves this process its rows of all such tensors in a file (views).
  void cut(StateDict& file) const;

 private:
  bool named(const std::string& name) const;

  RowShard shard_;
  SharedRanks ranks_;
};

}  // namespace zoo
