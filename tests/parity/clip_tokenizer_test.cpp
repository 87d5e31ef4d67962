#include <gtest/gtest.h>

#include "core/clip_tokenizer.h"
#include "core/files.h"
#include "core/text.h"
#include "tests/support.h"

namespace zoo {
namespace {

/// Writes the tokenizer's files, lets transformers read them, and compares the ids of thousands of texts.
void expect_equal_to_transformers(const ClipTokenizer& tokenizer, const std::string& name,
                                  const std::string& pad = "") {
  const std::string folder = test::scratch_dir("clip_tokenizer_" + name);
  for (const auto& [file, content] : tokenizer.files()) write_file(join_path(folder, file), content);
  if (!pad.empty()) {
    for (const char* file : {"special_tokens_map.json", "tokenizer_config.json"}) {
      Json document = read_json(join_path(folder, file));
      document["pad_token"] = pad;
      write_file(join_path(folder, file), dump_json(document));
    }
  }
  const std::string out = join_path(folder, "ids.out");
  test::run_python("clip_tokenizer.py", {folder, out});
  const Json theirs = read_json(out);
  const ClipTokenizer ours = ClipTokenizer::from_folder(folder);
  EXPECT_EQ(ours.vocab_size(), theirs.at("size").get<int64_t>());
  EXPECT_EQ(ours.pad_token(), theirs.at("pad").get<int64_t>());
  const Json& texts = theirs.at("texts");
  ASSERT_GT(texts.size(), 6000u);
  int different = 0;
  for (size_t i = 0; i < texts.size(); ++i) {
    const auto expected = theirs.at("ids")[i].get<std::vector<int64_t>>();
    const auto found = ours.encode(texts[i].get<std::string>());
    if (found == expected) continue;
    if (++different <= 5)
      ADD_FAILURE() << texts[i].dump(-1, ' ', true) << "\n" << Json(found) << "\n" << Json(expected);
  }
  EXPECT_EQ(different, 0);
}

TEST(ClipTokenizerParity, SelfTrainedVocabulary) {
  ZOO_NEEDS_PYTHON();
  std::vector<std::string> texts;
  for (int i = 0; i < 300; ++i)
    texts.push_back(format(
        "a photo of %d red circles and the startoftext above it's it’s caf\xc3\xa9 \xce\xa3 %d", i, i));
  const ClipTokenizer tokenizer = ClipTokenizer::train(texts, 40);
  EXPECT_EQ(tokenizer.vocab_size(), 512 + 40 + 2);
  expect_equal_to_transformers(tokenizer, "own");
  expect_equal_to_transformers(tokenizer, "own_pad", "!");
}

TEST(ClipTokenizerParity, PublishedVocabulary) {
  ZOO_NEEDS_PYTHON();
  ZOO_NEEDS_SHARED_DATA();
  const std::string file = join_path(test::shared_data(), "clip-bpe/bpe_simple_vocab_16e6.txt.gz");
  if (!file_exists(file)) GTEST_SKIP() << "no " << file << ": CLIP's own merges are left out";
  const ClipTokenizer tokenizer = ClipTokenizer::from_merges(file);
  EXPECT_EQ(tokenizer.vocab_size(), 49408);
  EXPECT_EQ(tokenizer.encode("a photo of a cat", 9),
            (std::vector<int64_t>{49406, 320, 1125, 539, 320, 2368, 49407, 49407, 49407}));
  expect_equal_to_transformers(tokenizer, "published");
}

}  // namespace
}  // namespace zoo
