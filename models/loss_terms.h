#pragma once
#include <string>
#include <utility>
#include <vector>

#include <torch/types.h>

namespace zoo {

/// What a criterion gives: the weighted sum to differentiate, and named scalars (unweighted, detached) to
/// log.
struct LossTerms {
  torch::Tensor total;                                       ///< [] attached to the graph
  std::vector<std::pair<std::string, torch::Tensor>> terms;  ///< each [], in the order to show
};

}  // namespace zoo
