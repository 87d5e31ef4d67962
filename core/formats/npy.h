#pragma once
#include "core/formats/tensor_file.h"

namespace zoo {

/// Reads the header of a NumPy .npy file (format versions 1 to 3): element type, shape, strides of C or
/// Fortran order, first byte. Throws Error for big-endian, structured and object elements, and where header
/// and size of the file do not agree exactly. The name is empty.
TensorEntry read_npy(const uint8_t* bytes, uint64_t size, const std::string& path);

}  // namespace zoo
