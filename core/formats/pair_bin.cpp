#include "core/formats/pair_bin.h"

#include <unordered_map>

#include "core/error.h"
#include "core/text.h"

namespace zoo {
namespace {

using Kind = PickleValue::Kind;

/// Numpy 2 moved its parts from numpy.core to numpy._core.
bool is_numpy(const std::string& name, const char* part) {
  return name == std::string("numpy.core.") + part || name == std::string("numpy._core.") + part;
}

class PairBinReader {
 public:
  PairBinReader(const uint8_t* data, uint64_t size, const std::string& where) : where_(where) {
    ByteReader reader(data, size, where);
    bin_.pickle = read_pickle(reader);
  }

  PairBin read() {
    const std::vector<PickleId>& parts = sequence(bin_.pickle.root(), "the pickle");
    if (parts.size() != 2) fail(format("holds %zu values, expected (pictures, issame)", parts.size()));
    const std::vector<PickleId>& images = sequence(parts[0], "the list of pictures");
    for (size_t i = 0; i < images.size(); ++i) {
      bin_.images.push_back(bytes_of(images[i], format("picture %zu", i)));
    }
    read_same(parts[1]);
    if (bin_.images.size() != 2 * bin_.same.size()) {
      fail(format("%zu pictures for %zu pairs, expected two for each", bin_.images.size(), bin_.same.size()));
    }
    return std::move(bin_);
  }

 private:
  const PickleValue& at(PickleId id) const { return bin_.pickle[id]; }
  [[noreturn]] void fail(const std::string& what) const { throw Error(where_ + ": " + what); }

  const std::vector<PickleId>& sequence(PickleId id, const char* what) const {
    const PickleValue& value = at(id);
    if (value.kind != Kind::tuple && value.kind != Kind::list) {
      fail(std::string(what) + " is a " + bin_.pickle.type_name(value) + ", expected a list or tuple");
    }
    return value.items;
  }

  /// What an object was called with; none where it is no call with at least `count` arguments.
  const std::vector<PickleId>* arguments(const PickleValue& value, size_t count) const {
    if (value.kind != Kind::object || at(value.b).kind != Kind::tuple) return nullptr;
    const std::vector<PickleId>& items = at(value.b).items;
    return items.size() < count ? nullptr : &items;
  }

  /// Each value is decoded once, however often the pickle refers to it.
  std::string_view bytes_of(PickleId id, const std::string& name) {
    const auto [known, fresh] = known_.emplace(id, std::string_view());
    if (fresh) known->second = is_array(id) ? array_bytes(id, "u1", name) : plain_bytes(id, name);
    return known->second;
  }

  std::string_view plain_bytes(PickleId id, const std::string& name) {
    const PickleValue& value = at(id);
    if (value.kind == Kind::bytes || value.kind == Kind::text) return value.text;
    const std::vector<PickleId>* call = arguments(value, 2);
    if (bin_.pickle.class_name(value) == "_codecs.encode" && call != nullptr &&
        at((*call)[0]).kind == Kind::text && starts_with(at((*call)[1]).text, "latin")) {
      std::optional<std::string> bytes = latin1_bytes(at((*call)[0]).text);
      if (!bytes) fail(name + " holds a letter that is no byte");
      return bin_.decoded.emplace_back(*std::move(bytes));
    }
    fail(name + " is a " + bin_.pickle.type_name(value) + ", expected bytes or a numpy array of uint8");
  }

  bool is_array(PickleId id) const {
    const std::string name = bin_.pickle.class_name(at(id));
    return is_numpy(name, "multiarray._reconstruct") || is_numpy(name, "numeric._frombuffer");
  }

  /// `'u1'` of what numpy.dtype was called with; empty for another value.
  std::string_view dtype_name(PickleId id) const {
    const std::vector<PickleId>* call = arguments(at(id), 1);
    return call == nullptr || bin_.pickle.class_name(at(id)) != "numpy.dtype" ? "" : at((*call)[0]).text;
  }

  /// An array's bytes: in its state (version, shape, dtype, fortran, bytes), or, of protocol 5, in its call.
  std::string_view array_bytes(PickleId id, const char* dtype, const std::string& name) {
    const PickleValue& array = at(id);
    const std::vector<PickleId>* call = arguments(array, 4);
    PickleId type = 0, bytes = 0;
    if (is_numpy(bin_.pickle.class_name(array), "numeric._frombuffer") && call != nullptr) {
      bytes = (*call)[0];
      type = (*call)[1];
    } else if (const PickleValue& state = at(array.state);
               state.kind == Kind::tuple && state.items.size() == 5) {
      type = state.items[2];
      bytes = state.items[4];
    } else {
      fail(name + " is a numpy array without its bytes: the pickle is damaged");
    }
    if (dtype_name(type) != dtype) {
      fail(name + " is a numpy array of '" + shown_name(dtype_name(type)) + "', expected '" + dtype + "'");
    }
    return plain_bytes(bytes, name);
  }

  void read_same(PickleId id) {
    if (is_array(id)) {
      for (const char byte : array_bytes(id, "b1", "issame")) bin_.same.push_back(byte != 0);
      return;
    }
    for (const PickleId item : sequence(id, "issame")) bin_.same.push_back(truth(item));
  }

  bool truth(PickleId id) {
    const PickleValue& value = at(id);
    if (value.kind == Kind::boolean || (value.kind == Kind::integer && (value.integer & ~1) == 0)) {
      return value.integer != 0;
    }
    const std::vector<PickleId>* call = arguments(value, 2);  // numpy.bool_: (dtype, byte)
    if (is_numpy(bin_.pickle.class_name(value), "multiarray.scalar") && call != nullptr &&
        dtype_name((*call)[0]) == "b1") {
      const std::string_view byte = bytes_of((*call)[1], "issame");
      if (byte.size() == 1) return byte[0] != 0;
    }
    fail(format("issame[%zu] is a %s, expected True or False", bin_.same.size(),
                bin_.pickle.type_name(value).c_str()));
  }

  std::string where_;
  PairBin bin_;
  std::unordered_map<PickleId, std::string_view> known_;
};

}  // namespace

PairBin read_pair_bin(const uint8_t* data, uint64_t size, const std::string& where) {
  return PairBinReader(data, size, where).read();
}

}  // namespace zoo
