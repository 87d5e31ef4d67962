#include "core/formats/gzip.h"

#include <zlib.h>

#include <algorithm>

#include "core/error.h"
#include "core/text.h"

namespace zoo {

namespace {

constexpr size_t kPart = 1 << 16;

/// An inflating stream of zlib, ended with its scope.
struct Inflater {
  z_stream stream{};

  explicit Inflater(const std::string& path) {
    if (inflateInit2(&stream, 15 + 16) != Z_OK)
      throw Error(path + ": zlib cannot start");  // 16: gzip's header
  }
  ~Inflater() { inflateEnd(&stream); }
  Inflater(const Inflater&) = delete;
  Inflater& operator=(const Inflater&) = delete;
};

}  // namespace

bool is_gzip(std::string_view bytes) {
  return bytes.size() >= 2 && bytes[0] == '\x1f' && bytes[1] == '\x8b';
}

std::string gunzip(std::string_view bytes, uint64_t limit, const std::string& path) {
  Inflater inflater(path);
  z_stream& stream = inflater.stream;
  std::string result, part(kPart, '\0');
  int state = Z_OK;
  while (state != Z_STREAM_END) {
    if (stream.avail_in == 0) {
      const size_t given = std::min(bytes.size(), kPart);
      stream.next_in = reinterpret_cast<Bytef*>(const_cast<char*>(bytes.data()));
      stream.avail_in = static_cast<uInt>(given);
      bytes.remove_prefix(given);
    }
    stream.next_out = reinterpret_cast<Bytef*>(part.data());
    stream.avail_out = static_cast<uInt>(part.size());
    state = inflate(&stream, Z_NO_FLUSH);
    if (state == Z_BUF_ERROR) throw Error(path + ": the gzip file is cut off");
    if (state != Z_OK && state != Z_STREAM_END)
      throw Error(path + ": damaged gzip file" +
                  (stream.msg == nullptr ? "" : std::string(", ") + stream.msg));
    result.append(part, 0, part.size() - stream.avail_out);
    if (result.size() > limit)
      throw Error(path + ": the gzip file holds more than " + human_bytes(static_cast<double>(limit)));
  }
  if (stream.avail_in > 0 || !bytes.empty()) throw Error(path + ": bytes after the end of the gzip file");
  return result;
}

}  // namespace zoo
