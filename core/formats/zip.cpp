#include "core/formats/zip.h"

#include <algorithm>
#include <array>
#include <cstring>

#include "core/error.h"
#include "core/formats/byte_reader.h"

namespace zoo {

namespace {

constexpr uint32_t kLocalHeader = 0x04034b50, kCentralHeader = 0x02014b50, kEndRecord = 0x06054b50;
constexpr uint32_t kEndRecord64 = 0x06064b50, kEndLocator64 = 0x07064b50;
constexpr uint64_t kEndSize = 22, kLocatorSize = 20, kCentralSize = 46;
constexpr uint16_t kZip64Extra = 1, kPaddingExtra = 0x4246;  // the latter is "FB", as torch pads
constexpr uint64_t kAlignment = 64;
constexpr uint32_t kNarrow32 = 0xFFFFFFFF;  // "the number stands in the zip64 record"
constexpr uint16_t kUtf8Names = 1 << 11, kEncrypted = 1;

struct Directory {
  uint64_t offset = 0, size = 0, count = 0;
};

/// The end record lies at the very end, before a comment of at most 65535 bytes.
uint64_t find_end_record(const ByteReader& file, const uint8_t* bytes) {
  const uint64_t size = file.size();
  if (size < kEndSize) file.fail_at(size, "no room for a zip directory: the file is truncated");
  const uint64_t lowest = size - std::min<uint64_t>(size, kEndSize + 0xFFFF);
  for (uint64_t at = size - kEndSize + 1; at-- > lowest;) {
    uint16_t comment = 0;
    std::memcpy(&comment, bytes + at + 20, sizeof comment);
    if (std::memcmp(bytes + at, &kEndRecord, 4) == 0 && at + kEndSize + comment == size) return at;
  }
  file.fail_at(size, "no zip directory at the end: the file is truncated or damaged");
}

Directory read_end64(ByteReader& file, uint64_t end_record) {
  if (end_record < kLocatorSize) file.fail_at(end_record, "the zip64 locator is missing");
  file.seek(end_record - kLocatorSize);
  if (file.number<uint32_t>("locator") != kEndLocator64) file.fail("the zip64 locator is missing");
  file.take(4, "locator");
  file.seek(file.number<uint64_t>("locator"));
  if (file.number<uint32_t>("zip64 end record") != kEndRecord64) file.fail("expected the zip64 end record");
  file.take(28, "zip64 end record");  // its size, versions, disks, entries of this disk
  Directory directory;
  directory.count = file.number<uint64_t>("zip64 end record");
  directory.size = file.number<uint64_t>("zip64 end record");
  directory.offset = file.number<uint64_t>("zip64 end record");
  return directory;
}

Directory read_end(ByteReader& file, const uint8_t* bytes) {
  const uint64_t at = find_end_record(file, bytes);
  file.seek(at + 4);
  const auto disk = file.number<uint32_t>("end record");
  if (disk != 0 && disk != kNarrow32) {
    file.fail("the archive is spread over several disks, expected one file");
  }
  file.take(2, "end record");
  Directory directory;
  directory.count = file.number<uint16_t>("end record");
  directory.size = file.number<uint32_t>("end record");
  directory.offset = file.number<uint32_t>("end record");
  const bool wide = directory.count == 0xFFFF || directory.size == kNarrow32 || directory.offset == kNarrow32;
  if (wide) directory = read_end64(file, at);
  if (directory.offset > at || directory.size > at - directory.offset) {
    file.fail_at(at, "the zip directory lies outside the file: the file is truncated or damaged");
  }
  if (directory.count > directory.size / kCentralSize) {
    file.fail_at(at, "the zip directory names too many entries");
  }
  return directory;
}

/// Fills in the numbers that the 32-bit fields leave to the zip64 extra field, in their fixed order.
void read_extra64(ByteReader& file, std::string_view extra, const std::vector<uint64_t*>& wide) {
  if (wide.empty()) return;
  ByteReader fields(reinterpret_cast<const uint8_t*>(extra.data()), extra.size(),
                    file.where() + ": zip64 field");
  while (fields.remaining() >= 4) {
    const auto id = fields.number<uint16_t>("extra field");
    const auto size = fields.number<uint16_t>("extra field");
    if (id == kZip64Extra) {
      for (uint64_t* number : wide) *number = fields.number<uint64_t>("extra field");
      return;
    }
    fields.take(size, "extra field");
  }
  file.fail("the zip64 field of an entry is missing");
}

/// One row of the directory; `header` is where the entry's local header lies.
ZipEntry read_central(ByteReader& file, uint64_t& header) {
  const char* what = "zip directory";
  if (file.number<uint32_t>(what) != kCentralHeader) file.fail("expected a row of the zip directory");
  file.take(4, what);
  const auto flags = file.number<uint16_t>(what);
  const auto method = file.number<uint16_t>(what);
  file.take(4, what);
  ZipEntry entry;
  entry.crc = file.number<uint32_t>(what);
  uint64_t packed = file.number<uint32_t>(what);
  entry.size = file.number<uint32_t>(what);
  const auto name_length = file.number<uint16_t>(what);
  const auto extra_length = file.number<uint16_t>(what);
  const auto comment_length = file.number<uint16_t>(what);
  file.take(8, what);
  header = file.number<uint32_t>(what);
  entry.name = std::string(file.take(name_length, what));
  const std::string_view extra = file.take(extra_length, what);
  file.take(comment_length, what);
  std::vector<uint64_t*> wide;
  for (uint64_t* number : {&entry.size, &packed, &header}) {
    if (*number == kNarrow32) wide.push_back(number);
  }
  read_extra64(file, extra, wide);
  entry.stored = method == 0 && (flags & kEncrypted) == 0 && packed == entry.size;
  entry.size = packed;
  return entry;
}

/// Where the contents begin: behind the local header, whose name must be the directory's.
uint64_t contents_offset(ByteReader& file, const ZipEntry& entry, uint64_t header) {
  const char* what = "zip entry";
  file.seek(header);
  if (file.number<uint32_t>(what) != kLocalHeader) file.fail_at(header, "expected a zip entry");
  file.take(22, what);
  const auto name_length = file.number<uint16_t>(what);
  const auto extra_length = file.number<uint16_t>(what);
  if (file.take(name_length, what) != entry.name) {
    file.fail_at(header, "entry " + shown_name(entry.name) + " has another name here than in the directory");
  }
  file.take(extra_length, what);
  return file.position();
}

struct Span {
  uint64_t begin, end;  // local header and contents
};

void check_overlaps(const ByteReader& file, std::vector<Span>& spans) {
  std::sort(spans.begin(), spans.end(), [](const Span& a, const Span& b) { return a.begin < b.begin; });
  for (size_t i = 1; i < spans.size(); ++i) {
    if (spans[i].begin < spans[i - 1].end) file.fail_at(spans[i].begin, "two zip entries overlap");
  }
}

using CrcTables = std::array<std::array<uint32_t, 256>, 8>;

/// Tables for eight bytes a step ("slicing-by-8").
const CrcTables& crc_tables() {
  static const CrcTables tables = [] {
    CrcTables t{};
    for (uint32_t i = 0; i < 256; ++i) {
      uint32_t value = i;
      for (int bit = 0; bit < 8; ++bit) value = (value >> 1) ^ ((value & 1) != 0 ? 0xEDB88320u : 0u);
      t[0][i] = value;
    }
    for (size_t slice = 1; slice < 8; ++slice) {
      for (size_t i = 0; i < 256; ++i) t[slice][i] = (t[slice - 1][i] >> 8) ^ t[0][t[slice - 1][i] & 0xFF];
    }
    return t;
  }();
  return tables;
}

/// Appends numbers in little-endian order.
class Record {
 public:
  template <typename T>
  Record& add(T value) {
    bytes_.append(reinterpret_cast<const char*>(&value), sizeof value);
    return *this;
  }
  Record& add(const std::string& text) {
    bytes_ += text;
    return *this;
  }
  const std::string& str() const { return bytes_; }

