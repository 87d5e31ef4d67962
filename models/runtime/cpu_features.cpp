#include "models/runtime/cpu_features.h"

#include <fstream>
#include <set>
#include <sstream>

namespace zoo {

namespace {

/// Words of the first `flags` line that the kernel gives; empty on another system.
const std::set<std::string>& kernel_flags() {
  static const std::set<std::string> flags = [] {
    std::ifstream file("/proc/cpuinfo");
    std::set<std::string> words;
    for (std::string line; std::getline(file, line);) {
      if (line.rfind("flags", 0) != 0) continue;
      std::istringstream text(line);
      for (std::string word; text >> word;) words.insert(word);
      break;
    }
    return words;
  }();
  return flags;
}

}  // namespace

std::string cpu_features() {
  std::string features;
  for (const char* name : {"avx2", "avx512f", "avx512_vnni", "avx512_bf16", "amx_bf16"}) {
    if (kernel_flags().count(name) > 0) features += (features.empty() ? "" : " ") + std::string(name);
  }
  return features.empty() ? "baseline" : features;
}

bool cpu_has_bf16() {
  return kernel_flags().count("avx512_bf16") > 0 || kernel_flags().count("amx_bf16") > 0;
}

}  // namespace zoo
