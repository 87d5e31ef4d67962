#include "models/weights/layout.h"

#include <algorithm>
#include <cctype>
#include <regex>
#include <unordered_map>
#include <unordered_set>

#include "core/error.h"
#include "core/formats/byte_reader.h"
#include "core/text.h"
#include "models/shape_text.h"

namespace zoo {

namespace {

/// Whether the pattern is `A|B` outside of groups.
bool has_alternatives(const std::string& pattern) {
  int depth = 0;
  for (const char c : pattern) {
    if (c == '(') ++depth;
    if (c == ')') --depth;
    if (c == '|' && depth == 0) return true;
  }
  return false;
}

/// A pattern with the literal text that every match begins with, which spares most names the regular
/// expression.
class Pattern {
 public:
  explicit Pattern(const std::string& pattern) {
    if (pattern.empty()) return;
    expression_ = std::regex(pattern, std::regex::ECMAScript | std::regex::optimize);
    active_ = true;
    if (has_alternatives(pattern)) return;
    for (size_t i = 0; i < pattern.size(); ++i) {
      const bool escaped = pattern[i] == '\\' && i + 1 < pattern.size() &&
                           std::ispunct(static_cast<unsigned char>(pattern[i + 1])) != 0;
      const size_t next = escaped ? i + 2 : i + 1;
      const bool literal = escaped || std::string("\\^$.*+?()[]{}").find(pattern[i]) == std::string::npos;
      const bool repeated =
          next < pattern.size() && std::string("*+?{").find(pattern[next]) != std::string::npos;
      if (!literal || repeated) return;
      prefix_ += pattern[next - 1];
      i = next - 1;
    }
  }

  /// The name that `replacement` gives for a matching `name`; false where it does not match.
  bool apply(const std::string& name, const std::string& replacement, std::string& result) const {
    std::smatch match;
    if (!active_ || !starts_with(name, prefix_) || !std::regex_match(name, match, expression_)) return false;
    result = match.format(replacement);
    return true;
  }

 private:
  std::regex expression_;
  std::string prefix_;
  bool active_ = false;
};

std::vector<Pattern> compile(const std::vector<LayoutRule>& rules, std::string LayoutRule::*member) {
  std::vector<Pattern> patterns;
  for (const LayoutRule& rule : rules) patterns.emplace_back(rule.*member);
  return patterns;
}

/// Adds tensors under names that must differ.
class Builder {
 public:
  explicit Builder(const StateDict& origin) {
    state_.metadata = origin.metadata;
    state_.source = origin.source;
  }

  void add(const std::string& name, torch::Tensor tensor, const std::string& origin) {
    const auto [found, added] = origins_.emplace(name, origin);
    if (!added) throw Error(state_.source + ": " + found->second + " and " + origin + " are both " + name);
    state_.tensors.emplace_back(name, std::move(tensor));
  }
  StateDict take() { return std::move(state_); }

