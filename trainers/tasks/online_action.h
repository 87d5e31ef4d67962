#pragma once
#include <functional>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "datasets/actions/actions.h"
#include "models/online_action/action_model.h"
#include "models/online_action/criterion.h"
#include "trainers/metrics/online_action.h"
#include "trainers/recipes.h"
#include "trainers/task.h"
#include "trainers/tasks/fused_evaluation.h"

namespace zoo {

/// Section `data.sampling` of recipes of online action detection: which windows a training sees; sizes are the model's.
struct ActionSamplingOptions {
  int64_t stride = 1;  ///< as in ActionWindowOptions, and so are the others
  std::string start = "repeat";
  int64_t tail = 0;
  bool skip_ambiguous = false;

  void validate() const;
};
NLOHMANN_DEFINE_TYPE_NON_INTRUSIVE(ActionSamplingOptions, stride, start, tail, skip_ambiguous)

/// Section `eval` of the same recipes.
struct ActionEvalOptions {
  int64_t previews = 2;       ///< videos drawn at each validation of a run
  double stall_seconds = 60;  ///< predict --stream: the longest wait for a step; 0: for ever
  ActionProtocol protocol;

  void validate() const;
};
NLOHMANN_DEFINE_TYPE_NON_INTRUSIVE(ActionEvalOptions, previews, stall_seconds, protocol)

/// Makes the network that a section `model` describes.
using MakeActionModel = std::function<ActionModel(const Json& model)>;

/// Online action detection by any network that scores the current step of a stream, and some of the future, from what
/// came before. Trained on windows; evaluated and used as a stream, step by step: the figures are those of live use.
class ActionTask : public Task {
 public:
  /// Opens what `purpose` needs and builds the model. Writes model.feature_size and model.num_classes where they are 0,
  /// and model.ambiguous_class. Throws Error where data and model do not fit.
  ActionTask(Json& config, Purpose purpose, const StateDict* weights, const MakeActionModel& make);

  torch::nn::Module& module() override { return *model_.module; }
  std::shared_ptr<torch::nn::Module> shared_module() override { return model_.module; }
  std::vector<ParameterGroup> parameter_groups(const OptimizerOptions& options) override;
  BatchSource& training_batches() override;
  LossTerms loss(const Batch& batch, torch::Device device) override;
  Json evaluate(torch::Device device, const std::function<void(int64_t, int64_t)>& progress) override;
  std::string best_metric() const override { return "mAP"; }
  /// Timelines of the first videos.
  std::vector<Preview> previews(int64_t count, torch::Device device) override;
  TraceSpec trace_spec() override;
  /// `step` too: features [B,D] and the state -> current, future and the state that follows.
  std::vector<TraceSpec> exported_methods() override;
  std::vector<torch::Tensor> example_inputs(int64_t batch_size,
                                            std::pair<int64_t, int64_t> size) const override;
  /// Steps of a window and numbers of a step.
  std::pair<int64_t, int64_t> default_input_size() const override {
    return {model_.window, model_.feature_size};
  }
  std::map<std::string, std::string> weight_metadata() const override;
  std::vector<std::pair<std::string, std::string>> describe(const Batch& batch) const override;

  const ActionModel& model() const { return model_; }
  /// Of the probabilities' columns, column 0 background.
  const std::vector<std::string>& class_names() const { return class_names_; }
  /// Of the data that the model was trained on, or of the validation data.
  double steps_per_second() const { return steps_per_second_; }

  /// One step of B streams: probabilities [B,C] of the current step and [B,K,C] of the future (undefined without),
  /// float on the CPU, and the state that follows. Gradients off, module in eval mode.
  ActionStep step(const torch::Tensor& features, const ActionState& state, torch::Device device);
  /// Every step of every video, streams side by side.
  std::vector<ActionVideoScores> stream(const ActionDataset& videos, torch::Device device,
                                        const std::function<void(int64_t, int64_t)>& progress);

  /// Of the last `evaluate`: what stands beside the metrics, and scores, labels and ambiguous steps in the form that
  /// `zoo eval --predictions` reads.
  const Json& details() const { return details_; }
  StateDict predictions() const;

 private:
  void open_data(Purpose purpose);
  void name_classes(const StateDict* weights);
  void fit_to_data(Json& model, const ActionDataset* data);
  ActionWindowOptions window() const;
  /// Some videos, the longest first, into their places in `scored`; `progress` after each step.
  void stream_group(const ActionDataset& videos, const std::vector<int64_t>& group, torch::Device device,
                    std::vector<ActionVideoScores>& scored, const std::function<void()>& progress);
  torch::Tensor probabilities(const torch::Tensor& logits) const;
  ActionNaming naming() const;

  DataOptions data_;
  ActionSamplingOptions sampling_;
  ActionEvalOptions eval_;
  ActionLossOptions loss_;
  uint64_t seed_ = 0;
  FusedEvaluation fused_;
  std::shared_ptr<ActionDataset> training_, validation_;
  std::vector<std::string> class_names_;
  double steps_per_second_ = 4;
  int64_t ambiguous_class_ = -1;  ///< column of the head that is of ambiguous steps; -1: none
  ActionModel model_;
  std::unique_ptr<BatchSource> training_batches_;
  std::vector<ActionVideoScores> scored_;
  Json details_;
};

}  // namespace zoo
