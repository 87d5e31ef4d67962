#include "core/clip_tokenizer.h"

#include <algorithm>
#include <array>
#include <map>
#include <queue>
#include <set>
#include <tuple>

#include "core/error.h"
#include "core/files.h"
#include "core/formats/gzip.h"
#include "core/text.h"
#include "core/unicode.h"

namespace zoo {

namespace {

constexpr const char* kStart = "<|startoftext|>";
constexpr const char* kEnd = "<|endoftext|>";
constexpr const char* kWordEnd = "</w>";
constexpr int64_t kClipMerges = 49152 - 256 - 2;  // of the 262,144 in OpenAI's file
constexpr uint64_t kLargestMerges = 64 << 20;     // bytes of an unpacked merges file

/// A printable letter for every byte: 33-126, 161-172 and 174-255 stand for themselves, the rest take U+0100 and on.
/// In the order of CLIP's ids.
struct ByteLetters {
  std::vector<std::string> in_order;         // of ids
  std::array<int64_t, 256> id{};             // by byte
  std::unordered_map<char32_t, char> bytes;  // by letter

  ByteLetters() {
    const auto stands = [](int b) { return (b >= 33 && b <= 126) || (b >= 161 && b <= 172) || b >= 174; };
    char32_t next = 256;
    for (const bool own : {true, false}) {
      for (int b = 0; b < 256; ++b) {
        if (stands(b) != own) continue;
        const char32_t letter = own ? static_cast<char32_t>(b) : next++;
        id[static_cast<size_t>(b)] = static_cast<int64_t>(in_order.size());
        in_order.push_back(to_utf8(std::u32string(1, letter)));
        bytes[letter] = static_cast<char>(b);
      }
    }
  }
};

const ByteLetters& byte_letters() {
  static const ByteLetters letters;
  return letters;
}

uint64_t pair_key(int64_t left, int64_t right) {
  return static_cast<uint64_t>(left) << 32 | static_cast<uint64_t>(right);
}

/// NFC, runs of white space to one blank, every code point in lower case on its own.
std::u32string cleaned(std::string_view text) {
  std::u32string result;
  for (const char32_t c : code_points(nfc(to_utf8(code_points(text))))) {
    if (class_of(c) != CodePointClass::space) {
      result += lower_of(c);
    } else if (result.empty() || result.back() != U' ') {
      result.push_back(U' ');
    }
  }
  return result;
}

/// Length of `'s 't 're 've 'm 'll 'd` at a place, 0 where there is none.
size_t contraction_length(std::u32string_view text) {
  for (const std::u32string_view ending : {U"'s", U"'t", U"'re", U"'ve", U"'m", U"'ll", U"'d"}) {
    if (text.substr(0, ending.size()) == ending) return ending.size();
  }
  return 0;
}

size_t run_length(std::u32string_view text, CodePointClass kind) {
  size_t length = 0;
  while (length < text.size() && class_of(text[length]) == kind) ++length;
  return length;
}

/// Lengths of the words at the beginning of a text that starts with no white space. The second expression of CLIP's
/// tokenizer (GPT-2's) cuts a special token in three that only lower-casing made one.
std::vector<size_t> word_lengths(std::u32string_view text) {
  for (const std::u32string_view name : {U"startoftext", U"endoftext"}) {
    if (text.substr(0, 2) == U"<|" && text.substr(2, name.size()) == name &&
        text.substr(2 + name.size(), 2) == U"|>")
      return {2, name.size(), 2};
  }
  if (const size_t length = contraction_length(text)) return {length};
  const CodePointClass kind = class_of(text.front());
  return {kind == CodePointClass::digit ? 1 : run_length(text, kind)};
}

/// Calls `word(bytes)` for every word of a text without special tokens.
template <class Word>
void for_each_word(std::string_view text, const Word& word) {
  const std::u32string clean = cleaned(text);
  std::u32string_view rest = clean;
  while (!rest.empty()) {
    if (rest.front() == U' ') {
      rest.remove_prefix(1);
      continue;
    }
    for (const size_t length : word_lengths(rest)) {
      word(to_utf8(rest.substr(0, length)));
      rest.remove_prefix(length);
    }
  }
}

/// Symbols of a word's bytes: of the letters, the last one with the word's end.
std::vector<int64_t> byte_symbols(const std::string& word) {
  std::vector<int64_t> symbols;
  for (const char c : word) symbols.push_back(byte_letters().id[static_cast<uint8_t>(c)]);
  if (!symbols.empty()) symbols.back() += 256;
  return symbols;
}

/// Lines of a merges file; the first may be a comment with the version.
std::vector<std::pair<std::string, std::string>> parse_merges(const std::string& text,
                                                              const std::string& source) {
  std::vector<std::pair<std::string, std::string>> merges;
  const std::vector<std::string> lines = split(text, '\n');
  for (size_t i = 0; i < lines.size() && static_cast<int64_t>(merges.size()) < kClipMerges; ++i) {
    const std::string line = trim(lines[i]);
    if (line.empty() || (i == 0 && line.find("#version") != std::string::npos)) continue;
    const std::vector<std::string> parts = split(line, ' ');
    if (parts.size() != 2 || parts[0].empty() || parts[1].empty())
      throw Error(format("%s: line %zu is '%.60s', expected two symbols with a blank between", source.c_str(),
                         i + 1, line.c_str()));
    merges.emplace_back(parts[0], parts[1]);
  }
  return merges;
}

/// Counts of neighbouring symbols over distinct words, kept up to date while pairs are merged.
class PairCounts {
 public:
  explicit PairCounts(const std::vector<std::string>& texts) {
    std::map<std::string, int64_t> counts;
    for (const std::string& text : texts)
      for_each_word(text, [&](const std::string& word) { ++counts[word]; });
    for (const auto& [word, count] : counts) {
      words_.push_back({byte_symbols(word), count});
      add(words_.size() - 1, 1);
    }
  }

