#include "datasets/actions/frame_reader.h"

#include <fcntl.h>
#include <poll.h>
#include <unistd.h>

#include <cerrno>
#include <cmath>
#include <cstring>

#include "core/error.h"
#include "core/formats/npy.h"
#include "core/text.h"

namespace zoo {

namespace {

constexpr std::string_view kNpyMagic("\x93NUMPY", 6);

}  // namespace

FrameReader::FrameReader(const std::string& path, int64_t feature_size, double stall_seconds)
    : where_(path == "-" ? "stdin" : path),
      file_(path == "-" ? STDIN_FILENO : ::open(path.c_str(), O_RDONLY | O_CLOEXEC)),
      feature_size_(feature_size),
      stall_seconds_(stall_seconds),
      convert_(row_converter(DType::f32, where_)),
      row_bytes_(static_cast<uint64_t>(feature_size) * sizeof(float)) {
  if (file_ < 0) throw Error("cannot read " + path + ": " + std::strerror(errno));
}

FrameReader::~FrameReader() {
  if (file_ != STDIN_FILENO) ::close(file_);
}

bool FrameReader::fill(uint64_t size) {
  size_t have = buffer_.size();
  buffer_.resize(size);
  while (have < size) {
    pollfd waiting{file_, POLLIN, 0};
    const int patience = stall_seconds_ > 0 ? static_cast<int>(std::ceil(stall_seconds_ * 1000)) : -1;
    const int ready = ::poll(&waiting, 1, patience);
    const ssize_t got = ready > 0 ? ::read(file_, buffer_.data() + have, size - have) : 0;
    if ((ready < 0 || got < 0) && errno == EINTR) interrupted_ = true;
    if (interrupted_) break;
    if (ready < 0 || got < 0) throw Error("cannot read " + where_ + ": " + std::strerror(errno));
    if (ready == 0) {
      throw Error(
          format("%s: nothing has come for %g s at step %lld, expected the next row (eval.stall_seconds)",
                 where_.c_str(), stall_seconds_, static_cast<long long>(steps_)));
    }
    if (got == 0) break;
    have += static_cast<size_t>(got);
  }
  buffer_.resize(have);
  return have == size;
}

void FrameReader::read_start() {
  started_ = true;
  const uint64_t magic = std::min<uint64_t>(kNpyMagic.size(), row_bytes_);
  if (!fill(magic) || std::memcmp(buffer_.data(), kNpyMagic.data(), magic) != 0) return;
  read_header();
}

void FrameReader::read_header() {
  if (!fill(kNpyPrefix) || !fill(npy_header_end(buffer_.data())))
    throw Error(where_ + ": ends within the header of its .npy");
  ByteReader bytes(buffer_.data(), buffer_.size(), where_);
  const TensorEntry entry = read_npy_header(bytes);
  const std::string shape = shape_text(entry.shape.data(), entry.shape.size());
  if (entry.shape.size() != 2 || entry.shape[1] != feature_size_ ||
      entry.strides != contiguous_strides(entry.shape)) {
    throw Error(format("%s: rows of an array %s, expected [steps, %lld] in C order", where_.c_str(),
                       shape.c_str(), static_cast<long long>(feature_size_)));
  }
  convert_ = row_converter(entry.dtype, where_);
  row_bytes_ = static_cast<uint64_t>(feature_size_ * dtype_size(entry.dtype));
  rows_ = entry.shape[0];
  buffer_.clear();
}

bool FrameReader::next(float* row) {
  if (!started_) read_start();
  if (interrupted_ || steps_ == rows_) return false;
  if (!fill(row_bytes_)) {
    if (interrupted_ || (buffer_.empty() && rows_ < 0)) return false;
    throw Error(format("%s: ends %zu bytes into step %lld, expected %llu%s", where_.c_str(), buffer_.size(),
                       static_cast<long long>(steps_), static_cast<unsigned long long>(row_bytes_),
                       rows_ < 0 ? "" : format(" and %lld steps", static_cast<long long>(rows_)).c_str()));
  }
  convert_(buffer_.data(), 1, feature_size_, row);
  require_finite(row, feature_size_, where_, steps_);
  buffer_.clear();
  ++steps_;
  return true;
}

}  // namespace zoo
