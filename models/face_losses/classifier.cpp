#include "models/face_losses/classifier.h"

#include <algorithm>
#include <cmath>
#include <utility>

#include <torch/torch.h>

#include "core/error.h"
#include "models/face_losses/margins.h"

namespace zoo {

namespace {

using torch::Tensor;

// Products of 64 and more in bf16 would be off by 0.25.
using NoAutocast = c10::impl::ExcludeDispatchKeyGuard;

Tensor share_right(const Tensor& own, const Tensor& best_other) {
  return own.detach().gt(best_other).to(own.scalar_type()).mean();
}

ClassShard own_shard(const ClassifierSetup& setup) {
  const int64_t ranks = setup.ranks == nullptr ? 1 : setup.ranks->count();
  if (setup.num_classes < 2 * ranks) {
    throw Error("face loss: " + std::to_string(setup.num_classes) + " classes, expected two identities " +
                (ranks == 1 ? "at least" : "for each of " + std::to_string(ranks) + " processes at least"));
  }
  return ClassShard::of(setup.num_classes, ranks == 1 ? 0 : setup.ranks->rank(), ranks);
}

}  // namespace

FaceSamples face_samples(const Tensor& embeddings, const Tensor& labels, const SharedRanks& ranks) {
  if (embeddings.dim() != 2 || labels.dim() != 1 || labels.scalar_type() != torch::kLong ||
      embeddings.size(0) != labels.size(0) || embeddings.size(0) == 0) {
    throw Error("face loss: embeddings " + c10::str(embeddings.sizes()) + " and labels " +
                c10::str(labels.sizes()) + ", expected [N,D] and int64 [N]");
  }
  const bool precise = embeddings.scalar_type() == torch::kDouble;
  FaceSamples samples{all_rows(embeddings.to(precise ? torch::kDouble : torch::kFloat), ranks),
                      {},
                      ranks == nullptr ? labels : ranks->gather(labels)};
  samples.norms = row_norms(samples.x).squeeze(1);
  return samples;
}

ClassifierLossImpl::ClassifierLossImpl(const ClassifierSetup& setup, bool normalise_rows, bool bias)
    : classes_(*this, own_shard(setup), setup.embedding_size, bias, setup.classes, setup.seed),
      ranks_(setup.ranks),
      normalise_rows_(normalise_rows) {}

LossTerms ClassifierLossImpl::forward(const Tensor& embeddings, const Tensor& labels) {
  const NoAutocast full_precision(c10::autocast_dispatch_keyset);
  const FaceSamples samples = face_samples(embeddings, labels, ranks_);
  const ClassRows rows = classes_.rows(samples.labels, normalise_rows_);
  const Tensor met = to_each_rank(features(samples), ranks_);
  const OtherLogits other =
      other_logits(others_need_own() ? sum_of_ranks(own_products(met, rows), ranks_) : Tensor());
  const ClassScores scores =
      scores_of_ranks(class_scores(met, rows, other, classes_.options().chunk_bytes), ranks_);
  LossTerms loss;
  // −log(e^f / (e^f + Σ_{j≠y} e^{f_j}))
  loss.total = log1p_exp(scores.others - own_logits(scores.own, samples)).mean();
  loss.terms.emplace_back("accuracy", share_right(scores.own, scores.best));
  add_terms(loss, samples);
  return loss;
}

std::pair<Tensor, Tensor> ClassifierLossImpl::logits_at(const Tensor& own_cosine, const Tensor& other_cosine,
                                                        const Tensor& norms) {
  const FaceSamples samples{norms.unsqueeze(1), norms, {}};
  const Tensor length = row_norms(features(samples)).squeeze(1);
  const Tensor own = length * own_cosine, other = length * other_cosine;
  const OtherLogits bend = other_logits(others_need_own() ? own : Tensor());
  return {own_logits(own, samples), bend.value ? bend.value(other.unsqueeze(1)).squeeze(1) : other};
}

std::vector<std::string> ClassifierLossImpl::own_weights() const {
  if (!classes_.sampled()) return {};
  return {"weight"};
}

std::vector<std::string> ClassifierLossImpl::own_state() const {
  if (!classes_.sampled()) return {};
  return {"momentum"};
}

OtherLogits ClassifierLossImpl::other_logits(const Tensor&) {
  return {};
}

void ClassifierLossImpl::add_terms(LossTerms&, const FaceSamples&) {}

SoftmaxLossImpl::SoftmaxLossImpl(const ClassifierSetup& setup, bool bias, double scale)
    : ClassifierLossImpl(setup, /*normalise_rows=*/false, bias), scale_(scale) {}

Tensor SoftmaxLossImpl::features(const FaceSamples& samples) {
  return scale_ == 0 ? samples.x : unit_rows(samples.x, samples.norms.unsqueeze(1)) * scale_;
}

Tensor SoftmaxLossImpl::own_logits(const Tensor& z, const FaceSamples&) {
  return z;
}

CosineLossImpl::CosineLossImpl(const ClassifierSetup& setup, double scale, Margin margin)
    : ClassifierLossImpl(setup, /*normalise_rows=*/true, /*bias=*/false),
      scale_(scale),
      margin_(std::move(margin)) {}

Tensor CosineLossImpl::features(const FaceSamples& samples) {
  return unit_rows(samples.x, samples.norms.unsqueeze(1)) * scale_;
}

Tensor CosineLossImpl::own_logits(const Tensor& z, const FaceSamples& samples) {
  return scale_ * margin(z / scale_, samples);
}

Tensor CosineLossImpl::margin(const Tensor& cosine, const FaceSamples&) {
  return margin_ ? margin_(cosine) : cosine;
}

ASoftmaxLossImpl::ASoftmaxLossImpl(const ClassifierSetup& setup, const ASoftmaxOptions& options)
    : ClassifierLossImpl(setup, /*normalise_rows=*/true, /*bias=*/false), options_(options) {
  steps_ = register_buffer("steps", torch::zeros({}, torch::kLong));
}

double ASoftmaxLossImpl::lambda() const {
  const auto steps = static_cast<double>(steps_.item<int64_t>());
  return std::max(options_.lambda_min,
                  options_.lambda_max * std::pow(1 + options_.gamma * steps, -options_.power));
}

Tensor ASoftmaxLossImpl::own_logits(const Tensor& z, const FaceSamples& samples) {
  if (is_training()) steps_.add_(1);
  const Tensor cosine = z / samples.norms.clamp_min(kLeastNorm);
  const Tensor bent = samples.norms * multiplicative_margin(cosine, options_.margin);
  const double weight = lambda();
  return (weight * z + bent) / (1 + weight);
}

CircleLossImpl::CircleLossImpl(const ClassifierSetup& setup, const CircleOptions& options)
    : CosineLossImpl(setup, options.scale), m_(options.margin) {}

Tensor CircleLossImpl::margin(const Tensor& cosine, const FaceSamples&) {
  return (1 + m_ - cosine.detach()).clamp_min(0) * (cosine - (1 - m_));
}

OtherLogits CircleLossImpl::other_logits(const Tensor&) {
  // z = s·c: s[c + m]₊(c − m) = [z/s + m]₊(z − s·m), [·]₊ without gradient
  const auto pull = [s = scale(), m = m_](const Tensor& z) { return (z.detach() / s + m).clamp_min_(0); };
  return {[pull, offset = scale() * m_](const Tensor& z) { return pull(z) * (z - offset); }, pull};
}

SphereFace2LossImpl::SphereFace2LossImpl(const ClassifierSetup& setup, const SphereFace2Options& options)
    : options_(options),
      classes_(*this, own_shard(setup), setup.embedding_size, /*bias=*/false, setup.classes, setup.seed),
      ranks_(setup.ranks) {
  // Where λ σ(−a_y − b) = (1 − λ)(C − 1) σ(a_i + b) at c = 0, a quadratic equation in e^b.
  const double r = options.scale, ratio = options.balance / ((1 - options.balance) *
                                                             (static_cast<double>(setup.num_classes) - 1));
  const double middle = 2 * std::pow(0.5, options.power) - 1;
  const double own = r * (middle - options.margin), other = r * (middle + options.margin);
  const double root = std::sqrt((1 - ratio) * (1 - ratio) + 4 * ratio * std::exp(own - other));
  bias_ = register_parameter(
      "bias", torch::full({}, std::log(2 * ratio) - other - std::log(1 - ratio + root), torch::kFloat));
}

Tensor SphereFace2LossImpl::similarity(const Tensor& cosine) const {
  return 2 * ((cosine + 1) / 2).clamp_min(0).pow(options_.power) - 1;
}

LossTerms SphereFace2LossImpl::forward(const Tensor& embeddings, const Tensor& labels) {
  const NoAutocast full_precision(c10::autocast_dispatch_keyset);
  const FaceSamples samples = face_samples(embeddings, labels, ranks_);
  const ClassRows rows = classes_.rows(samples.labels, /*normalise=*/true);
  const Tensor weight = rows.weight / row_norms(rows.weight).clamp_min(kLeastNorm);
  const Tensor met = to_each_rank(unit_rows(samples.x, samples.norms.unsqueeze(1)), ranks_);
  const Tensor cosine = met.mm(weight.t());  // [N,n]
  const Tensor index = rows.labels.clamp_min(0).unsqueeze(1), here = rows.labels.ge(0).unsqueeze(1);
  const Tensor is_own = torch::zeros_like(cosine, torch::kBool).scatter(1, index, here);
  const Tensor own = sum_of_ranks(torch::where(here, cosine.gather(1, index), 0).squeeze(1), ranks_);  // [N]
  const double r = options_.scale, m = options_.margin;
  const Tensor pushed = log1p_exp(r * (similarity(cosine) + m) + to_each_rank(bias_, ranks_));
  const Tensor others = sum_of_ranks(pushed.masked_fill(is_own, 0).sum(1), ranks_);  // [N]
  const Tensor pulled = log1p_exp(-r * (similarity(own) - m) - bias_);
  const Tensor best = cosine.detach().masked_fill(is_own, -2).amax(1);
  if (ranks_ != nullptr) ranks_->maximum(best);
  LossTerms loss;
  loss.total =
      options_.weight / r * (options_.balance * pulled.mean() + (1 - options_.balance) * others.mean());
  loss.terms.emplace_back("accuracy", share_right(own, best));
  return loss;
}

}  // namespace zoo
