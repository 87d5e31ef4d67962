#include "trainers/tensorboard.h"

#include <fcntl.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <chrono>
#include <cstring>
#include <ctime>

#include "core/error.h"
#include "core/files.h"
#include "core/text.h"

namespace zoo {

namespace {

// Protocol buffers, as far as an event needs them: a field is a varint of (number << 3 | wire type) and its
// value.
enum WireType { kVarint = 0, kFixed64 = 1, kBytes = 2, kFixed32 = 5 };

void put_varint(std::string& out, uint64_t value) {
  for (; value >= 0x80; value >>= 7) out += static_cast<char>(value | 0x80);
  out += static_cast<char>(value);
}

template <class Number>
void put_little_endian(std::string& out, Number value) {
  static_assert(__BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__);
  out.append(reinterpret_cast<const char*>(&value), sizeof value);
}

void put_integer(std::string& out, int field, int64_t value) {
  put_varint(out, static_cast<uint64_t>(field) << 3 | kVarint);
  put_varint(out, static_cast<uint64_t>(value));
}

void put_bytes(std::string& out, int field, std::string_view value) {
  put_varint(out, static_cast<uint64_t>(field) << 3 | kBytes);
  put_varint(out, value.size());
  out += value;
}

void put_double(std::string& out, int field, double value) {
  put_varint(out, static_cast<uint64_t>(field) << 3 | kFixed64);
  put_little_endian(out, value);
}

void put_float(std::string& out, int field, float value) {
  put_varint(out, static_cast<uint64_t>(field) << 3 | kFixed32);
  put_little_endian(out, value);
}

// Field numbers of tensorboard's event.proto, summary.proto, tensor.proto and tensor_shape.proto.
namespace event {
constexpr int kWallTime = 1, kStep = 2, kFileVersion = 3, kSummary = 5, kSessionLog = 7;
}
namespace session_log {
constexpr int kStatus = 1, kStart = 1;
}
namespace summary {
constexpr int kValue = 1;
}
namespace value {
constexpr int kTag = 1, kSimpleValue = 2, kImage = 4, kTensor = 8, kMetadata = 9;
}
namespace image {
constexpr int kHeight = 1, kWidth = 2, kColorspace = 3, kEncoded = 4, kRgb = 3;
}
namespace tensor {
constexpr int kDtype = 1, kShape = 2, kStringVal = 8, kString = 7;
}
namespace shape {
constexpr int kDim = 2, kSize = 1;
}
namespace metadata {
constexpr int kPluginData = 1, kPluginName = 1;
}

std::string event_at(int64_t step) {
  using std::chrono::system_clock;
  std::string event;
  put_double(event, event::kWallTime,
             std::chrono::duration<double>(system_clock::now().time_since_epoch()).count());
  put_integer(event, event::kStep, step);
  return event;
}

constexpr std::array<uint32_t, 256> crc_table() {
  std::array<uint32_t, 256> table{};
  for (uint32_t byte = 0; byte < 256; ++byte) {
    uint32_t crc = byte;
    for (int bit = 0; bit < 8; ++bit) crc = crc & 1 ? crc >> 1 ^ 0x82F63B78u : crc >> 1;
    table[byte] = crc;
  }
  return table;
}

/// Checks are stored rotated and shifted, so that the check of data that holds a check is no special case.
uint32_t masked_crc(std::string_view bytes) {
  const uint32_t crc = crc32c(bytes);
  return (crc >> 15 | crc << 17) + 0xA282EAD8u;
}

std::string host_name() {
  char name[256] = "";
  if (::gethostname(name, sizeof name - 1) != 0 || name[0] == '\0') return "localhost";
  return name;
}

/// Opens the first of the names … .0, … .1, … that is not there yet.
int open_new(const std::string& stem, std::string& path) {
  for (int n = 0;; ++n) {
    path = stem + std::to_string(n);
    const int descriptor = ::open(path.c_str(), O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0644);
    if (descriptor >= 0) return descriptor;
    if (errno != EEXIST) throw Error("cannot write " + path + ": " + std::strerror(errno));
  }
}

uint32_t big_endian_32(std::string_view bytes) {
  uint32_t value = 0;
  for (const char byte : bytes.substr(0, 4)) value = value << 8 | static_cast<unsigned char>(byte);
  return value;
}

}  // namespace

uint32_t crc32c(std::string_view bytes) {
  static constexpr std::array<uint32_t, 256> kTable = crc_table();
  uint32_t crc = ~0u;
  for (const char byte : bytes) crc = crc >> 8 ^ kTable[(crc ^ static_cast<unsigned char>(byte)) & 0xFF];
  return ~crc;
}

EventWriter::EventWriter(const std::string& folder, int64_t first_step) {
  const std::string stem =
      join_path(folder, format("events.out.tfevents.%lld.%s.%d.", static_cast<long long>(std::time(nullptr)),
                               host_name().c_str(), static_cast<int>(::getpid())));
  descriptor_ = open_new(stem, path_);
  std::string version = event_at(0);
  put_bytes(version, event::kFileVersion, "brain.Event:2");
  add_record(version);
  if (first_step <= 0) return;
  std::string log, start = event_at(first_step);
  put_integer(log, session_log::kStatus, session_log::kStart);
  put_bytes(start, event::kSessionLog, log);
  add_record(start);
}

EventWriter::~EventWriter() {
  try {
    flush();
  } catch (const Error&) {  // the last explicit flush is the one that must succeed
  }
  ::close(descriptor_);
}

void EventWriter::add_scalar(const std::string& tag, double value, int64_t step) {
  std::string message;
  put_bytes(message, value::kTag, tag);
  put_float(message, value::kSimpleValue, static_cast<float>(value));
  add_value(message, step);
}

void EventWriter::add_image(const std::string& tag, std::string_view png, int64_t step) {
  // A PNG begins with 8 bytes of its own, then the IHDR chunk: length, name, width, height.
  if (png.size() < 24 || png.substr(0, 8) != "\x89PNG\r\n\x1A\n")
    throw Error(tag + ": is no PNG, expected one");
  std::string picture, message;
  put_integer(picture, image::kHeight, big_endian_32(png.substr(20)));
  put_integer(picture, image::kWidth, big_endian_32(png.substr(16)));
  put_integer(picture, image::kColorspace, image::kRgb);
  put_bytes(picture, image::kEncoded, png);
  put_bytes(message, value::kTag, tag);
  put_bytes(message, value::kImage, picture);
  add_value(message, step);
}

void EventWriter::add_text(const std::string& tag, std::string_view text, int64_t step) {
  std::string size, shape, tensor, plugin, metadata, message;
  put_integer(size, shape::kSize, 1);
  put_bytes(shape, shape::kDim, size);
  put_integer(tensor, tensor::kDtype, tensor::kString);
  put_bytes(tensor, tensor::kShape, shape);
  put_bytes(tensor, tensor::kStringVal, text);
  put_bytes(plugin, metadata::kPluginName, "text");
  put_bytes(metadata, metadata::kPluginData, plugin);
  put_bytes(message, value::kTag, tag);
  put_bytes(message, value::kTensor, tensor);
  put_bytes(message, value::kMetadata, metadata);
  add_value(message, step);
}

void EventWriter::add_value(const std::string& value, int64_t step) {
  std::string summary, event = event_at(step);
  put_bytes(summary, summary::kValue, value);
  put_bytes(event, event::kSummary, summary);
  add_record(event);
}

void EventWriter::add_record(const std::string& event) {
  std::string length;
  put_little_endian(length, static_cast<uint64_t>(event.size()));
  buffer_ += length;
  put_little_endian(buffer_, masked_crc(length));
  buffer_ += event;
  put_little_endian(buffer_, masked_crc(event));
}

void EventWriter::flush() {
  size_t done = 0;
  while (done < buffer_.size()) {
    const ssize_t count = ::write(descriptor_, buffer_.data() + done, buffer_.size() - done);
    if (count < 0 && errno == EINTR) continue;
    if (count <= 0) {
      const std::string reason = count < 0 ? std::strerror(errno) : "the disk is full";
      // Half a record would hide all that follows it; what is buffered is written by the next flush.
      if (::ftruncate(descriptor_, written_) == 0) ::lseek(descriptor_, written_, SEEK_SET);
      throw Error("cannot write " + path_ + ": " + reason);
    }
    done += static_cast<size_t>(count);
  }
  written_ += static_cast<int64_t>(buffer_.size());
  buffer_.clear();
}

}  // namespace zoo
