#include <charconv>
#include <cmath>

#include "core/error.h"
#include "core/files.h"
#include "core/text.h"
#include "datasets/faces/sources.h"

namespace zoo {
namespace {

/// The lines of a text file of millions, split at blanks without copies.
class Lines {
 public:
  explicit Lines(const std::string& path) : file_(path), rest_(file_.text()) {}

  /// The next line that is not blank; false at the end.
  bool next() {
    while (!rest_.empty()) {
      ++number_;
      const size_t end = std::min(rest_.find('\n'), rest_.size());
      line_ = rest_.substr(0, end);
      rest_.remove_prefix(std::min(end + 1, rest_.size()));
      if (line_.find_first_not_of(" \t\r") != std::string_view::npos) return true;
    }
    return false;
  }
  std::string_view word() {
    const size_t begin = std::min(line_.find_first_not_of(" \t\r"), line_.size());
    line_.remove_prefix(begin);
    const size_t end = std::min(line_.find_first_of(" \t\r"), line_.size());
    const std::string_view found = line_.substr(0, end);
    line_.remove_prefix(end);
    if (found.empty()) fail("ends early");
    return found;
  }
  template <typename T>
  T number() {
    const std::string_view text = word();
    T value{};
    const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
    if (error != std::errc() || end != text.data() + text.size())
      fail("'" + std::string(text) + "' is no number");
    return value;
  }
  void end() {
    if (line_.find_first_not_of(" \t\r") != std::string_view::npos) fail("goes on");
  }
  [[noreturn]] void fail(const std::string& what) const {
    throw Error(format("%s: line %zu: ", file_.path().c_str(), number_) + what + ", expected " + expected);
  }

  std::string expected;

 private:
  MappedFile file_;
  std::string_view rest_, line_;
  size_t number_ = 0;
};

std::string find_meta(const std::string& folder, const std::string& ending) {
  for (const std::string& place : {join_path(folder, "meta"), folder}) {
    if (!is_directory(place)) continue;
    for (const std::string& name : list_folder(place)) {
      if (ends_with(name, ending)) return join_path(place, name);
    }
  }
  throw Error(folder + ": no file *" + ending + " in it or its folder meta, expected IJB's lists");
}

FaceFiles read_pictures(const std::string& folder, std::vector<float>& scores) {
  FaceFiles source;
  source.file = find_meta(folder, "_name_5pts_score.txt");
  source.folder = join_path(folder, "loose_crop");
  Lines lines(source.file);
  lines.expected = "picture, ten numbers, score";
  while (lines.next()) {
    FaceFile file;
    file.name = std::string(lines.word());
    FaceLandmarks landmarks;
    for (float& value : landmarks) value = lines.number<float>();
    file.landmarks = landmarks;
    scores.push_back(lines.number<float>());
    lines.end();
    source.files.push_back(std::move(file));
  }
  if (source.files.empty()) throw Error(source.file + ": lists no picture");
  return source;
}

void read_templates(const std::string& path, const FaceFiles& pictures, FaceTemplates& result) {
  Lines lines(path);
  lines.expected = "picture template media, in the order of *_name_5pts_score.txt";
  while (lines.next()) {
    const size_t i = result.templates.size();
    if (i >= pictures.files.size() || lines.word() != pictures.files[i].name)
      lines.fail("is of another picture");
    result.templates.push_back(lines.number<int64_t>());
    result.media.push_back(lines.number<int64_t>());
    lines.end();
  }
  if (result.templates.size() != pictures.files.size()) {
    throw Error(format("%s: %zu pictures, expected the %zu of ", path.c_str(), result.templates.size(),
                       pictures.files.size()) +
                pictures.file);
  }
}

void read_template_pairs(const std::string& path, FaceTemplates& result) {
  Lines lines(path);
  lines.expected = "template template 0|1";
  while (lines.next()) {
    FaceTemplates::Pair pair;
    pair.a = lines.number<int64_t>();
    pair.b = lines.number<int64_t>();
    const auto same = lines.number<int64_t>();
    lines.end();
    if (same != 0 && same != 1) lines.fail("'" + std::to_string(same) + "' is no label");
    pair.same = same == 1;
    result.pairs.push_back(pair);
  }
}

}  // namespace

FaceTemplates open_face_templates(const DataSpec& spec) {
  FaceTemplates result;
  FaceFiles pictures = read_pictures(spec.path, result.scores);
  read_templates(find_meta(spec.path, "_face_tid_mid.txt"), pictures, result);
  read_template_pairs(find_meta(spec.path, "_template_pair_label.txt"), result);
  result.images = face_files(std::move(pictures), spec.text);
  return result;
}

}  // namespace zoo
