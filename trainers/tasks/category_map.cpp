#include "trainers/tasks/category_map.h"

#include <algorithm>
#include <map>

#include "core/error.h"
#include "core/options.h"
#include "core/text.h"

namespace zoo {

namespace {

/// The 80 thing classes of COCO 2017 with their published ids.
const std::vector<Category>& coco_categories() {
  static const std::vector<Category> categories = [] {
    // clang-format off
    const char* names[] = {"person", "bicycle", "car", "motorcycle", "airplane", "bus", "train", "truck", "boat",
        "traffic light", "fire hydrant", "", "stop sign", "parking meter", "bench", "bird", "cat", "dog", "horse",
        "sheep", "cow", "elephant", "bear", "zebra", "giraffe", "", "backpack", "umbrella", "", "", "handbag", "tie",
        "suitcase", "frisbee", "skis", "snowboard", "sports ball", "kite", "baseball bat", "baseball glove",
        "skateboard", "surfboard", "tennis racket", "bottle", "", "wine glass", "cup", "fork", "knife", "spoon",
        "bowl", "banana", "apple", "sandwich", "orange", "broccoli", "carrot", "hot dog", "pizza", "donut", "cake",
        "chair", "couch", "potted plant", "bed", "", "dining table", "", "", "toilet", "", "tv", "laptop", "mouse",
        "remote", "keyboard", "cell phone", "microwave", "oven", "toaster", "sink", "refrigerator", "", "book",
        "clock", "vase", "scissors", "teddy bear", "hair drier", "toothbrush"};
    // clang-format on
    std::vector<Category> list;
    int64_t id = 0;
    for (const char* name : names) {
      ++id;
      if (*name != '\0') list.push_back({id, name});
    }
    return list;
  }();
  return categories;
}

constexpr int64_t kPublishedCocoClasses = 91;

}  // namespace

CategoryMap::CategoryMap(std::vector<Category> categories, int64_t num_classes)
    : categories_(std::move(categories)) {
  std::sort(categories_.begin(), categories_.end(),
            [](const Category& a, const Category& b) { return a.id < b.id; });
  const auto count = static_cast<int64_t>(categories_.size());
  const bool ids_are_indices =
      num_classes > 0 && std::all_of(categories_.begin(), categories_.end(), [&](const Category& category) {
        return category.id >= 0 && category.id < num_classes;
      });
  if (num_classes > 0 && !ids_are_indices && count > num_classes) {
    throw Error(format(
        "model.num_classes is %lld but the data has %lld categories, expected at least that many, or 0 "
        "to take the data's",
        static_cast<long long>(num_classes), static_cast<long long>(count)));
  }
  for (int64_t i = 0; i < count; ++i) {
    indices_.push_back(ids_are_indices ? categories_[static_cast<size_t>(i)].id : i);
  }
  index_categories(num_classes > 0 ? num_classes : count);
}

void CategoryMap::index_categories(int64_t num_classes) {
  by_index_.assign(static_cast<size_t>(num_classes), -1);
  for (size_t i = 0; i < indices_.size(); ++i)
    by_index_.at(static_cast<size_t>(indices_[i])) = static_cast<int64_t>(i);
}

CategoryMap CategoryMap::published_coco() {
  return CategoryMap(coco_categories(), kPublishedCocoClasses);
}

CategoryMap CategoryMap::numbered(int64_t num_classes) {
  std::vector<Category> categories;
  for (int64_t i = 0; i < num_classes; ++i) categories.push_back({i, "class " + std::to_string(i)});
  return CategoryMap(std::move(categories), num_classes);
}

CategoryMap CategoryMap::from_json(const std::string& text, int64_t num_classes) {
  CategoryMap map;
  try {
    for (const Json& item : Json::parse(text)) {
      map.categories_.push_back({item.at("id").get<int64_t>(), item.at("name").get<std::string>()});
      map.indices_.push_back(item.at("index").get<int64_t>());
    }
  } catch (const Json::exception&) {
    throw Error("zoo.categories of the weights is not a list of {id, index, name}");
  }
  for (const int64_t index : map.indices_) {
    if (index < 0 || index >= num_classes) {
      throw Error(format("zoo.categories of the weights: index %lld, expected 0 to %lld",
                         static_cast<long long>(index), static_cast<long long>(num_classes - 1)));
    }
  }
  map.index_categories(num_classes);
  return map;
}

std::string CategoryMap::to_json() const {
  Json list = Json::array();
  for (size_t i = 0; i < categories_.size(); ++i) {
    list.push_back({{"id", categories_[i].id}, {"index", indices_[i]}, {"name", categories_[i].name}});
  }
  return list.dump(-1, ' ', false, Json::error_handler_t::replace);
}

int64_t CategoryMap::index_of(int64_t category_id) const {
  const auto found = std::lower_bound(categories_.begin(), categories_.end(), category_id,
                                      [](const Category& category, int64_t id) { return category.id < id; });
  if (found == categories_.end() || found->id != category_id) {
    throw Error(format("category id %lld is not among the model's %zu categories",
                       static_cast<long long>(category_id), categories_.size()));
  }
  return indices_[static_cast<size_t>(found - categories_.begin())];
}

const Category* CategoryMap::category(int64_t index) const {
  if (index < 0 || index >= num_classes()) return nullptr;
  const int64_t position = by_index_[static_cast<size_t>(index)];
  return position < 0 ? nullptr : &categories_[static_cast<size_t>(position)];
}

CategoryMap CategoryMap::matched_to(const std::vector<Category>& other) const {
  std::map<std::string, const Category*> by_name;
  std::map<int64_t, const Category*> by_id;
  for (const Category& category : other) {
    by_name.emplace(category.name, &category);
    by_id.emplace(category.id, &category);
  }
  const bool names_match = std::any_of(categories_.begin(), categories_.end(), [&](const Category& category) {
    return by_name.count(category.name) > 0;
  });
  std::vector<std::pair<Category, int64_t>> matched;
  for (size_t i = 0; i < categories_.size(); ++i) {
    const auto name = by_name.find(categories_[i].name);
    const auto id = by_id.find(categories_[i].id);
    if (names_match ? name != by_name.end() : id != by_id.end()) {
      matched.emplace_back(names_match ? *name->second : *id->second, indices_[i]);
    }
  }
  if (matched.empty()) {
    throw Error("no category of the data is one of the model's: neither a name nor an id is equal");
  }
  std::sort(matched.begin(), matched.end(),
            [](const auto& a, const auto& b) { return a.first.id < b.first.id; });
  CategoryMap map;
  for (auto& [category, index] : matched) {
    map.categories_.push_back(category);
    map.indices_.push_back(index);
  }
  map.index_categories(num_classes());
  return map;
}

}  // namespace zoo
