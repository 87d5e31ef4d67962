#include "datasets/image.h"

#include <turbojpeg.h>

#include <algorithm>
#include <array>
#include <cstdlib>
#include <cstring>
#include <memory>
#include <mutex>
#include <opencv2/core/utils/logger.hpp>
#include <opencv2/imgcodecs.hpp>
#include <opencv2/imgproc.hpp>
#include <optional>
#include <string_view>
#include <vector>

#include "core/error.h"
#include "core/files.h"
#include "core/text.h"

namespace zoo {
namespace {

constexpr int64_t kMaxPixels = int64_t{1} << 28;

struct Bytes {
  const uint8_t* data;
  size_t size;
  bool begins_with(const char* magic, size_t length) const {
    return size >= length && std::memcmp(data, magic, length) == 0;
  }
  bool jpeg() const { return begins_with("\xFF\xD8\xFF", 3); }
  bool png() const { return begins_with("\x89PNG\r\n\x1A\n", 8); }
  uint32_t big_endian(size_t at, int count) const {
    uint32_t value = 0;
    for (int i = 0; i < count; ++i) value = value << 8 | data[at + static_cast<size_t>(i)];
    return value;
  }
};

void check_size(int64_t width, int64_t height, const std::string& name) {
  if (width <= 0 || height <= 0) throw Error(name + ": a picture of no size, expected at least 1x1");
  if (width * height > kMaxPixels) {
    throw Error(format("%s: %lldx%lld pixels are too many, expected at most %lld", name.c_str(),
                       static_cast<long long>(width), static_cast<long long>(height),
                       static_cast<long long>(kMaxPixels)));
  }
}

/// Width and height of the frame header, by walking the markers before it; none where no frame header is
/// found.
std::optional<ImageSize> jpeg_size(const Bytes& file) {
  size_t at = 2;
  while (at + 4 <= file.size && file.data[at] == 0xFF) {
    const uint8_t marker = file.data[at + 1];
    if (marker == 0xFF) {  // padding
      ++at;
      continue;
    }
    const bool frame = marker >= 0xC0 && marker <= 0xCF && marker != 0xC4 && marker != 0xC8 && marker != 0xCC;
    if (frame && at + 9 <= file.size)
      return ImageSize{file.big_endian(at + 7, 2), file.big_endian(at + 5, 2)};
    if (marker == 0xDA) return std::nullopt;  // pixels begin
    at += 2 + file.big_endian(at + 2, 2);
  }
  return std::nullopt;
}

/// Pillow's conversion of CMYK, whose JPEG files hold inverted inks.
cv::Mat cmyk_to_rgb(const cv::Mat& cmyk) {
  cv::Mat rgb(cmyk.size(), CV_8UC3);
  for (int y = 0; y < cmyk.rows; ++y) {
    const auto* in = cmyk.ptr<cv::Vec4b>(y);
    auto* out = rgb.ptr<cv::Vec3b>(y);
    for (int x = 0; x < cmyk.cols; ++x) {
      const int white = in[x][3];  // 255 - black
      for (int c = 0; c < 3; ++c) {
        const int product = (255 - in[x][c]) * white + 128;
        out[x][c] = static_cast<uint8_t>(std::clamp(white - ((product >> 8) + product) / 256, 0, 255));
      }
    }
  }
  return rgb;
}

/// Warnings of the decoder that leave the pixels whole.
bool harmless(const std::string& warning) {
  const bool damage = starts_with(warning, "Corrupt JPEG data") || starts_with(warning, "Premature end");
  return !damage || warning.find("extraneous bytes before marker") != std::string::npos;
}

cv::Mat decode_by_opencv(const Bytes& file, const std::string& name) {
  static std::once_flag once;  // the codecs' own messages would stand between ours
  std::call_once(once, [] { cv::utils::logging::setLogLevel(cv::utils::logging::LOG_LEVEL_SILENT); });
  cv::Mat image;
  try {
    const cv::Mat buffer(1, static_cast<int>(file.size), CV_8UC1, const_cast<uint8_t*>(file.data));
    image = cv::imdecode(buffer, cv::IMREAD_COLOR | cv::IMREAD_IGNORE_ORIENTATION);
  } catch (const cv::Exception&) {
    image.release();
  }
  if (image.empty())
    throw Error(name + ": is no picture, or a damaged one, expected JPEG, PNG, BMP, WebP or TIFF");
  cv::cvtColor(image, image, cv::COLOR_BGR2RGB);
  return image;
}

/// Whether the end marker stands in the last KiB (some writers add bytes behind it).
bool ends_with_marker(const Bytes& file) {
  const size_t begin = file.size > 1024 ? file.size - 1024 : 0;
  const std::string_view tail(reinterpret_cast<const char*>(file.data) + begin, file.size - begin);
  return tail.rfind("\xFF\xD9") != std::string_view::npos;
}

cv::Mat decode_jpeg(const Bytes& file, const std::string& name) {
  struct Destroy {
    void operator()(void* handle) const { tjDestroy(handle); }
  };
  // A new decoder for each picture: after a damaged one it would keep tables that spoil the next.
  const std::unique_ptr<void, Destroy> decoder(tjInitDecompress());
  if (decoder == nullptr) throw Error(name + ": no memory for decoding");
  int width = 0, height = 0, subsampling = 0, colors = 0;
  const auto size = static_cast<unsigned long>(file.size);
  const bool known =
      tjDecompressHeader3(decoder.get(), file.data, size, &width, &height, &subsampling, &colors) == 0;
  if (!known) {
    const std::string message = tjGetErrorStr2(decoder.get());
    // A rare layout of chroma that this interface does not name: libjpeg below OpenCV decodes it.
    if (message.find("subsampling") != std::string::npos) {
      if (!ends_with_marker(file)) throw Error(name + ": truncated JPEG");
      return decode_by_opencv(file, name);
    }
    throw Error(name + ": damaged JPEG: " + message);
  }
  check_size(width, height, name);
  const bool cmyk = colors == TJCS_CMYK || colors == TJCS_YCCK;
  cv::Mat image(height, width, cmyk ? CV_8UC4 : CV_8UC3);
  const int status =
      tjDecompress2(decoder.get(), file.data, size, image.data, width, static_cast<int>(image.step[0]),
                    height, cmyk ? TJPF_CMYK : TJPF_RGB, TJFLAG_ACCURATEDCT);
  if (status != 0) {
    const std::string message = tjGetErrorStr2(decoder.get());
    const bool warning = tjGetErrorCode(decoder.get()) == TJERR_WARNING;
    if (!warning || !harmless(message)) throw Error(name + ": truncated or damaged JPEG: " + message);
  }
  return cmyk ? cmyk_to_rgb(image) : image;
}

/// Remainders of the polynomial of PNG's check sums.
std::array<uint32_t, 256> crc_table() {
  std::array<uint32_t, 256> table{};
  for (uint32_t n = 0; n < 256; ++n) {
    uint32_t c = n;
    for (int bit = 0; bit < 8; ++bit) c = (c & 1) != 0 ? 0xEDB88320U ^ (c >> 1) : c >> 1;
    table[n] = c;
  }
  return table;
}

uint32_t crc(const uint8_t* data, size_t size) {
  static const std::array<uint32_t, 256> table = crc_table();
  uint32_t c = 0xFFFFFFFFU;
  for (size_t i = 0; i < size; ++i) c = table[(c ^ data[i]) & 0xFF] ^ (c >> 8);
  return ~c;
}

/// libpng prints of a damaged file on stderr, so the damage is looked for before it is asked.
void check_png(const Bytes& file, const std::string& name) {
  if (file.size < 33 || file.big_endian(12, 4) != 0x49484452U)
    throw Error(name + ": truncated PNG");  // "IHDR"
  check_size(file.big_endian(16, 4), file.big_endian(20, 4), name);
  for (size_t at = 8; at + 12 <= file.size;) {
    const size_t length = file.big_endian(at, 4);
    if (length > file.size - at - 12) break;
    if (crc(file.data + at + 4, length + 4) != file.big_endian(at + 8 + length, 4)) {
      throw Error(format("%s: damaged PNG: wrong check sum at byte %zu", name.c_str(), at));
    }
    if (std::memcmp(file.data + at + 4, "IEND", 4) == 0) return;
    at += 12 + length;
  }
  throw Error(name + ": truncated PNG");
}

int64_t little_endian(const uint8_t* data, int count) {
  uint64_t value = 0;
  for (int i = count; i-- > 0;) value = value << 8 | data[i];
  return static_cast<int64_t>(value);
}

/// Uncompressed BMP must hold all its rows: OpenCV prints of a shorter file on stderr.
void check_bmp(const Bytes& file, const std::string& name) {
  if (file.size < 54) throw Error(name + ": truncated BMP");
  const int64_t width = little_endian(file.data + 18, 4), compression = little_endian(file.data + 30, 4);
  const int64_t height =
      std::abs(static_cast<int64_t>(static_cast<int32_t>(little_endian(file.data + 22, 4))));
  check_size(width, height, name);
  const int64_t row = (width * little_endian(file.data + 28, 2) + 31) / 32 * 4;
  const bool plain = compression == 0 || compression == 3;  // RGB, bit fields
  const int64_t end = little_endian(file.data + 10, 4) + row * height;
  if (plain && end > static_cast<int64_t>(file.size)) throw Error(name + ": truncated BMP");
}

/// The same for the binary kinds of PBM, PGM and PPM.
void check_pnm(const Bytes& file, const std::string& name) {
  const int kind = file.data[1] - '0';  // 4 bits, 5 grey, 6 colour
  int64_t numbers[3] = {0, 0, 1};       // width, height, greatest value
  size_t at = 2;
  for (int i = 0; i < (kind == 4 ? 2 : 3); ++i) {
    while (at < file.size && (file.data[at] < '0' || file.data[at] > '9')) {
      if (file.data[at++] != '#') continue;
      while (at < file.size && file.data[at] != '\n') ++at;
    }
    for (numbers[i] = 0;
         at < file.size && file.data[at] >= '0' && file.data[at] <= '9' && numbers[i] < 1000000; ++at) {
      numbers[i] = numbers[i] * 10 + file.data[at] - '0';
    }
  }
  check_size(numbers[0], numbers[1], name);
  const int64_t row =
      kind == 4 ? (numbers[0] + 7) / 8 : numbers[0] * (kind == 6 ? 3 : 1) * (numbers[2] > 255 ? 2 : 1);
  if (static_cast<int64_t>(at) + 1 + row * numbers[1] > static_cast<int64_t>(file.size)) {
    throw Error(name + ": truncated PNM");
  }
}

std::string encode(const char* ending, const cv::Mat& rgb, const std::vector<int>& parameters) {
  cv::Mat bgr;
  cv::cvtColor(rgb, bgr, cv::COLOR_RGB2BGR);
  std::vector<uint8_t> bytes;
  cv::imencode(ending, bgr, bytes, parameters);
  return std::string(bytes.begin(), bytes.end());
}

}  // namespace

cv::Mat decode_image(const uint8_t* data, size_t size, const std::string& name) {
  const Bytes file{data, size};
  if (size == 0) throw Error(name + ": is empty, expected a picture");
  if (size > static_cast<size_t>(INT32_MAX)) throw Error(name + ": larger than 2 GiB, expected a picture");
  if (file.jpeg()) return decode_jpeg(file, name);
  if (file.png()) check_png(file, name);
  if (file.begins_with("BM", 2)) check_bmp(file, name);
  if (file.begins_with("P4", 2) || file.begins_with("P5", 2) || file.begins_with("P6", 2))
    check_pnm(file, name);
  return decode_by_opencv(file, name);
}

cv::Mat read_image(const std::string& path) {
  const MappedFile file(path);
  return decode_image(file.data(), file.size(), path);
}

ImageSize image_size(const std::string& path) {
  const MappedFile mapped(path);
  const Bytes file{mapped.data(), mapped.size()};
  ImageSize size;
  if (file.jpeg()) size = jpeg_size(file).value_or(ImageSize{});
  if (file.png() && file.size >= 24) size = {file.big_endian(16, 4), file.big_endian(20, 4)};
  if (size.width > 0 && size.height > 0) return size;
  const cv::Mat image = decode_image(file.data, file.size, path);
  return {image.cols, image.rows};
}

bool has_image_ending(const std::string& path) {
  const std::string name = lower(path);
  for (const char* ending :
       {".jpg", ".jpeg", ".png", ".bmp", ".webp", ".tif", ".tiff", ".pgm", ".ppm", ".pnm", ".jp2"}) {
    if (ends_with(name, ending)) return true;
  }
  return false;
}

std::string encode_png(const cv::Mat& rgb) {
  return encode(".png", rgb, {});
}

void write_image(const std::string& path, const cv::Mat& rgb) {
  const std::string name = lower(path);
  if (ends_with(name, ".png")) {
    write_file(path, encode_png(rgb));
  } else if (ends_with(name, ".jpg") || ends_with(name, ".jpeg")) {
    write_file(path, encode(".jpg", rgb, {cv::IMWRITE_JPEG_QUALITY, 95}));
  } else {
    throw UsageError("cannot write " + path +
                     ": unknown kind of picture, expected a name that ends in .png or .jpg");
  }
}

}  // namespace zoo
