#include <gtest/gtest.h>

#include <chrono>

#include "core/clip_tokenizer.h"
#include "core/error.h"
#include "core/files.h"
#include "core/formats/gzip.h"
#include "tests/support.h"

namespace zoo {
namespace {

using Ids = std::vector<int64_t>;

/// l o -> lo, lo w</w> -> low</w>, e r</w> -> er</w>: ids 512, 513, 514, start 515, end 516.
ClipTokenizer small_tokenizer() {
  return ClipTokenizer::from_json({{"merges", {"l o", "lo w</w>", "e r</w>"}}, {"pad", 516}});
}

/// Id of a printable ASCII letter, inside a word or at its end.
int64_t letter(char c, bool last = false) {
  return c - 33 + (last ? 256 : 0);
}

TEST(ClipTokenizer, MergesByRankAndPads) {
  const ClipTokenizer tokenizer = small_tokenizer();
  EXPECT_EQ(tokenizer.vocab_size(), 517);
  EXPECT_EQ(tokenizer.tokens("low lower Lo"),
            (Ids{513, 512, letter('w'), 514, letter('l'), letter('o', true)}));
  EXPECT_EQ(tokenizer.encode("low", 6), (Ids{515, 513, 516, 516, 516, 516}));
  EXPECT_EQ(tokenizer.encode("low low low low", 4), (Ids{515, 513, 513, 516}));
  EXPECT_EQ(tokenizer.encode("", 3), (Ids{515, 516, 516}));
}

TEST(ClipTokenizer, CutsWordsByClass) {
  const ClipTokenizer tokenizer = small_tokenizer();
  EXPECT_EQ(tokenizer.tokens("12"), (Ids{letter('1', true), letter('2', true)}));
  EXPECT_EQ(tokenizer.tokens("a's"), (Ids{letter('a', true), letter('\''), letter('s', true)}));
  EXPECT_EQ(tokenizer.tokens("!'s"), (Ids{letter('!'), letter('\'', true), letter('s', true)}));
  EXPECT_EQ(tokenizer.tokens("a\xC2\x85 b"),
            (Ids{letter('a', true), letter('b', true)}));                  // NEL is white space
  EXPECT_EQ(tokenizer.tokens("e\xCC\x81"), tokenizer.tokens("\xC3\x89"));  // é composed, from É
  EXPECT_EQ(tokenizer.tokens("\xCE\x9F\xCE\xA3"), tokenizer.tokens("\xCE\xBF\xCF\x83"));  // no final sigma
  EXPECT_EQ(tokenizer.tokens("\xC4\xB0"), tokenizer.tokens("i\xCC\x87"));                 // İ
}

TEST(ClipTokenizer, SpecialTokensInsideATextCountAsWritten) {
  const ClipTokenizer tokenizer = small_tokenizer();
  EXPECT_EQ(tokenizer.tokens("low<|endoftext|>low"), (Ids{513, 516, 513}));
  EXPECT_EQ(tokenizer.tokens("<|ENDOFTEXT|>").size(), 2u + 9 + 2);
}

TEST(ClipTokenizer, MalformedTextIsReplaced) {
  const ClipTokenizer tokenizer = small_tokenizer();
  EXPECT_EQ(tokenizer.tokens("\xFF"), tokenizer.tokens("\xEF\xBF\xBD"));
  EXPECT_EQ(tokenizer.tokens("a\xE2\x82"), tokenizer.tokens("a\xEF\xBF\xBD\xEF\xBF\xBD"));
  EXPECT_EQ(tokenizer.tokens(std::string("a\0b", 3)).size(), 3u);
}

TEST(ClipTokenizer, LongWordsCostLittle) {
  std::string word;
  for (int i = 0; i < 1000000; ++i) word += "lo";
  const auto start = std::chrono::steady_clock::now();
  EXPECT_EQ(small_tokenizer().tokens(word).size(), 1000001u);  // the last l and o</w> are no pair
  EXPECT_LT(std::chrono::steady_clock::now() - start, std::chrono::seconds(20));
}

TEST(ClipTokenizer, TrainsTheMostFrequentPairs) {
  const ClipTokenizer tokenizer = ClipTokenizer::train({"red red red blue", "red bled", "once"}, 100);
  EXPECT_EQ(tokenizer.tokens("red").size(), 1u);
  EXPECT_EQ(tokenizer.tokens("once").size(), 4u) << "what is met once is not learned";
  const Json merges = tokenizer.to_json().at("merges");
  EXPECT_EQ(merges[0], "e d</w>");  // 5 times, before "r e" (4)
  EXPECT_EQ(merges[1], "r ed</w>");
  EXPECT_EQ(ClipTokenizer::train({"red red red blue", "red bled"}, 1).vocab_size(), 515);
}

TEST(ClipTokenizer, ComesBackFromJsonAndFiles) {
  const ClipTokenizer tokenizer =
      ClipTokenizer::train({"a red circle above a blue circle", "a red circle"}, 20);
  const std::string text = "A Blue circle, above caf\xC3\xA9 <|endoftext|>";
  EXPECT_EQ(ClipTokenizer::from_json(tokenizer.to_json()).encode(text), tokenizer.encode(text));
  const std::string folder = test::scratch_dir("clip_tokenizer");
  for (const auto& [name, content] : tokenizer.files()) write_file(join_path(folder, name), content);
  EXPECT_EQ(ClipTokenizer::from_folder(folder).encode(text), tokenizer.encode(text));
  EXPECT_EQ(tokenizer.decode(tokenizer.encode(text)), "a blue circle , above caf\xC3\xA9 ");
}

TEST(ClipTokenizer, OwnOrderOfIdsIsKept) {
  const std::string folder = test::scratch_dir("clip_tokenizer_order");
  write_file(join_path(folder, "merges.txt"), "#version: 0.2\nl o\nlo w</w>\n");
  write_file(join_path(folder, "vocab.json"),
             R"({"l":0,"o":1,"w</w>":2,"lo":3,"low</w>":4,"<|startoftext|>":5,"<|endoftext|>":6})");
  const ClipTokenizer tokenizer = ClipTokenizer::from_folder(folder);
  EXPECT_EQ(tokenizer.vocab_size(), 7);
  EXPECT_EQ(tokenizer.encode("low x", 6), (Ids{5, 4, 6, 6, 6, 6}));  // x is unknown, which is the end token
  EXPECT_EQ(ClipTokenizer::from_json(tokenizer.to_json()).encode("low lo", 6), tokenizer.encode("low lo", 6));
}

TEST(ClipTokenizer, ReadsTheOneFileOfNewerTransformers) {
  const std::string folder = test::scratch_dir("clip_tokenizer_json"),
                    file = join_path(folder, "tokenizer.json");
  Json model = {{"type", "BPE"},
                {"end_of_word_suffix", "</w>"},
                {"merges", Json::parse(R"([["l", "o"], ["lo", "w</w>"]])")},
                {"vocab",
                 {{"l", 0},
                  {"o", 1},
                  {"w</w>", 2},
                  {"lo", 3},
                  {"low</w>", 4},
                  {"<|startoftext|>", 5},
                  {"<|endoftext|>", 6}}}};
  write_file(file, dump_json({{"model", model}}));
  EXPECT_EQ(ClipTokenizer::from_folder(folder).encode("low", 4), (Ids{5, 4, 6, 6}));
  model["merges"] = Json::array({"l o", "lo w</w>"});
  write_file(file, dump_json({{"model", model}}));
  EXPECT_EQ(ClipTokenizer::from_folder(folder).encode("low", 4), (Ids{5, 4, 6, 6}));
  model["end_of_word_suffix"] = "";
  write_file(file, dump_json({{"model", model}}));
  EXPECT_NE(test::error_of([&] { ClipTokenizer::from_folder(folder); }).find("expected CLIP's tokenizer"),
            std::string::npos);
}

TEST(ClipTokenizer, ErrorsSayWhatAndWhere) {
  const std::string folder = test::scratch_dir("clip_tokenizer_errors");
  const std::string merges = join_path(folder, "merges.txt"), vocab = join_path(folder, "vocab.json");
  const auto load = [&] { ClipTokenizer::from_folder(folder); };
  EXPECT_NE(test::error_of(load).find(merges), std::string::npos);
  write_file(merges, "#version: 0.2\nl o w\n");
  EXPECT_EQ(test::error_of(load), merges + ": line 2 is 'l o w', expected two symbols with a blank between");
  write_file(merges, "#version: 0.2\nlo w\n");
  EXPECT_EQ(test::error_of(load), merges + ": merge 1 takes 'lo', which is no byte and no merge before it");
  write_file(merges, "#version: 0.2\nl o\n");
  EXPECT_NE(test::error_of(load).find(vocab), std::string::npos);
  write_file(vocab, "[]");
  EXPECT_EQ(test::error_of(load), vocab + ": expected an object of token -> id");
  write_file(vocab, R"({"<|startoftext|>": 0})");
  EXPECT_EQ(test::error_of(load), vocab + ": has no token '<|endoftext|>', expected CLIP's vocabulary");
  write_file(vocab, R"({"<|startoftext|>": 0, "<|endoftext|>": 1})");
  EXPECT_EQ(test::error_of(load), vocab + ": has no token 'lo', which the merges beside it make");
  write_file(vocab, R"({"<|startoftext|>": 0, "<|endoftext|>": -1})");
  EXPECT_EQ(test::error_of(load), vocab + ": the id of '<|endoftext|>' is -1, expected a count");
  EXPECT_NE(test::error_of([] { ClipTokenizer::from_json({{"merge", 1}}); }), "");
}

TEST(ClipTokenizerGzip, DamagedFilesAreRefused) {
  // gzip of 'zoo zoo zoo'
  const std::string whole(
      "\x1f\x8b\x08\x00\x00\x00\x00\x00\x00\xff\xab\xca\xcf\x57\xa8\x82\x60\x00\x2a\x53\xae\x41\x0b\x00\x00"
      "\x00",
      26);
  ASSERT_TRUE(is_gzip(whole));
  EXPECT_EQ(gunzip(whole, 100, "f"), "zoo zoo zoo");
  EXPECT_EQ(test::error_of([&] { gunzip(whole, 10, "f"); }), "f: the gzip file holds more than 10 B");
  EXPECT_EQ(test::error_of([&] { gunzip(whole.substr(0, 20), 100, "f"); }), "f: the gzip file is cut off");
  EXPECT_EQ(test::error_of([&] { gunzip(whole + "x", 100, "f"); }),
            "f: bytes after the end of the gzip file");
  std::string damaged = whole;
  damaged[19] = 'x';
  EXPECT_NE(test::error_of([&] { gunzip(damaged, 100, "f"); }).find("f: damaged gzip file"),
            std::string::npos);
}

}  // namespace
}  // namespace zoo
