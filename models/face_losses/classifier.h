#pragma once
#include <functional>
#include <utility>
#include <vector>

#include <torch/types.h>

#include "models/face_losses/class_weights.h"
#include "models/face_losses/face_loss.h"
#include "models/face_losses/products.h"

namespace zoo {

/// What every loss with class rows is made from.
struct ClassifierSetup {
  int64_t embedding_size = 0;
  int64_t num_classes = 0;
  ClassOptions classes;
  uint64_t seed = 0;
  SharedRanks ranks = nullptr;
};

/// Embeddings of a batch, float32 or float64.
struct FaceSamples {
  torch::Tensor x;       ///< [N,D]
  torch::Tensor norms;   ///< [N] 2-norms
  torch::Tensor labels;  ///< [N] 0…C−1
};

/// Checks shapes and takes embeddings to float32 (float64 stays); with several processes the samples of all.
/// Throws Error naming what is wrong.
FaceSamples face_samples(const torch::Tensor& embeddings, const torch::Tensor& labels,
                         const SharedRanks& ranks);

/// A softmax over class rows. A loss says what meets the rows, and what it makes of the product with a
/// sample's own class and with others; products go over all classes or a sample of them, at once or in blocks.
///
/// Of several processes each has some classes (An et al. 2021, arXiv 2010.05222): all get the samples of all,
/// make the products with their own classes, and bring maximum, sum and own products together.
class ClassifierLossImpl : public FaceLossImpl {
 public:
  ClassifierLossImpl(const ClassifierSetup& setup, bool normalise_rows, bool bias);

  LossTerms forward(const torch::Tensor& embeddings, const torch::Tensor& labels) final;
  /// What the softmax compares: logits [N] of a sample's own class and of another one, at cosines [N] to their
  /// rows (taken as of norm 1, without bias), of embeddings of these norms [N].
  std::pair<torch::Tensor, torch::Tensor> logits_at(const torch::Tensor& own_cosine,
                                                    const torch::Tensor& other_cosine,
                                                    const torch::Tensor& norms);

  std::vector<std::string> own_weights() const override;
  std::vector<std::string> own_state() const override;
  std::vector<torch::Tensor> own_gradients() override { return classes_.gradients(); }
  void step(double lr, double weight_decay, double momentum, double gradient_scale) override {
    classes_.step(lr, weight_decay, momentum, gradient_scale);
  }
  void release_gradients() override { classes_.release(); }
  RowShard shard() const override { return classes_.row_shard(); }

 protected:
  const SharedRanks& ranks() const { return ranks_; }
  /// What meets the class rows [N,D].
  virtual torch::Tensor features(const FaceSamples& samples) = 0;
  /// Logits of samples' own classes [N] from the products z [N] with them.
  virtual torch::Tensor own_logits(const torch::Tensor& z, const FaceSamples& samples) = 0;
  /// Whether other_logits needs the products with the own class.
  virtual bool others_need_own() const { return false; }
  /// `own` [N]: products with the own class without gradient, undefined where they are not needed.
  virtual OtherLogits other_logits(const torch::Tensor& own);
  /// Adds to a loss whose `total` is the softmax's.
  virtual void add_terms(LossTerms& loss, const FaceSamples& samples);

 private:
  ClassWeights classes_;
  SharedRanks ranks_;
  bool normalise_rows_;
};

/// Softmax of W_j·x + b_j, x as it is or of norm `scale`.
class SoftmaxLossImpl : public ClassifierLossImpl {
 public:
  /// scale 0: x as it is.
  SoftmaxLossImpl(const ClassifierSetup& setup, bool bias, double scale = 0);

 protected:
  torch::Tensor features(const FaceSamples& samples) override;
  torch::Tensor own_logits(const torch::Tensor& z, const FaceSamples& samples) override;

 private:
  double scale_;
};

/// Softmax of s·c_j, with a margin on the own cosine.
class CosineLossImpl : public ClassifierLossImpl {
 public:
  /// Own cosines [N] -> what stands for them [N], before the scale.
  using Margin = std::function<torch::Tensor(const torch::Tensor& cosine)>;

  CosineLossImpl(const ClassifierSetup& setup, double scale, Margin margin = nullptr);

 protected:
  torch::Tensor features(const FaceSamples& samples) override;
  torch::Tensor own_logits(const torch::Tensor& z, const FaceSamples& samples) final;
  /// As Margin, for losses whose margin has a state or looks at norms.
  virtual torch::Tensor margin(const torch::Tensor& cosine, const FaceSamples& samples);
  double scale() const { return scale_; }

 private:
  double scale_;
  Margin margin_;
};

/// A-softmax with its annealing; see ASoftmaxOptions.
class ASoftmaxLossImpl : public ClassifierLossImpl {
 public:
  ASoftmaxLossImpl(const ClassifierSetup& setup, const ASoftmaxOptions& options);

  /// λ of the last pass in train mode.
  double lambda() const;

 protected:
  torch::Tensor features(const FaceSamples& samples) override { return samples.x; }
  torch::Tensor own_logits(const torch::Tensor& z, const FaceSamples& samples) override;

 private:
  ASoftmaxOptions options_;
  torch::Tensor steps_;  ///< [] int64
};

/// The class form of Circle loss.
class CircleLossImpl : public CosineLossImpl {
 public:
  CircleLossImpl(const ClassifierSetup& setup, const CircleOptions& options);

 protected:
  torch::Tensor margin(const torch::Tensor& cosine, const FaceSamples& samples) override;
  OtherLogits other_logits(const torch::Tensor& own) override;

 private:
  double m_;
};

/// Binary problems over all classes; see SphereFace2Options.
class SphereFace2LossImpl : public FaceLossImpl {
 public:
  SphereFace2LossImpl(const ClassifierSetup& setup, const SphereFace2Options& options);
  LossTerms forward(const torch::Tensor& embeddings, const torch::Tensor& labels) override;
  RowShard shard() const override { return classes_.row_shard(); }

 private:
  torch::Tensor similarity(const torch::Tensor& cosine) const;

  SphereFace2Options options_;
  ClassWeights classes_;
  SharedRanks ranks_;
  torch::Tensor bias_;  ///< []
};

}  // namespace zoo
