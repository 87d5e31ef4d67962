#pragma once
#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "datasets/detection.h"

namespace zoo {

/// The embedded set `shapes[,size=N][,train=N][,val=N][,seed=N]`.
struct ShapesOptions {
  int64_t size = 128;     ///< width and height of the pictures, pixels
  int64_t train = 20000;  ///< pictures of split train
  int64_t val = 500;      ///< pictures of split val
  uint64_t seed = 0;      ///< another seed, another set; the run's own seed does not touch it
};

/// Splits of `shapes`: train, val.
const std::vector<std::string>& shapes_splits();

/// Pictures drawn by code, the same on every machine: one to five circles, squares, triangles, stars, rings
/// and crosses, turned, from a sixth to a half of the picture's width, plain, shaded or striped, lighter than
/// the textured ground, with strokes and specks that are no objects. They may hide each other and reach over
/// the edge, but every object shows at least 60 % of itself; one that would show less, or hide so much of
/// another, is not drawn. Boxes enclose the visible pixels and areas count them, as in COCO. Nothing is
/// stored: a picture is drawn when it is read, from the stream (seed, split, index), so the splits never
/// share one. Throws UsageError for an unknown split or an option out of range.
std::shared_ptr<DetectionDataset> make_shapes(const DataSpec& spec, const std::string& split);

}  // namespace zoo
