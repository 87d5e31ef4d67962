#pragma once
#include <cstdint>
#include <vector>

#include <ATen/core/Generator.h>
#include <torch/types.h>

namespace zoo {

/// Gaussian numbers of a batch of pictures, a generator each, so that a picture is the same alone and in a batch, and
/// whatever the number of threads. The numbers are those of torch.Generator("cpu").manual_seed(seed).
class NoiseSource {
 public:
  /// Picture i draws from seed + i.
  NoiseSource(uint64_t seed, int64_t pictures);

  /// [B,…] float on the CPU, the next numbers of every picture; `shape` is that of one picture.
  torch::Tensor draw(const std::vector<int64_t>& shape);
  /// The same of x's shape, device and dtype; x has a row for each picture.
  torch::Tensor draw_like(const torch::Tensor& x);

 private:
  std::vector<at::Generator> generators_;
};

}  // namespace zoo
