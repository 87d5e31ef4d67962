#include "core/formats/pth.h"

#include <algorithm>
#include <unordered_map>

#include "core/error.h"
#include "core/formats/byte_reader.h"
#include "core/formats/checkpoint.h"
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
std::unordered_map<std::string, StoragePlace> read_legacy_storages(
    ByteReader& reader, const std::unordered_map<std::string, StorageId>& known) {
  const Pickle keys = read_pickle(reader);
  if (keys[keys.root()].kind != Kind::list) reader.fail("expected the list of storages");
  std::unordered_map<std::string, StoragePlace> places;
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
    if (!places.emplace(key, StoragePlace{begin, size}).second) {
      reader.fail("storage " + shown_name(key) + " stands there twice");
    }
  }
  return places;
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
    return StoragePlace{entry->offset, entry->size};
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
  const std::unordered_map<std::string, StoragePlace> places = read_legacy_storages(reader, known);
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

}  // namespace zoo
