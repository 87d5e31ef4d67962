#include "core/formats/pickle.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <deque>

#include "core/error.h"
#include "tests/core/sample_files.h"

namespace zoo {
namespace {

using Kind = PickleValue::Kind;
using test::raw;
using testing::HasSubstr;
using namespace test::pickled;  // NOLINT: the pieces a pickle is made of

/// Texts of the pickle point into its bytes, which are kept for the program's life.
Pickle run(const std::string& text) {
  static std::deque<std::string> kept;
  const std::string& bytes = kept.emplace_back(text);
  ByteReader reader(reinterpret_cast<const uint8_t*>(bytes.data()), bytes.size(), "FILE");
  return read_pickle(reader);
}

std::string run_error(const std::string& bytes) {
  try {
    run(bytes);
  } catch (const Error& error) {
    return error.what();
  }
  return "";
}

int64_t integer_of(const std::string& opcodes) {
  const Pickle pickle = run(opcodes + ".");
  EXPECT_EQ(pickle[pickle.root()].kind, Kind::integer);
  return pickle[pickle.root()].integer;
}

TEST(Pickle, Numbers) {
  EXPECT_EQ(integer_of("K\xff"), 255);
  EXPECT_EQ(integer_of("M\x01\x02"), 0x201);
  EXPECT_EQ(integer_of("J" + raw(int32_t{-5})), -5);
  EXPECT_EQ(integer_of(std::string("\x8a\x00", 2)), 0);
  EXPECT_EQ(integer_of("\x8a\x01\xff"), -1);
  EXPECT_EQ(integer_of(std::string("\x8a\x02\xff\x00", 4)), 255);
  EXPECT_EQ(integer_of("\x8b" + raw(uint32_t{8}) + raw(INT64_MIN)), INT64_MIN);
  const Pickle real = run("G" + std::string("\x3f\xf8\x00\x00\x00\x00\x00\x00", 8) + ".");
  EXPECT_EQ(real[real.root()].real, 1.5);
  const Pickle big = run("\x8a\x09" + std::string(9, '\x01') + ".");
  EXPECT_EQ(big[big.root()].kind, Kind::big_integer);
}

TEST(Pickle, TextsOfAllProtocols) {
  for (const std::string& opcodes :
       {unicode("abc"), "\x8c\x03" + std::string("abc"), "\x8d" + raw(uint64_t{3}) + "abc",
        "U\x03" + std::string("abc"), "T" + raw(int32_t{3}) + "abc"}) {
    const Pickle pickle = run(opcodes + ".");
    EXPECT_EQ(pickle[pickle.root()].kind, Kind::text);
    EXPECT_EQ(pickle[pickle.root()].text, "abc");
  }
}

TEST(Pickle, LinesOfProtocol0) {
  EXPECT_EQ(integer_of("I-17\n"), -17);
  EXPECT_EQ(integer_of("L123L\n"), 123);
  const Pickle bools = run("(lp0\nI01\naI00\nag0\na.");  // [True, False, …the list itself…]
  const PickleValue& list = bools[bools.root()];
  ASSERT_EQ(list.items.size(), 3u);
  EXPECT_EQ(bools[list.items[0]].kind, Kind::boolean);
  EXPECT_EQ(bools[list.items[0]].integer, 1);
  EXPECT_EQ(bools[list.items[1]].integer, 0);
  EXPECT_EQ(list.items[2], bools.root());
  const Pickle text = run("S'a\\x00\\xfF\\n\\\\\\'\"'\n.");
  EXPECT_EQ(text[text.root()].text, std::string("a\0\xff\n\\'\"", 7));
}

TEST(Pickle, StateOfAnObjectIsKept) {
  const Pickle pickle = run(reduce(global("m", "C"), {}) + "K\x05" + "b.");
  const PickleValue& value = pickle[pickle.root()];
  EXPECT_EQ(pickle[value.state].integer, 5);
  const Pickle none = run(reduce(global("m", "C"), {}) + ".");
  EXPECT_EQ(none[none[none.root()].state].kind, Kind::none);
}

TEST(Pickle, ContainersAndMemo) {
  // [1, (2, 3), {"k": [1, …the list itself…]}]
  const Pickle pickle = run("]q\x05(K\x01K\x02K\x03\x86}" + unicode("k") + "](K\x01h\x05" + "es" + "e.");
  const PickleValue& list = pickle[pickle.root()];
  ASSERT_EQ(list.items.size(), 3u);
  EXPECT_EQ(pickle[list.items[1]].items.size(), 2u);
  const PickleValue& dict = pickle[list.items[2]];
  ASSERT_EQ(dict.kind, Kind::dict);
  EXPECT_EQ(pickle[dict.items[1]].items[1], pickle.root());
}

TEST(Pickle, ClassesStayNames) {
  const Pickle called = run(reduce(global("os", "system"), {unicode("touch /tmp/never")}) + ".");
  const PickleValue& value = called[called.root()];
  EXPECT_EQ(value.kind, Kind::object);
  EXPECT_EQ(called.class_name(value), "os.system");
  const Pickle stacked = run(unicode("builtins") + unicode("eval") + "\x93)\x81}b.");
  EXPECT_EQ(stacked.class_name(stacked[stacked.root()]), "builtins.eval");
}

TEST(Pickle, StopsBehindItsEnd) {
  const std::string two = "K\x01.K\x02.";
  ByteReader reader(reinterpret_cast<const uint8_t*>(two.data()), two.size(), "FILE");
  const Pickle first = read_pickle(reader), second = read_pickle(reader);
  EXPECT_EQ(first[first.root()].integer, 1);
  EXPECT_EQ(second[second.root()].integer, 2);
  EXPECT_EQ(reader.remaining(), 0u);
}

TEST(Pickle, RefusesDamage) {
  EXPECT_THAT(run_error(""), HasSubstr("byte 0: the next opcode needs 1 bytes"));
  EXPECT_THAT(run_error("K\x01"), HasSubstr("truncated"));
  EXPECT_THAT(run_error("ios\nsystem\n."), HasSubstr("byte 0: opcode 0x69 is not known"));
  EXPECT_THAT(run_error("Pfoo\n."), HasSubstr("opcode 0x50"));
  EXPECT_THAT(run_error("\x80\x06N."), HasSubstr("pickle protocol 6, expected 0 to 5"));
  EXPECT_THAT(run_error("."), HasSubstr("operand is missing"));
  EXPECT_THAT(run_error("t."), HasSubstr("mark is missing"));
  EXPECT_THAT(run_error("(."), HasSubstr("mark is left"));
  EXPECT_THAT(run_error("K\x01(\x85."), HasSubstr("operand is missing"));
  EXPECT_THAT(run_error("]K\x01K\x02s."), HasSubstr("takes no items"));
  EXPECT_THAT(run_error("}(K\x01u."), HasSubstr("no value"));
  EXPECT_THAT(run_error("K\x01K\x01\x93."), HasSubstr("named by no text"));
  EXPECT_THAT(run_error("h\x07."), HasSubstr("memo 7 was never set"));
  EXPECT_THAT(run_error("g7\n."), HasSubstr("memo 7 was never set"));
  EXPECT_THAT(run_error("g-7\n."), HasSubstr("'-7' is no number"));
  EXPECT_THAT(run_error("I1.5\n."), HasSubstr("'1.5' is no number"));
  EXPECT_THAT(run_error("I9999999999999999999\n."), HasSubstr("is no number of 64 bits"));
  EXPECT_THAT(run_error("Sabc\n."), HasSubstr("stands in no quotes"));
  EXPECT_THAT(run_error("S'\n."), HasSubstr("stands in no quotes"));
  EXPECT_THAT(run_error("S'a\\x4'\n."), HasSubstr("unknown escape"));
  EXPECT_THAT(run_error("S'a\\'\n."), HasSubstr("unknown escape"));
  EXPECT_THAT(run_error("cos\nsystem"), HasSubstr("class's name has no end"));
  EXPECT_THAT(run_error("\x95" + raw(uint64_t{100}) + "N."), HasSubstr("frame"));
}

TEST(Pickle, HugeLengthsAreComparedWithTheFile) {
  EXPECT_THAT(run_error("X" + raw(uint32_t{0xFFFFFFFF}) + "abc"),
              HasSubstr("a text needs 4294967295 bytes, 3 are left"));
  EXPECT_THAT(run_error("\x8d" + raw(~uint64_t{0}) + "abc"), HasSubstr("needs 18446744073709551615 bytes"));
  EXPECT_THAT(run_error("\x8b" + raw(uint32_t{0x80000000}) + "abc"),
              HasSubstr("an integer needs 2147483648 bytes"));
  EXPECT_THAT(run_error("\x96" + raw(~uint64_t{0} - 8) + "abc"), HasSubstr("truncated"));
}

TEST(Pickle, NestingAndMemoBombsAreCheap) {
  EXPECT_THAT(run_error(std::string(20'000, '(')), HasSubstr("nested deeper than 10,000"));
  const Pickle deep = run("N" + std::string(1'000'000, '\x85') + ".");  // a tuple in a tuple, a million times
  EXPECT_EQ(deep[deep.root()].items.size(), 1u);
  std::string bomb =
      std::string("]q\x01K\x01") + "a";  // each list holds the one before ten times: 10^60 elements
  for (int i = 0; i < 60; ++i) {
    bomb += "](";
    for (int k = 0; k < 10; ++k) bomb += "h\x01";
    bomb += "eq\x01";
  }
  const Pickle bombed = run(bomb + ".");
  EXPECT_LT(bombed.size(), 100u);
  const std::string flood((size_t{1} << 23) + 1, ']');
  EXPECT_THAT(run_error(flood), HasSubstr("more than 2^23 values"));
}

}  // namespace
}  // namespace zoo
