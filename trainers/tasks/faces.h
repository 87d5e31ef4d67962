#pragma once
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "datasets/faces/faces.h"
#include "models/face_losses/face_loss.h"
#include "models/faces/face_model.h"
#include "trainers/metrics/identification.h"
#include "trainers/recipes.h"
#include "trainers/task.h"
#include "trainers/tasks/face_scores.h"
#include "trainers/tasks/fused_evaluation.h"

namespace zoo {

/// Section `eval` of face recipes.
struct FaceEvalOptions {
  int64_t previews = 6;  ///< pairs drawn at each validation of a run

  void validate() const { require_count("eval.previews", previews, 0, 1000); }
};
NLOHMANN_DEFINE_TYPE_NON_INTRUSIVE(FaceEvalOptions, previews)

/// Embeddings of a set's pictures.
struct FaceEmbeddings {
  torch::Tensor rows;  ///< [N,D] float on the CPU, in the order of the set; 0 where a picture was left out
  std::vector<bool> read;  ///< false where data.skip_bad left a picture out
};

/// Face recognition by any network that turns a picture of a face into an embedding: trained with a loss over the
/// embeddings, scored by verification.
class FaceTask : public Task {
 public:
  /// Opens what `purpose` needs and calls `make`, which builds the network and loads its weights. In a training the
  /// loss has a class for each identity of the training set. `weights` may be null; their `zoo.verification` tells
  /// the threshold.
  FaceTask(const Json& config, Purpose purpose, const StateDict* weights,
           const std::function<FaceModel()>& make);

  torch::nn::Module& module() override { return *model_.module; }
  std::shared_ptr<torch::nn::Module> shared_module() override { return model_.module; }
  /// Makes the loss too. Throws Error where the training set has too few identities.
  void join(const SharedRanks& ranks) override;
  std::shared_ptr<LossModule> loss_module() override;
  std::vector<ParameterGroup> parameter_groups(const OptimizerOptions& options) override;
  BatchSource& training_batches() override;
  LossTerms loss(const Batch& batch, torch::Device device) override;
  /// Verification on the validation pairs, or the 1:1 protocol of templates where the data is `ijb:`.
  Json evaluate(torch::Device device, const std::function<void(int64_t, int64_t)>& progress) override;
  std::string best_metric() const override { return "accuracy"; }
  std::vector<Preview> previews(int64_t count, torch::Device device) override;
  /// `embeddings` where they have two values: some training pictures, by person.
  std::vector<Preview> figures(torch::Device device) override;
  /// images [B,3,H,W] -> embeddings [B,D], not normalised.
  TraceSpec trace_spec() override;
  std::vector<torch::Tensor> example_inputs(int64_t batch_size,
                                            std::pair<int64_t, int64_t> size) const override;
  std::pair<int64_t, int64_t> default_input_size() const override {
    return {transform_.input_size[0], transform_.input_size[1]};
  }
  std::map<std::string, std::string> weight_metadata() const override;
  std::vector<std::pair<std::string, std::string>> describe(const Batch& batch) const override;

  /// Embeddings [B,D] float on the CPU of normalised pictures [B,3,H,W], with verify.flip those of the mirrored
  /// pictures added.
  torch::Tensor embed(const torch::Tensor& images, torch::Device device);
  /// Those of a set, each picture once.
  FaceEmbeddings embed(const std::shared_ptr<FaceDataset>& dataset, torch::Device device,
                       const std::function<void(int64_t, int64_t)>& progress);
  /// 1:N: each probe is looked up among the gallery; identities are the same where their names are.
  Json identify(const std::shared_ptr<FaceDataset>& gallery, const std::shared_ptr<FaceDataset>& probes,
                torch::Device device, const std::function<void(int64_t, int64_t)>& progress);

  const FaceTransformOptions& transform() const { return transform_; }
  const VerifyOptions& verify() const { return verify_; }
  /// Metric, threshold and accuracy of the last validation, of the weights or of this task; null: none.
  const Json& verification() const { return verification_; }
  /// The threshold on cosines that the weights' last validation found; none where they tell none.
  std::optional<double> threshold() const;
  /// Of the last `evaluate`: the curve, what stands beside the metrics, and the pairs' embeddings and labels in the
  /// form that `zoo eval --predictions` reads.
  const Roc& roc() const { return roc_; }
  const Json& details() const { return details_; }
  StateDict predictions() const;
  /// The verifier fitted to everything the last `evaluate` saw; null for metrics without parameters.
  std::unique_ptr<Verifier> fitted_verifier();

 private:
  void open_data(Purpose purpose);
  /// The loss, made at its first use: it has the classes that `join` leaves to this process. Null outside of a
  /// training.
  FaceLossImpl* face_loss();
  torch::Tensor forward(const torch::Tensor& images, torch::Device device);
  torch::Tensor embed(const torch::Tensor& images, torch::Device device, bool flip);
  FaceEmbeddings embed(const std::shared_ptr<FaceDataset>& dataset, torch::Device device, bool flip,
                       const std::function<void(int64_t, int64_t)>& progress);
  const FittingSample* fitting_sample(torch::Device device);
  Json evaluate_pairs(torch::Device device, const std::function<void(int64_t, int64_t)>& progress);
  Json evaluate_templates(torch::Device device, const std::function<void(int64_t, int64_t)>& progress);

  DataOptions data_;
  FaceTransformOptions transform_;
  FaceEvalOptions eval_;
  VerifyOptions verify_;
  uint64_t seed_ = 0;
  FusedEvaluation fused_;
  std::shared_ptr<FaceDataset> training_;
  FaceVerificationSet validation_;
  std::optional<FaceTemplates> templates_;  ///< instead of validation_
  FaceModel model_;
  FaceLossOptions loss_options_;
  std::shared_ptr<FaceLossImpl> loss_;  ///< in a training, from its first use on
  std::unique_ptr<BatchSource> training_batches_;
  std::optional<FittingSample> sample_;
  Json verification_;

  torch::Tensor embeddings_;  ///< of the last evaluate
  PairList pairs_;            ///< rows of embeddings_
  Roc roc_;
  Json details_;
};

}  // namespace zoo
