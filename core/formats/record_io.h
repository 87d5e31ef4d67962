#pragma once
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "core/files.h"

namespace zoo {

/// Where a record of a RecordIO file begins, and the key that its index gives it.
struct RecordPlace {
  int64_t key = 0;
  uint64_t offset = 0;
};

/// A file of records (dmlc-core's RecordIO, little-endian). A record is one part or several: each a magic word, a
/// word of 3 bits of kind and 29 of length, the bytes, and zeros up to a multiple of four. Between the parts of a
/// record stood the magic word itself, which the writer left out and the reader puts back.
class RecordFile {
 public:
  /// `name` begins every message: `NAME: key 17 (byte 4096): what`.
  RecordFile(const uint8_t* data, uint64_t size, std::string name)
      : data_(data), size_(size), name_(std::move(name)) {}

  uint64_t size() const { return size_; }
  /// The bytes of a record: in the file, or where it has several parts in `joined`. `end` is set to the offset
  /// behind it. Throws Error where no whole record begins at the place.
  std::string_view read(const RecordPlace& place, std::string& joined, uint64_t* end = nullptr) const;
  /// All records from the start of the file, with keys 0, 1, 2, …: for a file without an index.
  std::vector<RecordPlace> scan() const;

  [[noreturn]] void fail(const RecordPlace& place, const std::string& what) const;

 private:
  const uint8_t* data_;
  uint64_t size_;
  std::string name_;
};

/// The places that an index holds, a line `key<TAB>offset` each, in the order of the file. `name` begins the
/// messages. Throws Error naming the line that is none, and keys that come twice.
std::vector<RecordPlace> read_record_index(std::string_view text, const std::string& name);

/// An image record of MXNet: a header of 24 bytes (flag, label, id, id2), `flag` further labels, the picture.
struct ImageRecord {
  uint32_t flag = 0;  ///< number of labels behind the header; 0: the label is in it
  uint64_t id = 0;
  std::string_view image;  ///< encoded; empty in records about the file

  /// Label `i` below max(flag, 1).
  float label(size_t i = 0) const;
  static constexpr size_t kHeader = 24;

 private:
  friend ImageRecord parse_image_record(const RecordFile&, const RecordPlace&, std::string_view);
  std::string_view labels_;  // 4 bytes each, of any alignment
};
/// Throws Error by `file.fail` where the bytes are too short.
ImageRecord parse_image_record(const RecordFile& file, const RecordPlace& place, std::string_view bytes);
/// The bytes of an image record: one label stands in the header, several behind it.
std::string image_record(const std::vector<float>& labels, uint64_t id, std::string_view image);

/// Writes records and their index (`STEM.rec`, `STEM.idx`) beside and renamed on `commit`.
class RecordWriter {
 public:
  explicit RecordWriter(const std::string& stem) : records_(stem + ".rec"), index_(stem + ".idx") {}
  /// Throws Error for a record of 2^29 bytes or more.
  void add(int64_t key, std::string_view bytes);
  void commit();

 private:
  void write_part(uint32_t kind, std::string_view bytes);

  AtomicFile records_, index_;
  uint64_t offset_ = 0;
};

}  // namespace zoo
