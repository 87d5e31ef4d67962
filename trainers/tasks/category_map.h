#pragma once
#include <cstdint>
#include <string>
#include <vector>

#include "datasets/detection.h"

namespace zoo {

/// Which class index of a model means which category of the data. Stored with the weights as
/// `zoo.categories`:
/// `[{"id": 1, "index": 0, "name": "circle"}, …]`.
class CategoryMap {
 public:
  CategoryMap() = default;
  /// `num_classes` = 0: the categories in order of id become 0, 1, 2, …. Otherwise ids are indices where all
  /// are below num_classes (the published COCO rule), else the contiguous map where the classes suffice.
  /// Throws Error.
  CategoryMap(std::vector<Category> categories, int64_t num_classes);
  /// COCO's published map: 91 indices that are the ids, 80 of them used.
  static CategoryMap published_coco();
  /// Classes that nothing names: "class 0", "class 1", …
  static CategoryMap numbered(int64_t num_classes);
  /// Throws Error where the text is not what to_json wrote.
  static CategoryMap from_json(const std::string& text, int64_t num_classes);
  std::string to_json() const;

  int64_t num_classes() const { return static_cast<int64_t>(by_index_.size()); }
  const std::vector<Category>& categories() const { return categories_; }
  /// Class index of a category id; throws Error naming the id where the model has none.
  int64_t index_of(int64_t category_id) const;
  /// The category of a class index; null where the index means nothing.
  const Category* category(int64_t index) const;
  /// The same classes under the ids and names of another data set: equal names first, else equal ids; classes
  /// that the set does not have mean nothing. Throws Error where no class matches.
  CategoryMap matched_to(const std::vector<Category>& other) const;

 private:
  void index_categories(int64_t num_classes);

  std::vector<Category> categories_;
  std::vector<int64_t> indices_;   ///< beside categories_
  std::vector<int64_t> by_index_;  ///< class index -> position in categories_, -1: none
};

}  // namespace zoo
