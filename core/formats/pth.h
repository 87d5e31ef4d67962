#pragma once
#include "core/formats/tensor_file.h"

namespace zoo {

/// Whether the file begins with the magic number of torch.save's old container.
bool is_pth_legacy(const uint8_t* bytes, uint64_t size);

/// Reads the index of what `torch.save` writes since 1.6: a zip with `ROOT/data.pkl` and the storages
/// `ROOT/data/KEY`. The state dict may stand at the top or, beside whatever a training run keeps, under
/// `model`, `state_dict`, `ema` and the like; what is left alone is named in `skipped`. Tensors keep offset,
/// strides and shared storages. Throws Error for TorchScript archives, big-endian files, kinds of tensors
/// without plain storage (sparse, quantised, complex) and all that the zip and pickle readers refuse.
TensorFile read_pth_zip(const uint8_t* bytes, uint64_t size, const std::string& path);

/// The same for the container before 1.6: five pickles (magic, protocol, system, object, keys of the
/// storages), then for each storage its element count and its bytes.
TensorFile read_pth_legacy(const uint8_t* bytes, uint64_t size, const std::string& path);

/// Writes a zip that `torch.load(weights_only=True)` reads: an OrderedDict of contiguous tensors.
void write_pth(const std::vector<TensorInfo>& tensors, const TensorSource& source, const ByteSink& sink);

}  // namespace zoo
