#pragma once
#include <string>
#include <vector>

#include "core/options.h"

namespace zoo {

/// Metrics of one data set.
struct NamedMetrics {
  std::string data;
  Json metrics;
};

/// A table for people of `metrics` documents: one row a data set where there are several, then `per_class`
/// where there is one set. Fractions as in the document, null as n/a.
std::string metrics_table(const std::vector<NamedMetrics>& results);

/// The document of the contract: `metrics` of one data set, or `results` of several.
Json results_json(const std::string& command, const Json& model, const std::vector<NamedMetrics>& results);

}  // namespace zoo
