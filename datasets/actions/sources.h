#pragma once
#include <functional>
#include <memory>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

#include "core/files.h"
#include "core/formats/tensor_file.h"
#include "datasets/actions/actions.h"
#include "datasets/findings.h"

namespace zoo {

// Where streams of features and their labels come from.

/// Numbers of a file, `stride` elements apart, as floats.
using ConvertRow = void (*)(const uint8_t* from, int64_t stride, int64_t count, float* to);
/// Throws Error naming `where` for a type that features do not have.
ConvertRow row_converter(DType dtype, const std::string& where);
/// Throws Error naming `where` and the step unless all numbers are finite.
void require_finite(const float* row, int64_t count, const std::string& where, int64_t step);

/// A NumPy array of numbers, one row a step, mapped into memory; rows are converted as they are asked for. Everything
/// behind the first dimension is one row. Throws Error naming the file for what is no such array.
class NpyRows {
 public:
  explicit NpyRows(const std::string& path);

  int64_t rows() const { return entry_.shape[0]; }
  int64_t columns() const { return columns_; }
  bool is_list() const { return entry_.shape.size() == 1; }  ///< one number a step
  const std::string& path() const { return file_.path(); }
  /// Row `row` as floats. Throws Error naming the step where a number is not finite.
  void read(int64_t row, float* to) const;

 private:
  MappedFile file_;
  TensorEntry entry_;
  ConvertRow convert_ = nullptr;
  int64_t columns_ = 1;
};

/// A matrix as a pickle or a row reader gives it.
struct LabelSource {
  std::string where;  ///< for messages
  int64_t steps = 0;
  int64_t columns = 0;  ///< 0: `row` gives one class number instead
  std::function<void(int64_t step, float* row)> read;
};

/// A stretch of a video with one class, in seconds.
struct ActionSegment {
  double start = 0, end = 0;
  std::string action;
  std::string where;  ///< for messages
};
using SegmentsOf = std::unordered_map<std::string, std::vector<ActionSegment>>;
/// `segments.tsv` (session, start, end, class; tabs; a heading is allowed), or a json: a list of objects of these four
/// keys, or ActivityNet's `database`. Throws Error naming line or entry.
SegmentsOf read_segments(const std::string& path);

/// OadTR's pickle: session -> {'anno': array [L,C], 'feature_length': L}. The matrices point into the file.
std::unordered_map<std::string, LabelSource> read_anno_pickle(const std::string& path);

/// What `data_info.json` and its relatives tell of a set.
struct ActionInfo {
  std::vector<std::string> class_names;  ///< of the source's columns; empty: not told
  int64_t ambiguous = -1;                ///< column
  double steps_per_second = 0;           ///< 0: not told
  std::vector<std::pair<std::string, std::vector<std::string>>> splits;  ///< train, val, test: sessions
};
/// TRN's, OadTR's and LSTR's form: {NAME: {class_index | class_names, ignore_index?, fps?, train_session_set,
/// test_session_set, val_session_set?}}. `name` chooses where there are several.
ActionInfo read_action_info(const std::string& path, const std::string& name);

/// The first of some names that a folder has, as a path; empty where it has none.
std::string first_of(const std::string& folder, const std::vector<std::string>& names);
/// Splits of a SPEC, {""} where it has none.
std::vector<std::string> action_splits(const DataSpec& spec);
/// The split that a SPEC means; `val` is `test` where there is no other.
std::string choose_action_split(const DataSpec& spec, const std::string& default_split);
/// `features:` of a split. Videos at fault are reported and left out.
std::shared_ptr<ActionDataset> open_feature_files(const DataSpec& spec, const std::string& split,
                                                  Findings& findings);
/// The set `streams`: split train or val.
std::shared_ptr<ActionDataset> open_made_streams(const DataSpec& spec, const std::string& split);

}  // namespace zoo
