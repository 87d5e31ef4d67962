#pragma once
#include <string>
#include <vector>

#include "core/options.h"

namespace zoo {

/// Metrics of one data set.
struct NamedMetrics {
  std::string data;
  Json metrics;
  Json details =
      nullptr;  ///< what the figures hang on beside the data: protocol, number of pairs; null: nothing
};

/// A table for people of `metrics` documents: one row a data set where there are several, then `per_class` and other
/// tables within where there is one set. Fractions as in the document, null as n/a; a true accept rate at a false
/// accept rate that the impostors are too few to tell is marked.
std::string metrics_table(const std::vector<NamedMetrics>& results);

/// The document of the contract: `metrics` of one data set, or `results` of several.
Json results_json(const std::string& command, const Json& model, const std::vector<NamedMetrics>& results);

}  // namespace zoo
