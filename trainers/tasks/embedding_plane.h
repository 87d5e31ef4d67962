#pragma once
#include <cstdint>
#include <string>
#include <vector>

#include <torch/types.h>
#include <opencv2/core.hpp>

namespace zoo {

/// Embeddings of two values.
struct EmbeddingPlane {
  torch::Tensor points;         ///< [N,2]
  std::vector<int64_t> people;  ///< [N] 0, 1, 2, …
  torch::Tensor rows;           ///< [C,2] class rows by the same numbers, C ≥ people; undefined: none
};
/// The embeddings where they lie, scaled to fit into a circle; on the circle their directions, outside of it those of
/// the class rows of the people shown, each person in a colour. Words that are too wide are set smaller.
cv::Mat draw_embedding_plane(const EmbeddingPlane& plane, const std::string& title, const std::string& words);

}  // namespace zoo
