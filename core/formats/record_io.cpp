#include "core/formats/record_io.h"

#include <algorithm>
#include <cstring>

#include "core/error.h"
#include "core/formats/byte_reader.h"
#include "core/text.h"

namespace zoo {
namespace {

constexpr uint32_t kMagic = 0xCED7230A;
constexpr std::string_view kMagicBytes("\x0A\x23\xD7\xCE", 4);
constexpr uint32_t kLengthBits = 29, kLengthMask = (uint32_t{1} << kLengthBits) - 1;
enum PartKind : uint32_t { kWhole = 0, kFirst = 1, kMiddle = 2, kLast = 3 };

uint32_t word_at(const uint8_t* data) {
  uint32_t word;
  std::memcpy(&word, data, sizeof word);
  return word;
}

bool parse_unsigned(std::string_view text, uint64_t& value) {
  if (text.empty() || text.size() > 18) return false;
  value = 0;
  for (const char c : text) {
    if (c < '0' || c > '9') return false;
    value = value * 10 + static_cast<uint64_t>(c - '0');
  }
  return true;
}

}  // namespace

void RecordFile::fail(const RecordPlace& place, const std::string& what) const {
  throw Error(format("%s: key %lld (byte %llu): ", name_.c_str(), static_cast<long long>(place.key),
                     static_cast<unsigned long long>(place.offset)) +
              what);
}

std::string_view RecordFile::read(const RecordPlace& place, std::string& joined, uint64_t* end) const {
  uint64_t at = place.offset;
  joined.clear();
  for (bool first = true;; first = false) {
    if (at > size_ || size_ - at < 8) {
      fail(place, first ? "lies behind the end of the file, expected a record"
                        : "its last part is missing: the file is truncated or damaged");
    }
    if (word_at(data_ + at) != kMagic) {
      fail(place, "no record begins here: the file is damaged, or the index is of another one");
    }
    const uint32_t word = word_at(data_ + at + 4), kind = word >> kLengthBits;
    const uint64_t length = word & kLengthMask;
    if (length > size_ - at - 8) {
      fail(place,
           format("needs %llu bytes, %llu are left: the file is truncated",
                  static_cast<unsigned long long>(length), static_cast<unsigned long long>(size_ - at - 8)));
    }
    if (first ? kind != kWhole && kind != kFirst : kind != kMiddle && kind != kLast) {
      fail(place, first ? "is a later part of a record, expected the first"
                        : "its parts are out of order: the file is damaged");
    }
    const std::string_view bytes(reinterpret_cast<const char*>(data_) + at + 8, length);
    at = std::min(size_, at + 8 + (length + 3) / 4 * 4);
    if (end != nullptr) *end = at;
    if (kind == kWhole) return bytes;
    if (!first) joined += kMagicBytes;
    joined += bytes;
    if (kind == kLast) return joined;
  }
}

std::vector<RecordPlace> RecordFile::scan() const {
  std::vector<RecordPlace> places;
  std::string joined;
  for (uint64_t at = 0; at < size_;) {
    places.push_back({static_cast<int64_t>(places.size()), at});
    read(places.back(), joined, &at);
  }
  return places;
}

std::vector<RecordPlace> read_record_index(std::string_view text, const std::string& name) {
  std::vector<RecordPlace> places;
  for (size_t line = 1; !text.empty(); ++line) {
    const size_t end = std::min(text.find('\n'), text.size());
    std::string_view content = text.substr(0, end);
    text.remove_prefix(std::min(end + 1, text.size()));
    if (!content.empty() && content.back() == '\r') content.remove_suffix(1);
    if (content.empty()) continue;
    const size_t tab = std::min(content.find('\t'), content.size());
    uint64_t key = 0, offset = 0;
    if (!parse_unsigned(content.substr(0, tab), key) ||
        !parse_unsigned(content.substr(std::min(tab + 1, content.size())), offset)) {
      throw Error(format("%s: line %zu: '%s' is no entry, expected key<TAB>offset", name.c_str(), line,
                         shown_name(content).c_str()));
    }
    places.push_back({static_cast<int64_t>(key), offset});
  }
  std::vector<int64_t> keys;
  for (const RecordPlace& place : places) keys.push_back(place.key);
  if (!std::is_sorted(keys.begin(), keys.end())) std::sort(keys.begin(), keys.end());
  const auto twice = std::adjacent_find(keys.begin(), keys.end());
  if (twice != keys.end()) {
    throw Error(
        format("%s: key %lld comes twice, expected each once", name.c_str(), static_cast<long long>(*twice)));
  }
  return places;
}

float ImageRecord::label(size_t i) const {
  float value;
  std::memcpy(&value, labels_.data() + 4 * i, sizeof value);
  return value;
}

ImageRecord parse_image_record(const RecordFile& file, const RecordPlace& place, std::string_view bytes) {
  constexpr size_t kHeader = ImageRecord::kHeader;
  if (bytes.size() < kHeader) {
    file.fail(place,
              format("holds %zu bytes, expected a header of %zu and a picture", bytes.size(), kHeader));
  }
  ImageRecord record;
  std::memcpy(&record.flag, bytes.data(), 4);
  std::memcpy(&record.id, bytes.data() + 8, 8);
  const uint64_t labels = uint64_t{record.flag} * 4;
  if (labels > bytes.size() - kHeader) {
    file.fail(place, format("its flag tells of %u labels, but %zu bytes follow the header", record.flag,
                            bytes.size() - kHeader));
  }
  record.labels_ = record.flag == 0 ? bytes.substr(4, 4) : bytes.substr(kHeader, labels);
  record.image = bytes.substr(kHeader + labels);
  return record;
}

std::string image_record(const std::vector<float>& labels, uint64_t id, std::string_view image) {
  const bool single = labels.size() == 1;
  const uint32_t flag = single ? 0 : static_cast<uint32_t>(labels.size());
  const float label = single ? labels[0] : 0;
  const uint64_t id2 = 0;
  std::string bytes;
  const auto append = [&](const void* data, size_t size) {
    bytes.append(static_cast<const char*>(data), size);
  };
  append(&flag, 4);
  append(&label, 4);
  append(&id, 8);
  append(&id2, 8);
  if (!single) append(labels.data(), 4 * labels.size());
  return bytes.append(image);
}

void RecordWriter::write_part(uint32_t kind, std::string_view bytes) {
  const uint32_t words[2] = {kMagic, kind << kLengthBits | static_cast<uint32_t>(bytes.size())};
  records_.write(words, sizeof words);
  records_.write(bytes);
  const size_t padding = (4 - bytes.size() % 4) % 4;
  records_.write(std::string_view("\0\0\0", padding));
  offset_ += sizeof words + bytes.size() + padding;
}

void RecordWriter::add(int64_t key, std::string_view bytes) {
  if (bytes.size() > kLengthMask) {
    throw Error(format("a record of %zu bytes is too large, expected less than 2^29", bytes.size()));
  }
  index_.write(format("%lld\t%llu\n", static_cast<long long>(key), static_cast<unsigned long long>(offset_)));
  size_t begin = 0;
  for (size_t at = 0; at + 4 <= bytes.size(); at += 4) {  // only where a reader would look for a record
    if (std::memcmp(bytes.data() + at, kMagicBytes.data(), 4) != 0) continue;
    write_part(begin == 0 ? kFirst : kMiddle, bytes.substr(begin, at - begin));
    begin = at + 4;
  }
  write_part(begin == 0 ? kWhole : kLast, bytes.substr(begin));
}

void RecordWriter::commit() {
  records_.commit();
  index_.commit();
}

}  // namespace zoo
