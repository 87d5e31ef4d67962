#include "models/face_losses/options.h"

#include <cmath>

#include "core/error.h"
#include "core/text.h"
#include "models/face_losses/face_loss.h"

namespace zoo {

namespace {

constexpr double kHalfTurn = 3.14159265358979;  // radians
// A worker's products, sums and gradient of the embeddings have to have room.
constexpr int64_t kLeastChunk = int64_t{1} << 20;

void require_share(const std::string& key, double value) {
  if (value > 0 && value < 1) return;
  throw UsageError(key + format(": %g is out of range, expected above 0 and below 1", value));
}

}  // namespace

void NormFaceOptions::validate() const {
  require_range("loss.normface.scale", scale, 0);
  require_share("loss.normface.posterior", posterior);
}

void L2SoftmaxOptions::validate() const {
  require_range("loss.l2softmax.scale", scale, 0);
  require_share("loss.l2softmax.posterior", posterior);
}

void ASoftmaxOptions::validate() const {
  require_count("loss.asoftmax.margin", margin, 1, 8);
  require_range("loss.asoftmax.lambda_min", lambda_min, 0);
  require_range("loss.asoftmax.lambda_max", lambda_max, lambda_min);
  require_range("loss.asoftmax.gamma", gamma, 0);
  require_range("loss.asoftmax.power", power, 0);
}

void CosFaceOptions::validate() const {
  require_positive("loss.cosface.scale", scale);
  require_range("loss.cosface.margin", margin, 0, 2);
}

void ArcFaceOptions::validate() const {
  require_positive("loss.arcface.scale", scale);
  require_range("loss.arcface.margin", margin, 0, kHalfTurn);
  require_choice("loss.arcface.margin_grad", margin_grad, {"exact", "straight_through"});
}

void CombinedOptions::validate() const {
  require_positive("loss.combined.scale", scale);
  require_positive("loss.combined.m1", m1);
  require_range("loss.combined.m2", m2, 0, kHalfTurn);
  require_range("loss.combined.m3", m3, 0, 2);
  require_choice("loss.combined.margin_grad", margin_grad, {"exact", "straight_through"});
}

void AdaFaceOptions::validate() const {
  require_positive("loss.adaface.scale", scale);
  require_range("loss.adaface.margin", margin, 0, kHalfTurn / 2);
  require_positive("loss.adaface.concentration", concentration);
  require_range("loss.adaface.momentum", momentum, 0, 1);
}

void MagFaceOptions::validate() const {
  require_positive("loss.magface.scale", scale);
  require_positive("loss.magface.lower_norm", lower_norm);
  if (upper_norm <= lower_norm) {
    throw UsageError(format("loss.magface.upper_norm: %g is out of range, expected above lower_norm %g",
                            upper_norm, lower_norm));
  }
  require_range("loss.magface.lower_margin", lower_margin, 0, kHalfTurn / 2);
  require_range("loss.magface.upper_margin", upper_margin, lower_margin, kHalfTurn / 2);
  const double slope = (upper_margin - lower_margin) / (upper_norm - lower_norm);
  const double u = upper_norm * upper_norm, l = lower_norm * lower_norm;
  require_range("loss.magface.norm_weight", norm_weight, scale * slope * u * l / (u - l));
}

void CurricularFaceOptions::validate() const {
  require_positive("loss.curricularface.scale", scale);
  require_range("loss.curricularface.margin", margin, 0, kHalfTurn);
  require_range("loss.curricularface.momentum", momentum, 0, 1);
}

void ElasticFaceOptions::validate() const {
  require_choice("loss.elasticface.kind", kind, {"arc", "cos"});
  require_positive("loss.elasticface.scale", scale);
  require_range("loss.elasticface.margin", margin, 0, kHalfTurn);
  require_range("loss.elasticface.deviation", deviation, 0);
}

void SphereFace2Options::validate() const {
  require_share("loss.sphereface2.balance", balance);
  require_positive("loss.sphereface2.scale", scale);
  require_range("loss.sphereface2.margin", margin, 0, 2);
  require_range("loss.sphereface2.power", power, 1);
  require_positive("loss.sphereface2.weight", weight);
}

void CircleOptions::validate() const {
  require_positive("loss.circle.scale", scale);
  require_range("loss.circle.margin", margin, 0, 1);
}

void ContrastiveOptions::validate() const {
  require_range("loss.contrastive.weight", weight, 0);
  require_positive("loss.contrastive.margin", margin);
  require_count("loss.contrastive.margin_every", margin_every, 0);
  require_count("loss.contrastive.margin_pairs", margin_pairs, 2);
}

void TripletOptions::validate() const {
  require_positive("loss.triplet.margin", margin);
  require_choice("loss.triplet.mining", mining, {"random", "hard", "all"});
}

void CenterOptions::validate() const {
  require_range("loss.center.weight", weight, 0);
  require_range("loss.center.alpha", alpha, 0, 1);
}

void ClassOptions::validate() const {
  require_range("loss.classes.sample_rate", sample_rate, 1e-6, 1);
  require_positive("loss.classes.lr_factor", lr_factor);
  if (chunk_bytes != 0) {
    require_count("loss.classes.chunk_bytes", chunk_bytes, static_cast<double>(kLeastChunk));
  }
}

void FaceLossOptions::validate() const {
  const FaceLossInfo& info = find_face_loss(name);
  softmax.validate(), normface.validate(), l2softmax.validate(), asoftmax.validate(), cosface.validate();
  arcface.validate(), combined.validate(), adaface.validate(), magface.validate();
  curricularface.validate(), elasticface.validate(), sphereface2.validate(), circle.validate();
  contrastive.validate(), triplet.validate(), center.validate(), classes.validate();
  if (classes.sample_rate == 1 || (info.needs_classes && name != "sphereface2")) return;
  throw UsageError("loss.classes.sample_rate: loss.name=" + name +
                   (info.needs_classes ? " takes all classes at once" : " has no classes") + ", expected 1");
}

}  // namespace zoo
