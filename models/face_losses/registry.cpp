#include <algorithm>
#include <cmath>
#include <functional>

#include <torch/torch.h>

#include "core/error.h"
#include "core/text.h"
#include "models/face_losses/adaptive.h"
#include "models/face_losses/classifier.h"
#include "models/face_losses/face_loss.h"
#include "models/face_losses/margins.h"
#include "models/face_losses/pairs.h"

namespace zoo {

namespace {

using Made = std::shared_ptr<FaceLossImpl>;

struct Row {
  FaceLossInfo info;
  std::function<Made(const FaceLossOptions& options, const ClassifierSetup& setup)> make;
};

/// α of the L2-softmax paper, equation 8.
double l2_scale(const L2SoftmaxOptions& options, int64_t classes) {
  if (options.scale > 0) return options.scale;
  const double p = options.posterior, others = std::max(1.0, static_cast<double>(classes) - 2);
  return std::max(1.0, std::log(p * others / (1 - p)));
}

double normface_scale(const NormFaceOptions& options, int64_t classes) {
  return options.scale > 0 ? options.scale : std::max(1.0, least_scale(classes, options.posterior));
}

CosineLossImpl::Margin with_gradient(const std::string& margin_grad, CosineLossImpl::Margin bend) {
  if (margin_grad == "exact") return bend;
  return [bend = std::move(bend)](const torch::Tensor& c) { return straight_through(c, bend(c.detach())); };
}

Made arcface(const FaceLossOptions& options, const ClassifierSetup& setup) {
  const ArcFaceOptions& o = options.arcface;
  return std::make_shared<CosineLossImpl>(
      setup, o.scale, with_gradient(o.margin_grad, [o](const torch::Tensor& c) {
        return arc_margin(c, torch::full({}, o.margin, c.options()), o.easy_margin);
      }));
}

Made combined(const FaceLossOptions& options, const ClassifierSetup& setup) {
  const CombinedOptions& o = options.combined;
  return std::make_shared<CosineLossImpl>(setup, o.scale,
                                          with_gradient(o.margin_grad, [o](const torch::Tensor& c) {
                                            return combined_margin(c, o.m1, o.m2, o.m3);
                                          }));
}

Made cosface(const FaceLossOptions& options, const ClassifierSetup& setup) {
  return std::make_shared<CosineLossImpl>(
      setup, options.cosface.scale, [m = options.cosface.margin](const torch::Tensor& c) { return c - m; });
}

const std::vector<Row>& rows() {
  using O = const FaceLossOptions&;
  using S = const ClassifierSetup&;
  static const std::vector<Row> table = {
      {{"softmax", "Softmax over identities, as DeepFace and DeepID"},
       [](O o, S s) -> Made { return std::make_shared<SoftmaxLossImpl>(s, o.softmax.bias); }},
      {{"normface", "Softmax of scaled cosines (Wang et al. 2017)"},
       [](O o, S s) -> Made {
         return std::make_shared<CosineLossImpl>(s, normface_scale(o.normface, s.num_classes));
       }},
      {{"l2softmax", "Softmax of embeddings of one norm (Ranjan et al. 2017)"},
       [](O o, S s) -> Made {
         return std::make_shared<SoftmaxLossImpl>(s, o.l2softmax.bias, l2_scale(o.l2softmax, s.num_classes));
       }},
      {{"asoftmax", "SphereFace: multiplied angle, annealed (Liu et al. 2017)"},
       [](O o, S s) -> Made { return std::make_shared<ASoftmaxLossImpl>(s, o.asoftmax); }},
      {{"cosface", "CosFace, AM-softmax: margin on the cosine (Wang et al. 2018)"}, cosface},
      {{"arcface", "ArcFace: margin on the angle (Deng et al. 2019)"}, arcface},
      {{"combined", "The three margins m1, m2, m3 together (Deng et al. 2019)"}, combined},
      {{"adaface", "AdaFace: margin by image quality (Kim et al. 2022)"},
       [](O o, S s) -> Made { return std::make_shared<AdaFaceLossImpl>(s, o.adaface); }},
      {{"magface", "MagFace: margin rises with the norm (Meng et al. 2021)"},
       [](O o, S s) -> Made { return std::make_shared<MagFaceLossImpl>(s, o.magface); }},
      {{"curricularface", "CurricularFace: hard classes count more with time (Huang et al. 2020)"},
       [](O o, S s) -> Made { return std::make_shared<CurricularFaceLossImpl>(s, o.curricularface); }},
      {{"elasticface", "ElasticFace: random margins (Boutros et al. 2022)"},
       [](O o, S s) -> Made { return std::make_shared<ElasticFaceLossImpl>(s, o.elasticface); }},
      {{"sphereface2", "SphereFace2: a binary problem per class (Wen et al. 2022)"},
       [](O o, S s) -> Made { return std::make_shared<SphereFace2LossImpl>(s, o.sphereface2); }},
      {{"circle", "Circle loss with class rows (Sun et al. 2020)"},
       [](O o, S s) -> Made { return std::make_shared<CircleLossImpl>(s, o.circle); }},
      {{"circle_pairs", "Circle loss between the samples of a batch", false, true},
       [](O o, S s) -> Made { return std::make_shared<CirclePairsLossImpl>(o.circle, s.ranks); }},
      {{"contrastive", "DeepID2: softmax and verification of pairs (Sun et al. 2014)", true, true},
       [](O o, S s) -> Made { return std::make_shared<ContrastiveLossImpl>(s, o.contrastive); }},
      {{"triplet", "FaceNet's triplets (Schroff et al. 2015)", false, true},
       [](O o, S s) -> Made { return std::make_shared<TripletLossImpl>(o.triplet, s.ranks); }},
      {{"center", "Softmax and centre loss (Wen et al. 2016)"},
       [](O o, S s) -> Made { return std::make_shared<CenterLossImpl>(s, o.center); }},
  };
  return table;
}

const Row& find_row(const std::string& name) {
  std::vector<std::string> names;
  for (const Row& row : rows()) {
    if (row.info.name == name) return row;
    names.push_back(row.info.name);
  }
  require_choice("loss.name", name, names);
  throw UsageError("loss.name: " + name);
}

}  // namespace

const std::vector<FaceLossInfo>& face_losses() {
  static const std::vector<FaceLossInfo> infos = [] {
    std::vector<FaceLossInfo> list;
    for (const Row& row : rows()) list.push_back(row.info);
    return list;
  }();
  return infos;
}

const FaceLossInfo& find_face_loss(const std::string& name) {
  return find_row(name).info;
}

std::shared_ptr<FaceLossImpl> make_face_loss(const FaceLossOptions& options, int64_t embedding_size,
                                             int64_t num_classes, uint64_t seed, const SharedRanks& ranks) {
  options.validate();
  return find_row(options.name).make(options, {embedding_size, num_classes, options.classes, seed, ranks});
}

}  // namespace zoo
