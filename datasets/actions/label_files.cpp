#include "datasets/actions/label_files.h"

#include <algorithm>
#include <cmath>
#include <set>

#include "core/error.h"
#include "core/text.h"

namespace zoo {
namespace {

/// Reads the matrix or list of a session.
LabelTable table_of(const LabelSource& source, const ActionClasses& classes, int64_t steps) {
  LabelTable table(static_cast<int64_t>(classes.names.size()));
  std::vector<float> row(static_cast<size_t>(std::max<int64_t>(source.columns, 1)));
  std::vector<int32_t> present;
  const auto fail = [&](int64_t step, const std::string& what) {
    throw Error(format("%s: step %lld: ", source.where.c_str(), static_cast<long long>(step)) + what);
  };
  for (int64_t step = 0; step < steps; ++step) {
    source.read(step, row.data());
    present.clear();
    bool ambiguous = false;
    const auto add = [&](int64_t column) {
      if (column == classes.ambiguous) {
        ambiguous = true;
      } else {
        present.push_back(classes.table_column(column));
      }
    };
    if (source.columns == 0) {
      const float id = row[0];
      if (!(id >= 0 && id < static_cast<float>(classes.columns)) || id != std::floor(id)) {
        fail(step, format("class %g, expected a whole number from 0 to %lld", static_cast<double>(id),
                          static_cast<long long>(classes.columns - 1)));
      }
      add(static_cast<int64_t>(id));
    }
    for (int64_t c = 0; c < source.columns; ++c) {
      const float value = row[static_cast<size_t>(c)];
      if (!(value >= 0))
        fail(step, format("column %lld is %g, expected 0 or more", static_cast<long long>(c),
                          static_cast<double>(value)));
      if (value > 0) add(c);
    }
    table.add(present, ambiguous);
  }
  return table;
}

/// Steps floor(start·fps) … ceil(end·fps)-1 have the segment's class, all others are background.
LabelTable table_of(const std::vector<ActionSegment>& segments, const ActionClasses& classes,
                    const std::unordered_map<std::string, int64_t>& columns, int64_t steps, double fps) {
  std::vector<std::set<int32_t>> present(static_cast<size_t>(steps));
  std::vector<bool> ambiguous(static_cast<size_t>(steps));
  for (const ActionSegment& segment : segments) {
    const int64_t column = columns.at(segment.action);
    const double last = std::min(std::ceil(segment.end * fps), static_cast<double>(steps));
    for (auto step = static_cast<size_t>(std::floor(std::min(segment.start * fps, last)));
         step < static_cast<size_t>(last); ++step) {
      if (column == classes.ambiguous) {
        ambiguous[step] = true;
      } else {
        present[step].insert(classes.table_column(column));
      }
    }
  }
  LabelTable table(static_cast<int64_t>(classes.names.size()));
  for (size_t step = 0; step < present.size(); ++step) {
    std::vector<int32_t> row(present[step].begin(), present[step].end());
    if (row.empty() && !ambiguous[step]) row.push_back(0);
    table.add(row, ambiguous[step]);
  }
  return table;
}

}  // namespace

LabelFiles::LabelFiles(const DataSpec& spec, const std::string& folder, const ActionInfo& info)
    : classes_(info.class_names, info.ambiguous) {
  find(spec, folder);
  if (segments_) name_segment_classes(info);
}

std::pair<std::function<LabelTable(int64_t steps)>, int64_t> LabelFiles::open(const std::string& session,
                                                                              double fps) {
  if (segments_) {
    const auto found = segment_list_.find(session);
    const std::vector<ActionSegment>* list = found == segment_list_.end() ? nullptr : &found->second;
    return {[this, list, fps](int64_t steps) {
              static const std::vector<ActionSegment> kNone;
              return table_of(list == nullptr ? kNone : *list, classes_, columns_, steps, fps);
            },
            -1};
  }
  const LabelSource source = matrix(session);
  check_columns(source);
  return {[this, source](int64_t steps) { return table_of(source, classes_, steps); }, source.steps};
}

void LabelFiles::find(const DataSpec& spec, const std::string& folder) {
  std::string path = spec.option("labels");
  for (const std::string& place : {folder, spec.path}) {
    if (path.empty() && is_directory(place))
      path = first_of(place, {"target_perframe", "target", "segments.tsv", "segments.json"});
  }
  if (!path.empty() && is_directory(path)) {
    folder_ = path;
  } else if (!path.empty() && (ends_with(lower(path), ".json") || ends_with(lower(path), ".tsv"))) {
    segments_ = true;
    segment_list_ = read_segments(path);
  } else if (!path.empty()) {
    matrices_ = read_anno_pickle(path);
  } else if (is_directory(spec.path)) {
    for (const std::string& name : list_folder(spec.path)) {
      if (name.find("anno") != std::string::npos && (ends_with(name, ".pickle") || ends_with(name, ".pkl")))
        matrices_.merge(read_anno_pickle(join_path(spec.path, name)));
    }
  }
}

void LabelFiles::name_segment_classes(const ActionInfo& info) {
  std::set<std::string> actions;
  for (const auto& [session, list] : segment_list_) {
    for (const ActionSegment& one : list) actions.insert(one.action);
  }
  std::vector<std::string> names = info.class_names;
  if (names.empty()) {
    names.emplace_back("background");
    names.insert(names.end(), actions.begin(), actions.end());
    int64_t ambiguous = -1;
    for (size_t i = 1; i < names.size(); ++i) {
      if (lower(names[i]) == "ambiguous") ambiguous = static_cast<int64_t>(i);
    }
    classes_ = ActionClasses(names, ambiguous);
  }
  for (size_t i = 0; i < names.size(); ++i) {
    columns_.emplace(names[i], static_cast<int64_t>(i));
    if (!info.class_names.empty()) columns_.emplace(std::to_string(i), static_cast<int64_t>(i));
  }
  for (const auto& [session, list] : segment_list_) {
    for (const ActionSegment& one : list) {
      if (columns_.count(one.action) == 0)
        throw Error(one.where + ": unknown class '" + one.action + "'" + did_you_mean(one.action, names));
    }
  }
}

LabelSource LabelFiles::matrix(const std::string& session) const {
  if (folder_.empty()) {
    const auto found = matrices_.find(session);
    if (found == matrices_.end()) throw Error("session '" + session + "': the labels' pickle has it not");
    return found->second;
  }
  const auto rows = std::make_shared<NpyRows>(join_path(folder_, session + ".npy"));
  return {rows->path(), rows->rows(), rows->is_list() ? 0 : rows->columns(),
          [rows](int64_t step, float* row) { rows->read(step, row); }};
}

void LabelFiles::check_columns(const LabelSource& source) {
  const auto columns = static_cast<long long>(source.columns);
  if (classes_.columns == 0 && source.columns == 0) {
    throw Error(source.where + ": class numbers without a data_info.json, expected class_names there");
  }
  if (classes_.columns == 0) {
    if (columns < 2) throw Error(source.where + ": one column, expected background and actions");
    std::vector<std::string> names = {"background"};
    for (int64_t c = 1; c < columns; ++c) names.push_back("class " + std::to_string(c));
    classes_ = ActionClasses(names, -1);
  }
  if (source.columns != 0 && source.columns != classes_.columns) {
    throw Error(format("%s: %lld columns, expected %lld, a column for each class", source.where.c_str(),
                       columns, static_cast<long long>(classes_.columns)));
  }
}

}  // namespace zoo
