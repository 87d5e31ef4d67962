#include "core/formats/npy.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "core/error.h"
#include "tests/core/sample_files.h"

namespace zoo {
namespace {

using test::npy_bytes;
using test::raw_list;
using testing::ElementsAre;
using testing::HasSubstr;

TensorEntry read(const std::string& bytes) {
  const std::vector<uint8_t> copy(bytes.begin(), bytes.end());
  return read_npy(copy.data(), copy.size(), "FILE");
}

std::string error_of(const std::string& bytes) {
  try {
    read(bytes);
  } catch (const Error& error) {
    return error.what();
  }
  return "";
}

std::string header(const std::string& descr, const std::string& order, const std::string& shape) {
  return "{'descr': '" + descr + "', 'fortran_order': " + order + ", 'shape': " + shape + ", }   \n";
}

const std::string kSix = raw_list<float>({1, 2, 3, 4, 5, 6});

TEST(Npy, ReadsBothOrdersAndAllVersions) {
  for (const int version : {1, 2, 3}) {
    const std::string c = npy_bytes(header("<f4", "False", "(2, 3)"), kSix, version);
    EXPECT_THAT(test::elements<float>(c, read(c)), ElementsAre(1, 2, 3, 4, 5, 6));
    const std::string fortran = npy_bytes(header("<f4", "True", "(2, 3)"), kSix, version);
    EXPECT_THAT(read(fortran).strides, ElementsAre(1, 2));
    EXPECT_THAT(test::elements<float>(fortran, read(fortran)), ElementsAre(1, 3, 5, 2, 4, 6));
  }
  EXPECT_THAT(read(npy_bytes(header("|b1", "False", "(3,)"), "\1\1\1")).shape, ElementsAre(3));
  EXPECT_TRUE(read(npy_bytes(header("<i8", "False", "()"), std::string(8, '\0'))).shape.empty());
  EXPECT_THAT(read(npy_bytes(header(">u1", "False", "(0, 5L)"), "")).shape, ElementsAre(0, 5));
}

TEST(Npy, RefusesWhatItCannotGive) {
  const auto with = [](const std::string& text) { return error_of(npy_bytes(text, kSix)); };
  EXPECT_THAT(with(header(">f4", "False", "(6,)")), HasSubstr("type '>f4', expected little-endian"));
  EXPECT_THAT(with(header("|O", "False", "(6,)")), HasSubstr("type '|O'"));
  EXPECT_THAT(with(header("<c8", "False", "(3,)")), HasSubstr("type '<c8'"));
  EXPECT_THAT(with("{'descr': [('a', '<f4')], 'fortran_order': False, 'shape': (6,)}"),
              HasSubstr("structured"));
  EXPECT_THAT(with(header("<f4", "False", "(7,)")), HasSubstr("24 bytes of data, expected F32 [7]"));
  EXPECT_THAT(with(header("<f4", "False", "(5,)")), HasSubstr("expected F32 [5]"));
  EXPECT_THAT(with(header("<f4", "False", "(-6,)")), HasSubstr("no integer"));
  EXPECT_THAT(with(header("<f4", "False", "(9223372036854775808,)")), HasSubstr("no integer"));
  EXPECT_THAT(with(header("<f4", "False", "(4611686018427387904, 4)")), HasSubstr("24 bytes of data"));
  EXPECT_THAT(with(header("<f4", "Maybe", "(6,)")), HasSubstr("True or False"));
  EXPECT_THAT(with("{'descr': '<f4'}"), HasSubstr("expected descr, fortran_order and shape"));
  EXPECT_THAT(with("{'descr': '<f4"), HasSubstr("no end"));
  EXPECT_THAT(with("{'__class__': '<f4'}"), HasSubstr("unknown key '__class__'"));
  EXPECT_THAT(with(""), HasSubstr("expected '{'"));
  EXPECT_THAT(error_of("\x93NUMPY\x04" + std::string(20, '\0')), HasSubstr("npy version 4, expected 1 to 3"));
  EXPECT_THAT(error_of("\x93NUMPY\x01"), HasSubstr("truncated"));
  EXPECT_THAT(error_of("PK"), HasSubstr("is no NumPy array"));
}

}  // namespace
}  // namespace zoo
