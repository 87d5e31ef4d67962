#include "core/formats/zip.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "core/error.h"
#include "tests/core/sample_files.h"

namespace zoo {
namespace {

using test::raw;
using testing::HasSubstr;

std::string archive(const test::Storages& entries, uint64_t limit32 = 0xFFFFFFFE) {
  std::string bytes;
  ZipWriter zip([&](const void* data, size_t size) { bytes.append(static_cast<const char*>(data), size); },
                limit32);
  for (const auto& [name, contents] : entries) zip.add(name, contents.data(), contents.size());
  zip.finish();
  return bytes;
}

ZipArchive open(const std::string& bytes) {
  return ZipArchive(reinterpret_cast<const uint8_t*>(bytes.data()), bytes.size(), "FILE");
}

std::string open_error(const std::string& bytes) {
  try {
    const ZipArchive zip = open(bytes);
    for (const ZipEntry& entry : zip.entries()) zip.contents(entry);
  } catch (const Error& error) {
    return error.what();
  }
  return "";
}

/// Where the only directory row of an archive begins, and a copy with `value` put at `offset` of it.
size_t directory_row(const std::string& bytes, size_t from = 0) {
  return bytes.find("PK\x01\x02", from);
}
template <typename T>
std::string patched(std::string bytes, size_t position, T value) {
  return bytes.replace(position, sizeof(T), raw(value));
}

TEST(Zip, Crc32OfTheStandardsCheckText) {
  EXPECT_EQ(crc32("123456789", 9), 0xCBF43926u);
  EXPECT_EQ(crc32("", 0), 0u);
  const std::string text(1001, 'x');
  EXPECT_EQ(crc32(text.data() + 13, 988, crc32(text.data(), 13)), crc32(text.data(), 1001));
}

TEST(Zip, RoundTripsAndAligns) {
  const std::string bytes =
      archive({{"a/data.pkl", "hello"}, {"a/data/0", std::string(100, 'q')}, {"a/e", ""}});
  const ZipArchive zip = open(bytes);
  ASSERT_EQ(zip.entries().size(), 3u);
  EXPECT_EQ(zip.find("a/none"), nullptr);
  const ZipEntry* entry = zip.find("a/data.pkl");
  ASSERT_NE(entry, nullptr);
  EXPECT_EQ(zip.checked_contents(*entry), "hello");
  for (const ZipEntry& each : zip.entries()) EXPECT_EQ(each.offset % 64, 0u) << each.name;
}

TEST(Zip, ReadsAndWritesZip64) {
  const std::string small = archive({{"a", "hello"}, {"b", "world!"}});
  const std::string wide = archive({{"a", "hello"}, {"b", "world!"}}, 3);  // all numbers over 3 in 64 bits
  EXPECT_GT(wide.size(), small.size());
  const ZipArchive zip = open(wide);
  EXPECT_EQ(zip.checked_contents(*zip.find("a")), "hello");
  EXPECT_EQ(zip.checked_contents(*zip.find("b")), "world!");
  EXPECT_THAT(open_error(patched(wide, wide.find("PK\x06\x07") + 8, uint64_t{1} << 40)),
              HasSubstr("behind the end"));
  EXPECT_THAT(open_error(patched(wide, wide.find("PK\x06\x06") + 48, ~uint64_t{0} - 4)),
              HasSubstr("outside the file"));
  EXPECT_THAT(open_error(patched(wide, wide.find("PK\x06\x07"), uint32_t{0})), HasSubstr("locator"));
  EXPECT_THAT(open_error(patched(wide, directory_row(wide) + 46 + 1, uint16_t{9})), HasSubstr("zip64 field"));
}

TEST(Zip, FindsTheDirectoryBeforeAComment) {
  std::string bytes = archive({{"a", "hello"}});
  bytes = patched(bytes, bytes.size() - 2, uint16_t{7}) + "comment";
  EXPECT_EQ(open(bytes).entries().size(), 1u);
}

TEST(Zip, RefusesDamage) {
  const std::string bytes = archive({{"a", "hello"}});
  const size_t row = directory_row(bytes), end = bytes.size() - 22;
  EXPECT_THAT(open_error(bytes.substr(0, 10)), HasSubstr("truncated"));
  EXPECT_THAT(open_error(bytes.substr(0, bytes.size() - 1)), HasSubstr("no zip directory"));
  EXPECT_THAT(open_error(patched(bytes, row + 10, uint16_t{8})), HasSubstr("a is compressed"));
  EXPECT_THAT(open_error(patched(bytes, row + 8, uint16_t{1})), HasSubstr("a is compressed or encrypted"));
  EXPECT_THAT(open_error(patched(bytes, row + 20, uint32_t{4})), HasSubstr("compressed"));
  EXPECT_THAT(open_error(patched(bytes, row + 20, 1u << 20)), HasSubstr("outside the file"));
  EXPECT_THAT(open_error(patched(bytes, row + 42, uint32_t{5})), HasSubstr("byte 5: expected a zip entry"));
  EXPECT_THAT(open_error(patched(bytes, row + 42, 1u << 30)), HasSubstr("behind the end"));
  EXPECT_THAT(open_error(patched(bytes, row, uint32_t{0})), HasSubstr("row of the zip directory"));
  EXPECT_THAT(open_error(patched(bytes, row + 46, 'b')), HasSubstr("another name"));
  EXPECT_THAT(open_error(patched(bytes, end + 4, uint16_t{1})), HasSubstr("several disks"));
  EXPECT_THAT(open_error(patched(bytes, end + 10, uint16_t{500})), HasSubstr("too many entries"));
  EXPECT_THAT(open_error(patched(bytes, end + 16, 1u << 30)), HasSubstr("outside the file"));
}

TEST(Zip, RefusesOverlapsAndNamesGivenTwice) {
  EXPECT_THAT(open_error(archive({{"a", "1"}, {"a", "2"}})), HasSubstr("two zip entries are named a"));
  // A second row whose contents lie in those of the first: a "zip bomb" of overlapping entries.
  const std::string inner = archive({{"b", "hello"}});
  const std::string nested = inner.substr(0, directory_row(inner));
  std::string outer = archive({{"a", nested}, {"b", "hello"}});
  const size_t second = directory_row(outer, directory_row(outer) + 4);
  const auto place = static_cast<uint32_t>(open(outer).entries()[0].offset);
  EXPECT_THAT(open_error(patched(outer, second + 42, place)), HasSubstr("two zip entries overlap"));
}

TEST(Zip, ComparesTheChecksum) {
  std::string bytes = archive({{"a", "hello"}});
  bytes[open(bytes).entries()[0].offset] = 'j';
  const ZipArchive zip = open(bytes);
  EXPECT_THROW(zip.checked_contents(zip.entries()[0]), Error);
}

}  // namespace
}  // namespace zoo
