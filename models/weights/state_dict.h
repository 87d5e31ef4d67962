#pragma once
#include <map>
#include <string>
#include <utility>
#include <vector>

#include <torch/nn/module.h>
#include <torch/types.h>

namespace zoo {

/// Named tensors of a file or a module, in order, with the text metadata of a safetensors file.
struct StateDict {
  std::vector<std::pair<std::string, torch::Tensor>> tensors;
  std::map<std::string, std::string> metadata;
  std::string source;  ///< file or folder they came from, for messages

  const torch::Tensor* find(const std::string& name) const;
  bool contains_prefix(const std::string& prefix) const;
};

/// Names in a checkpoint of a training run (`last.ckpt`) that hold the trainer's state and are no weights.
inline constexpr const char* kTrainerPrefix = "trainer.";

/// Reads a weight file as distributed: `.safetensors`, PyTorch `.pth/.ckpt/.pt` (zip or legacy), a sharded
/// `*.index.json`, or a folder that holds one of them: a run (best.safetensors, else last.safetensors, else
/// last.ckpt; log_info says which), a published model, or any folder with exactly one weight file. Recognised
/// by content. The trainer's state is left out, and a prefix `module.` or `_orig_mod.` (DataParallel,
/// torch.compile) that all names of a pickle have is taken off.
///
/// Tensors are views of the mapped file where it has them aligned: reading costs nothing until they are used,
/// and writing into one ends the program; clone first. Throws Error naming the file and what is wrong with
/// it; TorchScript is refused as such.
StateDict load_state_dict(const std::string& path);

/// All tensors of one file under their names as they stand there, the trainer's too.
StateDict load_tensors(const std::string& file);

/// All parameters and buffers of a module under their registered names (no copies).
StateDict module_state(const torch::nn::Module& module);

/// Writes safetensors (AtomicFile; contiguous copies where needed, one at a time; tensors stay in dtype).
/// Equal to what the reference library writes: largest dtype first, then by name, header padded to 8 bytes.
void save_safetensors(const std::string& path, const StateDict& state);

/// Writes a zip that Python's `torch.load(weights_only=True)` reads: an OrderedDict of contiguous tensors.
void save_pth(const std::string& path, const StateDict& state);

/// Copies elements between tensors of one shape, converted to the target's dtype and device. Plain copies on
/// the CPU stay on the calling thread: they wait for memory, and torch's threads only add their barriers
/// (measured: 0.06 s against 0.2 s to 1.3 s for 160 MB on a busy machine with two cores).
void copy_elements(torch::Tensor target, const torch::Tensor& source);

/// What does not fit when tensors meet a module.
struct FitReport {
  std::vector<std::string> missing, extra,
      misshapen;  ///< "NAME [2, 3]"; misshapen: "NAME [2, 3], expected [2, 4]"
  bool fits() const { return missing.empty() && extra.empty() && misshapen.empty(); }
  /// `FILE: 187 missing, 1 extra, 0 misshapen tensors (first missing: NAME [shape]; first extra: NAME
  /// [shape])`.
  std::string message(const std::string& source) const;
};

/// Copies tensors into the module's parameters and buffers of the same names (dtypes converted to the
/// module's); `num_batches_tracked` may be absent or extra, and names that begin with one of `ignored` may be
/// extra. Copies what fits in any case; the report says what did not. In a WeightsFollowScope the tensors
/// themselves take the place of the module's.
FitReport assign(torch::nn::Module& module, const StateDict& state,
                 const std::vector<std::string>& ignored = {});

/// Throws Error with the report's message unless everything fits or `partial` is true (then a warning).
void require_fit(const FitReport& report, const std::string& source, bool partial);

}  // namespace zoo
