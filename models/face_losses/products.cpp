#include "models/face_losses/products.h"

#include <algorithm>
#include <functional>
#include <utility>
#include <vector>

#include <ATen/Parallel.h>
#include <torch/torch.h>

#include "core/numbers.h"
#include "models/face_losses/margins.h"

namespace zoo {

namespace {

using torch::Tensor;

// Below every logit: stands for "none yet" where −inf − (−inf) would be no number.
constexpr double kNothing = -1e30;
// Rows and products of a block, which all operators of a block pass over: half of a second-level cache.
constexpr int64_t kBlockBytes = int64_t{1} << 20;
constexpr int64_t kLeastBlock = 16;
// What is held at once of a block: matrices like its products (more where OtherLogits makes some), vectors.
constexpr int64_t kProducts = 2, kBentProducts = 7, kVectors = 32;
constexpr int64_t kDeviceBlock = 8192;

/// 1/‖W_j‖ [n] as ClassRows says.
Tensor inverse_norms(const Tensor& weight) {
  return row_norms(weight).squeeze(1).clamp_min(kLeastNorm).reciprocal();
}

ClassScores plain_scores(const Tensor& x, const ClassRows& rows, const OtherLogits& other) {
  const Tensor weight =
      rows.normalise ? rows.weight / row_norms(rows.weight).clamp_min(kLeastNorm) : rows.weight;
  const Tensor z = torch::linear(x, weight, rows.bias);  // [N,n]
  const Tensor here = rows.labels.ge(0);
  const Tensor index = here.nonzero().squeeze(1), own = rows.labels.index_select(0, index);
  ClassScores scores;
  scores.own = torch::where(here, z.gather(1, rows.labels.clamp_min(0).unsqueeze(1)).squeeze(1), 0);
  const Tensor none = torch::full({}, -kInfinity, z.options());
  const Tensor h = (other.value ? other.value(z) : z).index_put({index, own}, none);
  scores.best = (other.value ? z.detach().index_put({index, own}, none) : h.detach()).amax(1);
  scores.others = h.logsumexp(1);
  return scores;
}

/// How the classes are cut: every worker takes a run of blocks.
struct Blocks {
  Blocks(const Tensor& x, int64_t classes, const OtherLogits& other, int64_t chunk_bytes) : classes(classes) {
    const int64_t N = x.size(0), D = x.size(1), element = x.element_size();
    workers = x.is_cpu() ? at::get_num_threads() : 1;
    // Elements that a worker may hold, less its part of the gradient of x and vectors over samples.
    const int64_t budget = chunk_bytes / (workers * element) - N * (D + kVectors);
    const int64_t column = N * (other.value ? kBentProducts : kProducts) + kVectors;
    const int64_t cached = x.is_cpu() ? kBlockBytes / (element * (D + kProducts * N)) : kDeviceBlock;
    size = std::max(kLeastBlock, std::min(cached, budget / column) / kLeastBlock * kLeastBlock);
    count = (classes + size - 1) / size;
    workers = std::min(workers, count);
  }

  /// `work(worker, first, length)` for every block; a worker's blocks come in order.
  void run(const std::function<void(int64_t, int64_t, int64_t)>& work) const {
    at::parallel_for(0, workers, 1, [&](int64_t begin, int64_t end) {
      for (int64_t worker = begin; worker < end; ++worker) {
        const int64_t first = worker * count / workers, last = (worker + 1) * count / workers;
        for (int64_t block = first; block < last; ++block) {
          work(worker, block * size, std::min(size, classes - block * size));
        }
      }
    });
  }

  int64_t classes, workers = 1, size = 1, count = 1;
};

/// One block's rows and products, in a worker's own memory.
class Block {
 public:
  Block(const Tensor& x, const ClassRows& rows, const Tensor& memory) : x_(x), rows_(rows), memory_(memory) {}

  void open(int64_t first, int64_t length) {
    weight = rows_.weight.narrow(0, first, length);
    z = memory_.narrow(0, 0, x_.size(0) * length).view({x_.size(0), length});
    at::mm_out(z, x_, weight.t());
    if (rows_.normalise) {
      inverse = inverse_norms(weight);
      z.mul_(inverse);
    }
    if (rows_.bias.defined()) z.add_(rows_.bias.narrow(0, first, length));
    const Tensor column = rows_.labels - first;
    here_ = column.ge(0).logical_and(column.lt(length)).unsqueeze(1);
    column_ = column.clamp(0, length - 1).unsqueeze(1);
  }
  /// Writes values [N,1] at the samples' own classes, where they are in this block.
  void set_own(Tensor& products, const Tensor& values) const {
    products.scatter_(1, column_, torch::where(here_, values, products.gather(1, column_)));
  }

