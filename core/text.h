#pragma once
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace zoo {

/// printf-style formatting into a string.
std::string format(const char* pattern, ...) __attribute__((format(printf, 1, 2)));

std::vector<std::string> split(std::string_view text, char separator);
std::string join(const std::vector<std::string>& parts, std::string_view separator);
std::string trim(std::string_view text);
std::string lower(std::string_view text);
bool starts_with(std::string_view text, std::string_view prefix);
bool ends_with(std::string_view text, std::string_view suffix);
/// `*` and `?` as in a shell; no classes.
bool matches_wildcard(std::string_view text, std::string_view pattern);

/// Numbers, the whole text or nothing: false when `text` is not exactly one number of that kind.
bool parse_int(std::string_view text, int64_t& value);
bool parse_double(std::string_view text, double& value);

/// Edits (insert, delete, replace, swap of neighbours) that turn `a` into `b`.
int edit_distance(std::string_view a, std::string_view b);
/// The candidate nearest to `word`, empty where none is near enough to be a likely slip.
std::string nearest(const std::string& word, const std::vector<std::string>& candidates);
/// `, did you mean 'X'?` or, with no near candidate, an empty string.
std::string did_you_mean(const std::string& word, const std::vector<std::string>& candidates);

/// 1536 -> "1.5 KiB".
std::string human_bytes(double bytes);
/// 41524768 -> "41,524,768".
std::string with_thousands(int64_t value);
/// 95 -> "1:35", 3700 -> "1:01:40".
std::string human_seconds(double seconds);

/// A table for a terminal: columns padded to their widest cell, numbers to the right.
class Table {
 public:
  explicit Table(std::vector<std::string> header);
  void add(std::vector<std::string> row);
  std::string str() const;

 private:
  std::vector<std::vector<std::string>> rows_;
};

/// UTF-8 text whose letters are all at most U+00FF, as a byte each: how Python 2's and numpy's bytes come out of a
/// pickle. None where a letter is no byte.
std::optional<std::string> latin1_bytes(std::string_view text);

}  // namespace zoo
