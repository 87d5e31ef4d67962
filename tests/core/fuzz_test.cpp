#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/resource.h>
#include <zlib.h>

#include <chrono>
#include <cstdlib>
#include <fstream>
#include <functional>
#include <map>
#include <set>

#include "core/clip_tokenizer.h"
#include "core/error.h"
#include "core/files.h"
#include "core/formats/npy.h"
#include "core/formats/pair_bin.h"
#include "core/formats/record_io.h"
#include "core/formats/tensor_file.h"
#include "core/random.h"
#include "core/text.h"
#include "tests/core/sample_files.h"
#include "tests/support.h"

// Mutated weight files must end in a clear Error or in tensors that lie inside the file. Run it under the
// asan preset to see reads outside; ZOO_FUZZ_CASES in the environment asks for more than 10,000 files.

namespace zoo {
namespace {

using namespace test::pickled;  // NOLINT: the pieces a pickle is made of
using test::raw;

int64_t case_count() {
  const char* text = std::getenv("ZOO_FUZZ_CASES");
  return text != nullptr ? std::atoll(text) : 10'000;
}

/// A well-formed file in two parts: `core` is what the readers parse, `wrap` makes the file from it, with the
/// lengths and checksums that a plain mutation would destroy.
struct Seed {
  std::string core;
  std::function<std::string(const std::string& core)> wrap;
};

const test::Storages kStorages = {{"0", std::string(24, '\1')}, {"1", std::string(64, '\2')}};

std::string checkpoint() {
  const std::string first = storage("FloatStorage", "0", 6), second = storage("LongStorage", "1", 8);
  const std::string parameter = reduce(global("torch._utils", "_rebuild_parameter"),
                                       {tensor(first, 0, {3, 2}, {1, 3}), "\x88", ordered_dict({})});
  const std::string weights = ordered_dict({{"a.weight", tensor(first, 0, {2, 3}, {3, 1})},
                                            {"a.bias", parameter},
                                            {"steps", tensor(second, 7, {}, {})},
                                            {"empty", tensor(second, 0, {0, 4}, {4, 1})}});
  const std::string arguments =
      reduce(global("argparse", "Namespace"), {}) + dict({{"lr", "G" + raw(0.5)}}) + "b";
  return whole(dict({{"model", weights},
                     {"epoch", "K\x07"},
                     {"args", arguments},
                     {"names",
                      "](K\x01q\x05h\x05"
                      "e"}}));
}

std::vector<Seed> seeds() {
  const std::string header =
      R"({"__metadata__":{"format":"pt"},"w":{"dtype":"F32","shape":[2,3],"data_offsets":[0,24]},)"
      R"("n":{"dtype":"I64","shape":[],"data_offsets":[24,32]},"e":{"dtype":"BF16","shape":[0,4],"data_offsets":[32,32]}})";
  const std::string npy = "{'descr': '<f4', 'fortran_order': True, 'shape': (2, 3), }  \n", data(24, '\1');
  const auto as_it_is = [](const std::string& core) { return core; };
  const auto zip = [](const std::string& core) {
    return test::pth_zip(core, kStorages, {{"byteorder", "little"}});
  };
  const auto legacy = [](const std::string& core) {
    return test::pth_legacy(core, {kStorages[0], {"1", std::string(32, '\2')}});
  };
  const auto safetensors = [](const std::string& core) {
    return test::safetensors_bytes(core, std::string(32, '\3'));
  };
  const auto numpy = [data](const std::string& core) { return test::npy_bytes(core, data); };
  const std::string plain_state =
      whole(dict({{"w", tensor(storage("FloatStorage", "0", 6), 2, {2, 2}, {2, 1})},
                  {"v", tensor(storage("IntStorage", "1", 8), 0, {8}, {1})}}));
  return {{checkpoint(), zip},   {zip(checkpoint()), as_it_is},
          {plain_state, legacy}, {legacy(plain_state), as_it_is},
          {header, safetensors}, {safetensors(header), as_it_is},
          {npy, numpy},          {test::npy_bytes(npy, data, 2), as_it_is}};
}

// clang-format off
const char* const kTokens[] = {
    "(", "t", "R", "b", "u", "s", "e", ".", "}", "]", ")", "Q", "0", "1", "N", "\x81", "\x85", "\x93", "\x94", "h\x01", "q\x01",
    "K\x7f", "\x8a\x08\xff\xff\xff\xff\xff\xff\xff\x7f", "X\xff\xff\xff\xff", "ctorch\nSize\n", "PK\x03\x04",
    "PK\x01\x02", "PK\x05\x06", "[", "{", "\"", "-1", "1e9", ",", "null", "(3,)", "'<f8'", "\"data_offsets\":[0,0]",
    "\"shape\":[9223372036854775807]"};
// clang-format on

uint64_t interesting(RandomStream& random, uint64_t size) {
  const uint64_t values[] = {0,
                             1,
                             0x7f,
                             0x80,
                             0xff,
                             0x7fff,
                             0xffff,
                             0x7fffffff,
                             0x80000000,
                             0xffffffff,
                             size,
                             size - 1,
                             size + 1,
                             uint64_t{1} << 40,
                             uint64_t{1} << 62,
                             uint64_t{INT64_MAX},
                             uint64_t{1} << 63,
                             ~uint64_t{0}};
  return values[random.integer(0, static_cast<int64_t>(std::size(values)) - 1)];
}

std::string mutate_once(std::string bytes, const std::string& other, RandomStream& random) {
  if (bytes.empty()) return bytes;
  const auto place = [&](const std::string& text) {
    return static_cast<size_t>(
        random.integer(0, std::max<int64_t>(0, static_cast<int64_t>(text.size()) - 1)));
  };
  const size_t at = place(bytes), length = static_cast<size_t>(random.integer(1, 16));
  switch (random.integer(0, 9)) {
    case 0:
      bytes[at] = static_cast<char>(bytes[at] ^ (1 << random.integer(0, 7)));
      break;
    case 1:
      bytes[at] = static_cast<char>(random.integer(0, 255));
      break;
    case 2:
      bytes.resize(at);
      break;
    case 3:
      bytes.erase(at, length);
      break;
    case 4:
      bytes.insert(at, bytes.substr(place(bytes), length));
      break;
    case 5:
      bytes.insert(at, kTokens[random.integer(0, static_cast<int64_t>(std::size(kTokens)) - 1)]);
      break;
    case 6: {
      const std::string number =
          raw(interesting(random, bytes.size())).substr(0, size_t{1} << random.integer(0, 3));
      bytes.replace(at, number.size(), number);
      break;
    }
    case 7: {
      const std::string token = kTokens[random.integer(0, static_cast<int64_t>(std::size(kTokens)) - 1)];
      bytes.replace(at, token.size(), token);
      break;
    }
    case 8: {  // another number in a text
      const size_t digit = std::min(bytes.find_first_of("0123456789", at), bytes.size());
      const size_t end = std::min(bytes.find_first_not_of("0123456789", digit), bytes.size());
      bytes.replace(digit, end - digit, std::to_string(random.integer(0, 40)));
      break;
    }
    default:
      bytes.replace(at, length, other.substr(place(other), length * 4));
      break;  // a splice
  }
  return bytes;
}

/// Sums the first and last byte of every tensor, so that a sanitizer sees both; false where one lies outside.
bool lies_inside(const std::vector<uint8_t>& file, const TensorEntry& entry) {
  uint64_t extent = 0;
  if (!byte_extent(entry, extent) || entry.offset > file.size() || extent > file.size() - entry.offset)
    return false;
  volatile uint8_t sum = 0;
  if (extent > 0) sum = static_cast<uint8_t>(file[entry.offset] + file[entry.offset + extent - 1]);
  return sum == sum;
}

std::vector<TensorEntry> read_any(const std::vector<uint8_t>& file) {
  const std::string_view text(reinterpret_cast<const char*>(file.data()), file.size());
  if (text.substr(0, 6) == std::string_view("\x93NUMPY", 6))
    return {read_npy(file.data(), file.size(), "FILE")};
  return read_tensor_file(file.data(), file.size(), "FILE").tensors;
}

/// Refusals that show how deep the mutations reach into the readers.
// clang-format off
const char* const kPhrases[] = {
    "truncated", "is not known", "never set", "pass the end", "mark is missing", "takes no items", "checksum", "not JSON",
    "overlap", "is compressed", "another name", "bytes, expected", "is missing", "bytes of data",
    "no weight file", "state dict", "is not used", "elements of type", "first byte and end"};
// clang-format on

int64_t peak_megabytes() {
  rusage usage{};
  ::getrusage(RUSAGE_SELF, &usage);
  return usage.ru_maxrss / 1024;
}

struct Tally {
  int64_t accepted = 0, refused = 0;
  std::set<std::string> phrases;
  std::string last;
};

void try_file(const std::string& bytes, Tally& tally) {
  const std::vector<uint8_t> file(bytes.begin(), bytes.end());
  try {
    for (const TensorEntry& entry : read_any(file)) ASSERT_TRUE(lies_inside(file, entry)) << entry.name;
    ++tally.accepted;
  } catch (const Error& error) {
    const std::string message = error.what();
    EXPECT_THAT(message, testing::StartsWith("FILE: "));
    EXPECT_EQ(message.find('\n'), std::string::npos);
    EXPECT_LT(message.size(), 2000u) << message;
    for (const char* phrase : kPhrases) {
      if (message.find(phrase) != std::string::npos) tally.phrases.insert(phrase);
    }
    tally.last = message;
    ++tally.refused;
  }
}

/// A verification set by protocol 0, one of numpy arrays, and a file of records that holds every kind of part.
const std::string kPairBinSeeds[] = {
    "((lp0\nS'\\xff\\xd8A'\np1\naS'B\\n'\np2\nag1\nag2\na(lp3\nI01\naI00\natp4\n.",
    whole(tuple({"](" + reduce(global("_codecs", "encode"), {unicode("\xC3\xBFz"), unicode("latin1")}) +
                     "q\x01" + reduce(global("numpy.core.multiarray", "_reconstruct"), {"N", "N", "N"}) +
                     tuple({integer(1), integers({2}),
                            reduce(global("numpy", "dtype"), {unicode("u1"), "N", "N"}), "\x89", "h\x01"}) +
                     "b" + "e",
                 "](\x88"
                 "e"}))};
const std::string kPart = "\x0a\x23\xd7\xce";
const std::string kRecordSeed = kPart + raw(uint32_t{28}) + image_record({3}, 1, "JPEG") +  //
                                kPart + raw(uint32_t{1} << 29 | 36) + image_record({1, 2}, 1, "head") +
                                kPart + raw(uint32_t{2} << 29) + kPart + raw(uint32_t{3} << 29 | 4) + "tail";

/// Touches every byte of a text, so that a sanitizer sees those that lie outside.
int64_t byte_sum(std::string_view text) {
  int64_t sum = 0;
  for (const char c : text) sum += c;
  return sum;
}

int64_t read_records(const std::vector<uint8_t>& bytes) {
  const RecordFile file(bytes.data(), bytes.size(), "FILE");
  int64_t sum = 0;
  for (const RecordPlace& place : file.scan()) {
    std::string joined;
    const std::string_view payload = file.read(place, joined);
    sum += byte_sum(payload) + byte_sum(parse_image_record(file, place, payload).image);
  }
  return sum;
}

int64_t read_pairs(const std::vector<uint8_t>& bytes) {
  int64_t sum = 0;
  for (const std::string_view image : read_pair_bin(bytes.data(), bytes.size(), "FILE").images)
    sum += byte_sum(image);
  return sum;
}

TEST(Fuzz, FacesEndInErrorsOrWholeRecords) {
  const std::string all[] = {kPairBinSeeds[0], kPairBinSeeds[1], kRecordSeed};
  int64_t accepted = 0, sum = 0;
  const auto read = [&](size_t seed, const std::string& text) {
    const std::vector<uint8_t> bytes(text.begin(), text.end());
    try {
      sum += seed == 2 ? read_records(bytes) : read_pairs(bytes);
      ++accepted;
    } catch (const Error& error) {
      EXPECT_THAT(std::string(error.what()), testing::StartsWith("FILE: "));
    }
  };
  for (size_t i = 0; i < 3; ++i) read(i, all[i]);
  ASSERT_EQ(accepted, 3);
  const int64_t count = case_count(), memory_before = peak_megabytes();
  for (int64_t i = 0; i < count && !testing::Test::HasFailure(); ++i) {
    RandomStream random({5, static_cast<uint64_t>(i)});
    const auto seed = static_cast<size_t>(i % 3);
    std::string text = all[seed];
    for (int64_t k = random.integer(1, 3); k > 0; --k)
      text = mutate_once(text, all[random.integer(0, 2)], random);
    SCOPED_TRACE(i);
    read(seed, text);
  }
  EXPECT_LT(peak_megabytes() - memory_before, 400);
  EXPECT_GT(accepted, count / 50);
  EXPECT_LT(accepted, count * 9 / 10);
  EXPECT_NE(sum, 0);
}

/// A gzip file whose one block is not compressed, so that mutations reach the text.
std::string stored_gzip(const std::string& text) {
  const auto size = static_cast<uint16_t>(text.size());
  const auto sum = static_cast<uint32_t>(
      ::crc32(0, reinterpret_cast<const Bytef*>(text.data()), static_cast<uInt>(text.size())));
  const std::string head("\x1f\x8b\x08\0\0\0\0\0\0\x03\x01", 11);
  return head + raw(size) + raw(static_cast<uint16_t>(~size)) + text + raw(sum) + raw(uint32_t{size});
}

/// What a tokenizer is read from, by the name of the file; a document of zoo's own has none.
struct TokenizerSeed {
  std::string name, text;
};

std::vector<TokenizerSeed> tokenizer_seeds() {
  const ClipTokenizer whole = ClipTokenizer::train({"a red circle", "a red circle", "two red squares"}, 12);
  std::string merges, vocab;
  for (const auto& [name, content] : whole.files()) {
    if (name == "merges.txt") merges = content;
    if (name == "vocab.json") vocab = content;
  }
  Json pairs = Json::array();
  const std::vector<std::string> lines = split(merges, '\n');
  for (size_t i = 1; i < lines.size(); ++i) {  // the first names the version
    if (!lines[i].empty()) pairs.push_back(lines[i]);
  }
  const Json document = {
      {"model",
       {{"type", "BPE"}, {"end_of_word_suffix", "</w>"}, {"merges", pairs}, {"vocab", Json::parse(vocab)}}}};
  return {{"merges.txt", merges},
          {"merges.gz", stored_gzip(merges)},
          {"", whole.to_json().dump()},
          {"tokenizer.json", document.dump()}};
}

ClipTokenizer read_tokenizer(const std::string& folder, const TokenizerSeed& seed) {
  if (seed.name.empty()) {
    const Json document = Json::parse(seed.text, nullptr, /*allow_exceptions=*/false);
    if (document.is_discarded()) throw Error("no JSON");
    return ClipTokenizer::from_json(document);
  }
  const bool whole = seed.name == "tokenizer.json";
  const std::string place = whole ? join_path(folder, "whole") : folder, path = join_path(place, seed.name);
  make_folders(place);
  std::ofstream(path, std::ios::binary) << seed.text;
  return whole ? ClipTokenizer::from_folder(place) : ClipTokenizer::from_merges(path);
}

TEST(Fuzz, TokenizersEndInErrorsOrEncode) {
  const std::string folder = test::scratch_dir("fuzz_tokenizers");
  const std::vector<TokenizerSeed> seeds = tokenizer_seeds();
  for (const TokenizerSeed& seed : seeds) EXPECT_NO_THROW(read_tokenizer(folder, seed)) << seed.name;
  const int64_t count = case_count() / 4, memory_before = peak_megabytes();
  std::map<std::string, int64_t> accepted;
  for (int64_t i = 0; i < count && !testing::Test::HasFailure(); ++i) {
    RandomStream random({6, static_cast<uint64_t>(i)});
    TokenizerSeed seed = seeds[static_cast<size_t>(i) % seeds.size()];
    seed.text = mutate_once(seed.text, seeds[static_cast<size_t>(random.integer(0, 3))].text, random);
    SCOPED_TRACE(i);
    try {
      const ClipTokenizer tokenizer = read_tokenizer(folder, seed);
      for (const int64_t id : tokenizer.encode("A red  circle, 2 squares", 20)) {
        EXPECT_GE(id, 0);
        EXPECT_LT(id, tokenizer.vocab_size());
      }
      ++accepted[seed.name];
    } catch (const Error& error) {
      EXPECT_EQ(std::string(error.what()).find('\n'), std::string::npos) << error.what();
    }
  }
  EXPECT_LT(peak_megabytes() - memory_before, 400);
  EXPECT_GT(accepted["merges.txt"], 0);
  EXPECT_GT(accepted[""], 0);
  EXPECT_LT(accepted["merges.gz"], count / 8);  // its checksum tells
  EXPECT_LT(accepted["tokenizer.json"], count / 4);
}

TEST(Fuzz, SeedsAreWhole) {
  for (const Seed& seed : seeds()) {
    Tally tally;
    try_file(seed.wrap(seed.core), tally);
    EXPECT_EQ(tally.accepted, 1) << tally.last;
  }
}

TEST(Fuzz, MutatedFilesEndInErrorsOrValidTensors) {
  const std::vector<Seed> all = seeds();
  const int64_t memory_before = peak_megabytes();
  const auto begin = std::chrono::steady_clock::now();
  Tally tally;
  const int64_t count = case_count();
  for (int64_t i = 0; i < count && !testing::Test::HasFailure(); ++i) {
    RandomStream random({4, static_cast<uint64_t>(i)});
    const Seed& seed = all[static_cast<size_t>(i) % all.size()];
    const Seed& other = all[static_cast<size_t>(random.integer(0, static_cast<int64_t>(all.size()) - 1))];
    std::string core = seed.core;
    for (int64_t k = random.integer(1, 3); k > 0; --k) core = mutate_once(core, other.core, random);
    SCOPED_TRACE(i);
    try_file(seed.wrap(core), tally);
  }
  const std::chrono::duration<double> seconds = std::chrono::steady_clock::now() - begin;
  EXPECT_LT(seconds.count() / static_cast<double>(count), 0.01);  // no mutation makes a reader slow
  EXPECT_LT(peak_megabytes() - memory_before, 400);               // nor makes it ask for memory
  EXPECT_GT(tally.accepted, count / 50);  // the mutations reach what lies behind the checks
  EXPECT_GT(tally.refused, count / 2);
  for (const char* phrase : kPhrases)
    EXPECT_EQ(tally.phrases.count(phrase), 1u) << "never refused with: " << phrase;
  RecordProperty("accepted", static_cast<int>(tally.accepted));
}

}  // namespace
}  // namespace zoo
