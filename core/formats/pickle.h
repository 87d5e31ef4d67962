#pragma once
#include <deque>
#include <string>
#include <string_view>
#include <vector>

#include "core/formats/byte_reader.h"

namespace zoo {

/// Index of a value of a pickle.
using PickleId = uint32_t;

/// One value of a pickle, as data. Texts point into the bytes that were read, which must outlive it (those that
/// protocol 0 writes with escapes into the Pickle).
struct PickleValue {
  // clang-format off
  enum class Kind : uint8_t {
    none, boolean, integer, big_integer, real, text, bytes, tuple, list, dict, set,
    global,      ///< a class or function by name: `a` module, `b` name (texts)
    object,      ///< what calling or making something would give: `a` what, `b` arguments; `items` as dict or list
    persistent,  ///< a reference out of the pickle: `a` the id
  };
  // clang-format on

  Kind kind = Kind::none;
  PickleId a = 0, b = 0;
  PickleId state = 0;           ///< object: what BUILD gave it last; 0: nothing
  int64_t integer = 0;          ///< boolean, integer
  double real = 0;              ///< real
  std::string_view text;        ///< text, bytes; big_integer: little-endian two's complement
  std::vector<PickleId> items;  ///< tuple, list, set; dict: key, value, key, value, …
};

/// The values of one pickle in an arena; what is shared or refers to itself in the pickle is one index here.
class Pickle {
 public:
  const PickleValue& operator[](PickleId id) const { return values_[id]; }
  size_t size() const { return values_.size(); }
  PickleId root() const { return root_; }

  /// `module.name` of a global, or of what an object was made from; empty for other values.
  std::string class_name(const PickleValue& value) const;
  /// A value's kind for messages: "int", "list", "argparse.Namespace".
  std::string type_name(const PickleValue& value) const;

 private:
  friend class PickleMachine;
  std::vector<PickleValue> values_;
  std::deque<std::string> unescaped_;
  PickleId root_ = 0;
};

/// Reads the pickle at the reader's position (protocols 2 to 5, and of 0 and 1 what Python 2 writes for numbers,
/// byte strings and containers) and stops behind it. Nothing is imported, called or made: GLOBAL gives a name,
/// REDUCE, NEWOBJ and BUILD give an opaque object. Memory is bounded by the length of the pickle. Throws Error
/// for unknown opcodes, lengths behind the end, missing operands or memo entries, and more than 2^23 values.
Pickle read_pickle(ByteReader& reader);

}  // namespace zoo
