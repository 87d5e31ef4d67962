#include "models/face_losses/pairs.h"

#include <algorithm>

#include <torch/torch.h>

#include "core/numbers.h"
#include "models/face_losses/margins.h"

namespace zoo {

namespace {

using torch::Tensor;
using NoAutocast = c10::impl::ExcludeDispatchKeyGuard;

constexpr double kDistanceEps = 1e-12;  // the root's slope at 0

Tensor same_class(const Tensor& labels) {
  return labels.unsqueeze(1).eq(labels.unsqueeze(0));  // [N,N]
}

/// [N,N] without the diagonal.
Tensor others_of(const Tensor& mask) {
  return mask.logical_and(torch::eye(mask.size(0), mask.options()).logical_not());
}

Tensor mean_or_zero(const Tensor& values, const Tensor& x) {
  return values.numel() > 0 ? values.mean() : x.sum() * 0;
}

}  // namespace

Tensor square_distances(const Tensor& x) {
  const Tensor squares = x.square().sum(1);
  return (squares.unsqueeze(1) + squares.unsqueeze(0) - 2 * x.mm(x.t())).clamp_min(0);
}

ContrastiveLossImpl::ContrastiveLossImpl(const ClassifierSetup& setup, const ContrastiveOptions& options)
    : SoftmaxLossImpl(setup, /*bias=*/true), options_(options) {
  margin_ = register_buffer("margin", torch::full({}, options.margin, torch::kFloat));
  steps_ = register_buffer("steps", torch::zeros({}, torch::kLong));
  distances_ = register_buffer("distances", torch::zeros({options.margin_pairs}));
  same_ = register_buffer("same", torch::zeros({options.margin_pairs}, torch::kByte));
  pairs_ = register_buffer("pairs", torch::zeros({}, torch::kLong));
}

void ContrastiveLossImpl::add_terms(LossTerms& loss, const FaceSamples& samples) {
  const Tensor pairs = torch::triu_indices(samples.x.size(0), samples.x.size(0), 1,
                                           samples.labels.options());  // [2,P]
  const Tensor first = pairs[0], second = pairs[1];
  const Tensor squares = square_distances(samples.x).index({first, second});  // [P]
  const Tensor same = samples.labels.index_select(0, first).eq(samples.labels.index_select(0, second));
  const Tensor distances = (squares + kDistanceEps).sqrt();
  const Tensor margin = margin_.clone();
  const Tensor pulled = 0.5 * squares.masked_select(same);
  const Tensor pushed = 0.5 * (margin - distances.masked_select(same.logical_not())).clamp_min(0).square();
  const double share = pulled.numel() > 0 && pushed.numel() > 0 ? 0.5 : 1;
  const Tensor verif = share * (mean_or_zero(pulled, samples.x) + mean_or_zero(pushed, samples.x));
  loss.terms.emplace_back("loss_ident", loss.total.detach());
  loss.terms.emplace_back("loss_verif", verif.detach());
  loss.terms.emplace_back("margin", margin);
  loss.total = loss.total + options_.weight * verif;
  if (!is_training() || options_.margin_every == 0) return;
  const torch::NoGradGuard no_grad;
  remember(distances.detach(), same);
  steps_.add_(1);
  if (steps_.item<int64_t>() % options_.margin_every == 0) move_margin();
}

/// Pairs of one person, and as many of two, evenly taken: a batch has far more of these.
void ContrastiveLossImpl::remember(const Tensor& distances, const Tensor& same) {
  const Tensor alike = same.nonzero().squeeze(1), unlike = same.logical_not().nonzero().squeeze(1);
  const int64_t each = std::min({alike.size(0), unlike.size(0), options_.margin_pairs / 2});
  if (each == 0) return;
  const Tensor rank = torch::arange(each, alike.options());
  const Tensor kept = torch::cat(
      {alike.narrow(0, 0, each), unlike.index_select(0, torch::floor_divide(rank * unlike.size(0), each))});
  const Tensor slots =
      (torch::arange(2 * each, alike.options()) + pairs_.item<int64_t>()).remainder(options_.margin_pairs);
  distances_.index_copy_(0, slots, distances.index_select(0, kept).to(distances_.scalar_type()));
  same_.index_copy_(0, slots, same.index_select(0, kept).to(same_.scalar_type()));
  pairs_.add_(2 * each);
}

void ContrastiveLossImpl::move_margin() {
  const int64_t count = std::min(pairs_.item<int64_t>(), options_.margin_pairs);
  if (count == 0) return;
  margin_.fill_(best_threshold(distances_.narrow(0, 0, count), same_.narrow(0, 0, count).to(torch::kBool)));
}

double ContrastiveLossImpl::best_threshold(const Tensor& distances, const Tensor& same) {
  const auto [sorted, order] = distances.to(torch::kDouble).sort();
  const Tensor alike = same.index_select(0, order).to(torch::kDouble);
  // Errors with the threshold just above each distance.
  const Tensor missed = 1 - alike.cumsum(0) / alike.sum();
  const Tensor taken = (1 - alike).cumsum(0) / (1 - alike).sum();
  const auto best = (missed + taken).argmin().item<int64_t>();
  const int64_t next = std::min(best + 1, sorted.size(0) - 1);
  return (sorted[best].item<double>() + sorted[next].item<double>()) / 2;
}

CenterLossImpl::CenterLossImpl(const ClassifierSetup& setup, const CenterOptions& options)
    : SoftmaxLossImpl(setup, /*bias=*/true), options_(options) {
  centers_ = register_buffer("centers", torch::zeros({setup.num_classes, setup.embedding_size}));
}

void CenterLossImpl::add_terms(LossTerms& loss, const FaceSamples& samples) {
  const Tensor own = centers_.index_select(0, samples.labels);  // [N,D]
  const Tensor center = 0.5 * (samples.x - own).square().sum(1).mean();
  loss.terms.emplace_back("loss_ident", loss.total.detach());
  loss.terms.emplace_back("loss_center", center.detach());
  loss.total = loss.total + options_.weight * center;
  if (is_training()) move_centers(samples);
}

void CenterLossImpl::move_centers(const FaceSamples& samples) {
  const torch::NoGradGuard no_grad;
  const auto [classes, place, counts] =
      at::_unique2(samples.labels, /*sorted=*/true, /*return_inverse=*/true, /*return_counts=*/true);
  const Tensor away =
      samples.x.to(centers_.scalar_type()) - centers_.index_select(0, samples.labels);  // [N,D]
  Tensor sums = torch::zeros({classes.size(0), away.size(1)}, away.options());
  sums.index_add_(0, place, away).div_((1 + counts).unsqueeze(1));
  centers_.index_add_(0, classes, sums, options_.alpha);
}

LossTerms TripletLossImpl::forward(const Tensor& embeddings, const Tensor& labels) {
  const NoAutocast full_precision(c10::autocast_dispatch_keyset);
  const FaceSamples samples = face_samples(embeddings, labels, ranks_);
  const Tensor squares = square_distances(unit_rows(samples.x, samples.norms.unsqueeze(1)));  // [N,N]
  const Tensor same = same_class(samples.labels);
  const Tensor pairs = others_of(same).nonzero();  // [P,2] anchor, positive
  const Tensor anchor = pairs.select(1, 0);
  const Tensor excess = squares.index({anchor, pairs.select(1, 1)}).unsqueeze(1) -
                        squares.index_select(0, anchor) + options_.margin;  // [P,N]
  const Tensor violating = excess.gt(0).logical_and(same.index_select(0, anchor).logical_not());
  Tensor chosen = violating;
  if (options_.mining != "all" && violating.numel() > 0) {
    const Tensor score = options_.mining == "hard"
                             ? excess.detach()
                             : drawn_by_first(torch::rand_like(excess.detach()), ranks_) + 1;
    const Tensor best = torch::where(violating, score, -1).argmax(1, /*keepdim=*/true);
    chosen = torch::zeros_like(violating).scatter_(1, best, true).logical_and(violating);
  }
  const Tensor any = violating.any(1).to(samples.x.scalar_type());
  LossTerms loss{mean_or_zero(excess.masked_select(chosen), samples.x), {}};
  loss.terms.emplace_back("violations", any.numel() > 0 ? any.mean() : any.sum());
  return loss;
}

LossTerms CirclePairsLossImpl::forward(const Tensor& embeddings, const Tensor& labels) {
  const NoAutocast full_precision(c10::autocast_dispatch_keyset);
  const FaceSamples samples = face_samples(embeddings, labels, ranks_);
  const Tensor unit = unit_rows(samples.x, samples.norms.unsqueeze(1));
  const Tensor same = same_class(samples.labels);
  const Tensor complete =
      others_of(same).any(1).logical_and(same.logical_not().any(1)).nonzero().squeeze(1);  // [K]
  const Tensor positive = others_of(same).index_select(0, complete);                       // [K,N]
  const Tensor negative = same.logical_not().index_select(0, complete);
  const Tensor s = unit.index_select(0, complete).mm(unit.t());
  const Tensor fixed = s.detach();
  const double m = options_.margin;
  const Tensor pulled = options_.scale * (1 + m - fixed).clamp_min(0) * (1 - m - s);  // −f_p
  const Tensor pushed = options_.scale * (fixed + m).clamp_min(0) * (s - m);          // f_n
  const Tensor each = log1p_exp(pushed.masked_fill(negative.logical_not(), -kInfinity).logsumexp(1) +
                                pulled.masked_fill(positive.logical_not(), -kInfinity).logsumexp(1));
  return {mean_or_zero(each, samples.x), {}};
}

}  // namespace zoo
