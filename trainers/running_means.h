#pragma once
#include <cstdint>
#include <string>
#include <utility>
#include <vector>

#include <torch/types.h>

#include "core/options.h"

namespace zoo {

/// Means of named scalars over many steps. They stay on their device until somebody asks, so that a step
/// costs no transfer.
class RunningMeans {
 public:
  /// Adds one value to each name; names may differ from call to call. All tensors are scalars of one device.
  void add(const std::vector<std::pair<std::string, torch::Tensor>>& values);
  /// The means so far, in the order of first appearance.
  std::vector<std::pair<std::string, double>> means();
  void clear();

  /// The sums so far as a document, and back, without rounding.
  Json to_json();
  void from_json(const Json& document);

 private:
  struct Sum {
    std::string name;
    double sum = 0;
    int64_t count = 0;
  };
  void collect();
  Sum& sum_of(const std::string& name);

  std::vector<Sum> sums_;
  std::vector<std::string> pending_names_;
  torch::Tensor pending_;  ///< [names] double, sums of the last calls with just these names
  int64_t pending_count_ = 0;
};

}  // namespace zoo
