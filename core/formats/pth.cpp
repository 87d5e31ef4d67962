#include "core/formats/pth.h"

#include <algorithm>
#include <optional>
#include <unordered_set>

#include "core/error.h"
#include "core/formats/byte_reader.h"
#include "core/formats/pickle.h"
#include "core/formats/zip.h"
#include "core/text.h"

namespace zoo {

namespace {

using Kind = PickleValue::Kind;

/// The first pickle of the old container holds 0x1950a86a20f9469cfc6c: opcode LONG1, its length and its
/// bytes.
constexpr std::string_view kMagicNumber("\x8a\x0a\x6c\xfc\x9c\x46\xf9\x20\x6a\xa8\x50\x19", 12);
constexpr int64_t kProtocolVersion = 1001;
constexpr size_t kMaxDimensions = 64;
constexpr uint64_t kMaxExpanded = uint64_t{1} << 20;

/// Where state dicts stand in published checkpoints, likeliest first.
constexpr const char* kStateKeys[] = {"model",     "state_dict",     "model_state_dict", "ema",
                                      "model_ema", "state_dict_ema", "params",           "params_ema",
                                      "net",       "network",        "weights",          "module"};

struct TorchName {
  const char* storage;  ///< class in the module torch
  const char* dtype;    ///< attribute of the module torch
  DType type;
};
constexpr TorchName kTorchNames[] = {
    {"DoubleStorage", "float64", DType::f64}, {"FloatStorage", "float32", DType::f32},
    {"HalfStorage", "float16", DType::f16},   {"BFloat16Storage", "bfloat16", DType::bf16},
    {"LongStorage", "int64", DType::i64},     {"IntStorage", "int32", DType::i32},
    {"ShortStorage", "int16", DType::i16},    {"CharStorage", "int8", DType::i8},
    {"ByteStorage", "uint8", DType::u8},      {"BoolStorage", "bool", DType::boolean},
    {nullptr, "uint16", DType::u16},          {nullptr, "uint32", DType::u32},
    {nullptr, "uint64", DType::u64}};

/// A persistent id `('storage', class, key, location, count[, view])`.
struct StorageId {
  std::string key;
  std::optional<DType> dtype;  ///< none: untyped, counted in bytes
  uint64_t count = 0;
  uint64_t view_offset = 0, view_count = 0;  ///< of an old view into another storage, else 0 and count

  uint64_t element_size() const { return dtype ? static_cast<uint64_t>(dtype_size(*dtype)) : 1; }
};

struct Bytes {
  uint64_t offset = 0, size = 0;  ///< place of a storage in the file
};
using StorageFinder = std::function<Bytes(const StorageId& id)>;

/// What the pickle of a checkpoint means: its storages, its tensors and the dict that is the weights.
class Checkpoint {
 public:
  Checkpoint(const Pickle& pickle, std::string where, uint64_t file_size)
      : pickle_(pickle), where_(std::move(where)), file_size_(file_size) {}

  StorageId storage_id(const PickleValue& persistent) const;
  /// Fills in tensors and skipped.
  void read(const StorageFinder& find_storage, TensorFile& file);

 private:
  struct Pair {
    PickleId key, value;
  };

  [[noreturn]] void fail(const std::string& what) const { throw Error(where_ + ": " + what); }
  const PickleValue& at(PickleId id) const { return pickle_[id]; }
  bool is_dict(const PickleValue& value) const;
  std::vector<Pair> pairs(const PickleValue& dict) const;
  /// The function that rebuilds a tensor and its arguments, freed of the wrappers for parameters and
  /// subclasses.
  bool is_rebuild(const PickleValue& value) const;
  bool is_tensor(const PickleValue& value) const;
  bool holds_tensors(const PickleValue& dict) const;
  std::optional<PickleId> find_state(PickleId id, std::unordered_set<PickleId>& seen, TensorFile& file) const;
  std::string member(const Pair& pair) const;

  TensorEntry rebuild(const std::string& name, const PickleValue& value,
                      const StorageFinder& find_storage) const;
  std::vector<int64_t> sizes(const std::string& name, PickleId id) const;
  std::optional<DType> dtype_of(PickleId id) const;
  void place(TensorEntry& entry, const StorageId& id, int64_t offset,
             const StorageFinder& find_storage) const;

