#pragma once
#include <string>
#include <string_view>

namespace zoo {

/// What a code point counts as when text is cut into words: Unicode's classes L and N, white space (U+0009-000D, 0020,
/// 0085, 00A0, 1680, 2000-200A, 2028, 2029, 202F, 205F, 3000), and everything else, marks included.
enum class CodePointClass { letter, digit, space, other };
CodePointClass class_of(char32_t code_point);

/// Lower case of one code point whatever its neighbours: one code point, or two for İ.
std::u32string lower_of(char32_t code_point);

/// UTF-8 to code points; every byte that is no part of a valid one becomes U+FFFD.
std::u32string code_points(std::string_view utf8);
std::string to_utf8(std::u32string_view code_points);

/// Canonical composition (NFC) of valid UTF-8.
std::string nfc(const std::string& utf8);

}  // namespace zoo
