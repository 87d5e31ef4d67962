#pragma once
#include <utility>

#include <torch/types.h>

#include "models/face_losses/classifier.h"
#include "models/face_losses/face_loss.h"

namespace zoo {

/// ‖x_i − x_j‖² [N,N] of rows [N,D]; not below 0.
torch::Tensor square_distances(const torch::Tensor& x);

/// Softmax and verification of pairs; see ContrastiveOptions. Adds the terms `loss_ident`, `loss_verif` (0
/// where the batch has one sample) and `margin`.
class ContrastiveLossImpl : public SoftmaxLossImpl {
 public:
  ContrastiveLossImpl(const ClassifierSetup& setup, const ContrastiveOptions& options);

  /// The threshold t with the least mean of two error rates on pairs: of one person (`same` [P] bool) with a
  /// distance [P] above t, and of two at or below it; midway between neighbouring distances. Needs pairs of
  /// both kinds.
  static double best_threshold(const torch::Tensor& distances, const torch::Tensor& same);

 protected:
  void add_terms(LossTerms& loss, const FaceSamples& samples) override;

 private:
  void remember(const torch::Tensor& distances, const torch::Tensor& same);
  void move_margin();

  ContrastiveOptions options_;
  torch::Tensor margin_, steps_;            ///< []
  torch::Tensor distances_, same_, pairs_;  ///< [margin_pairs] the last ones as a ring, [] pairs so far
};

/// Softmax and distances to centres; see CenterOptions. Adds the terms `loss_ident` and `loss_center`.
class CenterLossImpl : public SoftmaxLossImpl {
 public:
  CenterLossImpl(const ClassifierSetup& setup, const CenterOptions& options);

 protected:
  void add_terms(LossTerms& loss, const FaceSamples& samples) override;

 private:
  void move_centers(const FaceSamples& samples);

  CenterOptions options_;
  torch::Tensor centers_;  ///< [C,D]
};

/// See TripletOptions. The term `violations` is the share of pairs (a, p) with a negative within the margin; a
/// batch without pairs has loss 0.
class TripletLossImpl : public FaceLossImpl {
 public:
  TripletLossImpl(const TripletOptions& options, SharedRanks ranks)
      : options_(options), ranks_(std::move(ranks)) {}
  LossTerms forward(const torch::Tensor& embeddings, const torch::Tensor& labels) override;

 private:
  TripletOptions options_;
  SharedRanks ranks_;
};

/// The form of Circle loss between the samples of a batch; see CircleOptions. A batch without a sample that
/// has positives and negatives has loss 0.
class CirclePairsLossImpl : public FaceLossImpl {
 public:
  CirclePairsLossImpl(const CircleOptions& options, SharedRanks ranks)
      : options_(options), ranks_(std::move(ranks)) {}
  LossTerms forward(const torch::Tensor& embeddings, const torch::Tensor& labels) override;

 private:
  CircleOptions options_;
  SharedRanks ranks_;
};

}  // namespace zoo
