#include "core/formats/byte_reader.h"

#include <algorithm>

#include "core/error.h"

namespace zoo {

void ByteReader::seek(uint64_t position) {
  if (position > size_) fail_at(position, "lies behind the end, expected at most " + std::to_string(size_));
  position_ = position;
}

std::string_view ByteReader::take(uint64_t count, const char* what) {
  if (count > remaining()) {
    fail(std::string(what) + " needs " + std::to_string(count) + " bytes, " + std::to_string(remaining()) +
         " are left: the file is truncated or damaged");
  }
  const std::string_view bytes(reinterpret_cast<const char*>(data_) + position_, count);
  position_ += count;
  return bytes;
}

std::string_view ByteReader::line(const char* what) {
  const std::string_view rest(reinterpret_cast<const char*>(data_) + position_, remaining());
  const size_t end = rest.find('\n');
  if (end == std::string_view::npos) {
    fail(std::string(what) + " has no end: the file is truncated or damaged");
  }
  position_ += end + 1;
  return rest.substr(0, end);
}

void ByteReader::fail_at(uint64_t position, const std::string& what) const {
  throw Error(where_ + ": byte " + std::to_string(position) + ": " + what);
}

std::string shown_name(std::string_view name) {
  constexpr size_t kLongest = 120;
  std::string text(name.substr(0, kLongest));
  std::replace_if(
      text.begin(), text.end(), [](char c) { return static_cast<unsigned char>(c) < ' ' || c == '\x7f'; },
      '?');
  return name.size() > kLongest ? text + "…" : text;
}

std::string shape_text(const int64_t* sizes, size_t count) {
  std::string text = "[";
  for (size_t i = 0; i < count; ++i) text += (i > 0 ? ", " : "") + std::to_string(sizes[i]);
  return text + "]";
}

}  // namespace zoo
