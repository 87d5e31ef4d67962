#pragma once
#include <functional>
#include <map>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include <torch/nn/module.h>
#include <torch/types.h>
#include <opencv2/core.hpp>

#include "core/options.h"
#include "datasets/batch.h"
#include "models/export/trace.h"
#include "models/loss_module.h"
#include "models/loss_terms.h"
#include "models/ranks.h"
#include "trainers/options.h"

namespace zoo {

/// Parameters that share a step size and a weight decay.
struct ParameterGroup {
  std::string name;
  std::vector<std::pair<std::string, torch::Tensor>>
      parameters;  ///< by registered name, in the module's order
  double lr = 0;
  double weight_decay = 0;
};

/// A picture to look at: predictions drawn on a validation image.
struct Preview {
  std::string name;  ///< file name without ending
  cv::Mat rgb;
};

/// One kind of work: how a batch becomes a loss, and a data set a score. The trainer knows nothing else of a
/// model.
class Task {
 public:
  virtual ~Task() = default;

  /// Makes this process one of several that train together: batches are then its part of each, and losses
  /// those of all parts (class rows are cut), or of the part where the mean over processes is that of the
  /// whole. Null: the only one. Called before anything else that is for trainings.
  virtual void join(const SharedRanks& ranks) { ranks_ = ranks; }

  virtual torch::nn::Module& module() = 0;
  virtual std::shared_ptr<torch::nn::Module> shared_module() = 0;
  /// Trainable parameters by step size. Names that match a pattern of trainer.freeze are taken out by the
  /// trainer.
  virtual std::vector<ParameterGroup> parameter_groups(const OptimizerOptions& options) = 0;

  /// A loss with tensors of its own; null: none. They are saved beside the model's under `loss.`, and those of
  /// its parameters that are trained stand in parameter_groups under that name.
  virtual std::shared_ptr<LossModule> loss_module() { return nullptr; }

  /// Opens the training data; the source lives as long as the task.
  virtual BatchSource& training_batches() = 0;
  /// Module in train mode, gradients on, autocast as configured around the call. Losses themselves are fp32.
  virtual LossTerms loss(const Batch& batch, torch::Device device) = 0;

  /// Scores the validation data; module in eval mode, gradients off. The document is what `--json` prints
  /// under "metrics": null where a figure does not exist. `progress(done, all)` is called after each batch.
  virtual Json evaluate(torch::Device device, const std::function<void(int64_t, int64_t)>& progress) = 0;
  /// The metric that picks the best weights, "AP"; larger is better, or less with a leading '-'.
  virtual std::string best_metric() const = 0;
  /// Drawn predictions on the first validation samples (eval mode, gradients off).
  virtual std::vector<Preview> previews(int64_t count, torch::Device device) = 0;
  /// Pictures of how far the training has come, NAME.png in the run directory, drawn anew at each validation
  /// (eval mode, gradients off).
  virtual std::vector<Preview> figures(torch::Device device) {
    static_cast<void>(device);
    return {};
  }

  /// The exported signature.
  virtual TraceSpec trace_spec() = 0;
  /// All methods of an exported file, that one first.
  virtual std::vector<TraceSpec> exported_methods() { return {trace_spec()}; }
  /// Files of an export, by what is added to the name asked for ("unet": NAME-unet.pt; "": NAME.pt itself), each with
  /// its methods.
  virtual std::vector<std::pair<std::string, std::vector<TraceSpec>>> exported_files() {
    return {{"", exported_methods()}};
  }
  /// Inputs of that signature of a batch size and (height, width), unpadded; for summaries and benchmarks.
  virtual std::vector<torch::Tensor> example_inputs(int64_t batch_size,
                                                    std::pair<int64_t, int64_t> size) const = 0;
  /// (height, width) of the input that evaluation makes, for benchmarks.
  virtual std::pair<int64_t, int64_t> default_input_size() const = 0;
  /// `zoo.categories`, `zoo.preprocessing`: what a weight file says beside the configuration.
  virtual std::map<std::string, std::string> weight_metadata() const = 0;
  /// Names and shapes of a batch's tensors, for --dry-run.
  virtual std::vector<std::pair<std::string, std::string>> describe(const Batch& batch) const = 0;

 protected:
  const SharedRanks& ranks() const { return ranks_; }
  BatchPart batch_part() const {
    return ranks_ == nullptr ? BatchPart() : BatchPart{ranks_->rank(), ranks_->count()};
  }

 private:
  SharedRanks ranks_;  ///< null: the only process
};

}  // namespace zoo
