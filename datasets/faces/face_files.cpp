#include <algorithm>
#include <cmath>
#include <map>

#include "core/error.h"
#include "core/files.h"
#include "core/text.h"
#include "datasets/faces/sources.h"
#include "datasets/image.h"

namespace zoo {
namespace {

class FileFaces : public FaceDataset {
 public:
  FileFaces(FaceFiles source, std::string name) : source_(std::move(source)), name_(std::move(name)) {}

  int64_t size() const override { return static_cast<int64_t>(source_.files.size()); }
  int64_t identity(int64_t index) const override { return file(index).identity; }
  FaceRecord record(int64_t index) const override {
    return {file(index).name, file(index).identity, file(index).landmarks};
  }
  cv::Mat image(int64_t index) const override {
    return read_image(join_path(source_.folder, file(index).name));
  }
  const std::vector<std::string>& identities() const override { return source_.identities; }
  std::string description() const override {
    return format("%s (%zu pictures of %zu identities)", name_.c_str(), source_.files.size(),
                  source_.identities.size());
  }

 private:
  const FaceFile& file(int64_t index) const { return source_.files.at(static_cast<size_t>(index)); }

  FaceFiles source_;
  std::string name_;
};

/// The fields of a line; quotes keep commas, and two of them within quotes are one.
std::vector<std::string> csv_fields(const std::string& line) {
  std::vector<std::string> fields(1);
  bool quoted = false;
  for (size_t i = 0; i < line.size(); ++i) {
    if (line[i] == '"') {
      if (quoted && i + 1 < line.size() && line[i + 1] == '"') {
        fields.back() += line[++i];
      } else {
        quoted = !quoted;
      }
    } else if (line[i] == ',' && !quoted) {
      fields.emplace_back();
    } else {
      fields.back() += line[i];
    }
  }
  for (std::string& field : fields) field = trim(field);
  return fields;
}

/// Ten finite numbers from `fields[2]` on; false where one is none.
bool parse_landmarks(const std::vector<std::string>& fields, FaceLandmarks& landmarks) {
  for (size_t i = 0; i < 10; ++i) {
    double value = 0;
    if (!parse_double(fields[i + 2], value) || !std::isfinite(value)) return false;
    landmarks[i] = static_cast<float>(value);
  }
  return true;
}

struct ListedFace {
  FaceFile file;
  std::string identity;
};

/// False where the line is at fault.
bool parse_line(const std::string& line, const std::string& path, size_t number, Findings& findings,
                ListedFace& face) {
  const std::string record = format("line %zu", number);
  const std::vector<std::string> fields = csv_fields(line);
  if (fields.size() != 2 && fields.size() != 12) {
    findings.fatal(path, record, format("%zu fields", fields.size()),
                   "path,identity or path,identity and 10 landmark numbers");
    return false;
  }
  if (fields[0].empty() || fields[1].empty()) {
    findings.fatal(path, record, "path or identity is empty", "path,identity");
    return false;
  }
  face.file.name = fields[0];
  face.identity = fields[1];
  if (fields.size() == 2) return true;
  FaceLandmarks landmarks{};
  if (!parse_landmarks(fields, landmarks)) {
    findings.fatal(path, record, "a landmark is no finite number", "x,y of eyes, nose and mouth corners");
    return false;
  }
  face.file.landmarks = landmarks;
  return true;
}

}  // namespace

FaceFiles read_identity_folders(const std::string& folder, Findings& findings) {
  FaceFiles source;
  source.file = source.folder = folder;
  for (const std::string& name : list_folder(folder)) {
    const std::string inner = join_path(folder, name);
    if (!is_directory(inner)) continue;
    const auto identity = static_cast<int64_t>(source.identities.size());
    const size_t before = source.files.size();
    for (const std::string& picture : list_folder(inner)) {
      if (has_image_ending(picture)) source.files.push_back({join_path(name, picture), identity, {}});
    }
    if (source.files.size() > before) {
      source.identities.push_back(name);
    } else {
      findings.note(inner, "", "the folder holds no picture", "pictures of one person",
                    "no identity of the set");
    }
  }
  if (source.files.empty()) {
    throw Error(folder + ": no folder with pictures in it, expected one for each identity");
  }
  return source;
}

FaceFiles read_face_list(const std::string& path, Findings& findings) {
  FaceFiles source;
  source.file = path;
  source.folder = parent_folder(path);
  std::vector<ListedFace> faces;
  std::map<std::string, int64_t> identities;
  const MappedFile file(path);
  std::string_view text = file.text();
  if (starts_with(text, "\xEF\xBB\xBF")) text.remove_prefix(3);  // what spreadsheets put before UTF-8
  for (size_t number = 1; !text.empty(); ++number) {
    const size_t end = std::min(text.find('\n'), text.size());
    const std::string line = trim(text.substr(0, end));
    text.remove_prefix(std::min(end + 1, text.size()));
    if (line.empty() || (number == 1 && starts_with(lower(line), "path,identity"))) continue;
    ListedFace face;
    if (!parse_line(line, path, number, findings, face)) continue;
    identities.emplace(face.identity, 0);
    faces.push_back(std::move(face));
  }
  if (faces.empty()) throw Error(path + ": lists no picture, expected lines path,identity");
  for (auto& [name, index] : identities) {
    index = static_cast<int64_t>(source.identities.size());
    source.identities.push_back(name);
  }
  for (ListedFace& face : faces) {
    face.file.identity = identities.at(face.identity);
    source.files.push_back(std::move(face.file));
  }
  return source;
}

std::shared_ptr<FaceDataset> face_files(FaceFiles files, const std::string& description) {
  return std::make_shared<FileFaces>(std::move(files), description);
}

}  // namespace zoo
