#pragma once
#include <torch/types.h>

#include "models/face_losses/classifier.h"

namespace zoo {

/// See AdaFaceOptions.
class AdaFaceLossImpl : public CosineLossImpl {
 public:
  AdaFaceLossImpl(const ClassifierSetup& setup, const AdaFaceOptions& options);

 protected:
  torch::Tensor margin(const torch::Tensor& cosine, const FaceSamples& samples) override;

 private:
  AdaFaceOptions options_;
  torch::Tensor norm_mean_, norm_deviation_;  ///< []
};

/// See MagFaceOptions. Adds the term `loss_g`.
class MagFaceLossImpl : public CosineLossImpl {
 public:
  MagFaceLossImpl(const ClassifierSetup& setup, const MagFaceOptions& options);

 protected:
  torch::Tensor margin(const torch::Tensor& cosine, const FaceSamples& samples) override;
  void add_terms(LossTerms& loss, const FaceSamples& samples) override;

 private:
  torch::Tensor held(const torch::Tensor& norms) const;

  MagFaceOptions options_;
};

/// See CurricularFaceOptions.
class CurricularFaceLossImpl : public CosineLossImpl {
 public:
  CurricularFaceLossImpl(const ClassifierSetup& setup, const CurricularFaceOptions& options);

 protected:
  torch::Tensor margin(const torch::Tensor& cosine, const FaceSamples& samples) override;
  bool others_need_own() const override { return true; }
  OtherLogits other_logits(const torch::Tensor& own) override;

 private:
  CurricularFaceOptions options_;
  torch::Tensor hardness_;  ///< []
};

/// See ElasticFaceOptions.
class ElasticFaceLossImpl : public CosineLossImpl {
 public:
  ElasticFaceLossImpl(const ClassifierSetup& setup, const ElasticFaceOptions& options);

 protected:
  torch::Tensor margin(const torch::Tensor& cosine, const FaceSamples& samples) override;

 private:
  ElasticFaceOptions options_;
};

}  // namespace zoo
