#pragma once
#include <map>
#include <string>
#include <vector>

namespace zoo {

/// What a `*.index.json` of a sharded model says: which file beside it holds which tensor.
struct ShardIndex {
  std::vector<std::string> files;                 ///< sorted, each once
  std::map<std::string, std::string> weight_map;  ///< tensor -> file
};

/// Whether the file's content is a JSON document (no weight file begins like one).
bool is_shard_index(const std::string& path);

/// Throws Error where `weight_map` is missing or a file name is absolute or leaves the folder.
ShardIndex read_shard_index(const std::string& path);

/// The weight file of a folder: of a run (best.safetensors, last.safetensors, last.ckpt), of a published
/// model, or the only file whose content is one; log_info says which. Throws Error naming what was found
/// where that is not exactly one.
std::string find_weight_file(const std::string& folder);

}  // namespace zoo
