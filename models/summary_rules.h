#pragma once
#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include <torch/types.h>

#include "models/receptive_field.h"

namespace zoo {

/// What `summarize` knows of a tensor.
struct TensorTrace {
  ReceptiveField field;
  int64_t cells = 0;  ///< of the latest map that it comes from, all images together
  std::string owner;  ///< dotted name of the module that made it
};

/// One operation that torch dispatched.
struct OperationCall {
  std::vector<torch::IValue> arguments;  ///< in the order of the schema
  torch::Tensor output;                  ///< the first
  TensorTrace input;                     ///< of all arguments that are no weights together
  bool has_weights;                      ///< among the arguments

  const torch::Tensor& tensor(size_t i) const { return arguments[i].toTensor(); }
};

/// What an operation does beside handing fields on.
struct OperationEffect {
  double macs = 0;                      ///< multiply-accumulates
  std::optional<ReceptiveField> field;  ///< of the output, where it is not that of the input
  bool new_map = false;                 ///< the output is a map [B,C,spatial..]
  bool is_layer = false;                ///< worth a row without weights
};

using OperationRule = OperationEffect (*)(const OperationCall&);

/// By the operation's name in torch ("aten::linear"); null for those without effect, and for compositions
/// that count by their parts.
OperationRule find_rule(const std::string& operation);

}  // namespace zoo
