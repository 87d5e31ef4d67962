#include "trainers/running_means.h"

#include <algorithm>
#include <cmath>

namespace zoo {

void RunningMeans::add(const std::vector<std::pair<std::string, torch::Tensor>>& values) {
  if (values.empty()) return;
  const torch::NoGradGuard no_grad;
  std::vector<torch::Tensor> scalars;
  scalars.reserve(values.size());
  for (const auto& item : values) scalars.push_back(item.second.detach().reshape({}).to(torch::kDouble));
  const torch::Tensor stacked = torch::stack(scalars);  // [names]
  const bool same = pending_names_.size() == values.size() &&
                    std::equal(values.begin(), values.end(), pending_names_.begin(),
                               [](const auto& item, const std::string& name) { return item.first == name; });
  if (same && pending_count_ > 0) {
    pending_.add_(stacked);
  } else {
    collect();
    pending_names_.clear();
    for (const auto& item : values) pending_names_.push_back(item.first);
    pending_ = stacked;
  }
  ++pending_count_;
}

RunningMeans::Sum& RunningMeans::sum_of(const std::string& name) {
  const auto found =
      std::find_if(sums_.begin(), sums_.end(), [&](const Sum& sum) { return sum.name == name; });
  if (found != sums_.end()) return *found;
  return sums_.emplace_back(Sum{name, 0, 0});
}

void RunningMeans::collect() {
  if (pending_count_ == 0) return;
  const torch::Tensor values = pending_.cpu();
  for (size_t i = 0; i < pending_names_.size(); ++i) {
    Sum& sum = sum_of(pending_names_[i]);
    sum.sum += values.data_ptr<double>()[i];
    sum.count += pending_count_;
  }
  pending_count_ = 0;
}

std::vector<std::pair<std::string, double>> RunningMeans::means() {
  collect();
  std::vector<std::pair<std::string, double>> means;
  for (const Sum& sum : sums_) means.emplace_back(sum.name, sum.sum / static_cast<double>(sum.count));
  return means;
}

void RunningMeans::clear() {
  sums_.clear();
  pending_names_.clear();
  pending_count_ = 0;
}

Json RunningMeans::to_json() {
  collect();
  Json document = Json::array();
  for (const Sum& sum : sums_) document.push_back({sum.name, sum.sum, sum.count});
  return document;
}

void RunningMeans::from_json(const Json& document) {
  clear();
  for (const Json& item : document) {
    // A sum that was not finite is null in JSON.
    const double sum = item.at(1).is_number() ? item.at(1).get<double>() : std::nan("");
    sums_.push_back({item.at(0).get<std::string>(), sum, item.at(2).get<int64_t>()});
  }
}

}  // namespace zoo
