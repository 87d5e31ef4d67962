#pragma once
#include <map>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "datasets/captions/captions.h"
#include "models/trait_reader/trait_reader.h"
#include "trainers/recipes.h"
#include "trainers/task.h"
#include "trainers/tasks/fused_evaluation.h"

namespace zoo {

/// Section `eval` of recipes of trait readers.
struct TraitEvalOptions {
  int64_t previews = 4;  ///< pictures shown at each validation of a run

  void validate() const;
};
NLOHMANN_DEFINE_TYPE_NON_INTRUSIVE(TraitEvalOptions, previews)

/// A reader made from the weights of a run, and what its columns mean.
struct LoadedTraitReader {
  TraitReader reader{nullptr};  ///< in eval mode
  std::vector<CaptionTrait> traits;
  std::string source;               ///< for messages
  int64_t height = 64, width = 64;  ///< of the pictures it was trained on
};
/// Whether weights of zoo are those of a reader.
bool holds_trait_reader(const StateDict& weights);
/// Throws Error naming `path` where it holds no reader.
LoadedTraitReader load_trait_reader(const std::string& path);

/// Which values the traits of pictures have: classification with one head for each trait, trained on drawings that know
/// what they show.
class TraitReadingTask : public Task {
 public:
  /// Writes model.trait_sizes where it is empty. Throws Error where the data tell no traits or others than the model's.
  TraitReadingTask(Json& config, Purpose purpose, const StateDict* weights);

  torch::nn::Module& module() override { return *reader_; }
  std::shared_ptr<torch::nn::Module> shared_module() override { return reader_.ptr(); }
  std::vector<ParameterGroup> parameter_groups(const OptimizerOptions& options) override;
  BatchSource& training_batches() override;
  LossTerms loss(const Batch& batch, torch::Device device) override;
  /// `accuracy`: all traits right; f1_micro, f1_macro: means over the traits; and accuracy_NAME of each trait.
  Json evaluate(torch::Device device, const std::function<void(int64_t, int64_t)>& progress) override;
  std::string best_metric() const override { return "accuracy"; }
  std::vector<Preview> previews(int64_t count, torch::Device device) override;
  /// images -> logits of each trait.
  TraceSpec trace_spec() override;
  std::vector<torch::Tensor> example_inputs(int64_t batch_size,
                                            std::pair<int64_t, int64_t> size) const override;
  std::pair<int64_t, int64_t> default_input_size() const override {
    return {transform_.size[0], transform_.size[1]};
  }
  std::map<std::string, std::string> weight_metadata() const override;
  std::vector<std::pair<std::string, std::string>> describe(const Batch& batch) const override;

 private:
  void adopt_traits(Json& model, const StateDict* weights);
  std::vector<torch::Tensor> read(const torch::Tensor& images, torch::Device device);

  DataOptions data_;
  CaptionTransformOptions transform_;
  TraitEvalOptions eval_;
  uint64_t seed_ = 0;
  FusedEvaluation fused_;
  std::shared_ptr<CaptionDataset> training_, validation_;
  std::vector<CaptionTrait> traits_;
  TraitReader reader_{nullptr};
  std::unique_ptr<BatchSource> training_batches_;
};

}  // namespace zoo
