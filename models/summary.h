#pragma once
#include <cstdint>
#include <functional>
#include <string>
#include <vector>

#include <torch/nn/module.h>

#include "core/options.h"
#include "models/receptive_field.h"

namespace zoo {

/// One layer in the order of the forward pass.
struct SummaryRow {
  std::string name;  ///< of the module whose weights it uses; without weights, of the module it happens in
  std::string type;  ///< of that module, or of the operation
  std::vector<int64_t> output_shape;
  int64_t parameters = 0;  ///< the module's own, at its first row; frozen batch norms have none
  double macs = 0;         ///< multiply-accumulates
  ReceptiveField field;    ///< of a cell of the output
};

/// What a forward pass consists of. MACs are those of convolutions, linear layers, matrix products, attention
/// (q·kᵀ and p·v) and recurrent layers; all else is free, as papers count (DETR's 86 "GFLOPs" are such
/// GMACs). FLOPs = 2 MACs.
struct Summary {
  std::vector<SummaryRow> rows;
  int64_t parameters = 0;            ///< of the whole module
  int64_t trainable_parameters = 0;  ///< that require a gradient
  int64_t buffers = 0;               ///< values in buffers, for example of frozen batch norms
  double macs = 0;                   ///< of the whole pass, all images of the batch together
  ReceptiveField field;              ///< of the last map whose cells do not see the whole input

  /// {"metrics": {parameters, trainable_parameters, buffers, macs, flops, receptive_field, stride, offset},
  /// "layers":
  /// [{name, type, output_shape, parameters, macs, flops, receptive_field, stride, offset, global}]}. The
  /// last three figures are a number, [height, width] where the two differ, or null where there is no map;
  /// with `global`, null because every cell sees the whole input.
  Json to_json() const;
  /// A table and the totals.
  std::string str() const;
};

/// Runs `forward` once, as it is and without gradients, and observes the operations that torch dispatches on
/// this thread. Rows get their names by the storage of the weights they use; receptive fields follow the
/// tensors through all operations (the larger one where branches meet). Normalisations, squeeze-and-excite
/// gates among them only by their pooling, count as working cell by cell.
Summary summarize(const torch::nn::Module& module, const std::function<void()>& forward);

}  // namespace zoo
