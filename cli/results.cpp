#include "cli/results.h"

#include <algorithm>

#include "core/text.h"

namespace zoo {

namespace {

std::string cell(const Json& value) {
  if (value.is_null()) return "n/a";
  if (value.is_number_float()) return format("%.4f", value.get<double>());
  if (value.is_number_integer()) return with_thousands(value.get<int64_t>());
  return value.is_string() ? value.get<std::string>() : value.dump();
}

/// The order in which the field shows these names; names not listed follow in alphabetical order.
std::vector<std::string> ordered_names(const Json& metrics) {
  std::vector<std::string> names;
  for (const char* name :
       {"AP", "AP50", "AP75", "APs", "APm", "APl", "AR1", "AR10", "AR100", "ARs", "ARm", "ARl"}) {
    if (metrics.contains(name)) names.emplace_back(name);
  }
  for (const auto& item : metrics.items()) {
    if (std::find(names.begin(), names.end(), item.key()) == names.end()) names.push_back(item.key());
  }
  return names;
}

}  // namespace

std::string metrics_table(const std::vector<NamedMetrics>& results) {
  if (results.empty() || !results.front().metrics.is_object()) return "";
  std::vector<std::string> names, nested;
  for (const std::string& name : ordered_names(results.front().metrics)) {
    (results.front().metrics.at(name).is_object() ? nested : names).push_back(name);
  }
  const bool several = results.size() > 1;
  std::vector<std::string> header = names;
  if (several) header.insert(header.begin(), "data");
  Table table(header);
  for (const NamedMetrics& result : results) {
    std::vector<std::string> row;
    if (several) row.push_back(result.data);
    for (const std::string& name : names) row.push_back(cell(result.metrics.at(name)));
    table.add(row);
  }
  std::string text = table.str();
  if (several) return text;
  for (const std::string& name : nested) {
    Table rows({name, ""});
    for (const auto& item : results.front().metrics.at(name).items())
      rows.add({item.key(), cell(item.value())});
    text += "\n" + rows.str();
  }
  return text;
}

Json results_json(const std::string& command, const Json& model, const std::vector<NamedMetrics>& results) {
  Json document = {{"command", command}, {"model", model}};
  if (results.size() == 1) {
    document["data"] = results.front().data.empty() ? Json(nullptr) : Json(results.front().data);
    document["metrics"] = results.front().metrics;
    return document;
  }
  for (const NamedMetrics& result : results) {
    document["results"].push_back({{"data", result.data}, {"metrics", result.metrics}});
  }
  return document;
}

}  // namespace zoo