 private:
  std::string bytes_;
};

/// The middle of both headers of an entry, from the version needed to the lengths of name and extra field.
void add_common(Record& record, const ZipEntry& entry, bool wide, size_t extra_length) {
  const uint32_t size = wide ? kNarrow32 : static_cast<uint32_t>(entry.size);
  constexpr uint32_t kNoTime = 0x00210000;  // 1980-01-01: equal tensors give equal files
  record.add(uint16_t{45}).add(kUtf8Names).add(uint16_t{0}).add(kNoTime).add(entry.crc).add(size).add(size);
  record.add(static_cast<uint16_t>(entry.name.size())).add(static_cast<uint16_t>(extra_length));
}

}  // namespace

uint32_t crc32(const void* data, size_t size, uint32_t crc) {
  const CrcTables& t = crc_tables();
  const auto* bytes = static_cast<const uint8_t*>(data);
  crc = ~crc;
  for (; size >= 8; size -= 8, bytes += 8) {
    uint32_t low = 0, high = 0;
    std::memcpy(&low, bytes, 4);
    std::memcpy(&high, bytes + 4, 4);
    low ^= crc;
    crc = t[7][low & 0xFF] ^ t[6][(low >> 8) & 0xFF] ^ t[5][(low >> 16) & 0xFF] ^ t[4][low >> 24] ^
          t[3][high & 0xFF] ^ t[2][(high >> 8) & 0xFF] ^ t[1][(high >> 16) & 0xFF] ^ t[0][high >> 24];
  }
  for (; size > 0; --size) crc = (crc >> 8) ^ t[0][(crc ^ *bytes++) & 0xFF];
  return ~crc;
}

ZipArchive::ZipArchive(const uint8_t* bytes, uint64_t size, std::string path)
    : bytes_(bytes), path_(std::move(path)) {
  ByteReader file(bytes, size, path_);
  const Directory directory = read_end(file, bytes);
  std::vector<uint64_t> headers;
  file.seek(directory.offset);
  for (uint64_t i = 0; i < directory.count; ++i) {
    uint64_t header = 0;
    entries_.push_back(read_central(file, header));
    headers.push_back(header);
  }
  std::vector<Span> spans;
  for (size_t i = 0; i < entries_.size(); ++i) {
    ZipEntry& entry = entries_[i];
    if (!index_.emplace(entry.name, i).second) {
      file.fail_at(headers[i], "two zip entries are named " + shown_name(entry.name));
    }
    entry.offset = contents_offset(file, entry, headers[i]);
    if (entry.offset > directory.offset || entry.size > directory.offset - entry.offset) {
      file.fail_at(headers[i], "entry " + shown_name(entry.name) + " lies outside the file");
    }
    spans.push_back({headers[i], entry.offset + entry.size});
  }
  check_overlaps(file, spans);
}

const ZipEntry* ZipArchive::find(const std::string& name) const {
  const auto found = index_.find(name);
  return found == index_.end() ? nullptr : &entries_[found->second];
}

std::string_view ZipArchive::contents(const ZipEntry& entry) const {
  if (!entry.stored) {
    throw Error(path_ + ": entry " + shown_name(entry.name) +
                " is compressed or encrypted, expected stored entries as torch.save writes them");
  }
  return {reinterpret_cast<const char*>(bytes_) + entry.offset, entry.size};
}

std::string_view ZipArchive::checked_contents(const ZipEntry& entry) const {
  const std::string_view bytes = contents(entry);
  if (crc32(bytes.data(), bytes.size()) != entry.crc) {
    throw Error(path_ + ": entry " + shown_name(entry.name) + ": wrong checksum: the file is damaged");
  }
  return bytes;
}

void ZipWriter::put(const void* data, size_t size) {
  if (size > 0) sink_(data, size);
  position_ += size;
}

void ZipWriter::add(const std::string& name, const void* data, uint64_t size) {
  Written written{{name, 0, size, crc32(data, size), true}, position_};
  const bool wide = size > limit32_;
  Record extra;
  if (wide) extra.add(kZip64Extra).add(uint16_t{16}).add(size).add(size);
  const uint64_t bare = position_ + 30 + name.size() + extra.str().size() + 4;
  const uint64_t padding = (kAlignment - bare % kAlignment) % kAlignment;
  extra.add(kPaddingExtra).add(static_cast<uint16_t>(padding)).add(std::string(padding, 'Z'));
  Record header;
  header.add(kLocalHeader);
  add_common(header, written.entry, wide, extra.str().size());
  put(header.add(name).add(extra.str()).str());
  written.entry.offset = position_;
  put(data, size);
  written_.push_back(std::move(written));
}

void ZipWriter::finish() {
  const uint64_t directory = position_;
  for (const Written& written : written_) {
    const bool wide = written.entry.size > limit32_, far = written.header > limit32_;
    Record extra;
    if (wide || far) {
      extra.add(kZip64Extra).add(static_cast<uint16_t>((wide ? 16 : 0) + (far ? 8 : 0)));
      if (wide) extra.add(written.entry.size).add(written.entry.size);
      if (far) extra.add(written.header);
    }
    Record row;
    row.add(kCentralHeader).add(uint16_t{45});
    add_common(row, written.entry, wide, extra.str().size());
    row.add(uint16_t{0}).add(uint16_t{0}).add(uint16_t{0}).add(uint32_t{0});  // comment, disk, attributes
    row.add(far ? kNarrow32 : static_cast<uint32_t>(written.header));
    put(row.add(written.entry.name).add(extra.str()).str());
  }
  put_end(directory, position_ - directory);
}

void ZipWriter::put_end(uint64_t directory, uint64_t size) {
  const uint64_t count = written_.size();
  const bool wide = directory > limit32_ || size > limit32_ || count >= 0xFFFF;
  Record end;
  if (wide) {
    const uint64_t record = position_;
    end.add(kEndRecord64)
        .add(uint64_t{44})
        .add(uint16_t{45})
        .add(uint16_t{45})
        .add(uint32_t{0})
        .add(uint32_t{0});
    end.add(count).add(count).add(size).add(directory);
    end.add(kEndLocator64).add(uint32_t{0}).add(record).add(uint32_t{1});
  }
  const auto short_count = static_cast<uint16_t>(std::min<uint64_t>(count, 0xFFFF));
  end.add(kEndRecord).add(uint32_t{0}).add(short_count).add(short_count);
  end.add(wide ? kNarrow32 : static_cast<uint32_t>(size))
      .add(wide ? kNarrow32 : static_cast<uint32_t>(directory));
  put(end.add(uint16_t{0}).str());
}

}  // namespace zoo
