#include "trainers/row_cuts.h"

#include <algorithm>
#include <utility>
#include <vector>

#include "core/text.h"

namespace zoo {

RowCuts::RowCuts(RowShard shard, SharedRanks ranks) : shard_(std::move(shard)), ranks_(std::move(ranks)) {}

bool RowCuts::named(const std::string& name) const {
  return ranks_ != nullptr &&
         std::any_of(shard_.names.begin(), shard_.names.end(),
                     [&](const std::string& cut) { return name == cut || ends_with(name, "." + cut); });
}

bool RowCuts::contains(const std::string& name, const torch::Tensor& tensor) const {
  return named(name) && tensor.dim() > 0 && tensor.size(0) == shard_.count;
}

torch::Tensor RowCuts::whole(const std::string& name, const torch::Tensor& tensor) const {
  if (!contains(name, tensor)) return tensor;
  const torch::NoGradGuard no_grad;
  const torch::Tensor counts = ranks_->gather(torch::full({1}, shard_.count, torch::kLong));
  const auto most = counts.max().item<int64_t>();
  std::vector<int64_t> shape = tensor.sizes().vec();
  shape[0] = most;
  torch::Tensor rows = tensor.detach();
  if (shard_.count < most) {
    rows = torch::zeros(shape, tensor.options());
    rows.narrow(0, 0, shard_.count).copy_(tensor);
  }
  const torch::Tensor all = ranks_->collect(rows);
  if (!all.defined()) return tensor;
  std::vector<torch::Tensor> parts;
  for (int64_t rank = 0; rank < ranks_->count(); ++rank) {
    parts.push_back(all.narrow(0, rank * most, counts[rank].item<int64_t>()));
  }
  return all.size(0) == shard_.rows ? all : torch::cat(parts);
}

void RowCuts::cut(StateDict& file) const {
  for (auto& [name, tensor] : file.tensors) {
    if (!named(name) || tensor.dim() == 0 || tensor.size(0) != shard_.rows) continue;
    tensor = tensor.narrow(0, shard_.start, shard_.count);
  }
}

}  // namespace zoo
