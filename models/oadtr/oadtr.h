#pragma once
#include <cstdint>
#include <vector>

#include <torch/nn/module.h>
#include <torch/nn/modules/linear.h>
#include <torch/nn/modules/normalization.h>
#include <torch/types.h>

#include "core/options.h"
#include "models/oadtr/transformer.h"
#include "models/online_action/action_model.h"
#include "models/weights/state_dict.h"

namespace zoo {

/// OadTR, Wang et al. 2021 (arXiv 2106.11149), as wangxiang1230/OadTR has it. Defaults are those for THUMOS'14.
struct OadTrOptions {
  int64_t feature_size = 3072;  ///< RGB 2048 and flow 1024
  int64_t num_classes = 22;
  int64_t window = 64;  ///< T, the current step included
  int64_t hidden_dim = 1024;
  int64_t encoder_layers = 3, encoder_heads = 8;
  int64_t decoder_layers = 5, decoder_heads = 4;
  int64_t feedforward = 1024;
  int64_t horizons = 8;    ///< K future steps, which the decoder's queries stand for
  bool task_token = true;  ///< false: the last step's output stands in for the token's (table 5's ablation)
  double dropout = 0.1;

  /// Throws UsageError naming the key, its value and the range.
  void validate() const;
};
NLOHMANN_DEFINE_TYPE_NON_INTRUSIVE(OadTrOptions, feature_size, num_classes, window, hidden_dim,
                                   encoder_layers, encoder_heads, decoder_layers, decoder_heads, feedforward,
                                   horizons, task_token, dropout)

/// What the encoder makes of a window.
struct OadTrEncoding {
  torch::Tensor outputs;  ///< [B,T+1,d], the task token's last; [B,T,d] without one
  torch::Tensor task;     ///< [B,d], of the task token or, without one, of the last step
  torch::Tensor steps;    ///< [B,T,d]
};

/// Names and shapes are the published ones: cls_token, decoder_cls_token, linear_encoding, position_encoding, encoder,
/// pre_head_ln, decoder, decoder_position_encoding (in the file, but of no use), mlp_head, classifier.
class OadTrImpl : public torch::nn::Module {
 public:
  /// Throws UsageError as OadTrOptions::validate.
  explicit OadTrImpl(const OadTrOptions& options);

  /// Features of `window` steps -> logits of the last. Throws Error for another shape.
  ActionScores forward(const ActionInput& input);
  OadTrEncoding encode(const torch::Tensor& features);

  /// State: `window` [B,T,d], linear_encoding of the last T steps, and `count` [B] int64 of steps so far. A stream's
  /// first step stands before it, too.
  ActionState start(int64_t batch, torch::Device device) const;
  ActionStep step(const torch::Tensor& features, const ActionState& state);

  OadTrOptions options;

 private:
  OadTrEncoding encode_projected(const torch::Tensor& x);
  ActionScores score(const OadTrEncoding& encoding);

  torch::nn::Linear linear_encoding_{nullptr};
  torch::Tensor cls_token_;  // [1,1,d]
  OadTrPositions position_encoding_{nullptr};
  OadTrEncoder encoder_{nullptr};
  torch::nn::LayerNorm pre_head_ln_{nullptr};
  torch::Tensor decoder_cls_token_;  // [1,K,d]
  OadTrDecoder decoder_{nullptr};
  OadTrPositions decoder_position_encoding_{nullptr};
  torch::nn::Linear classifier_{nullptr}, mlp_head_{nullptr};
};
TORCH_MODULE(OadTr);

ActionModel make_oadtr(const OadTrOptions& options);

/// Whether the tensors are of an OadTR.
bool oadtr_recognises(const StateDict& state);
/// `options` with what names and shapes of the tensors tell: all but the numbers of heads and dropout. Throws Error
/// where the names are not an OadTR's.
OadTrOptions oadtr_options_of(const StateDict& state, OadTrOptions options = {});

}  // namespace zoo