  /// The most frequent pair, the one of least symbols among equals; count 0 where there is none.
  std::pair<std::pair<int64_t, int64_t>, int64_t> best() const {
    std::pair<std::pair<int64_t, int64_t>, int64_t> best{{0, 0}, 0};
    for (const auto& [pair, place] : pairs_) {
      if (place.count > best.second) best = {pair, place.count};
    }
    return best;
  }

  void merge(const std::pair<int64_t, int64_t>& pair, int64_t symbol) {
    const std::set<size_t> changed = pairs_.at(pair).words;
    for (const size_t word : changed) {
      add(word, -1);
      std::vector<int64_t>& symbols = words_[word].symbols;
      std::vector<int64_t> merged;
      for (size_t i = 0; i < symbols.size(); ++i) {
        const bool here = i + 1 < symbols.size() && symbols[i] == pair.first && symbols[i + 1] == pair.second;
        merged.push_back(here ? symbol : symbols[i]);
        if (here) ++i;
      }
      symbols = merged;
      add(word, 1);
    }
  }

 private:
  struct Word {
    std::vector<int64_t> symbols;
    int64_t count;
  };
  struct Place {
    int64_t count = 0;
    std::set<size_t> words;
  };

  void add(size_t word, int64_t sign) {
    const std::vector<int64_t>& symbols = words_[word].symbols;
    for (size_t i = 0; i + 1 < symbols.size(); ++i) {
      Place& place = pairs_[{symbols[i], symbols[i + 1]}];
      place.count += sign * words_[word].count;
      if (sign > 0) {
        place.words.insert(word);
      } else {
        place.words.erase(word);
      }
    }
  }

