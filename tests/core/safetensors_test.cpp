#include "core/formats/safetensors.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "core/error.h"
#include "tests/core/sample_files.h"

namespace zoo {
namespace {

using test::raw_list;
using test::read_bytes;
using test::read_error;
using test::safetensors_bytes;
using testing::ElementsAre;
using testing::HasSubstr;

const std::string kFloats = raw_list<float>({1, 2, 3, 4, 5, 6});

TEST(Safetensors, ReadsTensorsAndMetadata) {
  const std::string bytes = safetensors_bytes(
      R"( {"__metadata__":{"format":"pt","zoo.config":"{\"a\": 1}"},"w":{"dtype":"F32","shape":[2,3],"data_offsets":[0,24]},)"
      R"("n":{"dtype":"I64","shape":[],"data_offsets":[24,32]},"e":{"dtype":"BF16","shape":[0,4],"data_offsets":[32,32]}}   )",
      kFloats + test::raw(int64_t{-7}));
  const TensorFile file = read_bytes(bytes);
  EXPECT_EQ(file.format, "safetensors");
  EXPECT_EQ(file.metadata.size(), 2u);
  EXPECT_EQ(file.metadata.at("zoo.config"), "{\"a\": 1}");
  ASSERT_EQ(file.tensors.size(), 3u);
  EXPECT_EQ(file.tensors[0].name, "w");
  EXPECT_EQ(file.tensors[0].dtype, DType::f32);
  EXPECT_THAT(file.tensors[0].shape, ElementsAre(2, 3));
  EXPECT_THAT(file.tensors[0].strides, ElementsAre(3, 1));
  EXPECT_THAT(test::elements<float>(bytes, file.tensors[0]), ElementsAre(1, 2, 3, 4, 5, 6));
  EXPECT_THAT(test::elements<int64_t>(bytes, file.tensors[1]), ElementsAre(-7));
  EXPECT_THAT(file.tensors[2].shape, ElementsAre(0, 4));
}

TEST(Safetensors, AcceptsWhatTheReferenceAccepts) {
  EXPECT_EQ(read_bytes(safetensors_bytes("{}", "")).tensors.size(), 0u);
  EXPECT_EQ(read_bytes(safetensors_bytes("{}      ", "")).tensors.size(), 0u);
  EXPECT_EQ(
      read_bytes(safetensors_bytes(
                     R"({"a":{"more":[1,{"x":null}],"dtype":"U8","shape":[2],"data_offsets":[0,2]}})", "ab"))
          .tensors.size(),
      1u);
}

TEST(Safetensors, RefusesWhatTheReferenceRefuses) {
  const auto entry = [](const std::string& fields) {
    return safetensors_bytes("{\"a\":{" + fields + "}}", "abcd");
  };
  EXPECT_THAT(read_error(""), HasSubstr("FILE: is empty"));
  EXPECT_THAT(read_error("abc"), HasSubstr("FILE: is no weight file"));
  EXPECT_THAT(read_error(test::raw(uint64_t{50}) + "{}"),
              HasSubstr("byte 8: the header needs 50 bytes, 2 are left"));
  EXPECT_THAT(read_error(safetensors_bytes("{\"a\":", "")), HasSubstr("not JSON"));
  EXPECT_THAT(read_error(safetensors_bytes("{\"\xff\":{}}", "")), HasSubstr("not JSON in UTF-8"));
  EXPECT_THAT(read_error(safetensors_bytes("{} x", "")), HasSubstr("not JSON"));
  EXPECT_THAT(read_error(entry(R"("dtype":"F7","shape":[1],"data_offsets":[0,4])")),
              HasSubstr("a: dtype: F7"));
  EXPECT_THAT(read_error(entry(R"("dtype":"U8","shape":[4],"data_offsets":[4,0])")),
              HasSubstr("first byte and end"));
  EXPECT_THAT(read_error(entry(R"("dtype":"U8","shape":[4],"data_offsets":[0,4,8])")),
              HasSubstr("more than two"));
  EXPECT_THAT(read_error(entry(R"("dtype":"U8","shape":[3],"data_offsets":[0,3])")),
              HasSubstr("1 bytes after the last"));
  EXPECT_THAT(read_error(entry(R"("dtype":"U8","shape":[3],"data_offsets":[1,4])")), HasSubstr("a hole"));
  EXPECT_THAT(read_error(entry(R"("dtype":"U8","shape":[8],"data_offsets":[0,8])")),
              HasSubstr("end at byte 8 of 4"));
  EXPECT_THAT(read_error(entry(R"("dtype":"F32","shape":[4],"data_offsets":[0,4])")),
              HasSubstr("hold 4 bytes, expected 16 for F32 [4]"));
  EXPECT_THAT(read_error(entry(R"("dtype":"U8","shape":[4294967296,4294967296],"data_offsets":[0,4])")),
              HasSubstr("larger than any file"));
  EXPECT_THAT(read_error(entry(R"("dtype":"F64","shape":[2305843009213693952],"data_offsets":[0,0])")),
              HasSubstr("larger than any file"));
  EXPECT_THAT(read_error(entry(R"("dtype":"U8","shape":[18446744073709551615],"data_offsets":[0,4])")),
              HasSubstr("larger than 2^63"));
  EXPECT_THAT(read_error(entry(R"("dtype":"U8","shape":[-4],"data_offsets":[0,4])")), HasSubstr("negative"));
  EXPECT_THAT(read_error(entry(R"("dtype":"U8","shape":[4.0],"data_offsets":[0,4])")), HasSubstr("no count"));
  EXPECT_THAT(read_error(entry(R"("dtype":"U8","shape":[[4]],"data_offsets":[0,4])")),
              HasSubstr("a list is no count"));
  EXPECT_THAT(read_error(entry(R"("dtype":4,"shape":[4],"data_offsets":[0,4])")), HasSubstr("no dtype"));
  EXPECT_THAT(read_error(entry(R"("dtype":"U8","shape":[4])")),
              HasSubstr("expected dtype, shape and data_offsets"));
  EXPECT_THAT(read_error(safetensors_bytes(R"({"a":1})", "")), HasSubstr("a number is no tensor"));
  EXPECT_THAT(read_error(safetensors_bytes(R"({"__metadata__":{"k":1}})", "")), HasSubstr("only texts"));
  EXPECT_THAT(read_error(test::raw(uint64_t{100'000'001}) + "{}"), HasSubstr("no weight file"));
}

TEST(Safetensors, RefusesOverlapsAndNamesGivenTwice) {
  const std::string a = R"("a":{"dtype":"U8","shape":[3],"data_offsets":[0,3]})";
  const std::string b = R"("b":{"dtype":"U8","shape":[2],"data_offsets":[2,4]})";
  EXPECT_THAT(read_error(safetensors_bytes("{" + a + "," + b + "}", "abcd")),
              HasSubstr("b: its data overlap"));
  EXPECT_THAT(read_error(safetensors_bytes("{" + a + "," + a + "}", "abc")),
              HasSubstr("a: stands there twice"));
  EXPECT_THAT(read_error(safetensors_bytes(R"({"__metadata__":{"k":"1","k":"2"}})", "")), HasSubstr("twice"));
  EXPECT_THAT(read_error(safetensors_bytes(
                  R"({"a":{"dtype":"U8","shape":[1],"shape":[1],"data_offsets":[0,1]}})", "a")),
              HasSubstr("twice"));
}

TEST(Safetensors, DeepNestingEndsInAnErrorOrIsSkipped) {
  const std::string deep(200'000, '[');
  EXPECT_THAT(read_error(safetensors_bytes("{\"a\":" + deep, "")), HasSubstr("a list is no tensor"));
  const std::string unknown = R"({"a":{"dtype":"U8","shape":[1],"data_offsets":[0,1],"x":)";
  EXPECT_THAT(read_error(safetensors_bytes(unknown + deep, "a")), HasSubstr("not JSON"));
  const std::string closed = unknown + deep + std::string(200'000, ']') + "}}";
  EXPECT_EQ(read_bytes(safetensors_bytes(closed, "a")).tensors.size(), 1u);
}

TEST(Safetensors, WritesWidestFirstThenByName) {
  const std::string a = raw_list<uint8_t>({1, 2, 3}), b = raw_list<float>({1}), c = raw_list<int64_t>({9}),
                    d = b;
  const std::vector<TensorInfo> infos = {
      {"z", DType::u8, {3}}, {"y", DType::f32, {1}}, {"n\"é", DType::i64, {}}, {"b", DType::f32, {1, 1}}};
  const std::vector<const std::string*> data = {&a, &b, &c, &d};
  std::string bytes;
  write_safetensors(
      infos, {{"format", "pt"}}, [&](size_t i) { return data[i]->data(); },
      [&](const void* part, size_t size) { bytes.append(static_cast<const char*>(part), size); });
  const std::string header =
      R"({"__metadata__":{"format":"pt"},"n\"é":{"dtype":"I64","shape":[],"data_offsets":[0,8]},)"
      R"("b":{"dtype":"F32","shape":[1,1],"data_offsets":[8,12]},"y":{"dtype":"F32","shape":[1],"data_offsets":[12,16]},)"
      R"("z":{"dtype":"U8","shape":[3],"data_offsets":[16,19]}})";
  EXPECT_EQ(bytes.substr(8, header.size()), header);
  EXPECT_EQ((bytes.size() - 19) % 8, 0u);
  EXPECT_EQ(read_bytes(bytes).tensors.size(), 4u);
  EXPECT_EQ(bytes.substr(bytes.size() - 19), c + d + b + a);
}

TEST(Safetensors, RefusesToWriteWhatCannotBeRead) {
  const auto write = [](const std::string& name) {
    write_safetensors({{name, DType::u8, {0}}}, {}, nullptr, [](const void*, size_t) {});
  };
  EXPECT_NO_THROW(write("fine"));
  EXPECT_THROW(write("\xff"), Error);
  EXPECT_THROW(write("__metadata__"), Error);
}

}  // namespace
}  // namespace zoo
