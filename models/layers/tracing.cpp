#include "models/layers/tracing.h"

#include <torch/csrc/jit/frontend/tracer.h>
#include <torch/torch.h>

namespace zoo {

namespace tracer = torch::jit::tracer;

bool is_tracing() {
  return tracer::isTracing();
}

torch::Tensor upsample_nearest_like(const torch::Tensor& x, const torch::Tensor& like) {
  if (is_tracing()) {
    // Hands the traced sizes to the next operator with an argument of this name, in place of the numbers
    // below.
    for (int i = 0; i < 2; ++i) {
      tracer::ArgumentStash::stashIntArrayRefElem("output_size", 2, i,
                                                  tracer::getSizeOf(like, like.dim() - 2 + i));
    }
  }
  return torch::upsample_nearest2d(x, {like.size(-2), like.size(-1)});
}

torch::Tensor zeros_per_image(const torch::Tensor& x) {
  return torch::zeros_like(x.slice(1, 0, 1).slice(2, 0, 1));
}

}  // namespace zoo