  Tensor weight;   ///< [b,D]
  Tensor inverse;  ///< [b] of the norms; undefined without normalisation
  Tensor z;        ///< [N,b]

 private:
  const Tensor& x_;
  const ClassRows& rows_;
  Tensor memory_, here_, column_;
};

/// Rows as the blocks read them; a bias without elements is none (autograd's functions take no undefined
/// tensors).
ClassRows detached(const Tensor& weight, const Tensor& bias, bool normalise, const Tensor& labels) {
  return {weight.detach(), bias.numel() > 0 ? bias.detach() : Tensor(), normalise, labels};
}

/// What a worker has of its blocks so far, each [N].
struct Running {
  explicit Running(const Tensor& x)
      : highest(torch::full({x.size(0)}, kNothing, x.options())),
        sum(torch::zeros_like(highest)),
        best(highest.clone()) {}

  /// Logits [N,b], written over.
  void add(Tensor& h) {
    const Tensor before = highest;
    highest = torch::maximum(before, h.amax(1));
    const Tensor terms = h.sub_(highest.unsqueeze(1)).exp_();
    sum = sum * (before - highest).exp_() + terms.sum(1);
  }

  Tensor highest;  ///< logit
  Tensor sum;      ///< of e^{h - highest}
  Tensor best;     ///< product
};

/// others and best of ClassScores.
std::pair<Tensor, Tensor> blockwise_others(const Tensor& x, const ClassRows& rows, const OtherLogits& other,
                                           const Blocks& blocks) {
  const Tensor memory = torch::empty({blocks.workers, x.size(0) * blocks.size}, x.options());
  const Tensor none = torch::full({1, 1}, -kInfinity, x.options());
  std::vector<Running> running;
  for (int64_t worker = 0; worker < blocks.workers; ++worker) running.emplace_back(x);
  blocks.run([&](int64_t worker, int64_t first, int64_t length) {
    Running& mine = running[static_cast<size_t>(worker)];
    Block block(x, rows, memory[worker]);
    block.open(first, length);
    Tensor h = block.z;
    if (other.value) {
      h = other.value(block.z);
      block.set_own(block.z, none);
      mine.best = torch::maximum(mine.best, block.z.amax(1));
    }
    block.set_own(h, none);
    mine.add(h);
  });
  std::vector<Tensor> logs, best;
  for (const Running& mine : running) {
    logs.push_back(mine.highest + mine.sum.log());
    best.push_back(other.value ? mine.best : mine.highest);
  }
  return {torch::stack(logs).logsumexp(0), torch::stack(best).amax(0)};
}

struct Gradients {
  Tensor x, weight, bias;
};

/// dL/dz [N,b] into `p`.
void product_gradients(Tensor& p, const Block& block, const OtherLogits& other, const Tensor& others,
                       const Tensor& own_gradient, const Tensor& others_gradient) {
  at::sub_out(p, other.value ? other.value(block.z) : block.z, others.unsqueeze(1));
  p.exp_().mul_(others_gradient.unsqueeze(1));
  if (other.slope) p.mul_(other.slope(block.z));
  block.set_own(p, own_gradient.unsqueeze(1));
}

Gradients blockwise_gradients(const Tensor& x, const ClassRows& rows, const OtherLogits& other,
                              const Blocks& blocks, const Tensor& others, const Tensor& own_gradient,
                              const Tensor& others_gradient) {
  const int64_t N = x.size(0);
  const Tensor memory = torch::empty({blocks.workers, 2, N * blocks.size}, x.options());
  const Tensor x_parts = torch::zeros({blocks.workers, N, x.size(1)}, x.options());
  Gradients gradients{{}, torch::empty_like(rows.weight), {}};
  if (rows.bias.defined()) gradients.bias = torch::empty_like(rows.bias);
  blocks.run([&](int64_t worker, int64_t first, int64_t length) {
    Block block(x, rows, memory[worker][0]);
    block.open(first, length);
    Tensor p = memory[worker][1].narrow(0, 0, N * length).view({N, length});
    product_gradients(p, block, other, others, own_gradient, others_gradient);
    if (rows.bias.defined()) {
      gradients.bias.narrow(0, first, length).copy_(p.sum(0));
      block.z.sub_(rows.bias.narrow(0, first, length));
    }
    Tensor along;  // what dW has of W itself: dW = (dŴ − (dŴ·ŵ)ŵ)/‖W‖ with dŴ·ŵ = Σ_i p_ij z_ij
    if (rows.normalise) {
      along = block.z.mul_(p).sum(0).mul_(block.inverse).mul_(block.inverse).neg_();
      along.mul_(block.inverse.lt(1 / kLeastNorm));
      p.mul_(block.inverse);
    }
    Tensor of_weight = gradients.weight.narrow(0, first, length);
    at::mm_out(of_weight, p.t(), x);
    if (along.defined()) of_weight.addcmul_(block.weight, along.unsqueeze(1));
    Tensor of_x = x_parts[worker];
    of_x.addmm_(p, block.weight);
  });
  gradients.x = x_parts.sum(0);
  return gradients;
}

/// What the backward pass needs beside tensors.
struct Call : torch::CustomClassHolder {
  Call(bool normalise, int64_t chunk_bytes, OtherLogits other)
      : normalise(normalise), chunk_bytes(chunk_bytes), other(std::move(other)) {}

