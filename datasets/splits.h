#pragma once
#include <string>
#include <vector>

#include "datasets/spec.h"

namespace zoo {

/// The split that a SPEC means: its own `split`, or else `default_split` ("train", "val"), under the names
/// that people give it (train2017, val2017, valid). Throws Error that names the splits found. `found` = {""}:
/// a SPEC without splits.
std::string choose_split(const DataSpec& spec, const std::string& default_split,
                         const std::vector<std::string>& found);
/// The same without an error: empty where there is none.
std::string find_split(const std::string& wanted, bool by_default, const std::vector<std::string>& found);

}  // namespace zoo
