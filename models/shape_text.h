#pragma once
#include <string>

#include <torch/types.h>

#include "core/formats/byte_reader.h"

namespace zoo {

/// "[2, 3, 640, 640]": a tensor's shape for messages.
inline std::string shape_text(const torch::Tensor& tensor) {
  return shape_text(tensor.sizes().data(), tensor.sizes().size());
}

}  // namespace zoo
