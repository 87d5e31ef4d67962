#include "core/formats/pair_bin.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <deque>

#include "core/error.h"
#include "tests/core/sample_files.h"

namespace zoo {
namespace {

using testing::HasSubstr;
using namespace test::pickled;  // NOLINT: the pieces a pickle is made of

/// What is read points into the bytes, which are kept for the program's life.
PairBin read(const std::string& text) {
  static std::deque<std::string> kept;
  const std::string& bytes = kept.emplace_back(text);
  return read_pair_bin(reinterpret_cast<const uint8_t*>(bytes.data()), bytes.size(), "FILE");
}

std::string read_error(const std::string& bytes) {
  try {
    read(bytes);
  } catch (const Error& error) {
    return error.what();
  }
  return "";
}

template <size_t N>
std::string bytes_of(const char (&text)[N]) {
  return std::string(text, N - 1);
}

// ([b'\xff\xd8A', b'B\n'], [True]) as Python's own picklers write it; those of numpy 2.4 hold the same as arrays of
// shape (3,) and (2, 1), issame as an array or as numpy.bool.
const std::vector<std::pair<const char*, std::string>> kSamples = {
    {"Python 2, protocol 0", "((lp0\nS'\\xff\\xd8A'\np1\naS'B\\n'\np2\na(lp3\nI01\natp4\n."},
    {"Python 2, protocol 1", bytes_of("(]q\0(U\003\377\330Aq\1U\2B\nq\2e]q\3I01\natq\4.")},
    {"Python 2, protocol 2", bytes_of("\200\2]q\0(U\3\377\330Aq\1U\2B\nq\2e]q\3\210a\206q\4.")},
    {"bytes, protocol 2",
     bytes_of(
         "\200\002]q\000(c_codecs\012encode\012q\001X\005\000\000\000\303\277\303\230Aq\002X\006\000\000\000"
         "latin1q\003\206q\004Rq\005h\001X\002\000\000\000B\012q\006h\003\206q\007Rq\010e]"
         "q\011\210a\206q\012.")},
    {"bytes, protocol 3",
     bytes_of("\200\003]q\000(C\003\377\330Aq\001C\002B\012q\002e]q\003\210a\206q\004.")},
    {"bytes, protocol 5", bytes_of("\200\005\225\026\000\000\000\000\000\000\000]\224("
                                   "C\003\377\330A\224C\002B\012\224e]\224\210a\206\224.")},
    {"arrays, protocol 2",
     bytes_of(
         "\200\002]q\000(cnumpy._core.multiarray\012_"
         "reconstruct\012q\001cnumpy\012ndarray\012q\002K\000\205q\003"
         "c_"
         "codecs\012encode\012q\004X\001\000\000\000bq\005X\006\000\000\000latin1q\006\206q\007Rq\010\207q"
         "\011Rq"
         "\012(K\001K\003\205q\013cnumpy\012dtype\012q\014X\002\000\000\000u1q\015\211\210\207q\016Rq\017("
         "K\003X"
         "\001\000\000\000|"
         "q\020NNNJ\377\377\377\377J\377\377\377\377K\000tq\021b\211h\004X\005\000\000\000\303\277"
         "\303\230Aq\022h\006\206q\023Rq\024tq\025bh\001h\002K\000\205q\026h\010\207q\027Rq\030("
         "K\001K\002K\001\206q"
         "\031h\017\211h\004X\002\000\000\000B\012q\032h\006\206q\033Rq\034tq\035beh\001h\002K\000\205q\036h"
         "\010\207"
         "q\037Rq "
         "(K\001K\001\205q!h\014X\002\000\000\000b1q\042\211\210\207q#Rq$(K\003h\020NNNJ\377\377\377\377J"
         "\377\377\377\377K\000tq%b\211h\004X\001\000\000\000\001q&h\006\206q'Rq(tq)b\206q*.")},
    {"arrays, protocol 4", bytes_of("\200\004\225\365\000\000\000\000\000\000\000]\224(\214\026numpy._core."
                                    "multiarray\224\214\014_reconstruct"
                                    "\224\223\224\214\005numpy\224\214\007ndarray\224\223\224K\000\205\224C"
                                    "\001b\224\207\224R\224(K\001K\003"
                                    "\205\224h\004\214\005dtype\224\223\224\214\002u1\224\211\210\207\224R"
                                    "\224(K\003\214\001|\224NNNJ\377\377"
                                    "\377\377J\377\377\377\377K\000t\224b\211C\003\377\330A\224t\224bh\003h"
                                    "\006K\000\205\224h\010\207\224R\224"
                                    "(K\001K\002K\001\206\224h\020\211C\002B\012\224t\224beh\003h\006K\000"
                                    "\205\224h\010\207\224R\224(K\001K\001"
                                    "\205\224h\015\214\002b1\224\211\210\207\224R\224("
                                    "K\003h\021NNNJ\377\377\377\377J\377\377\377\377K\000t\224"
                                    "b\211C\001\001\224t\224b\206\224.")},
    {"arrays, protocol 5",
     bytes_of(
         "\200\005\225\326\000\000\000\000\000\000\000]\224(\214\023numpy._core.numeric\224\214\013_"
         "frombuffer\224"
         "\223\224("
         "\226\003\000\000\000\000\000\000\000\377\330A\224\214\005numpy\224\214\005dtype\224\223\224\214"
         "\002u1\224\211\210\207\224R\224(K\003\214\001|"
         "\224NNNJ\377\377\377\377J\377\377\377\377K\000t\224bK\003"
         "\205\224\214\001C\224t\224R\224h\003("
         "\226\002\000\000\000\000\000\000\000B\012\224h\012K\002K\001\206\224h"
         "\016t\224R\224eh\003("
         "\226\001\000\000\000\000\000\000\000\001\224h\007\214\002b1\224\211\210\207\224R\224(K"
         "\003h\013NNNJ\377\377\377\377J\377\377\377\377K\000t\224bK\001\205\224h\016t\224R\224\206\224.")},
    {"numpy.bool, protocol 3",
     bytes_of("\200\003]q\000(C\003\377\330Aq\001C\002B\012q\002e]q\003cnumpy._core."
              "multiarray\012scalar\012q\004cnumpy"
              "\012dtype\012q\005X\002\000\000\000b1q\006\211\210\207q\007Rq\010(K\003X\001\000\000\000|"
              "q\011NNNJ\377\377"
              "\377\377J\377\377\377\377K\000tq\012bC\001\001q\013\206q\014Rq\015a\206q\016.")}};

TEST(PairBin, EveryWayToWriteIt) {
  for (const auto& [name, bytes] : kSamples) {
    SCOPED_TRACE(name);
    const PairBin bin = read(bytes);
    ASSERT_EQ(bin.images.size(), 2u);
    EXPECT_EQ(bin.images[0],
              "\xff\xd8"
              "A");
    EXPECT_EQ(bin.images[1], "B\n");
    EXPECT_EQ(bin.same, std::vector<bool>{true});
  }
}

TEST(PairBin, OldNumpyAndIntegers) {
  const std::string dtype = reduce(global("numpy", "dtype"), {unicode("u1"), integer(0), integer(1)});
  const std::string array = reduce(global("numpy.core.multiarray", "_reconstruct"),
                                   {global("numpy", "ndarray"), integers({0}), unicode("b")}) +
                            tuple({integer(1), integers({2}), dtype, "\x89", "U\x02xy"}) + "b";
  const PairBin bin =
      read(whole(tuple({"](" + array + array + "U\x01zU\x01we", std::string("](K\0K\1e", 7)})));
  EXPECT_EQ(bin.images[0], "xy");
  EXPECT_EQ(bin.images[2], "z");
  EXPECT_EQ(bin.same, (std::vector<bool>{false, true}));
}

std::string bin_of(const std::string& images, const std::string& same) {
  return whole(tuple({"](" + images + "e", "](" + same + "e"}));
}

TEST(PairBin, RefusesWhatItIsNot) {
  EXPECT_THAT(read_error(whole("K\x01")), HasSubstr("FILE: the pickle is a int, expected a list or tuple"));
  EXPECT_THAT(read_error(whole(tuple({"]"}))), HasSubstr("holds 1 values, expected (pictures, issame)"));
  EXPECT_THAT(read_error(bin_of("U\x01xK\x07", "K\x01")), HasSubstr("picture 1 is a int, expected bytes"));
  EXPECT_THAT(read_error(bin_of("U\x01x", "K\x01")),
              HasSubstr("1 pictures for 1 pairs, expected two for each"));
  EXPECT_THAT(read_error(bin_of("U\x01xU\x01y", "K\x02")),
              HasSubstr("issame[0] is a int, expected True or False"));
  EXPECT_THAT(read_error(bin_of(reduce(global("os", "system"), {unicode("id")}), "K\x01")),
              HasSubstr("picture 0 is a os.system, expected bytes"));
  EXPECT_THAT(read_error(bin_of(
                  reduce(global("_codecs", "encode"), {unicode("\xE2\x82\xAC"), unicode("latin1")}), "")),
              HasSubstr("a letter that is no byte"));
  const std::string floats = reduce(global("numpy", "dtype"), {unicode("f4"), integer(0), integer(1)});
  const std::string call = reduce(global("numpy.core.multiarray", "_reconstruct"), {integer(0)});
  EXPECT_THAT(read_error(bin_of(call, "")), HasSubstr("a numpy array without its bytes"));
  EXPECT_THAT(
      read_error(bin_of(call + tuple({integer(1), integers({1}), floats, "\x89", "U\x01x"}) + "b", "")),
      HasSubstr("a numpy array of 'f4', expected 'u1'"));
  // An array whose bytes are the array itself.
  EXPECT_THAT(
      read_error(bin_of(call + "q\x07(K\x01K\x01" +
                            reduce(global("numpy", "dtype"), {unicode("u1"), integer(0), integer(1)}) +
                            "\x89h\x07tb",
                        "")),
      HasSubstr("expected bytes"));
}

}  // namespace
}  // namespace zoo
