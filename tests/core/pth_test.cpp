#include "core/formats/pth.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "core/error.h"
#include "core/formats/zip.h"
#include "tests/core/sample_files.h"

namespace zoo {
namespace {

using test::pth_legacy;
using test::pth_zip;
using test::raw_list;
using test::read_bytes;
using test::read_error;
using testing::ElementsAre;
using testing::HasSubstr;
using testing::StartsWith;
using namespace test::pickled;  // NOLINT: the pieces a pickle is made of

const test::Storages kSix = {{"0", raw_list<float>({1, 2, 3, 4, 5, 6})}};
const std::string kFloats = storage("FloatStorage", "0", 6);

/// A state dict {"w": tensor} in both containers.
std::string state(const std::string& value) {
  return whole(ordered_dict({{"w", value}}));
}
std::string zip_error(const std::string& value) {
  return read_error(pth_zip(state(value), kSix));
}

TEST(Pth, ViewsStridesAndSharedStorages) {
  const std::string pickle = whole(ordered_dict({{"whole", tensor(kFloats, 0, {2, 3}, {3, 1})},
                                                 {"turned", tensor(kFloats, 0, {3, 2}, {1, 3})},
                                                 {"part", tensor(kFloats, 4, {2}, {1})},
                                                 {"one", tensor(kFloats, 5, {}, {})},
                                                 {"none", tensor(kFloats, 6, {0, 7}, {7, 1})},
                                                 {"wide", tensor(kFloats, 1, {3, 2}, {0, 1})}}));
  for (const std::string& bytes : {pth_zip(pickle, kSix), pth_legacy(pickle, kSix)}) {
    const TensorFile file = read_bytes(bytes);
    ASSERT_EQ(file.tensors.size(), 6u);
    EXPECT_TRUE(file.skipped.empty());
    EXPECT_THAT(test::elements<float>(bytes, file.tensors[0]), ElementsAre(1, 2, 3, 4, 5, 6));
    EXPECT_THAT(test::elements<float>(bytes, file.tensors[1]), ElementsAre(1, 4, 2, 5, 3, 6));
    EXPECT_THAT(test::elements<float>(bytes, file.tensors[2]), ElementsAre(5, 6));
    EXPECT_THAT(test::elements<float>(bytes, file.tensors[3]), ElementsAre(6));
    EXPECT_THAT(file.tensors[4].shape, ElementsAre(0, 7));
    EXPECT_THAT(test::elements<float>(bytes, file.tensors[5]), ElementsAre(2, 3, 2, 3, 2, 3));
  }
}

TEST(Pth, NestedCheckpointsGiveTheirWeights) {
  const std::string weights = ordered_dict({{"w", tensor(kFloats, 0, {6}, {1})}});
  const std::string optimizer = dict({{"state", dict({{"0", tensor(kFloats, 0, {2}, {1})}})}});
  const std::string arguments =
      reduce(global("argparse", "Namespace"), {}) + dict({{"lr", integer(1)}}) + "b";
  const std::string pickle = whole(dict({{"optimizer", optimizer},
                                         {"loss", tensor(kFloats, 0, {}, {})},
                                         {"model", weights},
                                         {"ema", weights},
                                         {"args", arguments}}));
  const TensorFile file = read_bytes(pth_zip(pickle, kSix));
  ASSERT_EQ(file.tensors.size(), 1u);
  EXPECT_EQ(file.tensors[0].name, "w");
  EXPECT_THAT(file.skipped, ElementsAre("optimizer (dict)", "loss (torch._utils._rebuild_tensor_v2)",
                                        "ema (collections.OrderedDict)", "args (argparse.Namespace)"));
  const TensorFile ema =
      read_bytes(pth_zip(whole(dict({{"epoch", integer(3)}, {"ema", dict({{"module", weights}})}})), kSix));
  EXPECT_EQ(ema.tensors.size(), 1u);
  const TensorFile only =
      read_bytes(pth_zip(whole(dict({{"epoch", integer(3)}, {"backbone", weights}})), kSix));
  EXPECT_EQ(only.tensors.size(), 1u);
  EXPECT_THAT(only.skipped, ElementsAre("epoch (int)"));
}

TEST(Pth, PlainDictsParametersSubclassesAndPython2) {
  const std::string plain = tensor(kFloats, 0, {6}, {1});
  const std::string parameter =
      reduce(global("torch._utils", "_rebuild_parameter"), {plain, "\x88", ordered_dict({})});
  const std::string subclass =
      reduce(global("torch._tensor", "_rebuild_from_type_v2"),
             {global("torch._utils", "_rebuild_tensor_v2"), global("torch", "Tensor"),
              tuple({kFloats, integer(1), integers({2}), integers({1}), "\x89", "N"}), "}"});
  const std::string wide = reduce(global("torch._utils", "_rebuild_tensor_v3"),
                                  {storage("UntypedStorage", "0", 24), integer(1), integers({2}),
                                   integers({1}), "\x89", "N", global("torch", "uint64")});
  const std::string size = reduce(global("torch", "Size"), {integers({2, 3})});
  const std::string sized =
      reduce(global("torch._utils", "_rebuild_tensor"), {kFloats, integer(0), size, integers({3, 1})});
  const TensorFile file = read_bytes(pth_zip(whole(dict({{"a", plain},
                                                         {"b", parameter},
                                                         {"c", subclass},
                                                         {"d", wide},
                                                         {"e", sized},
                                                         {"extra_state", "N"}})),
                                             kSix));
  ASSERT_EQ(file.tensors.size(), 5u);
  EXPECT_EQ(file.tensors[2].offset, file.tensors[1].offset + 4);
  EXPECT_EQ(file.tensors[3].dtype, DType::u64);
  EXPECT_EQ(file.tensors[3].offset, file.tensors[0].offset + 8);
  EXPECT_THAT(file.tensors[4].shape, ElementsAre(2, 3));
  EXPECT_THAT(file.skipped, ElementsAre("extra_state (None)"));
  const std::string pairs =
      "](" + std::string("](U\x01w") + plain + "e" + "e";  // OrderedDict([["w", tensor]])
  EXPECT_EQ(read_bytes(pth_legacy(whole(reduce(global("collections", "OrderedDict"), {pairs})), kSix))
                .tensors.size(),
            1u);
}

TEST(Pth, OldLegacyViews) {
  const std::string view = tuple({unicode("7"), integer(2), integer(3)});
  const std::string bytes =
      pth_legacy(state(tensor(storage("FloatStorage", "0", 6, view), 1, {2}, {1})), kSix);
  EXPECT_THAT(test::elements<float>(bytes, read_bytes(bytes).tensors.at(0)), ElementsAre(4, 5));
  EXPECT_THAT(read_error(pth_legacy(state(tensor(storage("FloatStorage", "0", 6, view), 1, {3}, {1})), kSix)),
              HasSubstr("pass the end of its storage of 3 elements"));
  const std::string outside = tuple({unicode("7"), integer(4), integer(3)});
  EXPECT_THAT(
      read_error(pth_legacy(state(tensor(storage("FloatStorage", "0", 6, outside), 0, {1}, {1})), kSix)),
      HasSubstr("damaged view"));
}

TEST(Pth, RefusesTensorsOutsideTheirStorage) {
  EXPECT_EQ(zip_error(tensor(kFloats, 0, {6}, {1})), "");
  EXPECT_THAT(
      zip_error(tensor(kFloats, 0, {7}, {1})),
      HasSubstr("FILE: w: shape [7], strides [1] and offset 0 pass the end of its storage of 6 elements"));
  EXPECT_THAT(zip_error(tensor(kFloats, 1, {6}, {1})), HasSubstr("pass the end"));
  EXPECT_THAT(zip_error(tensor(kFloats, -1, {2}, {1})), HasSubstr("pass the end"));
  EXPECT_THAT(zip_error(tensor(kFloats, 0, {2, 2}, {5, 1})), HasSubstr("pass the end"));
  EXPECT_THAT(zip_error(tensor(kFloats, INT64_MAX, {2}, {1})), HasSubstr("pass the end"));
  EXPECT_THAT(zip_error(tensor(kFloats, 0, {INT64_MAX, INT64_MAX}, {1, 1})), HasSubstr("pass the end"));
  EXPECT_THAT(zip_error(tensor(kFloats, 0, {3}, {INT64_MAX})), HasSubstr("pass the end"));
  EXPECT_THAT(zip_error(tensor(kFloats, 5, {2}, {-1})), HasSubstr("negative"));
  EXPECT_THAT(zip_error(tensor(kFloats, 0, {-2}, {1})), HasSubstr("negative"));
  EXPECT_THAT(zip_error(tensor(kFloats, 0, {2}, {1, 1})), HasSubstr("pass the end"));
  EXPECT_THAT(zip_error(tensor(kFloats, 0, std::vector<int64_t>(65, 1), std::vector<int64_t>(65, 1))),
              HasSubstr("64 dimensions"));
  EXPECT_THAT(zip_error(tensor(kFloats, 0, {1 << 20, 1 << 20}, {0, 0})),
              HasSubstr("larger than the whole file"));
  EXPECT_THAT(zip_error(tensor(storage("FloatStorage", "0", 7), 0, {1}, {1})),
              HasSubstr("expected 7 elements of 4"));
  EXPECT_THAT(zip_error(tensor(storage("FloatStorage", "0", INT64_MAX), 0, {1}, {1})), HasSubstr("FILE: "));
  EXPECT_THAT(zip_error(tensor(storage("FloatStorage", "0", -1), 0, {1}, {1})), HasSubstr("damaged"));
  EXPECT_THAT(zip_error(tensor(storage("FloatStorage", "../0", 6), 0, {1}, {1})),
              HasSubstr("data/../0 is missing"));
}

TEST(Pth, RefusesOtherKindsOfTensors) {
  EXPECT_THAT(zip_error(tensor(storage("ComplexFloatStorage", "0", 3), 0, {1}, {1})),
              HasSubstr("class torch.ComplexFloatStorage, expected real"));
  EXPECT_THAT(zip_error(reduce(global("torch._utils", "_rebuild_sparse_tensor"), {integer(0)})),
              HasSubstr("w: is what torch._utils._rebuild_sparse_tensor makes, expected a dense tensor"));
  EXPECT_THAT(zip_error(reduce(global("torch._utils", "_rebuild_tensor_v2"), {integer(0)})),
              HasSubstr("w: is damaged"));
  EXPECT_THAT(zip_error(reduce(global("torch._utils", "_rebuild_parameter"), {integer(0)})),
              HasSubstr("dense tensor"));
}

TEST(Pth, RefusesWhatIsNoStateDict) {
  const auto error = [](const std::string& value) { return read_error(pth_zip(whole(value), kSix)); };
  EXPECT_EQ(error(reduce(global("os", "system"), {unicode("touch /tmp/never")})),
            "FILE: holds a os.system, expected a state dict of tensors");
  EXPECT_THAT(error(reduce(global("torchvision.models.resnet", "ResNet"), {}) + "}b"),
              HasSubstr("holds a torchvision.models.resnet.ResNet, expected"));
  EXPECT_THAT(error(dict({{"model", reduce(global("m", "Net"), {})}, {"epoch", integer(1)}})),
              HasSubstr("holds a dict of model (m.Net), epoch (int), expected a state dict"));
  EXPECT_THAT(error(tensor(kFloats, 0, {6}, {1})), HasSubstr("_rebuild_tensor_v2, expected a state dict"));
  EXPECT_THAT(error("}"), HasSubstr("holds a dict, expected"));
  EXPECT_THAT(error("}q\x01" + unicode("model") + "h\x01s"),
              HasSubstr("expected a state dict"));  // holds itself
  EXPECT_THAT(error(dict({{"a", tensor(kFloats, 0, {6}, {1})}, {"a", tensor(kFloats, 0, {6}, {1})}})),
              HasSubstr("two tensors named a"));
}

TEST(Pth, CodeInAFileBesideTheWeightsIsNotRun) {
  const std::string code = reduce(global("os", "system"), {unicode("touch zoo-was-here")});
  const std::string pickle =
      whole(dict({{"model", ordered_dict({{"w", tensor(kFloats, 0, {6}, {1})}})}, {"args", code}}));
  EXPECT_THAT(read_bytes(pth_zip(pickle, kSix)).skipped, ElementsAre("args (os.system)"));
}

TEST(Pth, RefusesTorchScriptAndOtherArchives) {
  const std::string pickle = state(tensor(kFloats, 0, {6}, {1}));
  EXPECT_THAT(read_error(pth_zip(pickle, kSix, {{"constants.pkl", "x"}})),
              StartsWith("FILE: is a TorchScript archive"));
  EXPECT_THAT(read_error(pth_zip(pickle, kSix, {{"code/__torch__.py", "x"}})),
              StartsWith("FILE: is a TorchScript"));
  EXPECT_THAT(read_error(pth_zip(pickle, kSix, {{"byteorder", "big"}})), HasSubstr("is big-endian"));
  EXPECT_EQ(read_error(pth_zip(pickle, kSix, {{"byteorder", "little"}, {"version", "3\n"}})), "");
  std::string bytes;
  ZipWriter zip([&](const void* data, size_t size) { bytes.append(static_cast<const char*>(data), size); });
  zip.add("a.npy", "x", 1);
  zip.finish();
  EXPECT_THAT(read_error(bytes), HasSubstr("is a NumPy archive"));
}

TEST(Pth, RefusesForeignFilesByTheirContent) {
  EXPECT_THAT(read_error("version https://git-lfs.github.com/spec/v1\n"), HasSubstr("Git LFS pointer"));
  EXPECT_THAT(read_error("\x80\x04N."), HasSubstr("pickle that torch.save did not write"));
  EXPECT_THAT(read_error("\x1f\x8b\x08"), HasSubstr("gzip"));
  EXPECT_THAT(read_error("<!DOCTYPE html>"),
              HasSubstr("is no weight file, expected safetensors or what torch.save"));
  EXPECT_THAT(read_error(std::string(257, '\0') + "ustar  " + std::string(300, '\0')), HasSubstr("tar file"));
  EXPECT_THAT(read_error(test::npy_bytes("{}", "")), HasSubstr("NumPy array"));
}

TEST(Pth, LegacyRefusesDamage) {
  const std::string pickle = state(tensor(kFloats, 0, {6}, {1}));
  const std::string good = pth_legacy(pickle, kSix);
  EXPECT_EQ(read_error(good), "");
  EXPECT_THAT(read_error(good.substr(0, good.size() - 1)),
              HasSubstr("a storage needs 24 bytes, 23 are left"));
  EXPECT_THAT(read_error(pth_legacy(pickle, {{"0", std::string(20, 'x')}})),
              HasSubstr("has 5 elements, expected 6"));
  EXPECT_THAT(read_error(pth_legacy(pickle, {})), HasSubstr("storage 0 is missing"));
  EXPECT_THAT(read_error(pth_legacy(pickle, {kSix[0], kSix[0]})), HasSubstr("storage 0 stands there twice"));
  EXPECT_THAT(read_error(pth_legacy(pickle, {{"1", kSix[0].second}})), HasSubstr("storage 1 is not used"));
  std::string big_endian = good;
  big_endian[big_endian.find("little_endian") + 13] = '\x89';
  EXPECT_THAT(read_error(big_endian), HasSubstr("big-endian machine"));
}

TEST(Pth, WritesWhatItReads) {
  const std::string f = raw_list<float>({1, 2}), b = "\1", u = raw_list<uint16_t>({7, 8, 9});
  const std::vector<TensorInfo> infos = {{"layer.0.é", DType::f32, {2, 1}},
                                         {"flag", DType::boolean, {}},
                                         {"u", DType::u16, {3}},
                                         {"none", DType::i64, {0}}};
  const std::vector<const std::string*> data = {&f, &b, &u, nullptr};
  std::string bytes;
  write_pth(
      infos, [&](size_t i) { return data[i]->data(); },
      [&](const void* part, size_t size) { bytes.append(static_cast<const char*>(part), size); });
  const TensorFile file = read_bytes(bytes);
  EXPECT_EQ(file.format, "zip");
  ASSERT_EQ(file.tensors.size(), 4u);
  for (size_t i = 0; i < 4; ++i) {
    EXPECT_EQ(file.tensors[i].name, infos[i].name);
    EXPECT_EQ(file.tensors[i].dtype, infos[i].dtype);
    EXPECT_EQ(file.tensors[i].shape, infos[i].shape);
  }
  EXPECT_THAT(test::elements<float>(bytes, file.tensors[0]), ElementsAre(1, 2));
  EXPECT_THAT(test::elements<uint16_t>(bytes, file.tensors[2]), ElementsAre(7, 8, 9));
}

}  // namespace
}  // namespace zoo
