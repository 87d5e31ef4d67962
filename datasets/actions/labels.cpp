#include <algorithm>

#include "datasets/actions/actions.h"

namespace zoo {

void LabelTable::add(const std::vector<int32_t>& classes, bool ambiguous) {
  ids_.insert(ids_.end(), classes.begin(), classes.end());
  ends_.push_back(static_cast<int64_t>(ids_.size()));
  ambiguous_.push_back(ambiguous ? 1 : 0);
}

std::vector<int32_t> LabelTable::classes_of(int64_t step) const {
  const int64_t begin = step == 0 ? 0 : ends_[static_cast<size_t>(step - 1)];
  return {ids_.begin() + begin, ids_.begin() + ends_[static_cast<size_t>(step)]};
}

bool LabelTable::has(int64_t step, int64_t class_index) const {
  const std::vector<int32_t> classes = classes_of(step);
  return std::find(classes.begin(), classes.end(), class_index) != classes.end();
}

void LabelTable::mark(int64_t step, float* row) const {
  const int64_t begin = step == 0 ? 0 : ends_[static_cast<size_t>(step - 1)];
  for (int64_t i = begin; i < ends_[static_cast<size_t>(step)]; ++i) row[ids_[static_cast<size_t>(i)]] = 1;
}

torch::Tensor LabelTable::tensor() const {
  torch::Tensor table = torch::zeros({steps(), classes_}, torch::kByte);
  auto* values = table.data_ptr<uint8_t>();
  for (int64_t step = 0, i = 0; step < steps(); ++step) {
    for (; i < ends_[static_cast<size_t>(step)]; ++i)
      values[step * classes_ + ids_[static_cast<size_t>(i)]] = 1;
  }
  return table;
}

torch::Tensor LabelTable::ambiguous_tensor() const {
  torch::Tensor flags = torch::empty({steps()}, torch::kBool);
  std::copy(ambiguous_.begin(), ambiguous_.end(), flags.data_ptr<bool>());
  return flags;
}

torch::Tensor ActionDataset::features(int64_t video, int64_t first, int64_t count) const {
  torch::Tensor rows = torch::empty({count, feature_size()});
  read({video, first, count, 1}, rows.data_ptr<float>());
  return rows;
}

}  // namespace zoo
