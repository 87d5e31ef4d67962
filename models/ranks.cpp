#include "models/ranks.h"

#include <utility>
#include <vector>

#include <torch/torch.h>

namespace zoo {

namespace {

using torch::autograd::AutogradContext;

/// Ranks in what autograd keeps for the backward pass.
struct KeptRanks : torch::CustomClassHolder {
  explicit KeptRanks(SharedRanks ranks) : ranks(std::move(ranks)) {}
  SharedRanks ranks;
};

void keep(AutogradContext* context, const SharedRanks& ranks) {
  context->saved_data["ranks"] = c10::IValue::make_capsule(c10::make_intrusive<KeptRanks>(ranks));
}

Ranks& kept(AutogradContext* context) {
  return *c10::static_intrusive_pointer_cast<KeptRanks>(context->saved_data["ranks"].toCapsule())->ranks;
}

class AllRows : public torch::autograd::Function<AllRows> {
 public:
  static torch::Tensor forward(AutogradContext* context, const torch::Tensor& x, const SharedRanks& ranks) {
    keep(context, ranks);
    return ranks->gather(x.detach());
  }
  static std::vector<torch::Tensor> backward(AutogradContext* context, std::vector<torch::Tensor> gradients) {
    const Ranks& ranks = kept(context);
    const int64_t n = gradients[0].size(0) / ranks.count();
    return {gradients[0].narrow(0, ranks.rank() * n, n) * ranks.count(), {}};
  }
};

class ToEachRank : public torch::autograd::Function<ToEachRank> {
 public:
  static torch::Tensor forward(AutogradContext* context, const torch::Tensor& x, const SharedRanks& ranks) {
    keep(context, ranks);
    return x.view_as(x);
  }
  static std::vector<torch::Tensor> backward(AutogradContext* context, std::vector<torch::Tensor> gradients) {
    const torch::Tensor sum = gradients[0].clone();
    kept(context).sum(sum);
    return {sum, {}};
  }
};

class SumOfRanks : public torch::autograd::Function<SumOfRanks> {
 public:
  static torch::Tensor forward(AutogradContext*, const torch::Tensor& x, const SharedRanks& ranks) {
    const torch::Tensor sum = x.detach().clone();
    ranks->sum(sum);
    return sum;
  }
  static std::vector<torch::Tensor> backward(AutogradContext*, std::vector<torch::Tensor> gradients) {
    return {gradients[0], {}};
  }
};

class LogSumExpOfRanks : public torch::autograd::Function<LogSumExpOfRanks> {
 public:
  static torch::Tensor forward(AutogradContext* context, const torch::Tensor& x, const SharedRanks& ranks) {
    const torch::Tensor highest = x.detach().clone();
    ranks->maximum(highest);
    const torch::Tensor sum = (x.detach() - highest).exp_();
    ranks->sum(sum);
    const torch::Tensor all = highest + sum.log();
    context->save_for_backward({x, all});
    return all;
  }
  static std::vector<torch::Tensor> backward(AutogradContext* context, std::vector<torch::Tensor> gradients) {
    const auto saved = context->get_saved_variables();
    return {gradients[0] * (saved[0].detach() - saved[1].detach()).exp(), {}};
  }
};

}  // namespace

torch::Tensor all_rows(const torch::Tensor& x, const SharedRanks& ranks) {
  return ranks == nullptr ? x : AllRows::apply(x, ranks);
}

torch::Tensor to_each_rank(const torch::Tensor& x, const SharedRanks& ranks) {
  return ranks == nullptr ? x : ToEachRank::apply(x, ranks);
}

torch::Tensor sum_of_ranks(const torch::Tensor& x, const SharedRanks& ranks) {
  return ranks == nullptr ? x : SumOfRanks::apply(x, ranks);
}

torch::Tensor logsumexp_of_ranks(const torch::Tensor& x, const SharedRanks& ranks) {
  return ranks == nullptr ? x : LogSumExpOfRanks::apply(x, ranks);
}

torch::Tensor drawn_by_first(torch::Tensor numbers, const SharedRanks& ranks) {
  if (ranks != nullptr) ranks->broadcast(numbers);
  return numbers;
}

}  // namespace zoo
