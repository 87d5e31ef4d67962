#pragma once
#include <cstdint>

#include <torch/nn/module.h>
#include <torch/nn/modules/linear.h>
#include <torch/types.h>

#include "core/options.h"
#include "models/online_action/action_model.h"
#include "models/weights/state_dict.h"

namespace zoo {

/// The baseline without a past: what one step's features tell by themselves.
struct FrameLinearOptions {
  int64_t feature_size = 3072;
  int64_t num_classes = 22;
  int64_t horizons = 0;  ///< K; 0: no anticipation
  int64_t window = 64;   ///< steps in training

  /// Throws UsageError naming the key, its value and the range.
  void validate() const;
};
NLOHMANN_DEFINE_TYPE_NON_INTRUSIVE(FrameLinearOptions, feature_size, num_classes, horizons, window)

/// classifier(x), and future_classifier(x) for all steps of the future.
class FrameLinearImpl : public torch::nn::Module {
 public:
  /// Throws UsageError as FrameLinearOptions::validate.
  explicit FrameLinearImpl(const FrameLinearOptions& options);

  ActionScores forward(const ActionInput& input);  ///< logits of all steps

  ActionState start(int64_t batch, torch::Device device) const;  ///< empty
  ActionStep step(const torch::Tensor& features, const ActionState& state);

  FrameLinearOptions options;

 private:
  ActionScores score(const torch::Tensor& features);

  torch::nn::Linear classifier_{nullptr}, future_classifier_{nullptr};
};
TORCH_MODULE(FrameLinear);

ActionModel make_frame_linear(const FrameLinearOptions& options);

}  // namespace zoo
