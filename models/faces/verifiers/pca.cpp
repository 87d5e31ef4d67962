#include "models/faces/verifiers/pca.h"

#include <ATen/CPUGeneratorImpl.h>
#include <torch/torch.h>

#include <algorithm>

namespace zoo {

namespace {

/// Larger matrices are not decomposed as a whole: an ensemble of DeepID has 9600 values.
constexpr int64_t kWholeSize = 2048;

/// Directions [D,K] of largest variance of centred rows, exactly: by the smaller of the two products, whose
/// eigenvectors are the singular vectors of either side.
torch::Tensor exact_directions(const torch::Tensor& centred, int64_t kept) {
  const bool tall = centred.size(0) >= centred.size(1);
  const torch::Tensor product = tall ? centred.t().matmul(centred) : centred.matmul(centred.t());
  const torch::Tensor vectors = std::get<1>(torch::linalg_eigh(product));  // ascending
  const torch::Tensor largest = vectors.narrow(1, vectors.size(1) - kept, kept).flip(1);
  return tall ? largest : centred.t().matmul(largest);
}

/// The same by subspace iteration (Halko et al. 2011, algorithm 4.4) from a fixed start, in a space somewhat larger.
torch::Tensor iterated_directions(const torch::Tensor& centred, int64_t kept) {
  constexpr int64_t kMore = 20, kIterations = 8;
  const int64_t size = std::min({kept + kMore, centred.size(0), centred.size(1)});
  torch::Tensor basis =
      torch::randn({centred.size(1), size}, at::detail::createCPUGenerator(1), torch::kDouble);
  for (int64_t i = 0; i < kIterations; ++i)
    basis = std::get<0>(torch::linalg_qr(centred.t().matmul(centred.matmul(basis))));
  return basis.matmul(exact_directions(centred.matmul(basis), kept));
}

}  // namespace

Pca fit_pca(const torch::Tensor& x, int64_t components) {
  const int64_t count = x.size(0), size = x.size(1);
  Pca pca{x.mean(0), torch::eye(size, torch::kDouble)};
  if (components == 0) return pca;
  const int64_t kept = std::max<int64_t>(1, std::min({components, count - 1, size}));
  const torch::Tensor centred = x - pca.mean;
  const torch::Tensor directions = std::min(count, size) <= kWholeSize ? exact_directions(centred, kept)
                                                                       : iterated_directions(centred, kept);
  pca.basis = directions / directions.norm(2, 0, true).clamp_min(1e-300);
  return pca;
}

}  // namespace zoo
