#include "core/formats/record_io.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "core/error.h"
#include "core/random.h"
#include "tests/core/sample_files.h"
#include "tests/support.h"

namespace zoo {
namespace {

using test::raw;
using testing::HasSubstr;

const std::string kMagic = raw(uint32_t{0xCED7230A});

std::string part(uint32_t kind, const std::string& bytes) {
  return kMagic + raw(kind << 29 | static_cast<uint32_t>(bytes.size())) + bytes +
         std::string((4 - bytes.size() % 4) % 4, '\0');
}

RecordFile file_of(const std::string& bytes) {
  return {reinterpret_cast<const uint8_t*>(bytes.data()), bytes.size(), "FILE"};
}

std::string read_error(const std::string& bytes, uint64_t offset = 0) {
  return test::error_of([&] {
    std::string joined;
    file_of(bytes).read({17, offset}, joined);
  });
}

std::vector<std::string> payloads() {
  RandomStream random(5);
  std::string noise(1001, '\0');
  for (char& c : noise) c = static_cast<char>(random.integer(0, 255));
  return {"",
          "a",
          "abcd",
          noise,
          kMagic,                           // nothing else: two empty parts
          kMagic + "rest",                  // at offset 0
          "head" + kMagic + "tail!",        // inside
          "head" + kMagic,                  // at the end
          kMagic + kMagic + kMagic + "xy",  // in a row
          "odd" + kMagic + "not split"};    // between words, where no reader would look
}

TEST(RecordIo, RoundTripsWhateverTheBytes) {
  const std::string stem = test::scratch_dir("records") + "/all";
  RecordWriter writer(stem);
  for (size_t i = 0; i < payloads().size(); ++i) writer.add(static_cast<int64_t>(2 * i), payloads()[i]);
  writer.commit();
  const MappedFile bytes(stem + ".rec"), index(stem + ".idx");
  const RecordFile file(bytes.data(), bytes.size(), "FILE");
  const std::vector<RecordPlace> places = read_record_index(index.text(), "INDEX"), scanned = file.scan();
  ASSERT_EQ(places.size(), payloads().size());
  ASSERT_EQ(scanned.size(), places.size());
  std::string joined;
  for (size_t i = places.size(); i-- > 0;) {  // at random access, not in a row
    EXPECT_EQ(places[i].key, static_cast<int64_t>(2 * i));
    EXPECT_EQ(scanned[i].offset, places[i].offset);
    EXPECT_EQ(file.read(places[i], joined), payloads()[i]) << i;
  }
}

TEST(RecordIo, WritesThePublishedBytes) {
  const std::string stem = test::scratch_dir("records") + "/bytes";
  RecordWriter writer(stem);
  writer.add(0, "head" + kMagic + "tail!");
  writer.add(1, kMagic);
  writer.add(2, "xyz");
  writer.commit();
  EXPECT_EQ(read_file(stem + ".rec"),
            part(1, "head") + part(3, "tail!") + part(1, "") + part(3, "") + part(0, "xyz"));
  EXPECT_EQ(read_file(stem + ".idx"), "0\t0\n1\t28\n2\t44\n");
}

TEST(RecordIo, DamageNamesTheRecord) {
  const std::string good = part(0, "abcdef");
  EXPECT_THAT(read_error(good, 1), HasSubstr("FILE: key 17 (byte 1): no record begins here"));
  EXPECT_THAT(read_error(good, 1000), HasSubstr("behind the end of the file"));
  EXPECT_THAT(read_error(good.substr(0, 7)), HasSubstr("behind the end of the file"));
  EXPECT_THAT(read_error(good.substr(0, 12)), HasSubstr("needs 6 bytes, 4 are left"));
  EXPECT_THAT(read_error(part(1, "abcd")), HasSubstr("its last part is missing"));
  EXPECT_THAT(read_error(part(1, "abcd") + part(0, "abcd")), HasSubstr("parts are out of order"));
  EXPECT_THAT(read_error(part(3, "abcd")), HasSubstr("is a later part of a record"));
  EXPECT_THAT(read_error(kMagic + raw(uint32_t{0x1FFFFFFF})), HasSubstr("needs 536870911 bytes"));
  EXPECT_EQ(read_error(good.substr(0, 14)), "") << "padding may be missing at the end of the file";
}

TEST(RecordIo, IndexLinesAreNamed) {
  const auto error = [](const std::string& text) {
    return test::error_of([&] { read_record_index(text, "INDEX"); });
  };
  EXPECT_EQ(read_record_index("3\t40\r\n\n1\t0", "INDEX").size(), 2u);
  EXPECT_THAT(error("0\t0\n1 8\n"), HasSubstr("INDEX: line 2: '1 8' is no entry, expected key<TAB>offset"));
  EXPECT_THAT(error("0\t-8\n"), HasSubstr("line 1"));
  EXPECT_THAT(error("0\t\n"), HasSubstr("line 1"));
  EXPECT_THAT(error("0\t99999999999999999999\n"), HasSubstr("line 1"));
  EXPECT_THAT(error("4\t0\n1\t8\n4\t16\n"), HasSubstr("key 4 comes twice"));
}

TEST(RecordIo, ImageRecords) {
  const std::string single = image_record({7}, 99, "JPEG"), several = image_record({1, 2.5f}, 3, "");
  EXPECT_EQ(single, raw(uint32_t{0}) + raw(7.f) + raw(uint64_t{99}) + raw(uint64_t{0}) + "JPEG");
  EXPECT_EQ(several,
            raw(uint32_t{2}) + raw(0.f) + raw(uint64_t{3}) + raw(uint64_t{0}) + raw(1.f) + raw(2.5f));
  const RecordFile file = file_of("");
  const ImageRecord one = parse_image_record(file, {}, single), two = parse_image_record(file, {}, several);
  EXPECT_EQ(one.label(), 7);
  EXPECT_EQ(one.id, 99u);
  EXPECT_EQ(one.image, "JPEG");
  EXPECT_EQ(two.flag, 2u);
  EXPECT_EQ(two.label(1), 2.5f);
  EXPECT_EQ(two.image, "");
  EXPECT_THAT(test::error_of([&] {
                parse_image_record(file, {5, 8}, single.substr(0, 23));
              }),
              HasSubstr("key 5 (byte 8): holds 23 bytes, expected a header of 24"));
  EXPECT_THAT(test::error_of([&] {
                parse_image_record(file, {5, 8}, raw(uint32_t{0xFFFFFFFF}) + single.substr(4));
              }),
              HasSubstr("tells of 4294967295 labels, but 4 bytes follow"));
}

}  // namespace
}  // namespace zoo
