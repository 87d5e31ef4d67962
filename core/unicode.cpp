#include "core/unicode.h"

#include <utf8proc.h>

#include <cstdlib>
#include <new>

namespace zoo {

namespace {

bool is_space(char32_t c) {
  return (c >= 0x09 && c <= 0x0D) || c == 0x20 || c == 0x85 || c == 0xA0 || c == 0x1680 ||
         (c >= 0x2000 && c <= 0x200A) || c == 0x2028 || c == 0x2029 || c == 0x202F || c == 0x205F ||
         c == 0x3000;
}

}  // namespace

CodePointClass class_of(char32_t code_point) {
  if (is_space(code_point)) return CodePointClass::space;
  switch (utf8proc_category(static_cast<utf8proc_int32_t>(code_point))) {
    case UTF8PROC_CATEGORY_LU:
    case UTF8PROC_CATEGORY_LL:
    case UTF8PROC_CATEGORY_LT:
    case UTF8PROC_CATEGORY_LM:
    case UTF8PROC_CATEGORY_LO:
      return CodePointClass::letter;
    case UTF8PROC_CATEGORY_ND:
    case UTF8PROC_CATEGORY_NL:
    case UTF8PROC_CATEGORY_NO:
      return CodePointClass::digit;
    default:
      return CodePointClass::other;
  }
}

std::u32string lower_of(char32_t code_point) {
  if (code_point == 0x130)
    return U"i\u0307";  // the one letter whose full mapping is longer (SpecialCasing.txt)
  return std::u32string(1,
                        static_cast<char32_t>(utf8proc_tolower(static_cast<utf8proc_int32_t>(code_point))));
}

std::u32string code_points(std::string_view utf8) {
  std::u32string result;
  const auto* bytes = reinterpret_cast<const utf8proc_uint8_t*>(utf8.data());
  for (size_t i = 0; i < utf8.size();) {
    utf8proc_int32_t code_point = 0;
    const utf8proc_ssize_t length =
        utf8proc_iterate(bytes + i, static_cast<utf8proc_ssize_t>(utf8.size() - i), &code_point);
    result.push_back(length > 0 ? static_cast<char32_t>(code_point) : U'\uFFFD');
    i += length > 0 ? static_cast<size_t>(length) : 1;
  }
  return result;
}

std::string to_utf8(std::u32string_view code_points) {
  std::string result;
  for (const char32_t code_point : code_points) {
    utf8proc_uint8_t bytes[4];
    const utf8proc_ssize_t length = utf8proc_encode_char(static_cast<utf8proc_int32_t>(code_point), bytes);
    result.append(reinterpret_cast<const char*>(bytes), static_cast<size_t>(length));
  }
  return result;
}

std::string nfc(const std::string& utf8) {
  utf8proc_uint8_t* composed = nullptr;
  const utf8proc_ssize_t length = utf8proc_map(
      reinterpret_cast<const utf8proc_uint8_t*>(utf8.data()), static_cast<utf8proc_ssize_t>(utf8.size()),
      &composed, static_cast<utf8proc_option_t>(UTF8PROC_STABLE | UTF8PROC_COMPOSE));
  if (length < 0) throw std::bad_alloc();  // the only failure that valid UTF-8 can meet
  std::string result(reinterpret_cast<const char*>(composed), static_cast<size_t>(length));
  std::free(composed);
  return result;
}

}  // namespace zoo
