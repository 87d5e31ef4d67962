#include "cli/results.h"

#include <algorithm>
#include <cstdlib>

#include "core/text.h"

namespace zoo {

namespace {

constexpr const char* kTarAtFar = "tar_at_far";
constexpr const char* kMark = "*";

std::string cell(const Json& value) {
  if (value.is_null()) return "n/a";
  if (value.is_number_float()) return format("%.4f", value.get<double>());
  if (value.is_number_integer()) return with_thousands(value.get<int64_t>());
  return value.is_string() ? value.get<std::string>() : value.dump();
}

/// The order in which the field shows these names; names not listed follow in alphabetical order.
std::vector<std::string> ordered_names(const Json& metrics) {
  std::vector<std::string> names;
  for (const char* name : {"AP", "AP50", "AP75", "APs", "APm", "APl", "AR1", "AR10", "AR100", "ARs", "ARm",
                           "ARl", "accuracy", "accuracy_std", "threshold", "auc", "eer"}) {
    if (metrics.contains(name)) names.emplace_back(name);
  }
  for (const auto& item : metrics.items()) {
    if (std::find(names.begin(), names.end(), item.key()) == names.end()) names.push_back(item.key());
  }
  return names;
}

/// Whether a false accept rate, "1e-6", is below one in all impostors of a result.
bool beyond_impostors(const NamedMetrics& result, const std::string& far) {
  if (!result.details.is_object() || !result.details.contains("impostor")) return false;
  return std::strtod(far.c_str(), nullptr) * result.details.at("impostor").get<double>() < 1;
}

bool is_marked(const NamedMetrics& result, const std::string& far) {
  return !result.metrics.at(kTarAtFar).at(far).is_null() && beyond_impostors(result, far);
}

std::string tar_cell(const NamedMetrics& result, const std::string& far) {
  return cell(result.metrics.at(kTarAtFar).at(far)) + (is_marked(result, far) ? kMark : "");
}

/// What the mark means, where there is one.
std::string footnote(const std::vector<NamedMetrics>& results) {
  for (const NamedMetrics& result : results) {
    if (!result.metrics.contains(kTarAtFar)) continue;
    for (const auto& item : result.metrics.at(kTarAtFar).items()) {
      if (is_marked(result, item.key()))
        return std::string(kMark) +
               " fewer impostors than that rate asks for: the share above every impostor\n";
    }
  }
  return "";
}

/// One row a data set; rates within `tar_at_far` are columns of their own where there are several.
std::string summary_table(const std::vector<NamedMetrics>& results, const std::vector<std::string>& names) {
  const bool several = results.size() > 1;
  const Json& first = results.front().metrics;
  std::vector<std::string> header = names;
  if (several) header.insert(header.begin(), "data");
  const bool rates = several && first.contains(kTarAtFar);
  if (rates) {
    for (const auto& item : first.at(kTarAtFar).items()) header.push_back("tar@" + item.key());
  }
  Table table(header);
  for (const NamedMetrics& result : results) {
    std::vector<std::string> row;
    if (several) row.push_back(result.data);
    for (const std::string& name : names) row.push_back(cell(result.metrics.at(name)));
    if (rates) {
      for (const auto& item : first.at(kTarAtFar).items()) row.push_back(tar_cell(result, item.key()));
    }
    table.add(row);
  }
  return table.str();
}

/// A table within a document: names and values, or a list's values by rank.
std::string nested_table(const NamedMetrics& result, const std::string& name) {
  const Json& values = result.metrics.at(name);
  Table rows({name, ""});
  if (values.is_array()) {
    for (size_t i = 0; i < values.size(); ++i) rows.add({std::to_string(i + 1), cell(values[i])});
  }
  if (values.is_object()) {
    for (const auto& item : values.items())
      rows.add({item.key(), name == kTarAtFar ? tar_cell(result, item.key()) : cell(item.value())});
  }
  return rows.str();
}

}  // namespace

std::string metrics_table(const std::vector<NamedMetrics>& results) {
  if (results.empty() || !results.front().metrics.is_object()) return "";
  std::vector<std::string> names, nested;
  for (const std::string& name : ordered_names(results.front().metrics)) {
    (results.front().metrics.at(name).is_structured() ? nested : names).push_back(name);
  }
  std::string text = summary_table(results, names);
  if (results.size() == 1) {
    for (const std::string& name : nested) text += "\n" + nested_table(results.front(), name);
  }
  return text + footnote(results);
}

Json results_json(const std::string& command, const Json& model, const std::vector<NamedMetrics>& results) {
  Json document = {{"command", command}, {"model", model}};
  const auto fill = [](Json& entry, const NamedMetrics& result) {
    entry["data"] = result.data.empty() ? Json(nullptr) : Json(result.data);
    entry["metrics"] = result.metrics;
    if (!result.details.is_null()) entry["details"] = result.details;
  };
  if (results.size() == 1) {
    fill(document, results.front());
    return document;
  }
  for (const NamedMetrics& result : results) fill(document["results"].emplace_back(), result);
  return document;
}

}  // namespace zoo
