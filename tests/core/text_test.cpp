#include "core/text.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <climits>

namespace zoo {
namespace {

using testing::ElementsAre;

TEST(Text, FormatSplitJoinTrim) {
  EXPECT_EQ(format("%s: %d of %.2f", "a", 7, 0.5), "a: 7 of 0.50");
  EXPECT_EQ(format("%s", std::string(5000, 'x').c_str()).size(), 5000u);
  EXPECT_THAT(split("a,,b,", ','), ElementsAre("a", "", "b", ""));
  EXPECT_THAT(split("", ','), ElementsAre(""));
  EXPECT_EQ(join({"a", "b", "c"}, ", "), "a, b, c");
  EXPECT_EQ(join({}, ", "), "");
  EXPECT_EQ(trim("\t a b \r\n"), "a b");
  EXPECT_EQ(trim(" \n"), "");
  EXPECT_EQ(lower("AbZ-É"), "abz-É");
}

TEST(Text, PrefixesAndWildcards) {
  EXPECT_TRUE(starts_with("model.w", "model."));
  EXPECT_FALSE(starts_with("mod", "model"));
  EXPECT_TRUE(ends_with("a.npy", ".npy"));
  EXPECT_FALSE(ends_with("y", "npy"));
  EXPECT_TRUE(matches_wildcard("layer1.0.num_batches_tracked", "*.num_batches_tracked"));
  EXPECT_TRUE(matches_wildcard("abcbc", "a*bc"));
  EXPECT_TRUE(matches_wildcard("abc", "a?c"));
  EXPECT_FALSE(matches_wildcard("abc", "a?"));
  EXPECT_TRUE(matches_wildcard("", "*"));
  EXPECT_FALSE(matches_wildcard("", "?"));
  EXPECT_FALSE(matches_wildcard(std::string(2000, 'a'), "*a*a*a*a*a*b"));  // ends soon
}

TEST(Text, NumbersAreReadWholeOrNotAtAll) {
  int64_t integer = -1;
  EXPECT_TRUE(parse_int("-9223372036854775808", integer));
  EXPECT_EQ(integer, INT64_MIN);
  for (const char* bad : {"", "-", "1.0", "12x", " 1", "9223372036854775808", "0x10"}) {
    EXPECT_FALSE(parse_int(bad, integer)) << bad;
  }
  EXPECT_EQ(integer, INT64_MIN);
  double number = 0;
  EXPECT_TRUE(parse_double("-1.5e-3", number));
  EXPECT_EQ(number, -0.0015);
  EXPECT_TRUE(parse_double(".5", number));
  for (const char* bad : {"", "nan", "inf", "-inf", "1e999", "0x1p3", "1,5", "1 "}) {
    EXPECT_FALSE(parse_double(bad, number)) << bad;
  }
}

TEST(Text, NearestNames) {
  EXPECT_EQ(edit_distance("kitten", "sitting"), 3);
  EXPECT_EQ(edit_distance("ab", "ba"), 1);
  EXPECT_EQ(edit_distance("", "abc"), 3);
  EXPECT_EQ(nearest("num_querys", {"num_classes", "num_queries"}), "num_queries");
  EXPECT_EQ(nearest("DETR-tniy", {"detr-tiny", "detr-resnet50"}), "detr-tiny");
  EXPECT_EQ(nearest("xyzzy", {"detr-tiny"}), "");
  EXPECT_EQ(nearest("num", {"data", "num_queries"}), "num_queries");
  EXPECT_EQ(did_you_mean("trian", {"train", "eval"}), ", did you mean 'train'?");
  EXPECT_EQ(did_you_mean("qqqqqqqq", {"train"}), "");
}

TEST(Text, FiguresForPeople) {
  EXPECT_EQ(human_bytes(1023), "1023 B");
  EXPECT_EQ(human_bytes(1536), "1.5 KiB");
  EXPECT_EQ(human_bytes(166'524'032), "158.8 MiB");
  EXPECT_EQ(with_thousands(41524768), "41,524,768");
  EXPECT_EQ(with_thousands(-1000), "-1,000");
  EXPECT_EQ(with_thousands(999), "999");
  EXPECT_EQ(human_seconds(95), "1:35");
  EXPECT_EQ(human_seconds(3700), "1:01:40");
  EXPECT_EQ(human_seconds(59.6), "1:00");
}

TEST(Text, TablesAlignNumbersToTheRight) {
  Table table({"name", "AP", "note"});
  table.add({"é", "0.5", "x"});
  table.add({"person", "n/a", ""});
  table.add({"cut"});
  EXPECT_EQ(table.str(),
            "name     AP  note\n"
            "é       0.5  x\n"
            "person  n/a\n"
            "cut\n");
}

TEST(Text, BytesOfLatin1) {
  EXPECT_EQ(latin1_bytes("a\xc2\x80\xc3\xbf"), "a\x80\xff");
  EXPECT_EQ(latin1_bytes(""), "");
  EXPECT_EQ(latin1_bytes("\xc4\x80"), std::nullopt);  // U+0100
  EXPECT_EQ(latin1_bytes("\xc3"), std::nullopt);
}

}  // namespace
}  // namespace zoo
