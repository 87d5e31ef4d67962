#include "core/formats/tar.h"

#include <algorithm>
#include <array>
#include <cstring>
#include <string_view>

#include "core/error.h"
#include "core/formats/byte_reader.h"
#include "core/text.h"

namespace zoo {
namespace {

constexpr uint64_t kBlock = 512;
constexpr uint64_t kLongestName = 1 << 16;

/// Where the fields of a header stand (POSIX.1-1988 ustar).
struct Field {
  size_t offset, length;
};
constexpr Field kName = {0, 100}, kMode = {100, 8}, kSize = {124, 12}, kChecksum = {148, 8}, kType = {156, 1},
                kMagic = {257, 6}, kVersion = {263, 2}, kPrefix = {345, 155};

std::string_view field(std::string_view header, const Field& place) {
  return header.substr(place.offset, place.length);
}

std::string text_of(std::string_view field) {
  return std::string(field.substr(0, std::min(field.find('\0'), field.size())));
}

/// The sum of a header's bytes with blanks for the checksum itself.
uint64_t checksum_of(std::string_view header) {
  uint64_t sum = 0;
  for (size_t i = 0; i < header.size(); ++i) {
    const bool own = i >= kChecksum.offset && i < kChecksum.offset + kChecksum.length;
    sum += own ? ' ' : static_cast<uint8_t>(header[i]);
  }
  return sum;
}

/// Octal digits, or GNU's big-endian number behind a first byte of 0x80.
bool parse_number(std::string_view field, uint64_t& value) {
  value = 0;
  if (static_cast<uint8_t>(field[0]) == 0x80) {
    for (const char c : field.substr(1)) {
      if (value >> 55 != 0) return false;
      value = value << 8 | static_cast<uint8_t>(c);
    }
    return true;
  }
  const std::string digits = trim(text_of(field));
  if (digits.empty()) return false;
  for (const char c : digits) {
    if (c < '0' || c > '7' || value >> 60 != 0) return false;
    value = value << 3 | static_cast<uint64_t>(c - '0');
  }
  return true;
}

/// What members before a member say about it.
struct Extended {
  std::string name;
  bool has_size = false;
  uint64_t size = 0;
};

/// Records `LENGTH KEY=VALUE\n` of a pax header, LENGTH counting the whole record.
void read_pax(std::string_view text, const ByteReader& reader, uint64_t at, Extended& extended) {
  while (!text.empty()) {
    const size_t blank = text.find(' ');
    int64_t length = 0;
    if (blank == std::string_view::npos || !parse_int(text.substr(0, blank), length) ||
        length <= static_cast<int64_t>(blank) + 1 || length > static_cast<int64_t>(text.size())) {
      reader.fail_at(at, "a pax header is damaged, expected records of LENGTH KEY=VALUE");
    }
    const std::string_view record =
        text.substr(blank + 1, static_cast<size_t>(length) - blank - 2);  // without the line break
    const size_t equals = record.find('=');
    if (equals == std::string_view::npos)
      reader.fail_at(at, "a pax header is damaged, expected records of LENGTH KEY=VALUE");
    const std::string_view key = record.substr(0, equals), value = record.substr(equals + 1);
    int64_t number = 0;
    if (key == "path") extended.name = value;
    if (key == "size") {
      if (!parse_int(value, number) || number < 0) reader.fail_at(at, "a pax header has a size that is none");
      extended.has_size = true;
      extended.size = static_cast<uint64_t>(number);
    }
    text.remove_prefix(static_cast<size_t>(length));
  }
}

class TarIndex {
 public:
  TarIndex(const uint8_t* bytes, uint64_t size, const std::string& path) : reader_(bytes, size, path) {}

  std::vector<TarEntry> read() {
    while (read_member()) {
    }
    return std::move(entries_);
  }

 private:
  /// False at the end of the archive.
  bool read_member() {
    const uint64_t at = reader_.position();
    if (reader_.remaining() == 0)
      reader_.fail("the archive ends without an empty block, expected a whole one (it is cut off)");
    const std::string_view header = reader_.take(kBlock, "a header");
    if (header.find_first_not_of('\0') == std::string_view::npos) return false;
    uint64_t sum = 0, size = 0;
    if (!parse_number(field(header, kChecksum), sum) || sum != checksum_of(header))
      reader_.fail_at(at, "no tar header (its checksum is wrong), expected an uncompressed tar archive");
    if (!parse_number(field(header, kSize), size)) reader_.fail_at(at, "a member's size is no number");
    const char type = header[kType.offset];
    const bool about_next = type == 'x' || type == 'L' || type == 'g' || type == 'K';
    if (!about_next && extended_.has_size) size = extended_.size;
    take_member(header, type, size, at);
    return true;
  }

  void take_member(std::string_view header, char type, uint64_t size, uint64_t at) {
    const uint64_t offset = reader_.position();
    const std::string_view contents = reader_.take(size, "a member's contents");
    skip_padding(size);
    if (type == 'x' || type == 'L') {
      if (size > kLongestName) reader_.fail_at(at, "a name is longer than 65536 bytes");
      if (type == 'x') read_pax(contents, reader_, at, extended_);
      if (type == 'L') extended_.name = text_of(contents);
      return;
    }
    if (type == 'S') reader_.fail_at(at, "a sparse file, expected whole ones");
    if (type == 'g' || type == 'K') return;
    if (type == '0' || type == '\0' || type == '7') entries_.push_back({name_of(header), offset, size});
    extended_ = Extended();
  }

  std::string name_of(std::string_view header) const {
    if (!extended_.name.empty()) return extended_.name;
    const std::string name = text_of(field(header, kName));
    const bool ustar = starts_with(field(header, kMagic), std::string_view("ustar\0", 6));
    const std::string prefix = ustar ? text_of(field(header, kPrefix)) : "";
    return prefix.empty() ? name : prefix + "/" + name;
  }

  /// The last member's padding may be missing where an archive was put together by hand: the end tells.
  void skip_padding(uint64_t size) {
    const uint64_t padding = (kBlock - size % kBlock) % kBlock;
    reader_.seek(reader_.position() + std::min(padding, reader_.remaining()));
  }

  ByteReader reader_;
  Extended extended_;
  std::vector<TarEntry> entries_;
};

void put(std::string& header, const Field& place, std::string_view text) {
  std::copy(text.begin(), text.end(), header.begin() + static_cast<int64_t>(place.offset));
}

}  // namespace

std::vector<TarEntry> read_tar_index(const uint8_t* bytes, uint64_t size, const std::string& path) {
  return TarIndex(bytes, size, path).read();
}

std::string tar_member(const std::string& name, const std::string& data) {
  if (name.size() > kName.length) throw Error(name + ": a tar member's name has at most 100 bytes");
  std::string header(kBlock, '\0');
  put(header, kName, name);
  put(header, kMode, "0000644");
  put(header, kSize, format("%011llo", static_cast<unsigned long long>(data.size())));
  put(header, kType, "0");
  put(header, kMagic, std::string_view("ustar\0", 6));
  put(header, kVersion, "00");
  put(header, kChecksum, format("%06llo", static_cast<unsigned long long>(checksum_of(header))));
  header[kChecksum.offset + 7] = ' ';
  return header + data + std::string((kBlock - data.size() % kBlock) % kBlock, '\0');
}

std::string tar_end() {
  return std::string(2 * kBlock, '\0');
}

}  // namespace zoo
