#pragma once
#include <cstdint>
#include <string>
#include <string_view>
#include <unordered_map>
#include <utility>
#include <vector>

#include "core/options.h"

namespace zoo {

/// CLIP's byte pairs (Radford et al. 2021, section 2.4), equal to transformers' CLIPTokenizer: NFC, white space to
/// blanks, lower case code point by code point, words cut by class, byte pairs by rank. `<|startoftext|>` and
/// `<|endoftext|>` written out in a text are those tokens. Malformed UTF-8 counts as U+FFFD.
class ClipTokenizer {
 public:
  /// vocab.json and merges.txt of a folder, or where these are missing its tokenizer.json. Throws Error naming the file where one is missing, malformed, or where the
  /// two do not belong together.
  static ClipTokenizer from_folder(const std::string& folder);
  /// merges.txt, or OpenAI's bpe_simple_vocab_16e6.txt.gz, of whose lines CLIP uses the first 48,894 merges.
  static ClipTokenizer from_merges(const std::string& file);
  /// At most `merges` byte pairs, the most frequent in the texts first: for models trained from nothing.
  static ClipTokenizer train(const std::vector<std::string>& texts, int64_t merges);
  /// What `to_json` gave: {"merges": ["i n", …], "pad": id}, and "vocab" where ids are in another order than CLIP's.
  /// Throws Error where it is not that.
  static ClipTokenizer from_json(const Json& document);
  Json to_json() const;

  /// 256 symbols, the same at a word's end, merges, start and end of text.
  int64_t vocab_size() const { return vocab_size_; }
  int64_t start_token() const { return start_; }
  int64_t end_token() const { return end_; }
  /// What fills a text up: the end token, in Stable Diffusion 2 token 0.
  int64_t pad_token() const { return pad_; }

  /// Start, at most length - 2 tokens, end, padded: exactly `length` (>= 2) ids.
  std::vector<int64_t> encode(const std::string& text, int64_t length = 77) const;
  /// Tokens of the text alone, all of them.
  std::vector<int64_t> tokens(const std::string& text) const;
  /// The text that tokens stand for, a blank after each word; start and end are left out.
  std::string decode(const std::vector<int64_t>& ids) const;

  /// Files (name, content) of a diffusers folder's tokenizer/.
  std::vector<std::pair<std::string, std::string>> files() const;

 private:
  using Merge = std::pair<std::string, std::string>;
  struct MergeRule {
    int64_t rank, symbol;
  };

  ClipTokenizer(std::vector<Merge> merges, const std::string& source);
  static ClipTokenizer from_tokenizer_json(const Json& document, const std::string& source);
  void number(const Json& vocab, const std::string& source);
  void read_pad_token(const std::string& folder);
  Json vocab() const;
  std::vector<int64_t> merged(std::vector<int64_t> symbols) const;

  std::vector<Merge> merges_;                      // as merges.txt has them
  std::vector<std::string> symbols_;               // bytes, bytes at a word's end, merges; in letters
  std::vector<int64_t> ids_;                       // of symbols_ in the vocabulary
  std::unordered_map<uint64_t, MergeRule> pairs_;  // by two symbols
  int64_t start_ = 0, end_ = 0, pad_ = 0, vocab_size_ = 0;
  std::string pad_text_;  // where it is not the end token: a special token too, wherever it stands in a text
};

}  // namespace zoo