  const Pickle& pickle_;
  std::string where_;
  uint64_t file_size_;
};

bool Checkpoint::is_dict(const PickleValue& value) const {
  if (value.kind == Kind::dict) return true;
  const std::string name = pickle_.class_name(value);
  return value.kind == Kind::object &&
         (name == "collections.OrderedDict" || name == "collections.defaultdict");
}

/// Members of a dict; those of Python 2's OrderedDict are a list of pairs in its arguments.
std::vector<Checkpoint::Pair> Checkpoint::pairs(const PickleValue& dict) const {
  std::vector<Pair> result;
  if (dict.kind == Kind::object && at(dict.b).kind == Kind::tuple && at(dict.b).items.size() == 1) {
    for (const PickleId id : at(at(dict.b).items[0]).items) {
      if (at(id).items.size() == 2) result.push_back({at(id).items[0], at(id).items[1]});
    }
  }
  for (size_t i = 0; i + 1 < dict.items.size(); i += 2) result.push_back({dict.items[i], dict.items[i + 1]});
  return result;
}

bool Checkpoint::is_rebuild(const PickleValue& value) const {
  const std::string name = pickle_.class_name(value);
  return value.kind == Kind::object &&
         (starts_with(name, "torch._utils._rebuild") || starts_with(name, "torch._tensor._rebuild"));
}

bool Checkpoint::is_tensor(const PickleValue& value) const {
  return is_rebuild(value);
}

bool Checkpoint::holds_tensors(const PickleValue& dict) const {
  const std::vector<Pair> members = pairs(dict);
  return std::any_of(members.begin(), members.end(),
                     [&](const Pair& pair) { return is_tensor(at(pair.value)); });
}

/// "optimizer (dict)".
std::string Checkpoint::member(const Pair& pair) const {
  const PickleValue& key = at(pair.key);
  const std::string name = key.kind == Kind::text ? shown_name(key.text) : "a " + pickle_.type_name(key);
  return name + " (" + pickle_.type_name(at(pair.value)) + ")";
}

/// The dict of weights at or below `id`: under a usual key, else the dict itself, else its only such member.
std::optional<PickleId> Checkpoint::find_state(PickleId id, std::unordered_set<PickleId>& seen,
                                               TensorFile& file) const {
  const PickleValue& dict = at(id);
  constexpr size_t kMaxVisits = 256;  // of dicts within dicts
  if (!is_dict(dict) || seen.size() >= kMaxVisits || !seen.insert(id).second) return std::nullopt;
  const std::vector<Pair> members = pairs(dict);
  std::vector<std::pair<PickleId, PickleId>> candidates;  // member, state dict
  const auto skip_others = [&](PickleId chosen) {
    for (const Pair& pair : members) {
      if (pair.value != chosen) file.skipped.push_back(member(pair));
    }
  };
  for (const char* key : kStateKeys) {
    for (const Pair& pair : members) {
      if (at(pair.key).kind != Kind::text || at(pair.key).text != key) continue;
      if (const auto found = find_state(pair.value, seen, file)) {
        skip_others(pair.value);
        return found;
      }
    }
  }
  if (holds_tensors(dict)) return id;
  for (const Pair& pair : members) {
    if (is_dict(at(pair.value)) && holds_tensors(at(pair.value))) {
      candidates.emplace_back(pair.value, pair.value);
    }
  }
  if (candidates.size() != 1) return std::nullopt;
  skip_others(candidates[0].first);
  return candidates[0].second;
}

std::optional<DType> Checkpoint::dtype_of(PickleId id) const {
  const std::string name = pickle_.class_name(at(id));
  for (const TorchName& row : kTorchNames) {
    const bool storage = row.storage != nullptr && (name == std::string("torch.") + row.storage ||
                                                    name == std::string("torch.cuda.") + row.storage);
    if (storage || name == std::string("torch.") + row.dtype) return row.type;
  }
  return std::nullopt;
}

StorageId Checkpoint::storage_id(const PickleValue& persistent) const {
  const PickleValue& id = at(persistent.a);
  const std::vector<PickleId>& parts = id.items;
  const bool whole = id.kind == Kind::tuple && parts.size() >= 5 && at(parts[0]).text == "storage" &&
                     at(parts[2]).kind == Kind::text && at(parts[4]).kind == Kind::integer &&
                     at(parts[4]).integer >= 0;
  if (!whole) fail("a reference to a storage is damaged, expected ('storage', class, key, location, count)");
  StorageId result;
  result.key = std::string(at(parts[2]).text);
  result.dtype = dtype_of(parts[1]);
  const std::string name = pickle_.class_name(at(parts[1]));
  if (!result.dtype && !ends_with(name, ".UntypedStorage")) {
    fail("storage " + shown_name(result.key) + " is a " + pickle_.type_name(at(parts[1])) +
         ", expected real, integer or boolean elements");
  }
  result.count = static_cast<uint64_t>(at(parts[4]).integer);
  result.view_count = result.count;
  if (parts.size() < 6 || at(parts[5]).kind == Kind::none) return result;
  const std::vector<PickleId>& view = at(parts[5]).items;
  const bool viewed =
      view.size() == 3 && at(view[1]).kind == Kind::integer && at(view[2]).kind == Kind::integer;
  uint64_t end = 0;
  if (viewed) {
    result.view_offset = static_cast<uint64_t>(at(view[1]).integer);
    result.view_count = static_cast<uint64_t>(at(view[2]).integer);
  }
  const bool inside =
      viewed && !__builtin_add_overflow(result.view_offset, result.view_count, &end) && end <= result.count;
  if (!inside) {
    fail("storage " + shown_name(result.key) +
         " has a damaged view, expected (key, offset, count) inside it");
  }
  return result;
}

/// A torch.Size, tuple or list of non-negative integers.
std::vector<int64_t> Checkpoint::sizes(const std::string& name, PickleId id) const {
  const PickleValue* value = &at(id);
  if (pickle_.class_name(*value) == "torch.Size" && value->kind == Kind::object &&
      at(value->b).items.size() == 1) {
    value = &at(at(value->b).items[0]);
  }
  if (value->kind != Kind::tuple && value->kind != Kind::list) {
    fail(name + ": its shape is a " + pickle_.type_name(*value));
  }
  if (value->items.size() > kMaxDimensions) fail(name + ": has more than 64 dimensions");
  std::vector<int64_t> result;
  for (const PickleId item : value->items) {
    const bool count = at(item).kind == Kind::integer && at(item).integer >= 0;
    if (!count) fail(name + ": a size or stride is negative or no integer");
    result.push_back(at(item).integer);
  }
  return result;
}

/// `_rebuild_tensor_v2(storage, offset, size, stride, requires_grad, hooks[, metadata])`; v3 has the dtype in
/// the seventh place; `_rebuild_parameter(tensor, …)` and `_rebuild_from_type_v2(function, type, arguments,
/// state)` wrap.
TensorEntry Checkpoint::rebuild(const std::string& name, const PickleValue& value,
                                const StorageFinder& find_storage) const {
  std::string function = pickle_.class_name(value);
  const PickleValue* arguments = &at(value.b);
  for (;;) {
    const std::vector<PickleId>& parts = arguments->items;
    if (starts_with(function, "torch._utils._rebuild_parameter") && !parts.empty() &&
        is_rebuild(at(parts[0]))) {
      function = pickle_.class_name(at(parts[0]));
      arguments = &at(at(parts[0]).b);
    } else if (function == "torch._tensor._rebuild_from_type_v2" && parts.size() >= 3) {
      function = pickle_.class_name(at(parts[0]));
      arguments = &at(parts[2]);
    } else {
      break;
    }
  }
  const std::vector<PickleId>& parts = arguments->items;
  const bool v3 = function == "torch._utils._rebuild_tensor_v3";
  if (!v3 && function != "torch._utils._rebuild_tensor_v2" && function != "torch._utils._rebuild_tensor") {
    fail(name + ": is what " + function + " makes, expected a dense tensor");
  }
  const bool whole = arguments->kind == Kind::tuple && parts.size() >= (v3 ? 7 : 4) &&
                     at(parts[0]).kind == Kind::persistent && at(parts[1]).kind == Kind::integer;
  if (!whole) fail(name + ": is damaged, expected storage, offset, size and stride");
  const StorageId id = storage_id(at(parts[0]));
  const std::optional<DType> dtype = v3 ? dtype_of(parts[6]) : id.dtype;
  if (!dtype) fail(name + ": has elements of " + (v3 ? pickle_.type_name(at(parts[6])) : "no known type"));
  TensorEntry entry;
  entry.name = name;
  entry.dtype = *dtype;
  entry.shape = sizes(name, parts[2]);
  entry.strides = sizes(name, parts[3]);
  place(entry, id, at(parts[1]).integer, find_storage);
  return entry;
}

/// Finds the tensor's first byte and checks that its last one lies in the storage.
void Checkpoint::place(TensorEntry& entry, const StorageId& id, int64_t offset,
                       const StorageFinder& find_storage) const {
  const auto width = static_cast<uint64_t>(dtype_size(entry.dtype));
  uint64_t extent = 0, count = 0, begin = 0, end = 0, room = 0;
  const bool sane = offset >= 0 && byte_extent(entry, extent) && element_count(entry.shape, count) &&
                    !__builtin_mul_overflow(static_cast<uint64_t>(offset), width, &begin) &&
                    !__builtin_add_overflow(begin, extent, &end) &&
                    !__builtin_mul_overflow(id.view_count, id.element_size(), &room);
  if (!sane || (end > room && count > 0)) {
    fail(entry.name + ": shape " + shape_text(entry.shape.data(), entry.shape.size()) + ", strides " +
         shape_text(entry.strides.data(), entry.strides.size()) + " and offset " + std::to_string(offset) +
         " pass the end of its storage of " + std::to_string(id.view_count) + " elements");
  }
  // Strides of 0 repeat elements; nothing but an attack repeats them until they outgrow the file.
  if (count > std::max(kMaxExpanded, file_size_)) {
    fail(entry.name + ": shape " + shape_text(entry.shape.data(), entry.shape.size()) +
         " is larger than the whole file");
  }
  const Bytes storage = find_storage(id);
  entry.offset = count == 0 ? storage.offset : storage.offset + id.view_offset * id.element_size() + begin;
}

void Checkpoint::read(const StorageFinder& find_storage, TensorFile& file) {
  std::unordered_set<PickleId> seen;
  const PickleValue& root = at(pickle_.root());
  const std::optional<PickleId> state = find_state(pickle_.root(), seen, file);
  if (!state) {
    std::vector<std::string> members;
    if (is_dict(root)) {
      for (const Pair& pair : pairs(root)) {
        if (members.size() < 8) members.push_back(member(pair));
      }
    }
    const std::string holds = members.empty() ? pickle_.type_name(root) : "dict of " + join(members, ", ");
    throw Error(where_ + ": holds a " + holds + ", expected a state dict of tensors",
                "torch.save(model.state_dict(), FILE) writes one");
  }
  for (const Pair& pair : pairs(at(*state))) {
    const PickleValue& key = at(pair.key);
    if (key.kind != Kind::text || !is_tensor(at(pair.value))) {
      file.skipped.push_back(member(pair));
    } else {
      file.tensors.push_back(rebuild(std::string(key.text), at(pair.value), find_storage));
    }
  }
}

/// "ROOT/": the one folder of the archive, found by its data.pkl.
std::string archive_root(const ZipArchive& archive, const std::string& path) {
  const auto& entries = archive.entries();
  const auto any = [&](auto test) { return std::any_of(entries.begin(), entries.end(), test); };
  const auto pickle = std::find_if(entries.begin(), entries.end(), [](const ZipEntry& entry) {
    return ends_with(entry.name, "/data.pkl") && entry.name.find('/') + 1 == entry.name.size() - 8;
  });
  const char* expected = ", expected weights: safetensors or what torch.save wrote of a state dict";
  if (pickle == entries.end()) {
    const bool numpy = any([](const ZipEntry& entry) { return ends_with(entry.name, ".npy"); });
    throw Error(path + (numpy ? ": is a NumPy archive" : ": is a zip archive without data.pkl") + expected);
  }
  std::string root = pickle->name.substr(0, pickle->name.size() - 8);
  const bool script = archive.find(root + "constants.pkl") != nullptr ||
                      any([&](const ZipEntry& entry) { return starts_with(entry.name, root + "code/"); });
  if (script) {
    throw Error(path + ": is a TorchScript archive" + expected,
                "save the state_dict() of the module that was exported, or the file it was made from");
  }
  return root;
}

Pickle single_pickle(std::string_view bytes, const std::string& where) {
  ByteReader reader(reinterpret_cast<const uint8_t*>(bytes.data()), bytes.size(), where);
  return read_pickle(reader);
}

/// The first three pickles: magic number, protocol, system.
void read_legacy_head(ByteReader& reader) {
  const Pickle magic = read_pickle(reader);
  if (magic[magic.root()].text != kMagicNumber.substr(2)) {
    reader.fail_at(0, "the magic number of torch.save is missing");
  }
  const Pickle protocol = read_pickle(reader);
  if (protocol[protocol.root()].integer != kProtocolVersion) {
    reader.fail("protocol of torch.save is not 1001");
  }
  const Pickle system = read_pickle(reader);
  const std::vector<PickleId>& items = system[system.root()].items;
  for (size_t i = 0; i + 1 < items.size(); i += 2) {
    const bool big = system[items[i]].text == "little_endian" && system[items[i + 1]].kind == Kind::boolean &&
                     system[items[i + 1]].integer == 0;
    if (big) reader.fail("was written on a big-endian machine, expected little-endian");
  }
}

/// The last pickle, and behind it the storages in the order of its keys: element count and bytes.
std::unordered_map<std::string, Bytes> read_legacy_storages(
    ByteReader& reader, const std::unordered_map<std::string, StorageId>& known) {
  const Pickle keys = read_pickle(reader);
  if (keys[keys.root()].kind != Kind::list) reader.fail("expected the list of storages");
  std::unordered_map<std::string, Bytes> places;
  for (const PickleId id : keys[keys.root()].items) {
    const std::string key(keys[id].text);
    const auto found = known.find(key);
    if (keys[id].kind != Kind::text || found == known.end()) {
      reader.fail("storage " + shown_name(key) + " is not used");
    }
    const auto count = reader.number<uint64_t>("a storage's element count");
    if (count != found->second.count) {
      reader.fail("storage " + shown_name(key) + " has " + std::to_string(count) + " elements, expected " +
                  std::to_string(found->second.count));
    }
    uint64_t size = 0;
    if (__builtin_mul_overflow(count, found->second.element_size(), &size)) {
      reader.fail("a storage is larger than any file");
    }
    const uint64_t begin = reader.position();
    reader.take(size, "a storage");
    if (!places.emplace(key, Bytes{begin, size}).second) {
      reader.fail("storage " + shown_name(key) + " stands there twice");
    }
  }
  return places;
}

/// Builds the pickle of a state dict (protocol 2, without memo).
class PickleWriter {
 public:
  PickleWriter() { text_ = "\x80\x02"; }

