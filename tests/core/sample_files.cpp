#include "tests/core/sample_files.h"

#include "core/error.h"
#include "core/formats/zip.h"

namespace zoo::test {

std::string safetensors_bytes(const std::string& header, const std::string& data) {
  return raw(uint64_t{header.size()}) + header + data;
}

std::string npy_bytes(const std::string& header, const std::string& data, int version) {
  const std::string length =
      version == 1 ? raw(static_cast<uint16_t>(header.size())) : raw(static_cast<uint32_t>(header.size()));
  return "\x93NUMPY" + std::string(1, static_cast<char>(version)) + std::string(1, '\0') + length + header +
         data;
}

namespace pickled {

std::string unicode(const std::string& text) {
  return "X" + raw(static_cast<uint32_t>(text.size())) + text;
}
std::string integer(int64_t value) {
  return "\x8a\x08" + raw(value);
}
std::string global(const std::string& module, const std::string& name) {
  return "c" + module + "\n" + name + "\n";
}

std::string tuple(const std::vector<std::string>& items) {
  std::string text = "(";
  for (const std::string& item : items) text += item;
  return text + "t";
}

std::string integers(const std::vector<int64_t>& values) {
  std::vector<std::string> items;
  for (const int64_t value : values) items.push_back(integer(value));
  return tuple(items);
}

std::string storage(const std::string& type, const std::string& key, int64_t count, const std::string& view) {
  std::vector<std::string> parts = {unicode("storage"), global("torch", type), unicode(key), unicode("cpu"),
                                    integer(count)};
  if (!view.empty()) parts.push_back(view);
  return tuple(parts) + "Q";
}

std::string tensor(const std::string& storage, int64_t offset, const std::vector<int64_t>& shape,
                   const std::vector<int64_t>& strides) {
  return reduce(global("torch._utils", "_rebuild_tensor_v2"),
                {storage, integer(offset), integers(shape), integers(strides), "\x89", ordered_dict({})});
}

std::string reduce(const std::string& function, const std::vector<std::string>& arguments) {
  return function + tuple(arguments) + "R";
}

std::string dict(const std::vector<std::pair<std::string, std::string>>& members) {
  std::string text = "}(";
  for (const auto& [key, value] : members) text += unicode(key) + value;
  return text + "u";
}

std::string ordered_dict(const std::vector<std::pair<std::string, std::string>>& members) {
  std::string text = reduce(global("collections", "OrderedDict"), {});
  if (members.empty()) return text;
  text += "(";
  for (const auto& [key, value] : members) text += unicode(key) + value;
  return text + "u" + dict({{"_metadata", dict({{"", dict({{"version", integer(1)}})}})}}) + "b";
}

std::string whole(const std::string& value) {
  return "\x80\x02" + value + ".";
}

}  // namespace pickled

std::string pth_zip(const std::string& pickle, const Storages& storages, const Storages& extra_entries) {
  std::string bytes;
  ZipWriter zip([&](const void* data, size_t size) { bytes.append(static_cast<const char*>(data), size); });
  const auto add = [&](const std::string& name, const std::string& contents) {
    zip.add("model/" + name, contents.data(), contents.size());
  };
  add("data.pkl", pickle);
  for (const auto& [key, contents] : storages) add("data/" + key, contents);
  for (const auto& [name, contents] : extra_entries) add(name, contents);
  zip.finish();
  return bytes;
}

std::string pth_legacy(const std::string& pickle, const Storages& storages, size_t width) {
  std::string bytes = pickled::whole(std::string("\x8a\x0a\x6c\xfc\x9c\x46\xf9\x20\x6a\xa8\x50\x19", 12));
  bytes += pickled::whole(pickled::integer(1001));
  bytes += pickled::whole(
      pickled::dict({{"protocol_version", pickled::integer(1001)}, {"little_endian", "\x88"}}));
  bytes += pickle;
  std::string keys = "](";
  for (const auto& [key, contents] : storages) keys += pickled::unicode(key);
  bytes += pickled::whole(keys + "e");
  for (const auto& [key, contents] : storages) bytes += raw(uint64_t{contents.size() / width}) + contents;
  return bytes;
}

TensorFile read_bytes(const std::string& bytes) {
  const std::vector<uint8_t> copy(bytes.begin(), bytes.end());
  return read_tensor_file(copy.data(), copy.size(), "FILE");
}

std::string read_error(const std::string& bytes) {
  try {
    read_bytes(bytes);
  } catch (const Error& error) {
    return error.what();
  }
  return "";
}

}  // namespace zoo::test
