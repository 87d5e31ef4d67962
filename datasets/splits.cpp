#include "datasets/splits.h"

#include <algorithm>
#include <utility>

#include "core/error.h"
#include "core/text.h"

namespace zoo {

std::string find_split(const std::string& wanted, bool by_default, const std::vector<std::string>& found) {
  std::vector<std::string> names = {wanted, wanted + "2017"};
  if (by_default) std::swap(names[0], names[1]);
  if (wanted == "val") names.emplace_back("valid");
  for (const std::string& name : names) {
    if (std::find(found.begin(), found.end(), name) != found.end()) return name;
  }
  return "";
}

std::string choose_split(const DataSpec& spec, const std::string& default_split,
                         const std::vector<std::string>& found) {
  const std::string wanted = spec.option("split");
  if (found == std::vector<std::string>{""}) {
    if (wanted.empty()) return "";
    throw Error(spec.text + ": " + spec.path + " is one set without splits, expected the SPEC without split");
  }
  const std::string split = find_split(wanted.empty() ? default_split : wanted, wanted.empty(), found);
  if (!split.empty()) return split;
  throw Error(spec.text + ": no split '" + (wanted.empty() ? default_split : wanted) +
                  "', expected one of those found: " + join(found, ", "),
              "a split is named in the SPEC: " + spec.kind + ":PATH,split=NAME");
}

}  // namespace zoo
