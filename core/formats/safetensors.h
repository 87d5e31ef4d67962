#pragma once
#include "core/formats/tensor_file.h"

namespace zoo {

/// Whether the first bytes can be a safetensors file: a length and the beginning of a JSON object.
bool is_safetensors(const uint8_t* bytes, uint64_t size);

/// Reads the index of a safetensors file (https://huggingface.co/docs/safetensors): 8 bytes length of the
/// header, little-endian, the header in JSON, the data. Throws Error for whatever the reference library
/// refuses (length over 100 MB or behind the end, bad JSON or UTF-8, unknown dtype, `data_offsets` that
/// overlap, leave a hole or do not cover the data exactly, sizes that are not shape times dtype, metadata
/// that is no text) and for names given twice.
TensorFile read_safetensors(const uint8_t* bytes, uint64_t size, const std::string& path);

/// Writes a whole file as the reference library does: largest dtype first, then by name, header padded with
/// blanks to 8 bytes; metadata sorted by key (the reference writes it in no fixed order). Throws Error where
/// a name is no UTF-8.
void write_safetensors(const std::vector<TensorInfo>& tensors,
                       const std::map<std::string, std::string>& metadata, const TensorSource& source,
                       const ByteSink& sink);

}  // namespace zoo
