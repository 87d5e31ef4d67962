#pragma once
#include <string>
#include <vector>

#include "models/weights/state_dict.h"

namespace zoo {

/// One rule between a published layout and our own names. `theirs` and `ours_pattern` are ECMAScript patterns
/// without anchors that must match a whole name; their groups carry over: theirs
/// `model\.encoder\.layers\.(\d+)\.fc1\.(.*)`, ours `transformer.encoder.layers.$1.linear1.$2`. Rules are
/// tried in order, the first that matches holds.
struct LayoutRule {
  std::string theirs;  ///< pattern on their name; empty: the rule only writes
  std::string ours;    ///< replacement that gives our name
  std::string
      ours_pattern;  ///< pattern on our name, for writing; empty: the rule only reads (a second spelling)
  std::string theirs_name;  ///< replacement that gives their name
  /// Part `part` of `parts` equal parts, along dimension 0, of our tensor (q, k, v of `in_proj_weight`); 1
  /// part: whole.
  int part = 0;
  int parts = 1;
};

/// How a published layout names the tensors of one model family.
struct Layout {
  std::string name;  ///< as in `zoo export --layout`
  std::vector<LayoutRule> rules;
  std::vector<std::string> ignored;  ///< wildcard patterns of their names that are dropped on reading
};

/// Their names turned into ours (parts joined). Names without a rule, and parts of a tensor whose other parts
/// are missing, stay as they are and are reported by `assign`. Throws Error where two of their tensors are
/// the same one of ours, or parts differ in shape.
StateDict from_layout(const StateDict& state, const Layout& layout);

/// Our names turned into theirs (parts split, as views). Throws Error where a tensor cannot be split or two
/// of ours would get one name.
StateDict to_layout(const StateDict& state, const Layout& layout);

}  // namespace zoo