  std::vector<Word> words_;
  std::map<std::pair<int64_t, int64_t>, Place> pairs_;
};

}  // namespace

ClipTokenizer::ClipTokenizer(std::vector<Merge> merges, const std::string& source)
    : merges_(std::move(merges)) {
  symbols_ = byte_letters().in_order;
  for (size_t i = 0; i < 256; ++i) symbols_.push_back(symbols_[i] + kWordEnd);
  std::unordered_map<std::string, int64_t> known;
  for (size_t i = 0; i < symbols_.size(); ++i) known[symbols_[i]] = static_cast<int64_t>(i);
  for (size_t rank = 0; rank < merges_.size(); ++rank) {
    const auto& [left, right] = merges_[rank];
    for (const std::string& part : {left, right}) {
      if (known.count(part) == 0)
        throw Error(format("%s: merge %zu takes '%.60s', which is no byte and no merge before it",
                           source.c_str(), rank + 1, part.c_str()));
    }
    const std::string name = left + right;
    const auto symbol = known.emplace(name, static_cast<int64_t>(symbols_.size())).first->second;
    if (symbol == static_cast<int64_t>(symbols_.size())) symbols_.push_back(name);
    pairs_.emplace(pair_key(known.at(left), known.at(right)), MergeRule{static_cast<int64_t>(rank), symbol});
  }
  for (size_t i = 0; i < symbols_.size(); ++i) ids_.push_back(static_cast<int64_t>(i));
  start_ = static_cast<int64_t>(symbols_.size());
  end_ = pad_ = start_ + 1;
  vocab_size_ = end_ + 1;
}

/// Ids as vocab.json gives them. A byte that it lacks is "unknown", which is the end token; a merge must be there.
void ClipTokenizer::number(const Json& vocab, const std::string& source) {
  if (!vocab.is_object()) throw Error(source + ": expected an object of token -> id");
  const auto id_of = [&](const std::string& token) -> int64_t {
    const auto found = vocab.find(token);
    if (found == vocab.end()) return -1;
    if (!found->is_number_integer() || *found < 0 || *found >= int64_t{1} << 31)
      throw Error(source + ": the id of '" + token + "' is " + found->dump() + ", expected a count");
    return found->get<int64_t>();
  };
  start_ = id_of(kStart);
  end_ = pad_ = id_of(kEnd);
  if (start_ < 0 || end_ < 0)
    throw Error(source + ": has no token '" + (start_ < 0 ? kStart : kEnd) + "', expected CLIP's vocabulary");
  vocab_size_ = 0;
  for (const auto& item : vocab.items()) vocab_size_ = std::max(vocab_size_, id_of(item.key()) + 1);
  for (size_t i = 0; i < symbols_.size(); ++i) {
    ids_[i] = id_of(symbols_[i]);
    if (ids_[i] < 0 && i >= 512)
      throw Error(source + ": has no token '" + symbols_[i] + "', which the merges beside it make");
    if (ids_[i] < 0) ids_[i] = end_;
  }
}

ClipTokenizer ClipTokenizer::from_merges(const std::string& file) {
  std::string text = read_file(file);
  if (is_gzip(text)) text = gunzip(text, kLargestMerges, file);
  return {parse_merges(text, file), file};
}

ClipTokenizer ClipTokenizer::from_folder(const std::string& folder) {
  const std::string vocab = join_path(folder, "vocab.json"), merges = join_path(folder, "merges.txt");
  const std::string whole = join_path(folder, "tokenizer.json");
  const bool parts = file_exists(merges) || !file_exists(whole);
  ClipTokenizer tokenizer = parts ? from_merges(merges) : from_tokenizer_json(read_json(whole), whole);
  if (parts) tokenizer.number(read_json(vocab), vocab);
  tokenizer.read_pad_token(folder);
  return tokenizer;
}

/// The one file that transformers writes since version 5: merges as "a b" or ["a", "b"].
ClipTokenizer ClipTokenizer::from_tokenizer_json(const Json& document, const std::string& source) {
  const Json::json_pointer model("/model");
  const Json part = document.is_object() && document.contains(model) ? document.at(model) : Json();
  if (!part.is_object() || part.value("type", Json()) != "BPE" ||
      part.value("end_of_word_suffix", Json()) != kWordEnd || !part.contains("vocab") ||
      !part.value("merges", Json()).is_array())
    throw Error(source + ": no byte pairs with vocab, merges and word end " + kWordEnd +
                ", expected CLIP's tokenizer");
  std::string lines;
  for (const Json& merge : part.at("merges")) {
    const bool pair = merge.is_array() && merge.size() == 2 && merge[0].is_string() && merge[1].is_string();
    if (!pair && !merge.is_string())
      throw Error(source + ": a merge is " + merge.dump() + ", expected two symbols");
    lines +=
        (pair ? merge[0].get<std::string>() + " " + merge[1].get<std::string>() : merge.get<std::string>()) +
        "\n";
  }
  ClipTokenizer tokenizer(parse_merges(lines, source), source);
  tokenizer.number(part.at("vocab"), source);
  return tokenizer;
}

/// The padding token that a folder names: special_tokens_map.json, else tokenizer_config.json, as transformers reads
/// them; else the end token.
void ClipTokenizer::read_pad_token(const std::string& folder) {
  for (const char* name : {"special_tokens_map.json", "tokenizer_config.json"}) {
    const std::string path = join_path(folder, name);
    if (!file_exists(path)) continue;
    const Json document = read_json(path);
    if (!document.is_object() || !document.contains("pad_token")) continue;
    Json token = document.at("pad_token");
    if (token.is_object() && token.contains("content")) token = token.at("content");
    if (!token.is_string())
      throw Error(path + ": pad_token is " + token.dump() + ", expected a token's name");
    const auto text = token.get<std::string>();
    if (text == kEnd) return;
    const auto found = std::find(symbols_.begin(), symbols_.end(), text);
    if (found == symbols_.end())
      throw Error(path + ": pad_token '" + text + "' is no token of the vocabulary");
    pad_ = ids_[static_cast<size_t>(found - symbols_.begin())];
    pad_text_ = text;
    return;
  }
}

ClipTokenizer ClipTokenizer::train(const std::vector<std::string>& texts, int64_t merges) {
  PairCounts counts(texts);
  std::vector<std::string> names = byte_letters().in_order;
  for (size_t i = 0; i < 256; ++i) names.push_back(names[i] + kWordEnd);
  std::vector<Merge> made;
  while (static_cast<int64_t>(made.size()) < merges) {
    const auto [pair, count] = counts.best();
    if (count < 2) break;  // what is met once teaches nothing
    const std::string &left = names[static_cast<size_t>(pair.first)],
                      &right = names[static_cast<size_t>(pair.second)];
    made.emplace_back(left, right);
    names.push_back(left + right);
    counts.merge(pair, static_cast<int64_t>(names.size()) - 1);
  }
  return {std::move(made), "texts"};
}

ClipTokenizer ClipTokenizer::from_json(const Json& document) {
  const std::string source = "tokenizer";
  if (!document.is_object() || !document.contains("merges") || !document.at("merges").is_array())
    throw Error(source + ": expected an object with the list 'merges'");
  std::string lines;
  for (const Json& merge : document.at("merges")) {
    if (!merge.is_string()) throw Error(source + ": 'merges' holds " + merge.dump() + ", expected texts");
    lines += merge.get<std::string>() + "\n";
  }
  ClipTokenizer tokenizer(parse_merges(lines, source), source);
  if (document.contains("vocab")) tokenizer.number(document.at("vocab"), source);
  const Json pad = document.value("pad", Json(tokenizer.end_));
  if (!pad.is_number_integer() || pad < 0 || pad >= tokenizer.vocab_size_)
    throw Error(source + ": 'pad' is " + pad.dump() + ", expected a token's id");
  tokenizer.pad_ = pad.get<int64_t>();
  const auto at = std::find(tokenizer.ids_.begin(), tokenizer.ids_.end(), tokenizer.pad_);
  if (tokenizer.pad_ != tokenizer.end_ && at != tokenizer.ids_.end())
    tokenizer.pad_text_ = tokenizer.symbols_[static_cast<size_t>(at - tokenizer.ids_.begin())];
  return tokenizer;
}

Json ClipTokenizer::vocab() const {
  Json vocab = Json::object();
  for (size_t i = 0; i < symbols_.size(); ++i) {
    if (ids_[i] != end_) vocab[symbols_[i]] = ids_[i];  // else a byte that the vocabulary lacks
  }
  vocab[kStart] = start_;
  vocab[kEnd] = end_;
  return vocab;
}

Json ClipTokenizer::to_json() const {
  Json document = {{"merges", Json::array()}, {"pad", pad_}};
  for (const auto& [left, right] : merges_) document["merges"].push_back(left + " " + right);
  for (size_t i = 0; i < ids_.size(); ++i) {
    if (ids_[i] == static_cast<int64_t>(i)) continue;
    document["vocab"] = vocab();  // ids in another order than CLIP's
    break;
  }
  return document;
}

/// Merges by rank, the leftmost first among equals; places and neighbours as a linked list, so that a word of any length
/// costs n·log n.
std::vector<int64_t> ClipTokenizer::merged(std::vector<int64_t> symbols) const {
  struct Candidate {
    int64_t rank;
    size_t place;
    int64_t left, right, symbol;
    bool operator<(const Candidate& other) const {
      return rank != other.rank ? rank > other.rank : place > other.place;
    }
  };
  const size_t none = symbols.size();
  std::vector<size_t> next(symbols.size()), before(symbols.size());
  std::priority_queue<Candidate> queue;
  const auto offer = [&](size_t place) {
    if (place == none || next[place] == none) return;
    const int64_t left = symbols[place], right = symbols[next[place]];
    const auto rule = pairs_.find(pair_key(left, right));
    if (rule != pairs_.end()) queue.push({rule->second.rank, place, left, right, rule->second.symbol});
  };
  for (size_t i = 0; i < symbols.size(); ++i) {
    next[i] = i + 1;
    before[i] = i == 0 ? none : i - 1;
  }
  for (size_t i = 0; i < symbols.size(); ++i) offer(i);
  while (!queue.empty()) {
    const Candidate best = queue.top();
    queue.pop();
    const size_t place = best.place, gone = next[place];
    // One of the two may have gone into another symbol since.
    if (symbols[place] != best.left || gone == none || symbols[gone] != best.right) continue;
    symbols[place] = best.symbol;
    symbols[gone] = -1;
    next[place] = next[gone];
    if (next[place] != none) before[next[place]] = place;
    offer(before[place]);
    offer(place);
  }
  symbols.erase(std::remove(symbols.begin(), symbols.end(), -1), symbols.end());
  return symbols;
}

std::vector<int64_t> ClipTokenizer::tokens(const std::string& text) const {
  std::vector<std::pair<std::string, int64_t>> special = {{kStart, start_}, {kEnd, end_}};
  if (!pad_text_.empty()) special.emplace_back(pad_text_, pad_);
  std::vector<int64_t> result;
  std::string_view rest = text;
  while (!rest.empty()) {
    size_t place = rest.size(), length = 0;
    int64_t token = -1;
    for (const auto& [name, id] : special) {
      const size_t found = rest.find(name);
      if (found < place) std::tie(place, length, token) = std::make_tuple(found, name.size(), id);
    }
    for_each_word(rest.substr(0, place), [&](const std::string& word) {
      for (const int64_t symbol : merged(byte_symbols(word)))
        result.push_back(ids_[static_cast<size_t>(symbol)]);
    });
    if (token >= 0) result.push_back(token);
    rest.remove_prefix(place + length);
  }
  return result;
}

std::vector<int64_t> ClipTokenizer::encode(const std::string& text, int64_t length) const {
  std::vector<int64_t> ids = tokens(text);
  ids.resize(std::min(ids.size(), static_cast<size_t>(length - 2)));
  ids.insert(ids.begin(), start_);
  ids.push_back(end_);
  ids.resize(static_cast<size_t>(length), pad_);
  return ids;
}

std::string ClipTokenizer::decode(const std::vector<int64_t>& ids) const {
  std::string letters;
  for (const int64_t id : ids) {
    const auto found = std::find(ids_.begin(), ids_.end(), id);
    if (id == start_ || id == end_ || found == ids_.end()) continue;
    letters += symbols_[static_cast<size_t>(found - ids_.begin())];
  }
  std::string text;
  const std::u32string end = code_points(kWordEnd);
  std::u32string_view rest;
  const std::u32string all = code_points(letters);
  for (rest = all; !rest.empty();) {
    const bool blank = rest.substr(0, end.size()) == end;
    text.push_back(blank ? ' ' : byte_letters().bytes.at(rest.front()));
    rest.remove_prefix(blank ? end.size() : 1);
  }
  return text;
}

std::vector<std::pair<std::string, std::string>> ClipTokenizer::files() const {
  std::string merges = "#version: 0.2\n";
  for (const auto& [left, right] : merges_) merges += left + " " + right + "\n";
  const std::string pad = pad_text_.empty() ? kEnd : pad_text_;
  const Json special = {{"bos_token", kStart}, {"eos_token", kEnd}, {"unk_token", kEnd}, {"pad_token", pad}};
  Json config = special;
  config.update({{"tokenizer_class", "CLIPTokenizer"}, {"model_max_length", 77}});
  return {{"vocab.json", vocab().dump() + "\n"},
          {"merges.txt", merges},
          {"special_tokens_map.json", dump_json(special) + "\n"},
          {"tokenizer_config.json", dump_json(config) + "\n"}};
}

}  // namespace zoo