  bool normalise;
  int64_t chunk_bytes;
  OtherLogits other;
};

class BlockwiseScores : public torch::autograd::Function<BlockwiseScores> {
 public:
  static std::vector<Tensor> forward(torch::autograd::AutogradContext* context, const Tensor& x,
                                     const Tensor& weight, const Tensor& bias, const Tensor& labels,
                                     const c10::intrusive_ptr<Call>& call) {
    const ClassRows rows = detached(weight, bias, call->normalise, labels);
    const Tensor features = x.detach();
    const auto [others, best] = blockwise_others(
        features, rows, call->other, Blocks(features, weight.size(0), call->other, call->chunk_bytes));
    context->save_for_backward({x, weight, bias, labels, others});
    context->saved_data["call"] = c10::IValue::make_capsule(call);
    context->mark_non_differentiable({best});
    return {own_products(features, rows), others, best};
  }

  static std::vector<Tensor> backward(torch::autograd::AutogradContext* context,
                                      const std::vector<Tensor>& gradients) {
    const torch::NoGradGuard no_grad;
    const auto saved = context->get_saved_variables();
    const auto call = c10::static_intrusive_pointer_cast<Call>(context->saved_data["call"].toCapsule());
    const ClassRows rows = detached(saved[1], saved[2], call->normalise, saved[3]);
    const Tensor x = saved[0].detach();
    const Gradients found = blockwise_gradients(
        x, rows, call->other, Blocks(x, rows.weight.size(0), call->other, call->chunk_bytes),
        saved[4].detach(), gradients[0], gradients[1]);
    return {found.x, found.weight, found.bias, {}, {}};
  }
};

}  // namespace

Tensor own_products(const Tensor& x, const ClassRows& rows) {
  const torch::NoGradGuard no_grad;
  const Tensor index = rows.labels.clamp_min(0);
  const Tensor weight = rows.weight.index_select(0, index);  // [N,D]
  Tensor z = (x * weight).sum(1);
  if (rows.normalise) z.mul_(inverse_norms(weight));
  if (rows.bias.defined()) z.add_(rows.bias.index_select(0, index));
  return torch::where(rows.labels.ge(0), z, 0);
}

ClassScores class_scores(const Tensor& x, const ClassRows& rows, const OtherLogits& other,
                         int64_t chunk_bytes) {
  if (chunk_bytes == 0) return plain_scores(x, rows, other);
  const auto call = c10::make_intrusive<Call>(rows.normalise, chunk_bytes, other);
  const Tensor bias = rows.bias.defined() ? rows.bias : torch::empty({0}, rows.weight.options());
  const std::vector<Tensor> scores = BlockwiseScores::apply(x, rows.weight, bias, rows.labels, call);
  return {scores[0], scores[1], scores[2]};
}

ClassScores scores_of_ranks(const ClassScores& part, const SharedRanks& ranks) {
  if (ranks == nullptr) return part;
  const Tensor best = part.best.clone();
  ranks->maximum(best);
  return {sum_of_ranks(part.own, ranks), logsumexp_of_ranks(part.others, ranks), best};
}

}  // namespace zoo
