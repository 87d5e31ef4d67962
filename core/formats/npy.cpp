#include "core/formats/npy.h"

#include <algorithm>
#include <cstring>
#include <utility>

#include "core/formats/byte_reader.h"
#include "core/text.h"

namespace zoo {

namespace {

constexpr std::string_view kMagic("\x93NUMPY", 6);
constexpr size_t kMaxDimensions = 64;

/// Reads the header's text, a Python dict: {'descr': '<f4', 'fortran_order': False, 'shape': (3, 4), }.
class HeaderParser {
 public:
  HeaderParser(std::string_view text, const ByteReader& file) : text_(text), file_(file) {}

  bool fortran = false;
  std::string type;
  std::vector<int64_t> shape;

  void parse() {
    expect('{');
    int known = 0;
    while (!take('}')) {
      const std::string key = quoted();
      expect(':');
      if (key == "descr") {
        type = quoted();
      } else if (key == "fortran_order") {
        fortran = truth();
      } else if (key == "shape") {
        parse_shape();
      } else {
        fail("unknown key '" + shown_name(key) + "'");
      }
      ++known;
      if (!take(',')) {
        expect('}');
        break;
      }
    }
    skip_blanks();
    if (known != 3 || position_ != text_.size()) fail("expected descr, fortran_order and shape");
  }

 private:
  [[noreturn]] void fail(const std::string& what) const {
    file_.fail_at(kMagic.size() + 4 + position_, "header: " + what);
  }
  void skip_blanks() { position_ = std::min(text_.find_first_not_of(" \t\n", position_), text_.size()); }
  bool take(char c) {
    skip_blanks();
    if (position_ == text_.size() || text_[position_] != c) return false;
    ++position_;
    return true;
  }
  void expect(char c) {
    if (!take(c)) fail(std::string("expected '") + c + "'");
  }

  std::string quoted() {
    if (take('[')) fail("structured elements, expected plain numbers");
    expect('\'');
    const size_t end = text_.find('\'', position_);
    if (end == std::string_view::npos) fail("a text has no end");
    const std::string_view text = text_.substr(position_, end - position_);
    position_ = end + 1;
    return std::string(text);
  }

  bool truth() {
    skip_blanks();
    for (const char* word : {"True", "False"}) {
      if (!starts_with(text_.substr(position_), word)) continue;
      position_ += std::string_view(word).size();
      return word[0] == 'T';
    }
    fail("expected True or False");
  }

  void parse_shape() {
    expect('(');
    while (!take(')')) {
      skip_blanks();
      const size_t end = std::min(text_.find_first_not_of("0123456789", position_), text_.size());
      int64_t size = 0;
      if (!parse_int(text_.substr(position_, end - position_), size)) fail("a size is no integer");
      if (shape.size() == kMaxDimensions) fail("more than 64 dimensions");
      shape.push_back(size);
      position_ = end;
      take('L');  // a long integer of Python 2
      if (!take(',')) {
        expect(')');
        break;
      }
    }
  }

  std::string_view text_;
  const ByteReader& file_;
  size_t position_ = 0;
};

DType element_type(const std::string& type, const ByteReader& file) {
  constexpr std::pair<const char*, DType> kTypes[] = {
      {"f8", DType::f64},     {"f4", DType::f32}, {"f2", DType::f16}, {"i8", DType::i64},
      {"i4", DType::i32},     {"i2", DType::i16}, {"i1", DType::i8},  {"u1", DType::u8},
      {"b1", DType::boolean}, {"u2", DType::u16}, {"u4", DType::u32}, {"u8", DType::u64}};
  const bool little = !type.empty() && std::string("<|=").find(type[0]) != std::string::npos;
  for (const auto& [name, dtype] : kTypes) {
    if (type.size() == 3 && type.substr(1) == name && (little || dtype_size(dtype) == 1)) return dtype;
  }
  file.fail("elements of type '" + shown_name(type) + "', expected little-endian numbers such as '<f4'");
}

std::vector<int64_t> fortran_strides(const std::vector<int64_t>& shape) {
  std::vector<int64_t> strides = contiguous_strides({shape.rbegin(), shape.rend()});
  std::reverse(strides.begin(), strides.end());
  return strides;
}

}  // namespace

uint64_t npy_header_end(const uint8_t* prefix) {
  const bool wide = prefix[kMagic.size()] > 1;
  const uint64_t start = kMagic.size() + 2 + (wide ? 4 : 2);
  uint64_t length = 0;
  std::memcpy(&length, prefix + kMagic.size() + 2, wide ? 4 : 2);
  return start + length;
}

TensorEntry read_npy_header(ByteReader& file) {
  if (file.remaining() < kMagic.size() || file.take(kMagic.size(), "magic") != kMagic) {
    file.fail_at(0, "is no NumPy array (.npy)");
  }
  const auto major = file.number<uint8_t>("version");
  file.number<uint8_t>("version");
  if (major < 1 || major > 3) file.fail("npy version " + std::to_string(major) + ", expected 1 to 3");
  const uint64_t length =
      major == 1 ? file.number<uint16_t>("header length") : file.number<uint32_t>("header length");
  HeaderParser header(file.take(length, "header"), file);
  header.parse();
  TensorEntry entry;
  entry.dtype = element_type(header.type, file);
  entry.shape = header.shape;
  entry.offset = file.position();
  entry.strides = header.fortran ? fortran_strides(entry.shape) : contiguous_strides(entry.shape);
  return entry;
}

TensorEntry read_npy(const uint8_t* bytes, uint64_t size, const std::string& path) {
  ByteReader file(bytes, size, path);
  TensorEntry entry = read_npy_header(file);
  uint64_t count = 0, wanted = 0;
  const bool sane = element_count(entry.shape, count) &&
                    !__builtin_mul_overflow(count, static_cast<uint64_t>(dtype_size(entry.dtype)), &wanted);
  if (!sane || wanted != file.remaining()) {
    file.fail(std::to_string(file.remaining()) + " bytes of data, expected " + dtype_name(entry.dtype) + " " +
              shape_text(entry.shape.data(), entry.shape.size()));
  }
  return entry;
}

}  // namespace zoo
