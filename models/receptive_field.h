#pragma once
#include <cstdint>
#include <vector>

namespace zoo {

/// The part of the input that a cell of a map depends on, per spatial dimension, in cells (pixels) of the
/// input.
struct ReceptiveField {
  std::vector<double> size;    ///< empty: no map, for example tokens of a text
  std::vector<double> stride;  ///< between the fields of neighbouring cells
  std::vector<double> offset;  ///< centre of the first cell's field; that of the first pixel is 0
  bool whole = false;          ///< every cell depends on the whole input; the other members do not count then

  bool is_map() const { return !size.empty(); }
};

/// A convolution's or a pooling's window; one entry per spatial dimension.
struct Window {
  std::vector<int64_t> kernel, stride, padding, dilation;
};

/// The input itself: fields of size 1, stride 1, offset 0.
ReceptiveField input_field(size_t dimensions);

/// After a convolution or pooling (Araujo et al. 2019, "Computing receptive fields of convolutional neural
/// networks", equations 2 and 3, by recursion from the input): with k' = dilation·(kernel - 1) + 1
///   size += (k' - 1)·stride, offset += ((k' - 1)/2 - padding)·stride, stride *= the window's stride.
ReceptiveField slide(const ReceptiveField& field, const Window& window);

/// After a transposed convolution: a cell sees at most ⌈k'/s⌉ cells of the map below.
ReceptiveField slide_transposed(const ReceptiveField& field, const Window& window);

/// After resizing a map between sizes without aligned corners; a cell is made of `reach` neighbours (1
/// nearest, 2 linear, 4 cubic).
ReceptiveField resize(const ReceptiveField& field, const std::vector<int64_t>& from,
                      const std::vector<int64_t>& to, int64_t reach);

/// Whether a field covers more of the input; where branches meet, the largest one holds.
bool is_larger(const ReceptiveField& field, const ReceptiveField& other);

}  // namespace zoo
