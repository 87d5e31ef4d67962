#pragma once
#include <cstdint>
#include <string>
#include <vector>

#include "datasets/actions/sources.h"

namespace zoo {

/// Features of a live stream from a pipe, a file or the standard input: rows of raw float32, or an .npy, which says what
/// its rows are. A row is given out as soon as it is there, and nothing behind it is taken from the pipe.
class FrameReader {
 public:
  /// `path`: a file or a named pipe, "-": the standard input. A row that does not go on for `stall_seconds` (0: ever)
  /// is an error. Throws Error where the path cannot be opened.
  FrameReader(const std::string& path, int64_t feature_size, double stall_seconds);
  ~FrameReader();
  FrameReader(const FrameReader&) = delete;
  FrameReader& operator=(const FrameReader&) = delete;

  /// The next row, [feature_size] floats. False at the stream's end, or where a signal has come instead of a row. Throws
  /// Error naming stream and step for a row that is cut off, a stall, another width and numbers that are not finite.
  bool next(float* row);
  int64_t steps() const { return steps_; }  ///< given out so far

 private:
  /// Fills `buffer_` up to `size` bytes; false where the stream ends first.
  bool fill(uint64_t size);
  void read_start();
  void read_header();

  std::string where_;
  int file_;
  int64_t feature_size_;
  double stall_seconds_;
  std::vector<uint8_t> buffer_;
  bool started_ = false, interrupted_ = false;
  ConvertRow convert_;
  uint64_t row_bytes_;
  int64_t rows_ = -1;  ///< that an .npy announces; -1: not told
  int64_t steps_ = 0;
};

}  // namespace zoo
