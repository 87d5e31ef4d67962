#include <c10/util/Half.h>

#include <algorithm>
#include <cstring>
#include <deque>

#include "core/error.h"
#include "core/formats/pickle.h"
#include "core/text.h"
#include "datasets/actions/sources.h"

namespace zoo {
namespace {

using Kind = PickleValue::Kind;

/// What the label sources of one file share.
struct AnnoFile {
  explicit AnnoFile(const std::string& path) : file(path) {}
  MappedFile file;
  Pickle pickle;
  std::deque<std::string> decoded;
};

struct NumpyArray {
  std::vector<int64_t> shape;
  std::string type;  ///< "f8"
  bool fortran = false;
  std::string_view bytes;
};

template <class T>
float element_at(const char* bytes, int64_t index) {
  T value;
  std::memcpy(&value, bytes + index * static_cast<int64_t>(sizeof(T)), sizeof(T));
  return static_cast<float>(value);
}
using ElementAt = float (*)(const char*, int64_t);

struct ElementType {
  const char* name;
  size_t size;
  ElementAt read;
};
constexpr ElementType kElementTypes[] = {{"f8", 8, element_at<double>},    {"f4", 4, element_at<float>},
                                         {"f2", 2, element_at<c10::Half>}, {"i8", 8, element_at<int64_t>},
                                         {"i4", 4, element_at<int32_t>},   {"u1", 1, element_at<uint8_t>},
                                         {"b1", 1, element_at<uint8_t>}};

/// Finds the label matrices of such a pickle.
class AnnoReader {
 public:
  explicit AnnoReader(const std::string& path) : anno_(std::make_shared<AnnoFile>(path)) {
    ByteReader reader(anno_->file.data(), anno_->file.size(), path);
    anno_->pickle = read_pickle(reader);
  }

  std::unordered_map<std::string, LabelSource> read() {
    const PickleValue& root = at(anno_->pickle.root());
    if (root.kind != Kind::dict) {
      throw Error(path() + ": is a pickle of a " + anno_->pickle.type_name(root) +
                  ", expected a dict of sessions");
    }
    std::unordered_map<std::string, LabelSource> sources;
    for (size_t i = 0; i + 1 < root.items.size(); i += 2) {
      const std::string session(at(root.items[i]).text);
      sources[session] = source(session, at(root.items[i + 1]));
    }
    return sources;
  }

 private:
  const std::string& path() const { return anno_->file.path(); }
  const PickleValue& at(PickleId id) const { return anno_->pickle[id]; }
  [[noreturn]] void fail(const std::string& session, const std::string& what) const {
    throw Error(path() + ": session '" + shown_name(session) + "': " + what);
  }

  LabelSource source(const std::string& session, const PickleValue& entry) {
    if (entry.kind != Kind::dict) fail(session, "is no dict, expected one with 'anno'");
    for (size_t i = 0; i + 1 < entry.items.size(); i += 2) {
      if (at(entry.items[i]).text == "anno") return labels(session, array(session, at(entry.items[i + 1])));
    }
    fail(session, "has no 'anno'");
  }

  LabelSource labels(const std::string& session, const NumpyArray& array) {
    const ElementType* type = nullptr;
    for (const ElementType& one : kElementTypes) {
      if (array.type == one.name) type = &one;
    }
    if (type == nullptr) fail(session, "elements of type '" + shown_name(array.type) + "', expected numbers");
    const std::vector<int64_t>& shape = array.shape;
    uint64_t count = 0;
    if (shape.empty() || shape.size() > 2 || !element_count(shape, count) || count == 0 ||
        count > array.bytes.size() || count * type->size != array.bytes.size()) {
      fail(session, format("'anno' has shape %s and %zu bytes, expected a matrix with a row for each step",
                           shape_text(shape.data(), shape.size()).c_str(), array.bytes.size()));
    }
    LabelSource source{
        path() + ": session '" + session + "'", shape[0], shape.size() == 2 ? shape[1] : 0, {}};
    const int64_t columns = std::max<int64_t>(source.columns, 1);
    const int64_t down = array.fortran ? 1 : columns, across = array.fortran ? shape[0] : 1;
    source.read = [anno = anno_, bytes = array.bytes.data(), read = type->read, columns, down, across](
                      int64_t step, float* row) {
      for (int64_t c = 0; c < columns; ++c) row[c] = read(bytes, step * down + c * across);
    };
    return source;
  }

  /// An array's parts stand in its state (version, shape, dtype, fortran, bytes), or, of protocol 5, in its call
  /// (bytes, dtype, shape, order).
  NumpyArray array(const std::string& session, const PickleValue& value) {
    const std::string maker = anno_->pickle.class_name(value);
    const PickleValue &state = at(value.state), &call = at(value.b);
    const bool by_state = value.kind == Kind::object && ends_with(maker, "multiarray._reconstruct") &&
                          state.kind == Kind::tuple && state.items.size() == 5;
    const bool by_call = value.kind == Kind::object && ends_with(maker, "numeric._frombuffer") &&
                         call.kind == Kind::tuple && call.items.size() == 4;
    if (!by_state && !by_call) {
      fail(session, "'anno' is a " + anno_->pickle.type_name(value) + ", expected a numpy array");
    }
    const std::vector<PickleId>& parts = by_state ? state.items : call.items;
    NumpyArray array;
    array.fortran = by_state ? at(parts[3]).integer != 0 : at(parts[3]).text == "F";
    array.type = dtype_name(at(parts[by_state ? 2 : 1]));
    array.bytes = bytes(session, at(parts[by_state ? 4 : 0]));
    for (const PickleId size : at(parts[by_state ? 1 : 2]).items) array.shape.push_back(at(size).integer);
    return array;
  }

  /// `f8` of what numpy.dtype was called with, or `>f8` where its state tells that order; empty for another value.
  std::string dtype_name(const PickleValue& value) const {
    const PickleValue &call = at(value.b), &state = at(value.state);
    if (value.kind != Kind::object || anno_->pickle.class_name(value) != "numpy.dtype" ||
        call.items.empty()) {
      return "";
    }
    const bool big = state.items.size() > 1 && at(state.items[1]).text == ">";
    return (big ? ">" : "") + std::string(at(call.items[0]).text);
  }

  std::string_view bytes(const std::string& session, const PickleValue& value) {
    if (value.kind == Kind::bytes || value.kind == Kind::text) return value.text;
    const PickleValue& call = at(value.b);
    if (value.kind == Kind::object && anno_->pickle.class_name(value) == "_codecs.encode" &&
        call.items.size() == 2) {
      if (std::optional<std::string> bytes = latin1_bytes(at(call.items[0]).text))
        return anno_->decoded.emplace_back(*std::move(bytes));
    }
    fail(session, "'anno' has no bytes: the pickle is damaged");
  }

  std::shared_ptr<AnnoFile> anno_;
};

}  // namespace

std::unordered_map<std::string, LabelSource> read_anno_pickle(const std::string& path) {
  return AnnoReader(path).read();
}

}  // namespace zoo
