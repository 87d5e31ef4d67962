#include "models/online_action/action_model.h"

#include <torch/torch.h>

#include "core/error.h"
#include "core/options.h"
#include "core/text.h"
#include "models/shape_text.h"

namespace zoo {

void require_heads(const std::string& key, int64_t heads, int64_t dim) {
  require_count(key, heads, 1, 1024);
  if (dim % heads == 0) return;
  throw UsageError(format("%s: %lld, expected a divisor of model.hidden_dim %lld", key.c_str(),
                          static_cast<long long>(heads), static_cast<long long>(dim)));
}

void require_features(const torch::Tensor& features, int64_t dims, int64_t feature_size) {
  if (features.dim() == dims && features.size(-1) == feature_size) return;
  throw Error("features have shape " + shape_text(features) +
              format(", expected [B, %s%lld] (model.feature_size)", dims == 3 ? "T, " : "",
                     static_cast<long long>(feature_size)));
}

int64_t count_numbered(const StateDict& state, const std::string& prefix) {
  int64_t count = 0;
  while (state.contains_prefix(prefix + std::to_string(count) + ".")) ++count;
  return count;
}

torch::Tensor push_step(const torch::Tensor& ring, const torch::Tensor& x) {
  return torch::cat({ring.slice(1, 1), x.unsqueeze(1)}, 1);
}

torch::Tensor where_stream(const torch::Tensor& chosen, const torch::Tensor& all,
                           const torch::Tensor& others) {
  torch::Tensor mask = chosen;
  while (mask.dim() < others.dim()) mask = mask.unsqueeze(-1);
  return torch::where(mask, all, others);
}

}  // namespace zoo
