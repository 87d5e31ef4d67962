#pragma once
#include <cstdint>

#include <torch/nn/module.h>
#include <torch/nn/modules/linear.h>
#include <torch/types.h>

#include "core/options.h"
#include "models/layers/chain.h"
#include "models/layers/recurrent.h"
#include "models/online_action/action_model.h"
#include "models/weights/state_dict.h"

namespace zoo {

/// Temporal recurrent network, Xu et al. 2019 (arXiv 1811.07391), as xumingze0308/TRN.pytorch has it. Defaults are those
/// for THUMOS'14.
struct TrnOptions {
  int64_t feature_size = 3072;  ///< D: camera 2048 and motion 1024
  int64_t num_classes = 22;
  int64_t hidden_dim = 4096;  ///< H of both cells
  int64_t horizons = 8;       ///< K, the first of which is the current step
  int64_t window = 64;        ///< steps in training
  double dropout = 0.1;

  /// Throws UsageError naming the key, its value and the range.
  void validate() const;
};
NLOHMANN_DEFINE_TYPE_NON_INTRUSIVE(TrnOptions, feature_size, num_classes, hidden_dim, horizons, window,
                                   dropout)

/// Each step an LSTM cell takes the features and the future context of the step before; a second one then looks K steps
/// ahead from its state, fed with its own scores. The context is the mean of relu(future_linear(h)) over these steps.
///
/// Names and shapes are the published ones: feature_extractor.input_linear.0, hx_trans.0, cx_trans.0, fusion_linear.0,
/// future_linear.0, enc_cell, dec_cell, classifier. Linear weights start N(0, 0.001), the cells' matrices orthogonal,
/// their biases N(0,1).
class TrnImpl : public torch::nn::Module {
 public:
  /// Throws UsageError as TrnOptions::validate.
  explicit TrnImpl(const TrnOptions& options);

  /// Features from a stream's first step on -> logits of all steps. A trace of it holds for its T alone.
  ActionScores forward(const ActionInput& input);

  /// State: `hidden` and `cell` [B,H] of the first cell, `future` [B,D] the context.
  ActionState start(int64_t batch, torch::Device device) const;
  ActionStep step(const torch::Tensor& features, const ActionState& state);

  TrnOptions options;

 private:
  struct Pass;
  struct Future;

  void initialise();
  torch::Tensor drop(const torch::Tensor& x) const;
  torch::Tensor gates_of(const torch::Tensor& features);
  Future look_ahead(const Pass& pass, const LstmState& state);

  Chain input_linear_{nullptr}, hx_trans_{nullptr}, cx_trans_{nullptr};
  Chain fusion_linear_{nullptr}, future_linear_{nullptr};
  LstmCell enc_cell_{nullptr}, dec_cell_{nullptr};
  torch::nn::Linear classifier_{nullptr};
};
TORCH_MODULE(Trn);

ActionModel make_trn(const TrnOptions& options);

/// Whether the tensors are of a TRN with joined features (not the HDD form with a camera's maps and sensors).
bool trn_recognises(const StateDict& state);
/// `options` with what the tensors' shapes tell: feature_size, num_classes, hidden_dim. Throws Error where the names are
/// not a TRN's.
TrnOptions trn_options_of(const StateDict& state, TrnOptions options = {});

}  // namespace zoo
