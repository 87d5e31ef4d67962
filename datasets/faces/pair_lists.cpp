#include <cmath>
#include <unordered_map>

#include "core/error.h"
#include "core/files.h"
#include "core/formats/pair_bin.h"
#include "core/text.h"
#include "datasets/faces/sources.h"
#include "datasets/image.h"

namespace zoo {
namespace {

/// Words between blanks or tabs.
std::vector<std::string> words_of(std::string_view line) {
  std::vector<std::string> words;
  for (size_t i = 0; i < line.size();) {
    const size_t begin = line.find_first_not_of(" \t\r", i);
    if (begin == std::string_view::npos) break;
    i = std::min(line.find_first_of(" \t\r", begin), line.size());
    words.emplace_back(line.substr(begin, i - begin));
  }
  return words;
}

[[noreturn]] void fail_at(const std::string& path, size_t line, const std::string& what) {
  throw Error(format("%s: line %zu: %s", path.c_str(), line, what.c_str()));
}

bool parse_pair(const std::vector<std::string>& words, ListedPair& pair) {
  if (words.size() != 3 && words.size() != 4) return false;
  pair.name_a = words[0];
  pair.same = words.size() == 3;
  pair.name_b = pair.same ? words[0] : words[2];
  return parse_int(words[1], pair.i) && parse_int(words.back(), pair.j) && pair.i >= 1 && pair.j >= 1;
}

/// Records by identity and the name of their file without its ending: "NAME/NAME_0001".
class PictureNames {
 public:
  explicit PictureNames(const FaceDataset& dataset) {
    for (int64_t i = 0; i < dataset.size(); ++i) {
      const FaceRecord record = dataset.record(i);
      if (record.identity < 0) continue;
      const std::string& identity = dataset.identities()[static_cast<size_t>(record.identity)];
      places_.emplace(identity + "/" + file_stem(record.name), i);
    }
  }
  /// -1: there is none.
  int64_t find(const std::string& name, int64_t number) const {
    const auto n = static_cast<long long>(number);
    for (const std::string& stem : {format("%s_%04lld", name.c_str(), n), std::to_string(number)}) {
      const auto found = places_.find(name + "/" + stem);
      if (found != places_.end()) return found->second;
    }
    return -1;
  }

 private:
  std::unordered_map<std::string, int64_t> places_;
};

class BinFaces : public FaceDataset {
 public:
  explicit BinFaces(const std::string& path)
      : file_(path), bin_(read_pair_bin(file_.data(), file_.size(), path)) {}

  const std::vector<bool>& same() const { return bin_.same; }
  int64_t size() const override { return static_cast<int64_t>(bin_.images.size()); }
  FaceRecord record(int64_t index) const override {
    return {format("pair %lld, %s", static_cast<long long>(index / 2), index % 2 == 0 ? "first" : "second"),
            -1,
            {}};
  }
  cv::Mat image(int64_t index) const override {
    const std::string_view bytes = bin_.images.at(static_cast<size_t>(index));
    return decode_image(reinterpret_cast<const uint8_t*>(bytes.data()), bytes.size(),
                        file_.path() + ": " + record(index).name);
  }
  const std::vector<std::string>& identities() const override { return none_; }
  std::string description() const override {
    return format("%s (%zu pairs)", file_.path().c_str(), bin_.same.size());
  }

 private:
  MappedFile file_;
  PairBin bin_;
  std::vector<std::string> none_;
};

}  // namespace

std::vector<ListedPair> read_pair_list(const std::string& path) {
  const std::vector<std::string> lines = split(read_file(path), '\n');
  const std::vector<std::string> head = words_of(lines[0]);
  int64_t folds = 1, each = 0;
  const bool numbers = head.size() == 2 ? parse_int(head[0], folds) && parse_int(head[1], each)
                                        : head.size() == 1 && parse_int(head[0], each);
  if (!numbers || folds < 1 || each < 1) {
    fail_at(path, 1, "tells no numbers, expected FOLDS<TAB>PAIRS as in LFW's pairs.txt (10 and 300)");
  }
  std::vector<ListedPair> pairs;
  for (size_t i = 1; i < lines.size(); ++i) {
    const std::vector<std::string> words = words_of(lines[i]);
    if (words.empty()) continue;
    ListedPair pair;
    pair.line = static_cast<int64_t>(i) + 1;
    if (!parse_pair(words, pair)) fail_at(path, i + 1, "is no pair, expected 'name i j' or 'name i name j'");
    const int64_t place = static_cast<int64_t>(pairs.size()) / each;  // even: a fold's genuine pairs
    if (place >= 2 * folds)
      fail_at(path, i + 1,
              format("a pair too many, line 1 tells of %lld", static_cast<long long>(2 * folds * each)));
    if ((place % 2 == 0) != pair.same) {
      fail_at(path, i + 1,
              place % 2 == 0 ? "two names, expected a pair of one" : "one name, expected a pair of two");
    }
    if (head.size() == 2) pair.fold = place / 2;
    pairs.push_back(std::move(pair));
  }
  if (static_cast<int64_t>(pairs.size()) != 2 * folds * each) {
    throw Error(format("%s: %zu pairs, expected %lld as line 1 tells", path.c_str(), pairs.size(),
                       static_cast<long long>(2 * folds * each)));
  }
  return pairs;
}

std::vector<FacePair> resolve_pairs(const FaceDataset& dataset, const std::vector<ListedPair>& list,
                                    const std::string& path, Findings& findings) {
  const PictureNames names(dataset);
  std::vector<FacePair> pairs;
  for (const ListedPair& listed : list) {
    FacePair pair{names.find(listed.name_a, listed.i), names.find(listed.name_b, listed.j), listed.same,
                  listed.fold};
    if (pair.a >= 0 && pair.b >= 0) {
      pairs.push_back(pair);
      continue;
    }
    const std::string& name = pair.a < 0 ? listed.name_a : listed.name_b;
    findings.fatal(
        path, format("line %lld", static_cast<long long>(listed.line)),
        format("no picture %lld of %s", static_cast<long long>(pair.a < 0 ? listed.i : listed.j),
               name.c_str()),
        format("%s/%s_%04lld.jpg in %s", name.c_str(), name.c_str(),
               static_cast<long long>(pair.a < 0 ? listed.i : listed.j), dataset.description().c_str()));
  }
  return pairs;
}

FaceVerificationSet open_pair_bin(const std::string& path) {
  const auto images = std::make_shared<BinFaces>(path);
  FaceVerificationSet set{images, {}, images->description()};
  for (size_t i = 0; i < images->same().size(); ++i) {
    const auto first = static_cast<int64_t>(2 * i);
    set.pairs.push_back({first, first + 1, images->same()[i], -1});
  }
  if (set.pairs.empty()) throw Error(path + ": holds no pair, expected pictures and issame");
  return set;
}

}  // namespace zoo
