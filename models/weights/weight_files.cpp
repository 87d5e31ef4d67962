#include "models/weights/weight_files.h"

#include <algorithm>
#include <set>

#include "core/error.h"
#include "core/files.h"
#include "core/formats/byte_reader.h"
#include "core/formats/tensor_file.h"
#include "core/log.h"
#include "core/options.h"
#include "core/text.h"

namespace zoo {

namespace {

/// What a folder's weight file is called, first of a run of ours, then as others publish models.
constexpr const char* kUsualNames[] = {"best.safetensors",
                                       "last.safetensors",
                                       "last.ckpt",
                                       "model.safetensors",
                                       "model.safetensors.index.json",
                                       "diffusion_pytorch_model.safetensors",
                                       "diffusion_pytorch_model.safetensors.index.json",
                                       "pytorch_model.bin",
                                       "pytorch_model.bin.index.json",
                                       "diffusion_pytorch_model.bin"};

bool is_weight_file(const std::string& path) {
  if (is_directory(path)) return false;
  try {
    const MappedFile file(path);
    return tell_container(file.data(), file.size()) != Container::none;
  } catch (const Error&) {
    return false;  // unreadable files beside the weights do not matter
  }
}

/// Inside the folder of the index: neither absolute nor upwards.
bool stays_inside(const std::string& name) {
  const std::vector<std::string> parts = split(name, '/');
  return !name.empty() && name[0] != '/' && std::find(parts.begin(), parts.end(), "..") == parts.end() &&
         name.find('\\') == std::string::npos && name.find('\0') == std::string::npos;
}

}  // namespace

bool is_shard_index(const std::string& path) {
  const MappedFile file(path);
  const std::string_view text = file.text();
  if (tell_container(file.data(), file.size()) != Container::none) return false;
  const size_t first = text.find_first_not_of(" \t\r\n");
  return first != std::string_view::npos && text[first] == '{';
}

ShardIndex read_shard_index(const std::string& path) {
  const Json document = read_json(path);
  const auto map = document.find("weight_map");
  if (map == document.end() || !map->is_object() || map->empty()) {
    throw Error(path + ": is JSON without a weight_map, expected the index of a sharded model");
  }
  ShardIndex index;
  std::set<std::string> files;
  for (const auto& item : map->items()) {
    const std::string name = item.value().is_string() ? item.value().get<std::string>() : "";
    if (!stays_inside(name)) {
      throw Error(path + ": weight_map: " + shown_name(item.key()) + ": '" + shown_name(name) +
                  "' is no file beside the index");
    }
    index.weight_map.emplace(item.key(), name);
    files.insert(name);
  }
  index.files.assign(files.begin(), files.end());
  return index;
}

std::string find_weight_file(const std::string& folder) {
  for (const char* name : kUsualNames) {
    const std::string path = join_path(folder, name);
    if (!file_exists(path)) continue;
    log_info("weights: " + path);
    return path;
  }
  std::vector<std::string> found;
  for (const std::string& name : list_folder(folder)) {
    if (is_weight_file(join_path(folder, name))) found.push_back(name);
  }
  if (found.size() != 1) {
    throw Error(folder + ": " + (found.empty() ? "holds no weight file" : "holds " + join(found, ", ")) +
                ", expected a run, a published model or exactly one weight file");
  }
  log_info("weights: " + join_path(folder, found[0]));
  return join_path(folder, found[0]);
}

}  // namespace zoo
