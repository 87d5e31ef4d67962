#include "models/faces/face_model.h"

#include <torch/torch.h>

#include "core/error.h"
#include "core/text.h"
#include "models/shape_text.h"

namespace zoo {

void require_faces(const torch::Tensor& images, int64_t channels, const MapSize& size, bool training) {
  const std::vector<int64_t> wanted = {channels, size[0], size[1]};
  if (images.dim() != 4 || !images.sizes().slice(1).equals(wanted)) {
    throw Error("images have shape " + shape_text(images) +
                format(", expected [B, %d, %d, %d] (model.input_size)", static_cast<int>(channels),
                       static_cast<int>(size[0]), static_cast<int>(size[1])));
  }
  if (training && images.size(0) < 2) {
    throw Error("a batch of 1 image in training, expected at least 2: its batch norms need their variance");
  }
}

}  // namespace zoo
