#pragma once
#include <functional>
#include <string>
#include <unordered_map>
#include <utility>
#include <vector>

#include "datasets/actions/sources.h"

namespace zoo {

/// Classes of the source's columns and of the table's.
struct ActionClasses {
  int64_t columns = 0;             ///< of the source; 0: not known yet
  int64_t ambiguous = -1;          ///< one of them
  std::vector<std::string> names;  ///< of the table: without the ambiguous one

  ActionClasses() = default;
  ActionClasses(const std::vector<std::string>& all, int64_t ambiguous_column)
      : columns(static_cast<int64_t>(all.size())), ambiguous(ambiguous_column), names(all) {
    if (ambiguous >= 0) names.erase(names.begin() + ambiguous);
  }
  int32_t table_column(int64_t column) const {
    return static_cast<int32_t>(ambiguous >= 0 && column > ambiguous ? column - 1 : column);
  }
};

/// The labels of a set: a folder of .npy, OadTR's pickles, or segments.
class LabelFiles {
 public:
  /// Finds them by the SPEC's `labels`, else in `folder` (a split's) and in the SPEC's path.
  LabelFiles(const DataSpec& spec, const std::string& folder, const ActionInfo& info);

  bool exist() const { return !folder_.empty() || segments_ || !matrices_.empty(); }
  const ActionClasses& classes() const { return classes_; }

  /// How to read the first steps of a session, and how many there are (-1: as many as there are features). The first
  /// session names the classes where nothing else does. Throws Error where it has none or their columns differ. The
  /// reader must not outlive this.
  std::pair<std::function<LabelTable(int64_t steps)>, int64_t> open(const std::string& session,
                                                                    double steps_per_second);

 private:
  void find(const DataSpec& spec, const std::string& folder);
  void name_segment_classes(const ActionInfo& info);
  LabelSource matrix(const std::string& session) const;
  void check_columns(const LabelSource& source);

  ActionClasses classes_;
  std::string folder_;
  std::unordered_map<std::string, LabelSource> matrices_;
  bool segments_ = false;
  SegmentsOf segment_list_;
  std::unordered_map<std::string, int64_t> columns_;  ///< of the segments' classes
};

}  // namespace zoo
