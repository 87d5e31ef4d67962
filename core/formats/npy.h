#pragma once
#include "core/formats/byte_reader.h"
#include "core/formats/tensor_file.h"

namespace zoo {

/// Reads the header of a NumPy .npy file (format versions 1 to 3): element type, shape, strides of C or
/// Fortran order, first byte. Throws Error for big-endian, structured and object elements, and where header
/// and size of the file do not agree exactly. The name is empty.
TensorEntry read_npy(const uint8_t* bytes, uint64_t size, const std::string& path);
/// The same of an array whose elements have not all arrived: reads up to the first of them.
TensorEntry read_npy_header(ByteReader& reader);
/// How many bytes an .npy begins with before its header's text, and how many with it, once that many are there.
constexpr uint64_t kNpyPrefix = 12;
uint64_t npy_header_end(const uint8_t* prefix);

}  // namespace zoo
