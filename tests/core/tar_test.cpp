#include "core/formats/tar.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "core/error.h"
#include "core/text.h"

namespace zoo {
namespace {

using testing::HasSubstr;

std::vector<TarEntry> index_of(const std::string& bytes) {
  return read_tar_index(reinterpret_cast<const uint8_t*>(bytes.data()), bytes.size(), "FILE");
}
std::string tar_error(const std::string& bytes) {
  try {
    index_of(bytes);
  } catch (const Error& error) {
    return error.what();
  }
  return "";
}

/// A header changed at some place, its checksum made anew.
std::string changed(std::string bytes, size_t place, const std::string& text) {
  bytes.replace(place, text.size(), text);
  uint64_t sum = 0;
  for (size_t i = 0; i < 512; ++i) sum += i >= 148 && i < 156 ? ' ' : static_cast<uint8_t>(bytes[i]);
  return bytes.replace(148, 7, format("%06llo", static_cast<unsigned long long>(sum)) + std::string(1, '\0'));
}

TEST(Tar, MembersAreFoundByTheirHeaders) {
  const std::string bytes = tar_member("a.txt", "hello") + tar_member("b/c.bin", std::string(512, 'x')) +
                            tar_member("empty", "") + tar_end();
  const std::vector<TarEntry> entries = index_of(bytes);
  ASSERT_EQ(entries.size(), 3U);
  EXPECT_EQ(entries[0].name, "a.txt");
  EXPECT_EQ(bytes.substr(entries[0].offset, entries[0].size), "hello");
  EXPECT_EQ(entries[1].name, "b/c.bin");
  EXPECT_EQ(entries[1].offset, 1536U);
  EXPECT_EQ(entries[2].size, 0U);
}

TEST(Tar, LongNamesComeFromPaxAndGnu) {
  const std::string name(150, 'n'), pax = format("160 path=%s\n", name.c_str());
  ASSERT_EQ(pax.size(), 160U);
  for (const std::string& before :
       {changed(tar_member("x", pax), 156, "x"), changed(tar_member("x", name), 156, "L")}) {
    const std::vector<TarEntry> entries =
        index_of(before + tar_member("short", "1") + tar_member("next", "2") + tar_end());
    ASSERT_EQ(entries.size(), 2U);
    EXPECT_EQ(entries[0].name, name);
    EXPECT_EQ(entries[1].name, "next");
  }
  const std::string prefixed = changed(tar_member("file", "1"), 345, "folder");
  EXPECT_EQ(index_of(prefixed + tar_end())[0].name, "folder/file");
}

TEST(Tar, SizesMayBeBinaryOrFromPax) {
  const std::string binary = changed(tar_member("a", "12345"), 124, "\x80" + std::string(10, '\0') + "\x05");
  EXPECT_EQ(index_of(binary + tar_end())[0].size, 5U);
  const std::string lying = changed(tar_member("a", "12345"), 124, "00000000000");
  const std::string pax = changed(tar_member("x", "10 size=5\n"), 156, "x");
  EXPECT_EQ(index_of(pax + lying + tar_end())[0].size, 5U);
}

TEST(Tar, FoldersAndLinksArePassedOver) {
  const std::string folder = changed(tar_member("d/", ""), 156, "5"),
                    link = changed(tar_member("l", ""), 156, "2");
  EXPECT_EQ(index_of(folder + link + tar_member("f", "1") + tar_end()).size(), 1U);
}

TEST(Tar, DamageIsNamed) {
  const std::string whole = tar_member("a", std::string(600, 'x')) + tar_end();
  EXPECT_THAT(tar_error(""), HasSubstr("FILE: byte 0: the archive ends without an empty block"));
  EXPECT_THAT(tar_error(whole.substr(0, 300)), HasSubstr("FILE: byte 0: "));
  EXPECT_THAT(tar_error(whole.substr(0, 900)), HasSubstr("FILE: byte 512: "));
  EXPECT_THAT(tar_error(whole.substr(0, 1536)), HasSubstr("without an empty block"));
  std::string flipped = whole;
  flipped[3] = 'z';
  EXPECT_THAT(tar_error(flipped), HasSubstr("its checksum is wrong"));
  EXPECT_THAT(tar_error(changed(whole, 124, "zzz")), HasSubstr("a member's size is no number"));
  EXPECT_THAT(tar_error(changed(whole, 124, "77777777777")), HasSubstr("byte 512: "));
  EXPECT_THAT(tar_error(changed(whole, 124, "\x80" + std::string(10, '\xFF'))),
              HasSubstr("size is no number"));
  EXPECT_THAT(tar_error(changed(whole, 156, "S")), HasSubstr("a sparse file"));
  for (const char* pax : {"99 path=x\n", "path=x\n", "3 x", "9 nothing\n", "0 a=b\n", "10 size=x\n"})
    EXPECT_THAT(tar_error(changed(tar_member("x", pax), 156, "x") + whole), HasSubstr("a pax header")) << pax;
}

}  // namespace
}  // namespace zoo
