#pragma once
#include <cstdint>
#include <cstring>
#include <string>
#include <string_view>

namespace zoo {

/// A cursor over the bytes of a file that never passes their end; numbers are little-endian. Where something
/// does not fit it throws Error `WHERE: byte N: what`.
class ByteReader {
 public:
  /// `where` begins every message, for example "weights.pth: data.pkl".
  ByteReader(const uint8_t* data, uint64_t size, std::string where)
      : data_(data), size_(size), where_(std::move(where)) {}

  uint64_t position() const { return position_; }
  uint64_t size() const { return size_; }
  uint64_t remaining() const { return size_ - position_; }
  const std::string& where() const { return where_; }
  void seek(uint64_t position);

  /// The next `count` bytes; `what` names them where the file ends before.
  std::string_view take(uint64_t count, const char* what);
  /// The text up to the next line break, which is passed.
  std::string_view line(const char* what);
  template <typename T>
  T number(const char* what) {
    T value;
    std::memcpy(&value, take(sizeof(T), what).data(), sizeof(T));
    return value;
  }

  [[noreturn]] void fail(const std::string& what) const { fail_at(position_, what); }
  [[noreturn]] void fail_at(uint64_t position, const std::string& what) const;

 private:
  const uint8_t* data_;
  uint64_t size_;
  uint64_t position_ = 0;
  std::string where_;
};

static_assert(__BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__, "the readers take the file's bytes as they are");

/// A name of a file as messages show it: control characters replaced, long texts cut.
std::string shown_name(std::string_view name);
/// "[2, 3]".
std::string shape_text(const int64_t* sizes, size_t count);

}  // namespace zoo