 private:
  StateDict state_;
  std::unordered_map<std::string, std::string> origins_;
};

struct Part {
  std::string origin;
  torch::Tensor tensor;
};
/// One tensor of ours that is being put together; a place is empty until its part is met.
struct Joined {
  std::string name;
  std::vector<Part> parts;
};

void set_part(Joined& joined, const LayoutRule& rule, const std::string& origin, const torch::Tensor& tensor,
              const std::string& source) {
  joined.parts.resize(static_cast<size_t>(rule.parts));
  Part& part = joined.parts.at(static_cast<size_t>(rule.part));
  if (part.tensor.defined()) {
    throw Error(source + ": " + part.origin + " and " + origin + " are both the same part of " + joined.name);
  }
  part = {origin, tensor};
}

/// The parts in one tensor; undefined where some are missing.
torch::Tensor join_parts(const Joined& joined, const std::string& source) {
  const Part& first = joined.parts[0];
  for (const Part& part : joined.parts) {
    if (!part.tensor.defined()) return {};
    const bool fits = part.tensor.dim() > 0 && part.tensor.sizes() == first.tensor.sizes() &&
                      part.tensor.scalar_type() == first.tensor.scalar_type();
    if (!fits) {
      throw Error(source + ": " + part.origin + " " + shape_text(part.tensor) + " and " + first.origin + " " +
                  shape_text(first.tensor) + " are parts of " + joined.name +
                  ", expected equal shapes and types");
    }
  }
  const int64_t rows = first.tensor.size(0);
  std::vector<int64_t> shape = first.tensor.sizes().vec();
  shape[0] = rows * static_cast<int64_t>(joined.parts.size());
  torch::Tensor whole = torch::empty(shape, first.tensor.options().requires_grad(false));
  const torch::NoGradGuard no_grad;
  for (size_t i = 0; i < joined.parts.size(); ++i) {
    copy_elements(whole.narrow(0, static_cast<int64_t>(i) * rows, rows), joined.parts[i].tensor);
  }
  return whole;
}

}  // namespace

StateDict from_layout(const StateDict& state, const Layout& layout) {
  const std::vector<Pattern> patterns = compile(layout.rules, &LayoutRule::theirs);
  Builder builder(state);
  std::vector<Joined> joined;  // in the order of their first parts
  std::unordered_map<std::string, size_t> index;
  for (const auto& [name, tensor] : state.tensors) {
    if (std::any_of(
            layout.ignored.begin(), layout.ignored.end(),
            [&name = name](const std::string& wildcard) { return matches_wildcard(name, wildcard); })) {
      continue;
    }
    std::string ours = name;
    size_t i = 0;
    while (i < patterns.size() && !patterns[i].apply(name, layout.rules[i].ours, ours)) ++i;
    if (i == patterns.size() || layout.rules[i].parts == 1) {
      builder.add(ours, tensor, name);
      continue;
    }
    const auto [place, added] = index.emplace(ours, joined.size());
    if (added) joined.push_back({ours, {}});
    set_part(joined[place->second], layout.rules[i], name, tensor, state.source);
  }
  for (const Joined& whole : joined) {
    const torch::Tensor tensor = join_parts(whole, state.source);
    if (tensor.defined()) {
      builder.add(whole.name, tensor, whole.parts[0].origin);
      continue;
    }
    for (const Part& part : whole.parts) {
      if (part.tensor.defined()) builder.add(part.origin, part.tensor, part.origin);
    }
  }
  return builder.take();
}

StateDict to_layout(const StateDict& state, const Layout& layout) {
  const std::vector<Pattern> patterns = compile(layout.rules, &LayoutRule::ours_pattern);
  Builder builder(state);
  for (const auto& [name, tensor] : state.tensors) {
    std::string theirs = name;
    size_t first = 0;
    while (first < patterns.size() && !patterns[first].apply(name, layout.rules[first].theirs_name, theirs)) {
      ++first;
    }
    if (first == patterns.size() || layout.rules[first].parts == 1) {
      builder.add(theirs, tensor, name);
      continue;
    }
    const LayoutRule& leader = layout.rules[first];
    if (tensor.dim() == 0 || tensor.size(0) % leader.parts != 0) {
      throw Error(state.source + ": " + name + " " + shape_text(tensor) + " cannot be split into " +
                  std::to_string(leader.parts) + " equal parts");
    }
    const int64_t rows = tensor.size(0) / leader.parts;
    for (size_t i = first; i < patterns.size(); ++i) {
      const LayoutRule& rule = layout.rules[i];
      if (rule.ours_pattern != leader.ours_pattern || rule.parts != leader.parts) continue;
      patterns[i].apply(name, rule.theirs_name, theirs);
      builder.add(theirs, tensor.narrow(0, rule.part * rows, rows), name);
    }
  }
  return builder.take();
}

}  // namespace zoo