  void opcode(char code) { text_ += code; }
  void global(const char* module, const char* name) {
    text_ += std::string("c") + module + "\n" + name + "\n";
  }
  void unicode(const std::string& text) {
    opcode('X');
    raw(static_cast<uint32_t>(text.size()));
    text_ += text;
  }
  void integer(int64_t value) {
    text_ += "\x8a\x08";
    raw(value);
  }
  void tuple(const std::vector<int64_t>& values) {
    opcode('(');
    for (const int64_t value : values) integer(value);
    opcode('t');
  }
  void ordered_dict() {
    global("collections", "OrderedDict");
    text_ += ")R";
  }
  const std::string& str() const { return text_; }

 private:
  template <typename T>
  void raw(T value) {
    text_.append(reinterpret_cast<const char*>(&value), sizeof value);
  }
  std::string text_;
};

void write_tensor(PickleWriter& pickle, const TensorInfo& tensor, const std::string& key, int64_t count) {
  const TorchName& names = *std::find_if(std::begin(kTorchNames), std::end(kTorchNames),
                                         [&](const TorchName& row) { return row.type == tensor.dtype; });
  const bool untyped =
      names.storage == nullptr;  // torch has no storage class for the wider unsigned integers
  pickle.unicode(tensor.name);
  pickle.global("torch._utils", untyped ? "_rebuild_tensor_v3" : "_rebuild_tensor_v2");
  pickle.opcode('(');
  pickle.opcode('(');
  pickle.unicode("storage");
  untyped ? pickle.global("torch.storage", "UntypedStorage") : pickle.global("torch", names.storage);
  pickle.unicode(key);
  pickle.unicode("cpu");
  pickle.integer(untyped ? count * dtype_size(tensor.dtype) : count);
  pickle.opcode('t');
  pickle.opcode('Q');
  pickle.integer(0);
  pickle.tuple(tensor.shape);
  pickle.tuple(contiguous_strides(tensor.shape));
  pickle.opcode('\x89');  // requires_grad=False
  pickle.ordered_dict();  // hooks
  if (untyped) pickle.global("torch", names.dtype);
  pickle.opcode('t');
  pickle.opcode('R');
}

}  // namespace

bool is_pth_legacy(const uint8_t* bytes, uint64_t size) {
  std::string_view text(reinterpret_cast<const char*>(bytes), std::min<uint64_t>(size, 32));
  if (text.size() < 2 || text[0] != '\x80') return false;
  text.remove_prefix(2);
  constexpr size_t kFrame = 9;  // protocol 4 and later put the pickle's length before it
  if (!text.empty() && text[0] == '\x95' && text.size() > kFrame) text.remove_prefix(kFrame);
  return starts_with(text, kMagicNumber);
}

TensorFile read_pth_zip(const uint8_t* bytes, uint64_t size, const std::string& path) {
  const ZipArchive archive(bytes, size, path);
  const std::string root = archive_root(archive, path);
  if (const ZipEntry* order = archive.find(root + "byteorder")) {
    if (archive.contents(*order) != "little") throw Error(path + ": is big-endian, expected little-endian");
  }
  const Pickle pickle =
      single_pickle(archive.checked_contents(*archive.find(root + "data.pkl")), path + ": data.pkl");
  TensorFile file;
  file.format = "zip";
  const auto find_storage = [&](const StorageId& id) {
    const ZipEntry* entry = archive.find(root + "data/" + id.key);
    if (entry == nullptr) throw Error(path + ": storage data/" + shown_name(id.key) + " is missing");
    if (archive.contents(*entry).size() / id.element_size() < id.count) {
      throw Error(path + ": storage data/" + shown_name(id.key) + " has " + std::to_string(entry->size) +
                  " bytes, expected " + std::to_string(id.count) + " elements of " +
                  std::to_string(id.element_size()));
    }
    return Bytes{entry->offset, entry->size};
  };
  Checkpoint(pickle, path, size).read(find_storage, file);
  return file;
}

TensorFile read_pth_legacy(const uint8_t* bytes, uint64_t size, const std::string& path) {
  ByteReader reader(bytes, size, path);
  read_legacy_head(reader);
  const Pickle pickle = read_pickle(reader);
  Checkpoint checkpoint(pickle, path, size);
  std::unordered_map<std::string, StorageId> known;
  for (PickleId id = 0; id < pickle.size(); ++id) {
    if (pickle[id].kind != Kind::persistent) continue;
    StorageId storage = checkpoint.storage_id(pickle[id]);
    known.emplace(storage.key, std::move(storage));
  }
  const std::unordered_map<std::string, Bytes> places = read_legacy_storages(reader, known);
  TensorFile file;
  file.format = "legacy";
  const auto find_storage = [&](const StorageId& id) {
    const auto found = places.find(id.key);
    if (found == places.end()) throw Error(path + ": storage " + shown_name(id.key) + " is missing");
    if (found->second.size / id.element_size() < id.count) {
      throw Error(path + ": storage " + shown_name(id.key) + " is too short");
    }
    return found->second;
  };
  checkpoint.read(find_storage, file);
  return file;
}

void write_pth(const std::vector<TensorInfo>& tensors, const TensorSource& source, const ByteSink& sink) {
  const std::string root = "archive/";
  PickleWriter pickle;
  std::vector<uint64_t> sizes;
  pickle.ordered_dict();
  pickle.opcode('(');
  for (size_t i = 0; i < tensors.size(); ++i) {
    uint64_t count = 0;
    if (!element_count(tensors[i].shape, count)) {
      throw Error("cannot write " + tensors[i].name + ": its shape is no shape");
    }
    sizes.push_back(count * static_cast<uint64_t>(dtype_size(tensors[i].dtype)));
    write_tensor(pickle, tensors[i], std::to_string(i), static_cast<int64_t>(count));
  }
  pickle.opcode('u');
  pickle.opcode('.');
  ZipWriter zip(sink);
  zip.add(root + "data.pkl", pickle.str().data(), pickle.str().size());
  zip.add(root + "byteorder", "little", 6);
  for (size_t i = 0; i < tensors.size(); ++i) {
    zip.add(root + "data/" + std::to_string(i), sizes[i] > 0 ? source(i) : nullptr, sizes[i]);
  }
  zip.add(root + "version", "3\n", 2);
  zip.finish();
}

}  // namespace zoo
