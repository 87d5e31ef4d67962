#pragma once
#include <cstdint>
#include <deque>
#include <string>
#include <string_view>
#include <vector>

#include "core/formats/pickle.h"

namespace zoo {

/// An insightface verification set (`lfw.bin`): the pickle of (pictures, issame).
struct PairBin {
  std::vector<std::string_view> images;  ///< encoded pictures; those of pair i are 2i and 2i+1
  std::vector<bool> same;                ///< one for each pair

  Pickle pickle;                    ///< the pictures point into the file, into this
  std::deque<std::string> decoded;  ///< or into these
};

/// Reads such a pickle, as Python 2 or 3 wrote it by any protocol: pictures as byte strings, as bytes, as texts
/// that `_codecs.encode` would turn into bytes, or as numpy arrays of uint8; issame as booleans, integers or a
/// numpy array. The bytes must outlive the result; `where` begins every message. Throws Error for anything else.
PairBin read_pair_bin(const uint8_t* data, uint64_t size, const std::string& where);

}  // namespace zoo
